//! Memory that others see: mapped whole, touched by volatile accesses only.

#![allow(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// Something that is mapped.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Memory {
    /// Maps `length` bytes of a file from `offset` on.
    pub(crate) fn of_file(file: impl AsFd, offset: u64, length: u64) -> Result<Self> {
        let length = usize::try_from(length).ok().and_then(NonZeroUsize::new);
        let length = length.context("nothing to map")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: where it is mapped is the kernel's choice, so it replaces nothing.
        let start = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                file,
                libc::off_t::try_from(offset)?,
            )
        }?;
        Ok(Self { start, length })
    }

    /// `length` bytes in huge pages, so that each is in one piece for a device, too.
    fn huge(length: usize) -> Result<Self> {
        let length = NonZeroUsize::new(length).context("nothing to map")?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB | MapFlags::MAP_POPULATE;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: where it is mapped is the kernel's choice, so it replaces nothing.
        let start = unsafe { mmap_anonymous(None, length, protection, flags) }
            .context("the kernel has no huge pages")?;
        Ok(Self { start, length })
    }

    /// How many bytes.
    pub(crate) fn length(&self) -> usize {
        self.length.get()
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.length.get());
        assert!(
            fits && offset.is_multiple_of(align_of::<T>()),
            "{offset:#x} is not in the mapping"
        );
        // SAFETY: that is within the mapping.
        unsafe { self.start.as_ptr().byte_add(offset) }.cast()
    }

    /// Reads there, at once.
    ///
    /// # Panics
    /// If it isn't in the mapping, or not aligned.
    pub(crate) fn read<T: bytemuck::Pod>(&self, offset: usize) -> T {
        // SAFETY: `at` checked that it is mapped and aligned, and any bits are a T.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Writes there, at once.
    ///
    /// # Panics
    /// If it isn't in the mapping, or not aligned.
    pub(crate) fn write<T: bytemuck::Pod>(&self, offset: usize, value: T) {
        // SAFETY: `at` checked that it is mapped and aligned. Nothing of Rust's is there.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }

    /// Writes bytes there.
    ///
    /// # Panics
    /// If it isn't in the mapping.
    pub(crate) fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        for (n, &byte) in bytes.iter().enumerate() {
            self.write(offset + n, byte);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is mapped there, nobody has a reference to it, and it is gone from here on.
        let result = unsafe { munmap(self.start, self.length.get()) };
        debug_assert_eq!(result, Ok(()));
    }
}

/// Size of a huge page of x86-64, in bytes.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Memory for a device: huge pages, of which it is known where they are for one.
#[derive(Debug)]
pub(crate) struct Dma {
    memory: Memory,
    /// Where each page is.
    pages: Vec<u64>,
}

/// Where it is told how many huge pages there are to be.
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// An entry of `/proc/PID/pagemap`: the page is there, and its number (Linux' `admin-guide/mm/pagemap.rst`).
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

impl Dma {
    /// So many pages. Root only.
    pub(crate) fn new(count: usize) -> Result<Self> {
        fs::write(HUGE_PAGES, count.to_string())
            .with_context(|| format!("can't write {HUGE_PAGES}"))?;
        let memory = Memory::huge(count * HUGE_PAGE)?;
        let pagemap = File::open("/proc/self/pagemap")?;
        let mut pages = Vec::new();
        for page in 0..count {
            // Touched, so that it is there.
            memory.write(page * HUGE_PAGE, 0_u8);
            let address = memory.at::<u8>(page * HUGE_PAGE).addr();
            let mut entry = [0; 8];
            pagemap.read_exact_at(&mut entry, (address / 4096 * 8) as u64)?;
            let entry = u64::from_le_bytes(entry);
            ensure!(entry & PRESENT != 0, "a huge page isn't there");
            if entry & FRAME == 0 {
                bail!("the kernel doesn't tell where memory is: is this root?");
            }
            pages.push((entry & FRAME) * 4096);
        }
        Ok(Self { memory, pages })
    }

    /// As the program sees it.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where a device finds what is at `offset`.
    ///
    /// # Panics
    /// If nothing is.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        self.pages[offset / HUGE_PAGE] + (offset % HUGE_PAGE) as u64
    }
}
