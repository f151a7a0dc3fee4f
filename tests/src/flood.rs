//! Bytes without end that nobody can guess, and that need no memory.

/// Bytes of one number of the generator.
const WORD: usize = size_of::<u64>();

/// A stream of random bytes. Two of one seed give the same ones.
///
/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Flood {
    state: u64,
    word: [u8; WORD],
    /// Bytes of `word` that were given.
    given: usize,
}

impl Flood {
    /// The stream of `seed`, from its start.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; WORD], given: WORD }
    }

    /// Fills `bytes` with what comes next.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let start = bytes.len().min(WORD - self.given);
        let (first, rest) = bytes.split_at_mut(start);
        first.copy_from_slice(&self.word[self.given..][..start]);
        self.given += start;
        let (words, last) = rest.as_chunks_mut::<WORD>();
        words.iter_mut().for_each(|word| *word = self.next());
        if !last.is_empty() {
            self.word = self.next();
            self.given = last.len();
            last.copy_from_slice(&self.word[..self.given]);
        }
    }

    /// The next `size` bytes.
    pub fn take(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.fill(&mut bytes);
        bytes
    }

    fn next(&mut self) -> [u8; WORD] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole() {
        let whole = Flood::new(1).take(1000);
        let mut flood = Flood::new(1);
        let mut pieces = Vec::new();
        for size in [0, 1, 7, 8, 9, 64, 3, 908] {
            pieces.extend(flood.take(size));
        }
        assert!(pieces == whole);
        assert!(Flood::new(2).take(1000) != whole);
    }
}
