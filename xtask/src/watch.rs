//! Waking up when files appear.

use anyhow::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Becomes readable when a file or socket appears in a directory, or was written to the end.
pub(crate) struct Watch(Inotify);

impl Watch {
    /// Watches these directories.
    pub(crate) fn new(directories: &[&Path]) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        for directory in directories {
            inotify
                .add_watch(*directory, flags)
                .with_context(|| format!("can't watch {}", directory.display()))?;
        }
        Ok(Self(inotify))
    }

    /// Forgets what happened until now. What appears later wakes again.
    pub(crate) fn drain(&self) {
        while self.0.read_events().is_ok() {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
