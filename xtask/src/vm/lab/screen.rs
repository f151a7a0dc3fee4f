//! What is on the compositor VM's screen.

use super::super::machine::USER;
use super::{Lab, Vm};
use crate::demo::picture::Picture;
use crate::demo::sway::{Rect, View, views};
use crate::root;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// The screen, in pixels, as `parts/sway.conf` has it.
pub(crate) const SCREEN: (u32, u32) = (1280, 720);

/// PNG with hardly any compression: that is most of the work, without KVM.
const PICTURE: &str = "exec grim -l 1 -";

impl Lab {
    /// All windows.
    pub(crate) fn windows(&mut self) -> Result<Vec<View>> {
        let tree = self.bytes(Vm::Gui, USER, "exec swaymsg -r -t get_tree")?;
        Ok(views(&serde_json::from_slice(&tree).context("sway's tree is no JSON")?))
    }

    /// Waits for as many windows as are named, each of an application or with a title that ends so, in this order.
    pub(crate) fn wait_for_windows(&mut self, names: &[&str]) -> Result<Vec<View>> {
        let mut windows = Vec::new();
        let found = self.until(&format!("windows {}", names.join(", ")), |lab| {
            windows = lab.windows()?;
            let named = |name: &&str| windows.iter().find(|window| is_called(window, name));
            let found: Option<Vec<&View>> = names.iter().map(named).collect();
            Ok(found.map(|found| found.into_iter().cloned().collect()))
        });
        found.map_err(|error| {
            let there =
                windows.iter().map(|window| format!("{} ({})", window.title, window.app_id));
            error.context(format!("on the screen is: {}", there.collect::<Vec<_>>().join(", ")))
        })
    }

    /// Starts a client of a VM, whose window is called as it is itself, and waits until that is on the screen.
    ///
    /// sway tells at once where a window is going to be, and shows it when the others have made room.
    pub(crate) fn open(&mut self, vm: Vm, name: &str, script: &str) -> Result<()> {
        let before = self.picture("before")?;
        self.start(vm, USER, name, script)?;
        self.wait_for_windows(&[name])?;
        self.until(&format!("picture of {name}"), |lab| {
            let window = lab.windows()?.into_iter().find(|window| is_called(window, name));
            let Some(window) = window else { return Ok(None) };
            Ok((lab.picture("after")?.differing(&before, window.content) > 0).then_some(()))
        })
    }

    /// Waits until no window is called so.
    pub(crate) fn wait_for_end_of_window(&mut self, name: &str) -> Result<()> {
        self.until(&format!("end of the window {name}"), |lab| {
            Ok((!lab.windows()?.iter().any(|window| is_called(window, name))).then_some(()))
        })
    }

    /// A picture of the screen, also in `target/vm/NAME.png`.
    pub(crate) fn picture(&mut self, name: &str) -> Result<Picture> {
        let png = self.bytes(Vm::Gui, USER, PICTURE)?;
        let path = picture_path(name);
        fs::write(&path, png).with_context(|| format!("can't write {}", path.display()))?;
        Picture::read(&path)
    }

    /// A picture on which each of the windows that are called so has content.
    pub(crate) fn picture_of(&mut self, name: &str, windows: &[&str]) -> Result<Picture> {
        let path = picture_path(name);
        let what = format!("content of {} on {}", windows.join(", "), path.display());
        self.until(&what, |lab| {
            // Each time anew: where a window is changes with what else is there.
            let windows = lab.wait_for_windows(windows)?;
            let picture = lab.picture(name)?;
            let whole = (picture.width, picture.height) == SCREEN
                && windows.iter().all(|window| picture.shows_content(window.content));
            Ok(whole.then_some(picture))
        })
    }

    /// Waits until a part of the screen has changed: who draws there draws on.
    pub(crate) fn wait_for_change(&mut self, rect: Rect) -> Result<()> {
        let before = self.picture("before")?;
        self.until("change on the screen", |lab| {
            Ok((lab.picture("after")?.differing(&before, rect) > 0).then_some(()))
        })
    }
}

/// Where a picture is.
pub(crate) fn picture_path(name: &str) -> PathBuf {
    root().join(format!("target/vm/{name}.png"))
}

fn is_called(window: &View, name: &str) -> bool {
    window.app_id.ends_with(name) || window.title.ends_with(name)
}
