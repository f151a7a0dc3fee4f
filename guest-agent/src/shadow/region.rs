//! Rectangles and their exact union.

/// Most rectangles of a [`Region`]. A terminal that damages line by line stays below it; so does the work that a
/// client can cause with one request, which grows with the square.
const MAX_RECTS: usize = 128;

/// A rectangle of pixels, half-open: `x + width` is the first column that doesn't belong to it.
///
/// As clients send it: the end may lie beyond what an `i32` holds, and a size below 1 means that it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First column.
    pub x: i32,
    /// First row.
    pub y: i32,
    /// Columns.
    pub width: i32,
    /// Rows.
    pub height: i32,
}

impl Rect {
    /// A rectangle from its first column and row and its size.
    pub fn new(x: i32, y: i32, width: i32, height: i32) -> Self {
        Self { x, y, width, height }
    }

    /// From the origin.
    pub(super) fn of_size((width, height): (i32, i32)) -> Self {
        Self::new(0, 0, width, height)
    }

    /// From first to last column and row, both half-open. Bounds must fit the result.
    fn between(left: i64, top: i64, right: i64, bottom: i64) -> Option<Self> {
        let size = |from: i64, to: i64| i32::try_from(to - from).ok().filter(|&size| size > 0);
        Some(Self {
            x: i32::try_from(left).ok()?,
            y: i32::try_from(top).ok()?,
            width: size(left, right)?,
            height: size(top, bottom)?,
        })
    }

    /// The first column after it.
    fn right(&self) -> i64 {
        i64::from(self.x) + i64::from(self.width)
    }

    /// The first row after it.
    fn bottom(&self) -> i64 {
        i64::from(self.y) + i64::from(self.height)
    }

    /// What both have; `None` if that is nothing.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::between(
            self.x.max(other.x).into(),
            self.y.max(other.y).into(),
            self.right().min(other.right()),
            self.bottom().min(other.bottom()),
        )
    }

    /// Pixels.
    pub fn area(&self) -> u64 {
        u64::from(self.width.max(0).unsigned_abs()) * u64::from(self.height.max(0).unsigned_abs())
    }

    /// Appends the parts of `self` that `hole` doesn't cover, at most four.
    fn subtract(&self, hole: &Self, rest: &mut Vec<Self>) {
        let Some(hole) = self.intersection(hole) else { return rest.push(*self) };
        let (left, right) = (i64::from(self.x), self.right());
        let (top, bottom) = (i64::from(hole.y), hole.bottom());
        rest.extend(Self::between(left, self.y.into(), right, top));
        rest.extend(Self::between(left, top, hole.x.into(), bottom));
        rest.extend(Self::between(hole.right(), top, right, bottom));
        rest.extend(Self::between(left, bottom, right, self.bottom()));
    }

    /// The union, if it is a rectangle because the two share a whole edge.
    fn joined(&self, other: &Self) -> Option<Self> {
        let column = self.x == other.x && self.width == other.width;
        let row = self.y == other.y && self.height == other.height;
        let stacked =
            column && (self.bottom() == i64::from(other.y) || other.bottom() == i64::from(self.y));
        let beside =
            row && (self.right() == i64::from(other.x) || other.right() == i64::from(self.x));
        (stacked || beside).then(|| self.bounds(other)).flatten()
    }

    /// The smallest rectangle that holds both.
    fn bounds(&self, other: &Self) -> Option<Self> {
        Self::between(
            self.x.min(other.x).into(),
            self.y.min(other.y).into(),
            self.right().max(other.right()),
            self.bottom().max(other.bottom()),
        )
    }
}

/// Where regions are. Surfaces and wl_buffers begin at the origin, but a crop shows what is left of and above it too.
/// Ends and sizes within fit an `i32`.
const PLANE: Rect = Rect { x: -(1 << 29), y: -(1 << 29), width: i32::MAX, height: i32::MAX };

/// A set of pixels: the exact union of the rectangles that were added, as far as it lies in [`PLANE`].
///
/// Beyond [`MAX_RECTS`] it becomes its bounding box: never less than the union, but then more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// Disjoint, none of them empty, and their ends fit an `i32`.
    rects: Vec<Rect>,
}

impl Region {
    /// The pixels of one rectangle.
    pub(super) fn from_rect(rect: Rect) -> Self {
        let mut region = Self::default();
        region.add(rect);
        region
    }

    /// Adds the pixels of a rectangle.
    pub(super) fn add(&mut self, rect: Rect) {
        let Some(rect) = rect.intersection(&PLANE) else { return };
        let (mut new, mut rest) = (vec![rect], Vec::new());
        for known in &self.rects {
            for piece in new.drain(..) {
                piece.subtract(known, &mut rest);
            }
            std::mem::swap(&mut new, &mut rest);
            if new.is_empty() {
                return;
            }
        }
        for piece in new {
            self.append(piece);
        }
        if self.rects.len() > MAX_RECTS {
            self.rects = self
                .rects
                .iter()
                .copied()
                .reduce(|a, b| a.bounds(&b).unwrap_or(a))
                .into_iter()
                .collect();
        }
    }

