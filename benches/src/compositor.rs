//! A compositor of `examples/`, at the end of a path where the sink isn't.

use crate::cell::Size;
use crate::path::Example;
use crate::pixels;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use wlproxy_tests::{BORDER, Picture, Process, TITLE_BAR, until};

/// Files of the libraries that the smithay example is built with, in Debian's packages.
const SMITHAY: &[&str] = &["/usr/include/pixman-1/pixman.h", "/usr/include/xkbcommon/xkbcommon.h"];

/// Those of what the libwayland example is built with.
const LIBWAYLAND: &[&str] = &[
    "/usr/bin/make",
    "/usr/bin/pkg-config",
    "/usr/bin/wayland-scanner",
    "/usr/include/cairo/cairo.h",
    "/usr/include/wayland-server-core.h",
    "/usr/include/xkbcommon/xkbcommon.h",
    "/usr/share/wayland-protocols/stable/xdg-shell/xdg-shell.xml",
];

/// Pixels of its screen around the only window: on each side what the first of the examples' windows has on the left and
/// above, its own border, and that and the title bar of another.
const AROUND: usize = 2 * BORDER + TITLE_BAR;

/// One that runs.
#[derive(Debug)]
pub(crate) struct Compositor {
    process: Process,
    vm: Option<&'static str>,
    socket: PathBuf,
    picture: PathBuf,
}

impl Compositor {
    /// What isn't there of what it is built with, if anything.
    pub(crate) fn lacks(which: Example) -> Option<&'static str> {
        let files = match which {
            Example::Smithay => SMITHAY,
            Example::Libwayland => LIBWAYLAND,
        };
        files.iter().copied().find(|file| !Path::new(file).exists())
    }

    /// The program, to be started with [`Compositor::start`].
    pub(crate) fn program(which: Example) -> PathBuf {
        wlproxy_tests::example(match which {
            Example::Smithay => wlproxy_tests::Example::Smithay,
            Example::Libwayland => wlproxy_tests::Example::Libwayland,
        })
    }

    /// Starts one in `folder`, by a `command` to which its files are added, and waits until it takes clients. They are of
    /// `vm`; none if they connect here. Windows up to `window` are seen whole.
    pub(crate) fn start(
        mut command: Command,
        folder: &Path,
        vm: Option<&'static str>,
        window: Option<Size>,
    ) -> Self {
        let (socket, picture) = (folder.join("example"), folder.join("example.png"));
        command.arg("--picture").arg(&picture).arg("--socket").arg(&socket);
        if let Some(Size { width, height }) = window {
            let [width, height] = [width, height].map(|side| side as usize + 2 * AROUND);
            command.arg("--size").arg(format!("{width}x{height}"));
        }
        let process = Process::spawn("example", command, folder, false);
        until("the compositor's socket", || socket.exists().then_some(()));
        Self { process, vm, socket, picture }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where clients of its own connect.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A number that tells what its only window shows.
    ///
    /// # Errors
    /// If there are more or none, or the window isn't of the VM whose client this is.
    pub(crate) fn checksum(&self) -> Result<u64> {
        let picture = Picture::take(&self.process, &self.picture, &self.picture);
        match &picture.windows[..] {
            [shown] if shown.vm.as_deref() == self.vm => {
                Ok(pixels::of_image(&picture.content(shown)))
            }
            windows => bail!("there has to be one window, of {:?}: {windows:?}", self.vm),
        }
    }
}
