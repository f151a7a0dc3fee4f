//! A client that draws what it has to, and then stands still.

use super::{place, window};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;
use wlproxy_tests::{Desk, Image, PATIENCE, Picture};

/// Such a client.
pub(crate) struct Still {
    pub(crate) name: &'static str,
    command: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Files in its home.
    files: &'static [(&'static str, &'static str)],
}

pub(crate) const FOOT: Still = Still {
    name: "foot",
    command: &[
        "foot",
        "--config=/dev/null",
        "--font=DejaVu Sans Mono:size=12",
        "--window-size-pixels=300x150",
        "sh",
        "-c",
        // Without a cursor.
        r"printf '\033[?25lThe quick brown fox\n\033[31mjumps over\033[0m the lazy dog'; exec cat",
    ],
    environment: &[],
    files: &[],
};

pub(crate) const GTK3: Still = Still {
    name: "gtk3",
    command: &["gtk3-demo"],
    environment: &[
        ("GDK_BACKEND", "wayland"),
        ("GTK_OVERLAY_SCROLLING", "0"),
        ("GSETTINGS_BACKEND", "memory"),
        ("NO_AT_BRIDGE", "1"),
    ],
    // Nothing that blinks or fades.
    files: &[
        (
            ".config/gtk-3.0/settings.ini",
            "[Settings]\ngtk-cursor-blink=0\ngtk-enable-animations=0\n",
        ),
        // Nor a slider, of which the window's height is seen: GTK 3 opens with one of two.
        (
            ".config/gtk-3.0/gtk.css",
            "* { transition: none; animation: none; } slider { background: none; border: none; }",
        ),
    ],
};

/// It draws its window's frame and some lines, once.
pub(crate) const EVENTDEMO: Still =
    Still { name: "eventdemo", command: &["weston-eventdemo"], environment: &[], files: &[] };

/// So many pictures in a row have to be equal until a client counts as having drawn all it wants to.
const STILL: usize = 10;

impl Still {
    /// Starts it in a VM, or beside the compositor.
    pub(crate) fn start(&self, desk: &mut Desk, vm: Option<&str>) {
        let home = desk.folder().join(format!("{}-{}", self.name, vm.unwrap_or("local")));
        let mut made = vec![home.clone()];
        made.extend(
            self.files
                .iter()
                .map(|(path, _)| home.join(path).parent().expect("it lies in the home").to_owned()),
        );
        made.iter().for_each(|folder| fs::create_dir_all(folder).expect("our own folder"));
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("our own folder");
        for (path, content) in self.files {
            fs::write(home.join(path), content).expect("our own folder");
        }
        let mut command = desk.command(self.command[0]);
        command.args(&self.command[1..]).current_dir(&home);
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        command.envs(self.environment.iter().copied());
        let command = place(desk, vm).command(command);
        desk.adopt(self.name, command, false);
    }

    /// What it draws at last, wherever it is.
    pub(crate) fn settled(
        &self,
        desk: &Desk,
        vm: Option<&str>,
        expected: Option<&Image>,
    ) -> (Picture, Image) {
        let deadline = Instant::now() + PATIENCE;
        let (mut before, mut equal) = (None, 0);
        loop {
            let picture = desk.picture();
            if let Some(shown) = window(&picture, vm) {
                let content = picture.content(shown);
                equal = if before.as_ref() == Some(&content) { equal + 1 } else { 0 };
                let is_it = match expected {
                    Some(expected) => content == *expected,
                    None => equal == STILL,
                };
                if is_it {
                    return (picture, content);
                }
                if let Some(expected) = expected.filter(|_| Instant::now() >= deadline) {
                    content.assert_equals(expected, &format!("{}-{vm:?}", self.name));
                }
                before = Some(content);
            }
            assert!(Instant::now() < deadline, "{} of {vm:?}: no window stands still", self.name);
        }
    }
}
