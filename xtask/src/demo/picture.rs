//! Reads a picture, to see that it shows something.

use super::sway::Rect;
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// As many colours are told apart.
const MAX_COLOURS: usize = 64;

/// A window that has drawn shows at least this many: text is smoothed, the other clients draw gradients and shapes.
const MIN_COLOURS: usize = 4;

/// A picture of opaque colours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads a PNG.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        Self::decode(png::Decoder::new(BufReader::new(file)))
            .with_context(|| format!("{} can't be read", path.display()))
    }

    fn decode<R: std::io::BufRead + std::io::Seek>(mut decoder: png::Decoder<R>) -> Result<Self> {
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().context("it is too big")?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes)?;
        let samples = info.color_type.samples();
        if samples < 3 {
            bail!("it has no colours");
        }
        let pixels = bytes[..info.buffer_size()]
            .chunks_exact(samples)
            .map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        Ok(Self { width: info.width, height: info.height, pixels })
    }

    /// How many colours there are in a part of it, up to a limit. What lies outside the picture has none.
    fn colours(&self, rect: Rect) -> usize {
        let mut found = HashSet::new();
        for pixel in self.within(rect) {
            found.insert(pixel);
            if found.len() == MAX_COLOURS {
                break;
            }
        }
        found.len()
    }

    /// The pixels of a part of it. What lies outside the picture has none.
    fn within(&self, rect: Rect) -> impl Iterator<Item = &[u8; 3]> {
        let range = |from: i64, length: i64, size: u32| {
            let limit = |value: i64| value.clamp(0, size.into()) as usize;
            limit(from)..limit(from.saturating_add(length))
        };
        let columns = range(rect.x, rect.width, self.width);
        range(rect.y, rect.height, self.height).flat_map(move |row| {
            let start = row * self.width as usize;
            &self.pixels[start + columns.start..start + columns.end]
        })
    }

    /// How many pixels of a part of it are others in `other`, a picture of the same size.
    pub(crate) fn differing(&self, other: &Self, rect: Rect) -> usize {
        self.within(rect).zip(other.within(rect)).filter(|(one, other)| one != other).count()
    }

    /// Whether a window with its content there has drawn.
    pub(crate) fn shows_content(&self, rect: Rect) -> bool {
        self.colours(rect) >= MIN_COLOURS
    }

    /// The colour of a part of it, if it has one and no more.
    pub(crate) fn only_colour(&self, rect: Rect) -> Option<[u8; 3]> {
        let mut pixels = self.within(rect);
        let first = pixels.next()?;
        pixels.all(|pixel| pixel == first).then_some(*first)
    }

    /// The colour in the upper left corner, where no window is.
    pub(crate) fn corner(&self) -> Option<[u8; 3]> {
        self.pixels.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y))
            .collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        Picture::decode(png::Decoder::new(std::io::Cursor::new(bytes))).unwrap()
    }

    #[test]
    fn an_empty_window_is_told_from_a_drawn_one() {
        // The left half is plain, the right half has one colour per column.
        let picture = picture(16, 4, |x, _| if x < 8 { [9; 3] } else { [x as u8; 3] });
        let rect = |x, width| Rect { x, y: 0, width, height: 4 };
        assert!(!picture.shows_content(rect(0, 8)));
        assert!(picture.shows_content(rect(8, 8)));
        assert!(picture.shows_content(rect(-100, 1000)));
        assert!(!picture.shows_content(rect(16, 8)));
        assert!(!picture.shows_content(rect(i64::MAX, i64::MAX)));
        assert_eq!(picture.only_colour(rect(0, 8)), Some([9; 3]));
        assert_eq!(picture.only_colour(rect(0, 10)), None);
        assert_eq!(picture.only_colour(rect(16, 8)), None);
        assert_eq!(picture.corner(), Some([9; 3]));
        assert_eq!((picture.width, picture.height), (16, 4));
    }

    #[test]
    fn what_differs_is_counted_where_it_is() {
        let one = picture(4, 4, |_, _| [1; 3]);
        let other = picture(4, 4, |x, y| if (x, y) == (3, 0) { [2; 3] } else { [1; 3] });
        assert_ne!(one, other);
        assert_eq!(
            one.differing(
                &other,
                Rect { x: 0, y: 0, width: one.width.into(), height: one.height.into() }
            ),
            1
        );
        assert_eq!(one.differing(&other, Rect { x: 0, y: 0, width: 3, height: 4 }), 0);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let bytes = std::io::Cursor::new(b"no PNG".to_vec());
        assert!(Picture::decode(png::Decoder::new(bytes)).is_err());
    }
}
