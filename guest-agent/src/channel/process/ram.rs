//! The VM's memory: one memfd, mapped here and by the device, which may change it at any moment.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use vm_memory::{
    AtomicAccess, Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice,
    mmap::MmapRegionError,
};
use wlproxy_unix::memory;

/// Guest address of the memory, in bytes: away from 0, so that a forgotten address is found.
pub(super) const BASE: u64 = 0x4000_0000;

/// The VM's memory. Places in it are offsets in bytes from its start, and always ours: one out of range is a bug here.
#[derive(Debug)]
pub(super) struct Ram {
    region: MmapRegion,
}

impl Ram {
    /// Makes `size` bytes of zeros; whole pages.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let file = File::from(memory::allocate("guest-ram", size as u64)?);
        let region = MmapRegion::from_file(FileOffset::new(file, 0), size).map_err(into_io)?;
        Ok(Self { region })
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// The memfd, which lives as long as this does.
    pub(super) fn fd(&self) -> RawFd {
        self.region.file_offset().expect("made from a file").file().as_raw_fd()
    }

    /// The guest address of an offset.
    pub(super) fn address(offset: usize) -> u64 {
        BASE + offset as u64
    }

    fn all(&self) -> VolatileSlice<'_, ()> {
        self.region.as_volatile_slice()
    }

    /// Copies memory out.
    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.all().read_slice(bytes, offset).expect("in RAM");
    }

    /// Copies memory in.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        self.all().write_slice(bytes, offset).expect("in RAM");
    }

    /// Reads one number at once.
    pub(super) fn load<T: AtomicAccess>(&self, offset: usize, order: Ordering) -> T {
        self.all().load(offset, order).expect("aligned and in RAM")
    }

    /// Writes one number at once.
    pub(super) fn store<T: AtomicAccess>(&self, offset: usize, value: T, order: Ordering) {
        self.all().store(value, offset, order).expect("aligned and in RAM");
    }
}

fn into_io(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(error) => error,
        other => io::Error::other(other),
    }
}
