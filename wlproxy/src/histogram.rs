//! How long something takes: how often it took how long.

use crate::counter::Counter;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Octaves that are told apart, from 1 us to 8.4 s: a wake-up takes tens of microseconds, and beyond some seconds
/// nobody asks how many.
const OCTAVES: usize = 23;

/// Buckets with a bound: two per octave, so that what is read from them is at most half too much.
pub const BUCKETS: usize = 2 * OCTAVES;

/// The largest duration of each bucket, in microseconds: 1, 2, 3, 4, 6, 8, 12 and so on. What takes longer than the last
/// is in one more bucket.
pub const BOUNDS: [u64; BUCKETS] = bounds();

const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [1; BUCKETS];
    let mut at = 1;
    while at < BUCKETS {
        let octave = at.div_ceil(2);
        bounds[at] = if at % 2 == 1 { 1 << octave } else { 3 << (octave - 1) };
        at += 1;
    }
    bounds
}

/// The live numbers. Adding to them takes no lock.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS + 1],
    micros: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), micros: Counter::default() }
    }
}

impl Histogram {
    /// It took `duration`, `times` times.
    pub fn add(&self, duration: Duration, times: u64) {
        let micros = u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|&bound| bound < micros)].add(times);
        self.micros.add(micros.saturating_mul(times));
    }

    /// The numbers now.
    pub fn snapshot(&self) -> Durations {
        let mut buckets: Vec<u64> = self.buckets.iter().map(Counter::get).collect();
        let used = buckets.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        buckets.truncate(used);
        Durations { buckets, total_us: self.micros.get() }
    }
}

/// The numbers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// How often it took at most [`BOUNDS`], and longer than the bound before; empty buckets at the end are left out.
    pub buckets: Vec<u64>,
    /// How long it took in all, in microseconds.
    pub total_us: u64,
}

impl Durations {
    /// How often it was measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// What `percent` of all took at most, in microseconds: a bucket's bound. `None` if nothing was measured, and
    /// [`u64::MAX`] if it is above all bounds.
    pub fn percentile(&self, percent: u8) -> Option<u64> {
        let count = self.count();
        let wanted = (u128::from(count) * u128::from(percent)).div_ceil(100).max(1);
        let mut sum = 0;
        for (at, &bucket) in self.buckets.iter().enumerate() {
            sum += u128::from(bucket);
            if sum >= wanted {
                return Some(BOUNDS.get(at).copied().unwrap_or(u64::MAX));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_two_per_octave() {
        assert_eq!(BOUNDS[..9], [1, 2, 3, 4, 6, 8, 12, 16, 24]);
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!(BOUNDS[BUCKETS - 1], 1 << OCTAVES);
    }

    #[test]
    fn each_duration_is_in_the_bucket_that_bounds_it() {
        let cases =
            [(0, 0), (1, 0), (1000, 0), (1001, 1), (2000, 1), (4001, 4), (u64::MAX, BUCKETS)];
        for (nanos, bucket) in cases {
            let histogram = Histogram::default();
            histogram.add(Duration::from_nanos(nanos), 2);
            let buckets = histogram.snapshot().buckets;
            assert_eq!((buckets.len(), buckets.last()), (bucket + 1, Some(&2)), "{nanos} ns");
        }
    }

    #[test]
    fn percentiles_are_read_from_the_buckets() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().percentile(50), None);
        for micros in 1..=100 {
            histogram.add(Duration::from_micros(micros), 1);
        }
        let durations = histogram.snapshot();
        assert_eq!((durations.count(), durations.total_us), (100, 5050));
        assert_eq!([0, 50, 95, 99].map(|p| durations.percentile(p).unwrap()), [1, 64, 96, 128]);
        histogram.add(Duration::from_secs(9), 1);
        assert_eq!(histogram.snapshot().percentile(100), Some(u64::MAX));
    }

    #[test]
    fn numbers_of_a_liar_overflow_nothing() {
        let durations = Durations { buckets: vec![u64::MAX; 100], total_us: u64::MAX };
        assert_eq!(durations.count(), u64::MAX);
        assert!(durations.percentile(99).is_some());
    }
}
