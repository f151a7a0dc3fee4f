//! An allocation: memory that the host made, for this VM or for another.

use super::vfd_error::VfdError;
use super::window::Lease;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};
use wlproxy_unix::memory;

/// A sealed memfd, and its place in the window.
#[derive(Debug)]
pub(super) struct Allocation {
    fd: OwnedFd,
    /// Bytes that count for this VM: 0 if it came over a context.
    own: u64,
    /// The context that it came over, if it did.
    pub(super) context: Option<u32>,
    /// Where it is mapped. Taken when the vfd is closed.
    pub(super) lease: Option<Lease>,
}

impl Allocation {
    /// New memory of `size` bytes of zeros, rounded up to whole pages. `None` if that is no size for an allocation.
    pub(super) fn make(size: u64) -> Option<io::Result<Self>> {
        let size = size
            .checked_next_multiple_of(PAGE_SIZE)
            .filter(|size| (1..=MAX_ALLOCATION).contains(size))?;
        Some(memory::allocate("wlproxy-allocation", size).map(|fd| Self {
            fd,
            own: size,
            context: None,
            lease: None,
        }))
    }

    /// New memory that begins with `content`, of at least one page.
    pub(super) fn of(content: &[u8]) -> Result<Self, VfdError> {
        let made = Self::make((content.len() as u64).max(1)).ok_or(VfdError::Size)??;
        File::from(made.fd.try_clone()?).write_all_at(content, 0)?;
        Ok(made)
    }

    /// Memory that came over a context.
    pub(super) fn received(fd: OwnedFd, context: u32) -> Self {
        Self { fd, own: 0, context: Some(context), lease: None }
    }

    /// Bytes that were made for this VM.
    pub(super) fn own_bytes(&self) -> u64 {
        self.own
    }
}

impl AsFd for Allocation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_pages_within_bounds() {
        assert!(Allocation::make(0).is_none());
        assert!(Allocation::make(MAX_ALLOCATION + 1).is_none());
        assert!(Allocation::make(u64::MAX).is_none());
        let made = Allocation::make(5000).unwrap().unwrap();
        assert_eq!((made.own_bytes(), memory::size_if_sealed(&made)), (8192, Some(8192)));
        assert!(Allocation::make(MAX_ALLOCATION).unwrap().is_ok());
    }
}