    /// Appends what overlaps nothing, joined with its neighbours: lines of text become one block.
    fn append(&mut self, mut piece: Rect) {
        while let Some((at, joined)) =
            self.rects.iter().enumerate().find_map(|(at, rect)| Some((at, rect.joined(&piece)?)))
        {
            self.rects.swap_remove(at);
            piece = joined;
        }
        self.rects.push(piece);
    }

    /// Adds the pixels of another region.
    pub(super) fn add_all(&mut self, other: &Self) {
        if self.rects.is_empty() {
            self.rects.clone_from(&other.rects);
        } else {
            other.iter().for_each(|rect| self.add(rect));
        }
    }

    /// Takes away what lies outside of `bounds`.
    pub(super) fn clip(&mut self, bounds: Rect) {
        self.rects = self.rects.iter().filter_map(|rect| rect.intersection(&bounds)).collect();
    }

    /// Takes everything away.
    pub(super) fn clear(&mut self) {
        self.rects.clear();
    }

    /// Pixels.
    pub(super) fn area(&self) -> u64 {
        self.iter().map(|rect| rect.area()).fold(0, u64::saturating_add)
    }

    /// Disjoint rectangles that are the region, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Rect> + '_ {
        self.rects.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Side of the bitmaps.
    const SIDE: i32 = 24;

    fn rects(most: usize) -> impl Strategy<Value = Vec<Rect>> {
        let rect = (-4..SIDE + 4, -4..SIDE + 4, -2..SIDE, -2..SIDE);
        prop::collection::vec(rect.prop_map(|(x, y, w, h)| Rect::new(x, y, w, h)), 0..most)
    }

    fn contains(rect: &Rect, x: i32, y: i32) -> bool {
        x >= rect.x && i64::from(x) < rect.right() && y >= rect.y && i64::from(y) < rect.bottom()
    }

    fn pixels() -> impl Iterator<Item = (i32, i32)> {
        (-SIDE..3 * SIDE).flat_map(|y| (-SIDE..3 * SIDE).map(move |x| (x, y)))
    }

    proptest! {
        #[test]
        fn the_union_is_exact_and_disjoint(first in rects(10), second in rects(10), clip in rects(2)) {
            let (mut a, mut b) = (Region::default(), Region::default());
            first.iter().for_each(|&rect| a.add(rect));
            second.iter().for_each(|&rect| b.add(rect));
            a.add_all(&b);
            if let Some(&clip) = clip.first() {
                a.clip(clip);
            }
            for (x, y) in pixels() {
                let expected = first.iter().chain(&second).any(|rect| contains(rect, x, y))
                    && clip.first().is_none_or(|clip| contains(clip, x, y));
                prop_assert_eq!(a.iter().filter(|rect| contains(rect, x, y)).count(), usize::from(expected), "{} {}", x, y);
            }
            prop_assert!(a.iter().all(|rect| rect.area() > 0));
            prop_assert_eq!(a.area(), pixels().filter(|&(x, y)| a.iter().any(|rect| contains(&rect, x, y))).count() as u64);
        }

        #[test]
        fn no_numbers_panic(rects: Vec<(i32, i32, i32, i32)>) {
            let mut region = Region::default();
            for (x, y, width, height) in rects {
                region.add(Rect::new(x, y, width, height));
            }
            prop_assert!(region.iter().all(|rect| rect.intersection(&PLANE) == Some(rect)));
            prop_assert!(region.rects.len() <= MAX_RECTS);
        }
    }

    #[test]
    fn infinite_damage_covers_everything() {
        let mut region = Region::default();
        region.add(Rect::new(i32::MIN, i32::MIN, 1 << 29, i32::MAX));
        assert_eq!(region, Region::default(), "left of the plane");
        region.add(Rect::new(3, 5, i32::MAX, i32::MAX));
        region.add(Rect::new(0, 0, i32::MAX, i32::MAX));
        region.clip(Rect::of_size((640, 480)));
        assert_eq!(region.area(), 640 * 480);
    }

    #[test]
    fn lines_of_text_become_one_block() {
        let mut region = Region::default();
        (0..500).for_each(|line| region.add(Rect::new(7, line * 16, 900, 16)));
        assert_eq!(region.rects, [Rect::new(7, 0, 900, 8000)]);
    }

    #[test]
    fn too_many_rectangles_become_their_bounding_box() {
        let mut region = Region::default();
        let last = MAX_RECTS as i32;
        (0..last).for_each(|i| region.add(Rect::new(2 * i, 2 * i, 1, 1)));
        assert_eq!(region.area(), MAX_RECTS as u64);
        region.add(Rect::new(2 * last, 2 * last, 1, 1));
        assert_eq!(region.rects, [Rect::new(0, 0, 2 * last + 1, 2 * last + 1)]);
    }
}
