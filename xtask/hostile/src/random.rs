//! Numbers that look random, the same ones for the same seed on every machine.

/// A generator: splitmix64, as Java's `SplittableRandom` has it.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `end`, which isn't 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // Not all are equally likely, which nobody here minds.
        self.bits() % end
    }

    /// A size or position below `end`.
    pub fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    /// `true` once in `times` times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A number that may be anything, and mostly is where something begins or ends.
    pub fn number(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(9) as u32,
            1 => self.pick(&[0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_ffff, 0xffff, 0x1_0000]),
            2 => (1 << self.below(32)) - self.below(2) as u32,
            _ => self.bits() as u32,
        }
    }

    /// The same, of 64 bits.
    pub fn long_number(&mut self) -> u64 {
        match self.below(3) {
            0 => self.number().into(),
            1 => (1 << self.below(64)) - self.below(2),
            _ => self.bits(),
        }
    }

    /// So many bytes of anything.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes());
        words.take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_means_the_same() {
        // The first numbers of seed 0 by the published algorithm.
        let mut random = Random::new(0);
        assert_eq!(random.bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.bits(), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(Random::new(7).bytes(5), Random::new(7).bytes(5));
        assert_ne!(Random::new(7).bytes(5), Random::new(8).bytes(5));
    }
}
