//! Memory of wl_shm pools: what clients draw in, and what the sink maps.

#![allow(unsafe_code)] // Mappings of memory that others may change, all of it here.

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use wlproxy_tests::Image;

/// Bytes of a pixel: the format is XRGB8888.
pub(crate) const PIXEL: usize = 4;

/// Bytes of a pixel that are seen: blue, green and red. The last one isn't.
const COLOURS: usize = 3;

/// A rectangle of a buffer, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Where the pixels of a buffer are in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes before the first row.
    pub(crate) offset: usize,
    /// Bytes from the start of one row to that of the next.
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Layout {
    /// The rows of `rect`, each as its offset in the pool and its length, in bytes.
    ///
    /// # Panics
    /// If the buffer has no such rectangle.
    fn rows(self, rect: Rect) -> impl Iterator<Item = (usize, usize)> {
        assert!(rect.x + rect.width <= self.width && rect.y + rect.height <= self.height);
        let start = move |row: usize| self.offset + row * self.stride + rect.x * PIXEL;
        (rect.y..rect.y + rect.height).map(move |row| (start(row), rect.width * PIXEL))
    }

    /// All of it.
    pub(crate) fn whole(self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }
}

/// A pool, mapped whole.
#[derive(Debug)]
pub(crate) struct Pool {
    address: NonNull<c_void>,
    size: NonZeroUsize,
}

// SAFETY: mapped memory belongs to no thread, and only methods that copy touch it.
unsafe impl Send for Pool {}
// SAFETY: as above; who only has `&Pool` reads, by copies.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a memfd of `size` bytes, as plain clients do: created, sized once, mapped whole. Returns the file too.
    pub(crate) fn new(size: NonZeroUsize) -> io::Result<(Self, OwnedFd)> {
        let file = File::from(memfd_create("bench", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(size.get() as u64)?;
        Ok((Self::map(&file, size)?, file.into()))
    }

    /// Maps `size` bytes of a file, as compositors do. It isn't needed afterwards.
    pub(crate) fn map(file: impl AsFd, size: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping where the kernel finds room changes nothing that exists.
        let address = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { address, size })
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.get()
    }

    /// Fills `rect` with one grey.
    pub(crate) fn fill(&mut self, layout: Layout, rect: Rect, grey: u8) {
        for (offset, len) in layout.rows(rect) {
            // SAFETY: `at` checked that so many bytes are mapped there, and no Rust object is.
            unsafe { self.at(offset, len).write_bytes(grey, len) }
        }
    }

    /// Fills `rect` with what `noise` has, row by row.
    ///
    /// # Panics
    /// If there is too little of it.
    pub(crate) fn fill_from(&mut self, layout: Layout, rect: Rect, noise: &[u8]) {
        let mut noise = noise;
        for (offset, len) in layout.rows(rect) {
            let (row, rest) = noise.split_at(len);
            noise = rest;
            // SAFETY: `at` checked that so many bytes are mapped there; they belong to no Rust object, so not to `row`.
            unsafe { self.at(offset, len).copy_from_nonoverlapping(row.as_ptr(), len) }
        }
    }

    /// Copies `len` bytes at `offset` of `from` to the same place here, as fast as the machine can: one memcpy(3).
    pub(crate) fn copy(&mut self, from: &Pool, offset: usize, len: usize) {
        let (from, to) = (from.at(offset, len), self.at(offset, len));
        // SAFETY: `at` checked both sides, and two mappings don't overlap.
        unsafe { to.copy_from_nonoverlapping(from, len) }
    }

    /// A number that tells pictures apart. Only the colours count, not where they are.
    pub(crate) fn checksum(&self, layout: Layout) -> u64 {
        let mut bytes = vec![0; layout.width * PIXEL];
        checksum(layout.rows(layout.whole()), |(offset, len), row| {
            // SAFETY: `at` checked that so many bytes are mapped there; there is room for as many.
            unsafe { self.at(offset, len).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) }
            row.extend(bytes.chunks_exact(PIXEL).flat_map(|pixel| &pixel[..COLOURS]));
        })
    }

    /// Where `len` bytes at `offset` are.
    ///
    /// # Panics
    /// If there aren't so many.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.size());
        assert!(fits, "{len} bytes at {offset} of a pool of {}", self.size());
        // SAFETY: that is within the mapping, or at its end.
        unsafe { self.address.cast::<u8>().as_ptr().add(offset) }
    }
}

/// The checksum of a picture, as [`Pool::checksum`] has it of what is drawn.
pub(crate) fn of_image(image: &Image) -> u64 {
    checksum(0..image.height, |y, row| {
        row.extend((0..image.width).flat_map(|x| {
            let [blue, green, red, _] = image.pixel(x, y).to_le_bytes();
            [blue, green, red]
        }));
    })
}

/// A number for rows of colours, each of which `fill` appends to what is empty.
fn checksum<R>(rows: impl Iterator<Item = R>, mut fill: impl FnMut(R, &mut Vec<u8>)) -> u64 {
    let (mut hasher, mut colours) = (DefaultHasher::new(), Vec::new());
    for row in rows {
        colours.clear();
        fill(row, &mut colours);
        hasher.write(&colours);
    }
    hasher.finish()
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody keeps a pointer into it.
        let _ = unsafe { munmap(self.address, self.size()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(bytes: usize) -> Pool {
        Pool::new(NonZeroUsize::new(bytes).unwrap()).unwrap().0
    }

    #[test]
    fn the_same_picture_elsewhere_has_the_same_checksum() {
        let near = Layout { offset: 0, stride: 40, width: 10, height: 10 };
        let far = Layout { offset: 100, stride: 64, ..near };
        let (mut a, mut b) = (pool(400), pool(1000));
        a.fill(near, near.whole(), 7);
        b.fill(far, far.whole(), 7);
        assert_eq!(a.checksum(near), b.checksum(far));
        let rect = Rect { x: 9, y: 9, width: 1, height: 1 };
        b.fill(far, rect, 8);
        assert_ne!(a.checksum(near), b.checksum(far));
        a.fill_from(near, rect, &[8; PIXEL]);
        assert_eq!(a.checksum(near), b.checksum(far));
    }

    #[test]
    fn a_picture_of_it_has_the_same_checksum() {
        let layout = Layout { offset: 0, stride: 8, width: 2, height: 2 };
        let mut pool = pool(16);
        // The last byte of a pixel isn't seen.
        pool.fill_from(
            layout,
            layout.whole(),
            &[3, 2, 1, 99, 6, 5, 4, 98, 9, 8, 7, 97, 0, 0, 0, 96],
        );
        let mut image = Image::new(2, 2);
        for (x, y, rgb) in [(0, 0, 0x01_0203), (1, 0, 0x04_0506), (0, 1, 0x07_0809)] {
            image.set(x, y, rgb);
        }
        assert_eq!(of_image(&image), pool.checksum(layout));
        image.set(1, 1, 1);
        assert_ne!(of_image(&image), pool.checksum(layout));
    }

    #[test]
    #[should_panic(expected = "of a pool of 400")]
    fn nothing_is_drawn_beyond_the_pool() {
        let layout = Layout { offset: 4, stride: 40, width: 10, height: 10 };
        pool(400).fill(layout, layout.whole(), 1);
    }
}
