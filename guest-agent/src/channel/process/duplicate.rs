//! fds that others name by number only, as the crates of rust-vmm do with theirs.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Another fd for the same file.
pub(super) fn duplicate(owner: &dyn AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the owner keeps its fd open at least as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }.try_clone_to_owned()
}
