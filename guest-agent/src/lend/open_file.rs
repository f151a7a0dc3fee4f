//! Whether two fds are one open file (kcmp(2)): the only way to know an allocation again, whose fd may be a memfd, a
//! dma-buf or a virtwl vfd, and of these neither inode nor size tell anything.

#![allow(unsafe_code)] // nix has no kcmp.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::getpid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Compares open files (Linux, `include/uapi/linux/kcmp.h`).
const KCMP_FILE: libc::c_long = 0;

/// Whether `a` and `b`, fds of this process, are the same open file, as dup(2) and `SCM_RIGHTS` leave it.
///
/// Fails where the kernel has no kcmp(2), or a sandbox keeps it away.
pub(super) fn is_same(a: impl AsFd, b: impl AsFd) -> nix::Result<bool> {
    let own = libc::c_long::from(getpid().as_raw());
    let number = |fd: BorrowedFd<'_>| libc::c_long::from(fd.as_raw_fd());
    let (a, b) = (number(a.as_fd()), number(b.as_fd()));
    // SAFETY: kcmp only compares; it takes numbers, and no pointers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, a, b) };
    match order {
        // 1, 2 and 3 tell which one comes first in some order of the kernel's.
        0 => Ok(true),
        1..=3 => Ok(false),
        _ => Err(Errno::last()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[test]
    fn an_open_file_is_known_again_and_one_opened_anew_is_another() {
        let fd: OwnedFd = memfd_create("wlproxy-test", MFdFlags::MFD_CLOEXEC).unwrap();
        let duplicate = fd.try_clone().unwrap();
        let anew = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        let other = memfd_create("wlproxy-test", MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(is_same(&fd, &duplicate), Ok(true));
        assert_eq!(is_same(&fd, &anew), Ok(false));
        assert_eq!(is_same(&fd, &other), Ok(false));
    }
}
