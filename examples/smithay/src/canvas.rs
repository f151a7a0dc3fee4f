//! Pixels in memory that text is drawn into.

use crate::owner::Owner;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_10X20;
use embedded_graphics::pixelcolor::raw::{RawData, RawU24};
use embedded_graphics::pixelcolor::{PixelColor, Rgb888, RgbColor};
use embedded_graphics::text::{Baseline, Text};
use embedded_graphics::{Drawable, Pixel};
use smithay::backend::allocator::Fourcc;
use smithay::backend::renderer::element::memory::MemoryRenderBuffer;
use smithay::utils::Transform;
use std::convert::Infallible;

/// Pixels between the left end of a title bar and its text.
const INDENT: i32 = 8;

/// Colours at least this bright, of 255, get black text.
const BRIGHT: u32 = 128;

/// Pixels of four bytes: blue, green, red, and one that doesn't matter.
struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

/// A title bar of the size that is given, with the owner's name.
pub(crate) fn title_bar(owner: &Owner, width: u32, height: u32) -> MemoryRenderBuffer {
    let colour = Rgb888::from(RawU24::new(owner.colour()));
    let mut canvas =
        Canvas { width, height, pixels: vec![0; width as usize * height as usize * 4] };
    let Ok(()) = canvas.clear(colour);
    // How bright the eye sees red, green and blue, in eighths.
    let brightness =
        (u32::from(colour.r()) * 2 + u32::from(colour.g()) * 5 + u32::from(colour.b())) / 8;
    let ink = if brightness < BRIGHT { Rgb888::WHITE } else { Rgb888::BLACK };
    let style = MonoTextStyle::new(&FONT_10X20, ink);
    let place = Point::new(INDENT, height as i32 / 2);
    let Ok(_) = Text::with_baseline(owner.name(), place, style, Baseline::Middle).draw(&mut canvas);
    let size = (width as i32, height as i32);
    MemoryRenderBuffer::from_slice(
        &canvas.pixels,
        Fourcc::Xrgb8888,
        size,
        1,
        Transform::Normal,
        None,
    )
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { continue };
            if x < self.width && y < self.height {
                let at = (y as usize * self.width as usize + x as usize) * 4;
                let rgb = <Rgb888 as PixelColor>::Raw::from(colour).into_inner();
                self.pixels[at..at + 4].copy_from_slice(&rgb.to_le_bytes());
            }
        }
        Ok(())
    }
}
