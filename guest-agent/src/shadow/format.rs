//! Pixel formats of wl_shm.

use wayland_client::protocol::wl_shm::Format;

/// Bytes per pixel of a format, by its number on the wire; `None` if not every pixel has bytes of its own.
///
/// That leaves out formats of several planes, those that share bytes between neighbours (4:2:2 among them), and
/// numbers that the protocol doesn't list. A shadow copies rectangles, so clients are not offered these.
pub fn bytes_per_pixel(format: u32) -> Option<u32> {
    use Format::*;
    Some(match Format::try_from(format).ok()? {
        C8 | Rgb332 | Bgr233 | R8 | D8 | Y8 => 1,
        Xrgb4444 | Xbgr4444 | Rgbx4444 | Bgrx4444 | Argb4444 | Abgr4444 | Rgba4444 | Bgra4444
        | Xrgb1555 | Xbgr1555 | Rgbx5551 | Bgrx5551 | Argb1555 | Abgr1555 | Rgba5551 | Bgra5551
        | Rgb565 | Bgr565 | R16 | Rg88 | Gr88 | R10 | R12 | R16f => 2,
        Rgb888 | Bgr888 | Vuy888 => 3,
        Argb8888 | Xrgb8888 | Xbgr8888 | Rgbx8888 | Bgrx8888 | Abgr8888 | Rgba8888 | Bgra8888
        | Xrgb2101010 | Xbgr2101010 | Rgbx1010102 | Bgrx1010102 | Argb2101010 | Abgr2101010
        | Rgba1010102 | Bgra1010102 | Ayuv | Rg1616 | Gr1616 | Gr1616f | R32f | Xyuv8888
        | Avuy8888 | Xvuy8888 | Y410 | Xvyu2101010 | Xvuy2101010 => 4,
        Rgb161616 | Bgr161616 | Bgr161616f => 6,
        Xrgb16161616 | Xbgr16161616 | Argb16161616 | Abgr16161616 | Xrgb16161616f
        | Xbgr16161616f | Argb16161616f | Abgr16161616f | Axbxgxrx106106106106 | Y412 | Y416
        | Xvyu1216161616 | Xvyu16161616 | Gr3232f => 8,
        Bgr323232f => 12,
        Abgr32323232f => 16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fourcc(code: &[u8; 4]) -> u32 {
        u32::from_le_bytes(*code)
    }

    #[test]
    fn packed_formats_have_their_size() {
        let table = [
            (0, 4),
            (1, 4),
            (fourcc(b"RG16"), 2),
            (fourcc(b"RG24"), 3),
            (fourcc(b"AB24"), 4),
            (fourcc(b"XR30"), 4),
            (fourcc(b"AB4H"), 8),
            (fourcc(b"R8  "), 1),
            (fourcc(b"RG48"), 6),
        ];
        for (format, bytes) in table {
            assert_eq!(bytes_per_pixel(format), Some(bytes), "{format:#x}");
        }
    }

    #[test]
    fn what_a_rectangle_cannot_copy_is_left_out() {
        for code in [
            b"NV12", b"YU12", b"YUYV", b"Y210", b"X0L2", b"C4  ", b"R1  ", b"XRA8", b"AR24",
            b"XR24",
        ] {
            assert_eq!(bytes_per_pixel(fourcc(code)), None, "{code:?}");
        }
        assert_eq!(bytes_per_pixel(2), None);
        assert_eq!(bytes_per_pixel(u32::MAX), None);
    }
}
