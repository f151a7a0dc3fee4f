//! Measurements, and what is said of them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Buckets of a histogram for each doubling. 16 tell 4 % apart, which is less than a machine's noise.
const PER_DOUBLING: f64 = 16.0;

/// What many measurements of the same say. All times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// How many there are. With none, all else is 0.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// Half of them are at most this.
    pub median: u64,
    /// 95 of 100 are at most this.
    pub p95: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// How many there are by length: the shortest of a bucket, and how many are in it.
    pub histogram: Vec<(u64, u64)>,
}

impl Timing {
    /// Of measurements in any order.
    pub fn of(samples: &[u64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let mut buckets = BTreeMap::<i64, (u64, u64)>::new();
        for &sample in &sorted {
            let bucket = ((sample.max(1) as f64).log2() * PER_DOUBLING).floor() as i64;
            buckets.entry(bucket).or_insert((sample, 0)).1 += 1;
        }
        Self {
            count: sorted.len() as u64,
            min: quantile(&sorted, 0),
            median: quantile(&sorted, 50),
            p95: quantile(&sorted, 95),
            p99: quantile(&sorted, 99),
            max: quantile(&sorted, 100),
            histogram: buckets.into_values().collect(),
        }
    }
}

/// The smallest of them that is not less than `percent` of all: by nearest rank, so always one that was measured.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut samples: Vec<u64> = (1..=200).collect();
        samples.reverse();
        let timing = Timing::of(&samples);
        assert_eq!((timing.count, timing.min, timing.max), (200, 1, 200));
        assert_eq!((timing.median, timing.p95, timing.p99), (100, 190, 198));
        let few = Timing::of(&[30, 10, 20]);
        assert_eq!((few.median, few.p95, few.p99), (20, 30, 30));
        let one = Timing::of(&[7]);
        assert_eq!((one.min, one.median, one.p99, one.max), (7, 7, 7, 7));
        assert_eq!(Timing::of(&[]), Timing::default());
    }

    #[test]
    fn a_histogram_has_all_of_them_in_order() {
        let samples: Vec<u64> = (0..1000).map(|n| n * n).collect();
        let histogram = Timing::of(&samples).histogram;
        assert_eq!(histogram.iter().map(|&(_, count)| count).sum::<u64>(), 1000);
        assert!(histogram.is_sorted_by_key(|&(least, _)| least));
        // What is far apart is in different buckets.
        assert_eq!(Timing::of(&[100, 101, 110, 200]).histogram, [(100, 2), (110, 1), (200, 1)]);
    }
}
