//! A disk of our own for everything that is in /tmp, so that it can be full.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

/// Its size: what a desk and its programs write there, many times.
const SIZE: &str = "size=64M";

/// What fills it.
const FILLER: &str = "/tmp/filler";

/// Such a disk, which this thread and those that it starts see, and nobody else.
#[derive(Debug)]
pub(crate) struct Disk(());

/// A full one; it has room again when this is dropped.
#[derive(Debug)]
pub(crate) struct Full(PathBuf);

impl Disk {
    /// `None` if we may not mount: who tests as root may.
    pub(crate) fn own() -> Option<Self> {
        let own = || -> Result<(), Errno> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), Some(SIZE))
        };
        match own() {
            Ok(()) => Some(Self(())),
            Err(errno) => {
                println!("without a full disk: {errno}");
                None
            }
        }
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) -> Full {
        let path = PathBuf::from(FILLER);
        let mut file = File::create(&path).expect("a fresh file");
        let block = vec![1; 1 << 20];
        while file.write_all(&block).is_ok() {}
        Full(path)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
