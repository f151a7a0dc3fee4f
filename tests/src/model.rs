//! What must be copied, by the simplest model that can't be wrong: one flag per pixel.

/// A rectangle in pixels; may lie outside of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: i32,
    /// Upper edge.
    pub y: i32,
    /// Width.
    pub width: i32,
    /// Height.
    pub height: i32,
}

/// The buffers of one surface, all of one size and with four bytes per pixel.
#[derive(Debug)]
pub struct Model {
    width: i32,
    height: i32,
    /// For each buffer, whether a pixel's copy is stale.
    stale: Vec<Vec<bool>>,
}

impl Model {
    /// Buffers that were never shown: all of them is stale.
    pub fn new(buffers: usize, width: i32, height: i32) -> Self {
        Self { width, height, stale: vec![vec![true; (width * height) as usize]; buffers] }
    }

    /// One commit of `buffer` with `damage` in the buffer's pixels: bytes that it makes necessary to copy.
    pub fn commit(&mut self, buffer: usize, damage: &[Rect]) -> u64 {
        for rect in damage {
            self.spoil(rect);
        }
        let stale = &mut self.stale[buffer];
        let copied = stale.iter().filter(|&&pixel| pixel).count() as u64 * 4;
        stale.fill(false);
        copied
    }

    fn spoil(&mut self, rect: &Rect) {
        let end = |start: i32, length: i32, limit: i32| start.saturating_add(length).min(limit);
        for y in rect.y.max(0)..end(rect.y, rect.height, self.height) {
            for x in rect.x.max(0)..end(rect.x, rect.width, self.width) {
                for stale in &mut self.stale {
                    stale[(y * self.width + x) as usize] = true;
                }
            }
        }
    }
}

/// Numbers that look random and are the same in each run (a 64-bit linear congruential generator, Knuth's MMIX).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same `seed` gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub fn roll(&mut self, limit: u32) -> i32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(limit)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_count_once_and_each_buffer_has_its_own_debts() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let mut model = Model::new(2, 10, 10);
        assert_eq!(model.commit(0, &[]), 400);
        assert_eq!(model.commit(0, &[]), 0);
        assert_eq!(model.commit(0, &[rect(0, 0, 2, 2), rect(1, 1, 2, 2)]), 7 * 4);
        assert_eq!(model.commit(1, &[]), 400);
        assert_eq!(model.commit(1, &[rect(-5, -5, 6, 6), rect(9, 9, i32::MAX, i32::MAX)]), 2 * 4);
        assert_eq!(model.commit(0, &[]), 2 * 4);
    }
}
