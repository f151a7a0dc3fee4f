//! An input as a list of decisions: each takes a few bytes off the front, so a changed byte changes one of them.

/// Numbers at which something begins or ends.
const EDGES: [u32; 16] = [
    0,
    1,
    7,
    8,
    0xfff,
    0x1000,
    0xffff,
    0x1_0000,
    0x3fff_ffff,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xfeff_ffff,
    0xff00_0000,
    0xffff_fffe,
    0xffff_ffff,
];

/// What is left of it. Where nothing is left, every decision is 0.
#[derive(Debug, Clone)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `end`, which is 1 to 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// `true` once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of several, at most 256.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number: mostly small, or where something begins or ends.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..160 => u32::from(small) % 40,
            edge @ 160..224 => EDGES[usize::from(edge) % EDGES.len()],
            _ => self.word(),
        }
    }

    /// Four bytes as they are.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Eight bytes as they are.
    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// Up to `max` bytes as they are, of which there are less than 256.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let length = self.below(max.min(255) + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// The first piece of `bytes`, or what is left of them.
    pub fn piece<'b>(&mut self, bytes: &mut &'b [u8]) -> &'b [u8] {
        let length = match self.byte() {
            0 => bytes.len(),
            length => usize::from(length).min(bytes.len()),
        };
        let (piece, rest) = bytes.split_at(length);
        *bytes = rest;
        piece
    }
}
