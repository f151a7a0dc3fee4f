//! A disk of our own for all that a desk has, so that it can be full.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Its size: what a desk and its programs write there, many times.
const SIZE: &str = "size=64M";

/// What fills it.
const FILLER: &str = "filler";

/// Such a disk, which this thread and those that it starts see, and nobody else.
#[derive(Debug)]
pub(crate) struct Disk(TempDir);

/// A full one; it has room again when this is dropped.
#[derive(Debug)]
pub(crate) struct Full(PathBuf);

impl Disk {
    /// `None` if we may not mount: who tests as root may.
    pub(crate) fn own() -> Option<Self> {
        // Who runs the compositor has to pass through.
        let everybody = fs::Permissions::from_mode(0o711);
        let mut builder = tempfile::Builder::new();
        // Short, as sockets are in it.
        let folder = builder.prefix("wlp").permissions(everybody).tempdir_in("/tmp");
        let folder = folder.expect("/tmp is writable");
        let own = || -> Result<(), Errno> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(SIZE))
        };
        match own() {
            Ok(()) => Some(Self(folder)),
            Err(errno) => {
                println!("without a full disk: {errno}");
                None
            }
        }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) -> Full {
        let path = self.folder().join(FILLER);
        let mut file = File::create(&path).expect("a fresh file");
        let block = vec![1; 1 << 20];
        while file.write_all(&block).is_ok() {}
        Full(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.folder(), MntFlags::MNT_DETACH);
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
