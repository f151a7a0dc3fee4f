//! Maps by a client's ids, or by numbers that are given here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

pub(super) type ById<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;
pub(super) type Ids = HashSet<u32, BuildHasherDefault<Spread>>;

/// A client's ids are small and without gaps: `Objects` sees to that. So nobody can choose many that fall on one place, and
/// they need no secret as the standard library's hasher has, which costs as much as everything else of a look-up.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Spread {
    /// 2^64 by the golden ratio, and odd: it puts neighbours far from each other (Knuth, volume 3, section 6.4).
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
}

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u32(&mut self, id: u32) {
        self.write_u64(id.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(Self::FACTOR);
    }

    fn finish(&self) -> u64 {
        // A table takes the lowest bits, and the highest are the ones that depend on all.
        self.0.rotate_left(24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    /// Whichever step a client takes through its ids, few fall on one place of a table with as many.
    #[test]
    fn ids_are_spread() {
        for step in [1, 2, 3, 64, 1000, 1024, 4096] {
            let ids: Vec<u32> = (0..65_536).step_by(step).collect();
            let places = ids.len().next_power_of_two();
            let mut taken = vec![0; places];
            for id in &ids {
                let hash = BuildHasherDefault::<Spread>::default().hash_one(id);
                taken[hash as usize % places] += 1;
            }
            assert!(taken.iter().all(|&taken| taken <= 8), "{step}: {:?}", taken.iter().max());
        }
    }
}
