//! How a surface shows its wl_buffer.

use super::region::Rect;

/// One in wl_fixed, the protocol's 24.8 fixed-point numbers.
const FIXED_ONE: i128 = 256;

/// Buffer scale, buffer transform and wp_viewport of a surface: what leads from its coordinates to pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// wl_surface.set_buffer_scale.
    pub(super) scale: i32,
    /// wl_surface.set_buffer_transform, a wl_output.transform: quarter turns counter-clockwise (1, 2), after a flip of
    /// left and right (4).
    pub(super) transform: u32,
    /// wp_viewport.set_source: x, y, width and height as wl_fixed; `None` when unset.
    pub(super) source: Option<[i32; 4]>,
    /// wp_viewport.set_destination: width and height; `None` when unset.
    pub(super) destination: Option<(i32, i32)>,
}

impl Default for View {
    fn default() -> Self {
        Self { scale: 1, transform: 0, source: None, destination: None }
    }
}

impl View {
    /// The pixels of a wl_buffer of this size that are in part or whole in `rect` of the surface, or of the plane that
    /// the surface is cropped from.
    ///
    /// Values that the protocol forbids, which a compositor answers with an error, give all of the wl_buffer.
    pub(super) fn to_buffer(self, rect: Rect, buffer: (i32, i32)) -> Option<Rect> {
        let quarter = self.transform & 1 != 0;
        let (width, height) = if quarter { (buffer.1, buffer.0) } else { buffer };
        let source = self.source.map(|[x, y, w, h]| ((x, w), (y, h)));
        let across =
            Axis::new(width, self.scale, source.map(|s| s.0), self.destination.map(|d| d.0));
        let down =
            Axis::new(height, self.scale, source.map(|s| s.1), self.destination.map(|d| d.1));
        let (Some(across), Some(down), 0..8) = (across, down, self.transform) else {
            return Some(Rect::of_size(buffer));
        };
        let mut x = across.pixels(rect.x, rect.width)?;
        let mut y = down.pixels(rect.y, rect.height)?;
        // (x, y) of the upright picture is at (x, y), (y, width - x), (width - x, height - y), (height - y, x) of one
        // that was turned by 0 to 3 quarters.
        let flipped = self.transform & 4 != 0;
        let (mirror_x, mirror_y) = match self.transform & 3 {
            0 => (flipped, false),
            1 => (!flipped, false),
            2 => (!flipped, true),
            _ => (flipped, true),
        };
        if mirror_x {
            x = x.mirrored(width);
        }
        if mirror_y {
            y = y.mirrored(height);
        }
        let (x, y) = if quarter { (y, x) } else { (x, y) };
        Some(Rect::new(x.from, y.from, x.length, y.length))
    }
}

/// Some columns, or some rows.
#[derive(Clone, Copy)]
struct Span {
    from: i32,
    length: i32,
}

impl Span {
    fn mirrored(self, size: i32) -> Self {
        Self { from: size - self.from - self.length, ..self }
    }
}

/// Leads from a surface coordinate `s` to pixels of the upright picture: `(offset + s * step) / divisor`.
struct Axis {
    offset: i128,
    step: i128,
    divisor: i128,
    /// Size of the picture.
    size: i128,
}

impl Axis {
    /// `size` is in pixels, `source` first and length as wl_fixed. `None` for values that the protocol forbids.
    fn new(
        size: i32,
        scale: i32,
        source: Option<(i32, i32)>,
        destination: Option<i32>,
    ) -> Option<Self> {
        let positive = |value: i32| (value > 0).then_some(i128::from(value));
        let size = positive(size)?;
        let scale = positive(scale)?;
        // What is shown is `from..from + length`, as wl_fixed, of units that are `unit` pixels each.
        let (from, length) = match source {
            Some((from, length)) => (i128::from(u32::try_from(from).ok()?), positive(length)?),
            None => (0, size * FIXED_ONE),
        };
        let unit = if source.is_some() { scale } else { 1 };
        let (step, divisor) = match destination {
            Some(destination) => (length * unit, FIXED_ONE * positive(destination)?),
            None => (FIXED_ONE * scale, FIXED_ONE),
        };
        let offset = from * unit * (divisor / FIXED_ONE);
        Some(Self { offset, step, divisor, size })
    }

    /// The pixels that `from..from + length` touches. `None` if there are none.
    ///
    /// Those beyond the surface's edge too, as far as the wl_buffer has them: a compositor that scales a crop may look
    /// at what is around it.
    fn pixels(&self, from: i32, length: i32) -> Option<Span> {
        let (from, end) = (i128::from(from), i128::from(from) + i128::from(length));
        if from >= end {
            return None;
        }
        let first = (self.offset + from * self.step).div_euclid(self.divisor).max(0);
        let end = ceil(self.offset + end * self.step, self.divisor).min(self.size);
        let length = i32::try_from(end - first).ok().filter(|&length| length > 0)?;
        Some(Span { from: i32::try_from(first).ok()?, length })
    }
}

