//! Screenshots, and how to compare them.

use anyhow::{Result, bail};
use std::fmt::Write;
use std::path::Path;

/// Pixels of three bytes: red, green, blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    rgb: Vec<u8>,
}

impl Image {
    /// A black picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    /// Reads a binary PPM with 8 bits per channel, as grim writes it.
    pub fn from_ppm(ppm: &[u8]) -> Option<Self> {
        let mut rest = ppm;
        let mut word = || {
            let end = rest.iter().position(u8::is_ascii_whitespace)?;
            let (word, tail) = rest.split_at(end);
            rest = &tail[1..];
            std::str::from_utf8(word).ok()
        };
        if word()? != "P6" {
            return None;
        }
        let (width, height) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let bytes = usize::checked_mul(width, height)?.checked_mul(3)?;
        (word()? == "255" && rest.len() == bytes).then(|| Self {
            width,
            height,
            rgb: rest.to_vec(),
        })
    }

    /// Reads a PNG with 8 bits per channel; whatever is transparent is shown as if it weren't.
    pub fn from_png(bytes: &[u8]) -> Option<Self> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
        let mut pixels = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut pixels).ok()?;
        let channels = match (info.color_type, info.bit_depth) {
            (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
            (png::ColorType::Rgba, png::BitDepth::Eight) => 4,
            _ => return None,
        };
        let rgb = pixels[..info.buffer_size()].chunks_exact(channels).flat_map(|p| &p[..3]);
        let (width, height) = (info.width as usize, info.height as usize);
        Some(Self { width, height, rgb: rgb.copied().collect() })
    }

    /// Takes pixels of four bytes: blue, green, red, and one that doesn't matter (wl_shm's XRGB8888).
    pub fn from_xrgb(pixels: &[u8], width: usize, height: usize) -> Self {
        let rgb = pixels[..width * height * 4].chunks_exact(4).flat_map(|p| [p[2], p[1], p[0]]);
        Self { width, height, rgb: rgb.collect() }
    }

    /// Whether `part` is somewhere in it.
    pub fn contains(&self, part: &Self) -> bool {
        let places = self.width.saturating_sub(part.width) + 1;
        let rows = self.height.saturating_sub(part.height) + 1;
        let row = |image: &Self, x: usize, y: usize| {
            let at = (y * image.width + x) * 3;
            at..at + part.width * 3
        };
        (0..rows).any(|y| {
            (0..places).any(|x| {
                (0..part.height)
                    .all(|dy| self.rgb[row(self, x, y + dy)] == part.rgb[row(part, 0, dy)])
            })
        })
    }

    /// The pixel at `x`, `y` as 0xRRGGBB.
    pub fn pixel(&self, x: usize, y: usize) -> u32 {
        let at = (y * self.width + x) * 3;
        u32::from_be_bytes([0, self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]])
    }

    /// Sets the pixel at `x`, `y` to 0xRRGGBB.
    pub fn set(&mut self, x: usize, y: usize, rgb: u32) {
        let at = (y * self.width + x) * 3;
        self.rgb[at..at + 3].copy_from_slice(&rgb.to_be_bytes()[1..]);
    }

    /// The part at `x`, `y` of the given size.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let mut part = Self::new(width, height);
        for row in 0..height {
            let from = ((y + row) * self.width + x) * 3;
            part.rgb[row * width * 3..(row + 1) * width * 3]
                .copy_from_slice(&self.rgb[from..from + width * 3]);
        }
        part
    }

    /// Whether any pixel is 0xRRGGBB.
    pub fn shows(&self, rgb: u32) -> bool {
        self.rgb.chunks(3).any(|pixel| *pixel == rgb.to_be_bytes()[1..])
    }

    /// How many colours there are; a picture of nothing has one.
    pub fn colours(&self) -> usize {
        let mut pixels: Vec<_> = self.rgb.chunks(3).collect();
        pixels.sort_unstable();
        pixels.dedup();
        pixels.len()
    }

    /// What distinguishes `self` from `expected`, if anything.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        if (self.width, self.height) != (expected.width, expected.height) {
            let (w, h) = (expected.width, expected.height);
            return Some(format!("{}x{} instead of {w}x{h}", self.width, self.height));
        }
        let wrong: Vec<_> = (0..self.width * self.height)
            .map(|i| (i % self.width, i / self.width))
            .filter(|&(x, y)| self.pixel(x, y) != expected.pixel(x, y))
            .collect();
        let (first, last) = (*wrong.first()?, *wrong.last()?);
        let mut text = format!("{} pixels differ, in rows {} to {}:", wrong.len(), first.1, last.1);
        for (x, y) in wrong.into_iter().take(4) {
            let (is, should) = (self.pixel(x, y), expected.pixel(x, y));
            let _ = write!(text, " ({x}, {y}) is {is:06x}, not {should:06x};");
        }
        Some(text)
    }

    /// Fails the test, with both pictures saved, unless they are equal.
    #[track_caller]
    pub fn assert_equals(&self, expected: &Self, name: &str) {
        if let Err(error) = self.check_equals(expected, name) {
            panic!("{error}");
        }
    }

    /// An error that tells of the difference, with both pictures saved, unless they are equal.
    pub fn check_equals(&self, expected: &Self, name: &str) -> Result<()> {
        let Some(difference) = self.difference(expected) else { return Ok(()) };
        let folder = std::env::temp_dir();
        let (is, should) =
            (folder.join(format!("{name}-is.png")), folder.join(format!("{name}-should.png")));
        self.save(&is);
        expected.save(&should);
        bail!("{name}: {difference} see {} and {}", is.display(), should.display());
    }

    /// Writes a PNG.
    pub fn save(&self, path: &Path) {
        let file = std::fs::File::create(path).expect("a picture can be saved");
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().expect("a picture can be saved");
        writer.write_image_data(&self.rgb).expect("a picture can be saved");
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image {}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ppm_is_read_and_compared() {
        let image = Image::from_ppm(b"P6\n2 1\n255\nabcdef").unwrap();
        assert_eq!((image.pixel(0, 0), image.pixel(1, 0)), (0x616263, 0x646566));
        assert!(image.shows(0x646566) && !image.shows(0x636465));
        let mut other = image.clone();
        assert_eq!(image.difference(&other), None);
        other.set(1, 0, 0x646567);
        assert!(other.difference(&image).unwrap().contains("(1, 0) is 646567, not 646566"));
        assert_eq!(Image::from_ppm(b"P6\n2 1\n255\nabcde"), None);
    }

    #[test]
    fn a_part_is_found_where_it_is() {
        let mut image = Image::new(9, 7);
        image.set(5, 4, 0x112233);
        image.set(6, 5, 0x445566);
        let part = Image::from_xrgb(
            &[0x33, 0x22, 0x11, 9, 0, 0, 0, 9, 0, 0, 0, 9, 0x66, 0x55, 0x44, 9],
            2,
            2,
        );
        assert!(image.contains(&part) && image.contains(&image));
        image.set(6, 5, 0x445567);
        assert!(!image.contains(&part));
    }

    #[test]
    fn a_png_is_read_as_it_was_written() {
        let mut image = Image::new(3, 2);
        image.set(1, 1, 0xabcdef);
        let file = tempfile::NamedTempFile::new().unwrap();
        image.save(file.path());
        assert_eq!(Image::from_png(&std::fs::read(file.path()).unwrap()), Some(image));
    }
}
