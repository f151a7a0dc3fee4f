//! An allocation: memory that the host made, for this VM or for another.

use super::made::{Made, Piece};
use super::vfd_error::VfdError;
use super::window::Lease;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};
use wlproxy_unix::memory;

/// A sealed memfd, and its place in the window.
#[derive(Debug)]
pub(super) struct Allocation {
    fd: OwnedFd,
    /// Bytes of it, whole pages.
    length: u64,
    /// Unless it came over a context: it counts for this VM.
    own: Option<Arc<Piece>>,
    /// The context that it came over, if it did.
    pub(super) context: Option<u32>,
    /// Where it is mapped. Taken when the vfd is closed.
    pub(super) lease: Option<Lease>,
}

impl Allocation {
    /// New memory of `size` bytes of zeros, rounded up to whole pages. `None` if that is no size for an allocation.
    pub(super) fn make(size: u64, made: &Arc<Made>) -> Option<io::Result<Self>> {
        let length = size
            .checked_next_multiple_of(PAGE_SIZE)
            .filter(|length| (1..=MAX_ALLOCATION).contains(length))?;
        Some(memory::allocate("wlproxy-allocation", length).map(|fd| Self {
            fd,
            length,
            own: Some(made.add(length)),
            context: None,
            lease: None,
        }))
    }

    /// New memory that begins with `content`, of at least one page.
    pub(super) fn of(content: &[u8], made: &Arc<Made>) -> Result<Self, VfdError> {
        let allocation =
            Self::make((content.len() as u64).max(1), made).ok_or(VfdError::Size)??;
        File::from(allocation.fd.try_clone()?).write_all_at(content, 0)?;
        Ok(allocation)
    }

    /// Memory of `size` bytes that came over a context.
    pub(super) fn received(fd: OwnedFd, size: u64, context: u32) -> Self {
        // Of more, nothing is mapped.
        let length = size.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        Self { fd, length, own: None, context: Some(context), lease: None }
    }

    /// Bytes that it has when it is mapped.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What counts for this VM as long as it is somewhere.
    pub(super) fn piece(&self) -> Option<Arc<Piece>> {
        self.own.clone()
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
        let made = Made::new(Arc::default());
        let make = |size| Allocation::make(size, &made);
        assert!(
            make(0).is_none() && make(MAX_ALLOCATION + 1).is_none() && make(u64::MAX).is_none()
        );
        assert!(make(MAX_ALLOCATION).unwrap().is_ok());
        assert_eq!(made.bytes(), 0, "it is gone");
        let allocation = make(5000).unwrap().unwrap();
        assert_eq!((allocation.length(), memory::size_if_sealed(&allocation)), (8192, Some(8192)));
        let piece = allocation.piece();
        drop(allocation);
        assert_eq!(made.bytes(), 8192, "somebody has it");
        drop(piece);
        assert_eq!(made.bytes(), 0);
    }
}