fn ceil(numerator: i128, divisor: i128) -> i128 {
    -(-numerator).div_euclid(divisor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_damage_stays_as_it_is() {
        let rect = Rect::new(3, 4, 5, 6);
        assert_eq!(View::default().to_buffer(rect, (20, 20)), Some(rect));
    }

    #[test]
    fn infinite_damage_is_all() {
        let rect = Rect::new(0, 0, i32::MAX, i32::MAX);
        for transform in 0..8 {
            let view = View { scale: 3, transform, destination: Some((7, 9)), ..View::default() };
            assert_eq!(view.to_buffer(rect, (50, 20)), Some(Rect::of_size((50, 20))));
        }
    }

    #[test]
    fn nothing_outside_is_seen() {
        for rect in [
            Rect::new(20, 0, 1, 1),
            Rect::new(-5, 0, 5, 1),
            Rect::new(0, 0, 0, 1),
            Rect::new(0, 0, 1, -1),
        ] {
            assert_eq!(View::default().to_buffer(rect, (20, 20)), None);
        }
    }

    /// The table of the protocol, worked out by hand: where the corner at (0, 0) of the surface is in a wl_buffer of
    /// 6 x 4 pixels.
    #[test]
    fn turns_are_counter_clockwise() {
        let corners = [(0, 0), (0, 3), (5, 3), (5, 0), (5, 0), (0, 0), (0, 3), (5, 3)];
        for (transform, (x, y)) in (0..).zip(corners) {
            let view = View { transform, ..View::default() };
            assert_eq!(
                view.to_buffer(Rect::new(0, 0, 1, 1), (6, 4)),
                Some(Rect::new(x, y, 1, 1)),
                "{transform}"
            );
        }
        let turned = View { transform: 1, scale: 2, ..View::default() };
        assert_eq!(turned.to_buffer(Rect::new(1, 0, 1, 2), (6, 4)), Some(Rect::new(0, 0, 4, 2)));
    }

    #[test]
    fn a_viewport_rounds_outward() {
        // 10 pixels on 4 units: unit 1 shows pixels 2.5 to 5.
        let stretched = View { destination: Some((4, 4)), ..View::default() };
        assert_eq!(
            stretched.to_buffer(Rect::new(1, 0, 1, 1), (10, 8)),
            Some(Rect::new(2, 0, 3, 2))
        );
        // A crop that starts at pixel 1.5 * 2 and is 4 * 2 pixels wide, unscaled.
        let cropped = View { scale: 2, source: Some([384, 0, 1024, 1024]), ..View::default() };
        assert_eq!(cropped.to_buffer(Rect::new(1, 1, 1, 1), (40, 40)), Some(Rect::new(5, 2, 2, 2)));
        assert_eq!(
            cropped.to_buffer(Rect::new(0, 0, 99, 99), (40, 40)),
            Some(Rect::new(3, 0, 37, 40))
        );
        assert_eq!(
            cropped.to_buffer(Rect::new(-1, 0, 1, 1), (40, 40)),
            Some(Rect::new(1, 0, 2, 2))
        );
        // Both: 4 * 2 pixels on 16 units, half a pixel each.
        let both = View { destination: Some((16, 16)), ..cropped };
        assert_eq!(both.to_buffer(Rect::new(1, 1, 2, 2), (40, 40)), Some(Rect::new(3, 0, 2, 2)));
    }

    #[test]
    fn forbidden_values_give_all() {
        let fine = View::default();
        let forbidden = [
            View { scale: 0, ..fine },
            View { scale: i32::MIN, ..fine },
            View { transform: 8, ..fine },
            View { destination: Some((0, 5)), ..fine },
            View { source: Some([0, -1, 256, 256]), ..fine },
            View { source: Some([0, 0, 256, 0]), ..fine },
        ];
        for view in forbidden {
            assert_eq!(
                view.to_buffer(Rect::new(1, 1, 1, 1), (9, 9)),
                Some(Rect::of_size((9, 9))),
                "{view:?}"
            );
        }
    }

    fn any_view() -> impl Strategy<Value = View> {
        let number = || prop_oneof![-2..2000i32, any::<i32>()];
        (
            number(),
            0..9u32,
            any::<Option<()>>(),
            [number(), number(), number(), number()],
            any::<Option<()>>(),
            (number(), number()),
        )
            .prop_map(|(scale, transform, cropped, source, scaled, destination)| View {
                scale,
                transform,
                source: cropped.map(|()| source),
                destination: scaled.map(|()| destination),
            })
    }

    proptest! {
        #[test]
        fn no_numbers_panic_or_leave_the_buffer(
            view in any_view(),
            rect: (i32, i32, i32, i32),
            buffer in (1..i32::MAX, 1..i32::MAX),
        ) {
            let rect = Rect::new(rect.0, rect.1, rect.2, rect.3);
            if let Some(pixels) = view.to_buffer(rect, buffer) {
                prop_assert_eq!(pixels.intersection(&Rect::of_size(buffer)), Some(pixels));
            }
        }

        /// A pixel is in the result exactly if the interval that it covers on the surface overlaps the damage.
        #[test]
        fn every_pixel_that_is_seen_and_no_other(
            size in 1..40i32, scale in 1..4i32, from in 0..2000i32, length in 1..4000i32, destination in 1..30i32,
            first in -9..30i32, count in 1..9i32,
        ) {
            let axis = Axis::new(size, scale, Some((from, length)), Some(destination)).unwrap();
            let span = axis.pixels(first, count);
            for pixel in 0..size {
                // Pixel p starts at ((p * 256 / scale) - from) * destination / length on the surface.
                let start = |pixel: i32| (i64::from(pixel) * 256 - i64::from(from * scale)) * i64::from(destination);
                let unit = i64::from(length * scale);
                let (low, high) = (i64::from(first) * unit, i64::from(first + count) * unit);
                let expected = start(pixel + 1) > low && start(pixel) < high;
                let is = span.is_some_and(|span| (span.from..span.from + span.length).contains(&pixel));
                prop_assert_eq!(is, expected, "pixel {}", pixel);
            }
        }
    }
}
