//! Where the pixels of a wl_buffer are in its pool.

use super::format::bytes_per_pixel;
use super::region::Rect;
use crate::memory::Rows;
use wayland_client::protocol::wl_shm;

/// The arguments of wl_shm_pool.create_buffer, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    offset: usize,
    width: i32,
    height: i32,
    /// Bytes from one row to the next.
    stride: usize,
    format: u32,
    /// Bytes of one.
    pixel: usize,
}

impl Geometry {
    /// Checks what libwayland checks, against a pool of `pool_size` bytes, and that the pixels of a row fit its stride.
    pub(super) fn new(
        [offset, width, height, stride]: [i32; 4],
        format: u32,
        pool_size: usize,
    ) -> Result<Self, (wl_shm::Error, String)> {
        let invalid = || {
            let reason = format!("invalid width, height or stride ({width}x{height}, {stride})");
            (wl_shm::Error::InvalidStride, reason)
        };
        let unknown = || (wl_shm::Error::InvalidFormat, format!("invalid format {format:#x}"));
        let pixel = bytes_per_pixel(format).ok_or_else(unknown)? as usize;
        let positive = |value: i32| usize::try_from(value).ok().filter(|&value| value > 0);
        let checked = || {
            let offset = usize::try_from(offset).ok()?;
            let (columns, rows, stride) = (positive(width)?, positive(height)?, positive(stride)?);
            let size = stride.checked_mul(rows).filter(|&size| size <= i32::MAX as usize)?;
            let fits =
                columns.checked_mul(pixel)? <= stride && offset.checked_add(size)? <= pool_size;
            fits.then_some(Self { offset, width, height, stride, format, pixel })
        };
        checked().ok_or_else(invalid)
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> (i32, i32) {
        (self.width, self.height)
    }

    /// Where the first pixel is in the pool, in bytes.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes in the pool, with what lies between the rows.
    pub(super) fn bytes(&self) -> usize {
        self.stride * self.height as usize
    }

    /// Bytes of so many pixels.
    pub(super) fn pixel_bytes(&self, area: u64) -> u64 {
        area * self.pixel as u64
    }

    /// The rows of a rectangle, which lies within, and where the first begins in a shadow.
    pub(super) fn rows(&self, rect: Rect) -> (Rows, usize) {
        let [x, y, width, height] =
            [rect.x, rect.y, rect.width, rect.height].map(|value| value as usize);
        let start = y * self.stride + x * self.pixel;
        let rows = Rows {
            offset: self.offset + start,
            len: width * self.pixel,
            stride: self.stride,
            count: height,
        };
        (rows, start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XRGB: u32 = wl_shm::Format::Xrgb8888 as u32;
    const POOL: usize = 10_000;

    #[test]
    fn what_fits_is_taken() {
        for [offset, width, height, stride] in
            [[0, 1, 1, 4], [0, 50, 50, 200], [9996, 1, 1, 4], [1, 50, 49, 203], [0, 1, 1, 10_000]]
        {
            let geometry = Geometry::new([offset, width, height, stride], XRGB, POOL).unwrap();
            assert_eq!(geometry.bytes(), (stride * height) as usize);
        }
    }

    #[test]
    fn bad_geometry_is_named() {
        let table = [
            ([-1, 1, 1, 4], "negative offset"),
            ([0, 0, 1, 4], "no width"),
            ([0, 1, 0, 4], "no height"),
            ([0, -1, 1, 4], "negative width"),
            ([0, 1, -1, 4], "negative height"),
            ([0, 1, 1, 0], "no stride"),
            ([0, 1, 1, -4], "negative stride"),
            ([0, 1, 1, 3], "a pixel that doesn't fit the stride"),
            ([0, 50, 50, 199], "rows that don't fit the stride"),
            ([0, 51, 50, 204], "larger than the pool"),
            ([1, 50, 50, 200], "ends behind the pool"),
            ([9997, 1, 1, 4], "the last pixel ends behind the pool"),
            ([i32::MAX, 1, 1, 4], "far behind the pool"),
            ([0, i32::MAX, i32::MAX, i32::MAX], "larger than all numbers"),
            ([0, 0x4000_0001, 1, 4], "a width whose bytes overflow 32 bits"),
            ([0, 1, 0x4000_0001, 4], "a size that overflows 32 bits"),
        ];
        for (numbers, what) in table {
            let (code, reason) = Geometry::new(numbers, XRGB, POOL).unwrap_err();
            assert_eq!(code, wl_shm::Error::InvalidStride, "{what}");
            assert!(reason.starts_with("invalid width, height or stride ("), "{what}: {reason}");
        }
        let (code, reason) = Geometry::new([0, 1, 1, 4], 0x3231_564e, POOL).unwrap_err();
        assert_eq!(
            (code, &reason[..]),
            (wl_shm::Error::InvalidFormat, "invalid format 0x3231564e")
        );
    }
}
