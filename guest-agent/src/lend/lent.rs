//! One allocation that an application draws into.

use crate::channel::{Allocation, VfdId};
use crate::memory::{ClientPool, Mapping, read_allocation};
use std::cell::OnceCell;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wlproxy_protocol::limits::PAGE_SIZE;

/// An allocation that is lent. It is shared by the lender and by what uses it: pools, and shadows that lie in it.
#[derive(Debug)]
pub struct Lent {
    allocation: Allocation,
    /// Size of the application's file, in bytes: all of the allocation but for the last page's rest.
    file_size: u64,
    /// The file that the application draws into instead, since it was demoted.
    file: OnceCell<OwnedFd>,
}

impl Lent {
    /// An allocation for a file of so many bytes. It is given back if it isn't exactly as large, in whole pages: then a
    /// pool of the file's size wouldn't be all of it.
    pub fn new(allocation: Allocation, file_size: u64) -> Result<Self, Allocation> {
        match file_size.next_multiple_of(PAGE_SIZE) == allocation.size {
            true => Ok(Self { allocation, file_size, file: OnceCell::new() }),
            false => Err(allocation),
        }
    }

    /// What to send it as.
    pub fn vfd(&self) -> VfdId {
        self.allocation.vfd
    }

    /// What the application has of it. There it may be mapped whole, and nothing else.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.allocation.fd.as_fd()
    }

    /// Size in bytes, whole pages.
    pub fn size(&self) -> u64 {
        self.allocation.size
    }

    /// Whether a pool of `size` bytes is all of it. Both are mapped in whole pages.
    pub fn is_all(&self, size: NonZeroUsize) -> bool {
        (size.get() as u64).next_multiple_of(PAGE_SIZE) == self.size()
    }

    /// The application draws into a file of its own from now on.
    pub fn demote(&self, file: OwnedFd) {
        // A second time there is nothing to add: the application has no fd of it any more.
        let _ = self.file.set(file);
    }

    /// Whether it does.
    pub fn is_demoted(&self) -> bool {
        self.file.get().is_some()
    }

    /// Maps it to be written to.
    pub fn map(&self) -> io::Result<Mapping> {
        Mapping::new(self.fd(), self.size())
    }

    /// Maps what the application draws into, to be read as a pool of `size` bytes.
    pub fn pool(&self, size: NonZeroUsize) -> io::Result<ClientPool> {
        match self.file.get() {
            Some(file) => ClientPool::new(file, size),
            None => ClientPool::of_allocation(self.fd(), self.size(), size),
        }
    }

    /// What is in the file that it stands for.
    pub fn content(&self) -> io::Result<Vec<u8>> {
        read_allocation(self.fd(), self.size(), self.file_size as usize)
    }
}
