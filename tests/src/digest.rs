//! A number that tells contents apart: small enough for an event, and any word that differs changes it.

/// Bytes that are taken at once.
const WORD: usize = size_of::<u64>();

/// An odd number with many digits (the golden ratio, as SplitMix64 has it): a multiplication by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Adds up pieces. The same bytes in other pieces may be another number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Digest(u64);

impl Digest {
    /// The number of one piece.
    pub fn of(bytes: &[u8]) -> u32 {
        let mut digest = Self::default();
        digest.add(bytes);
        digest.finish()
    }

    /// Adds a piece.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<WORD>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        // The length, so that zeros at the end count.
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    /// The number.
    pub fn finish(self) -> u32 {
        // The upper half depends on all.
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flood;
    use std::collections::BTreeSet;

    #[test]
    fn each_byte_counts_and_its_place() {
        let bytes = Flood::new(1).take(67);
        let mut seen = BTreeSet::from([Digest::of(&bytes)]);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            seen.insert(Digest::of(&other));
        }
        let longer = [&bytes[..], &[0]].concat();
        let turned: Vec<u8> = bytes.iter().rev().copied().collect();
        for other in [&longer, &turned, &bytes[1..].to_vec(), &Vec::new()] {
            seen.insert(Digest::of(other));
        }
        assert_eq!(seen.len(), 1 + bytes.len() + 4);
    }
}
