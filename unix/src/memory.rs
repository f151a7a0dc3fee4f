//! memfds: the memory that VMs share, and files that clients map.

use memfd::{FileSeal, Memfd, MemfdOptions};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

fn create(name: &str) -> io::Result<Memfd> {
    MemfdOptions::default().allow_sealing(true).create(name).map_err(io::Error::other)
}

/// Makes a memfd of `size` bytes of zeros that can neither shrink nor grow: an allocation.
pub fn allocate(name: &str, size: u64) -> io::Result<OwnedFd> {
    let memfd = create(name)?;
    memfd.as_file().set_len(size)?;
    memfd
        .add_seals(&[FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal])
        .map_err(io::Error::other)?;
    Ok(memfd.into_file().into())
}

/// Makes a file of `contents` that nobody can change, opened for reading: a keymap, a format table.
///
/// Opened anew, because a write-sealed memfd can't be mapped `MAP_SHARED` through a writable fd before Linux 6.7, and
/// clients bound to wl_keyboard before version 7 do that.
pub fn constant(name: &str, contents: &[u8]) -> io::Result<OwnedFd> {
    let memfd = create(name)?;
    memfd.as_file().write_all(contents)?;
    let seals = [FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealWrite, FileSeal::SealSeal];
    memfd.add_seals(&seals).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", memfd.as_file().as_raw_fd());
    Ok(File::open(path)?.into())
}

/// The size in bytes of a memfd that can't shrink; `None` if `fd` is anything else.
///
/// Only such memory may be mapped into a VM's window: nobody can take its pages away.
pub fn size_if_sealed(fd: impl AsFd) -> Option<u64> {
    let seals = SealFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS).ok()?);
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        return None;
    }
    u64::try_from(fstat(fd).ok()?.st_size).ok()
}

/// Whether two fds are the same file.
pub fn same_file(a: impl AsFd, b: impl AsFd) -> bool {
    match (fstat(a), fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_allocation_keeps_its_size() {
        let fd = allocate("test", 8192).unwrap();
        assert_eq!(size_if_sealed(&fd), Some(8192));
        let file = File::from(fd);
        assert!(file.set_len(4096).is_err() && file.set_len(1 << 20).is_err());
    }

    #[test]
    fn an_unsealed_memfd_is_told_apart() {
        let file = create("test").unwrap().into_file();
        file.set_len(4096).unwrap();
        assert_eq!(size_if_sealed(&file), None);
        assert_eq!(size_if_sealed(File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn a_constant_stays_as_it_is() {
        let mut file = File::from(constant("test", b"xkb_keymap").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xkb_keymap");
        assert!(file.write_all(b"!").is_err());
    }
}
