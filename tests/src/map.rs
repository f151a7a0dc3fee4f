//! Maps a file as clients map their keymap. The only unsafe code of the harness.
#![allow(unsafe_code)]

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// A read-only mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Mapping {
    /// Maps the first `length` bytes of `file` with `MAP_PRIVATE` and `PROT_READ`.
    pub fn private(file: impl AsFd, length: NonZeroUsize) -> nix::Result<Self> {
        Self::new(file, length, MapFlags::MAP_PRIVATE)
    }

    /// The same with `MAP_SHARED`, as clients did before version 7 of wl_seat.
    pub fn shared(file: impl AsFd, length: NonZeroUsize) -> nix::Result<Self> {
        Self::new(file, length, MapFlags::MAP_SHARED)
    }

    fn new(file: impl AsFd, length: NonZeroUsize, flags: MapFlags) -> nix::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses disturbs no other memory.
        let address = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, file, 0) }?;
        Ok(Self { address, length })
    }

    /// A copy of what is there now.
    pub fn bytes(&self) -> Vec<u8> {
        let start = self.address.cast::<u8>().as_ptr();
        // SAFETY: the mapping is that long and lives as long as self; reads are volatile, since the file may change.
        (0..self.length.get()).map(|i| unsafe { start.add(i).read_volatile() }).collect()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing else knows the address.
        let _ = unsafe { munmap(self.address, self.length.get()) };
    }
}
