//! How often something may begin. Pure: whoever asks says what time it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As long as a rate counts: so many may begin at once, and then again as they run out of it.
const MINUTE: Duration = Duration::from_secs(60);

/// What all clients of a VM begin.
#[derive(Debug, Default)]
pub struct Rates {
    /// Transfers to them: each of their own doing.
    pub taken: Rate,
    /// Transfers from them: each of somebody else's.
    pub given: Rate,
}

/// What began in the last minute, of all that share it. A bucket that leaks.
#[derive(Debug, Default)]
pub struct Rate(Mutex<Bucket>);

#[derive(Debug, Default)]
struct Bucket {
    /// How long until all that is in it has run out, if one runs out in each 1/rate of a minute.
    full: Duration,
    at: Option<Instant>,
}

impl Rate {
    /// Whether one more may begin `now`, of `most` in a minute. If so, it has begun.
    pub fn take(&self, now: Instant, most: u32) -> bool {
        // Nothing that holds the lock can leave it half-way.
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if most == 0 {
            return false;
        }
        let before = bucket.at.unwrap_or(now);
        let full = bucket.full.saturating_sub(now.saturating_duration_since(before));
        bucket.at = Some(now.max(before));
        let with = full + MINUTE / most;
        let begins = with <= MINUTE;
        bucket.full = if begins { with } else { full };
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn so_many_begin_at_once_and_then_one_by_one() {
        let (rate, start) = (Rate::default(), Instant::now());
        let begun = |at: Duration| (0..100).filter(|_| rate.take(start + at, 6)).count();
        assert_eq!(begun(Duration::ZERO), 6);
        assert_eq!(begun(Duration::from_secs(9)), 0);
        assert_eq!(begun(Duration::from_secs(10)), 1);
        assert_eq!(begun(Duration::from_secs(31)), 2);
        assert_eq!(begun(Duration::from_secs(1000)), 6);
        assert_eq!(begun(Duration::from_secs(999)), 0, "time that goes back brings nothing");
        assert!(!rate.take(start + Duration::from_secs(5000), 0));
    }

    proptest! {
        /// In no minute begin more than twice as many, and in all no more than the time allows.
        #[test]
        fn no_more_begin_than_may(most in 1..500u32, pauses in prop::collection::vec(0..2000u64, 1..300)) {
            let (rate, start) = (Rate::default(), Instant::now());
            let (mut now, mut begun) = (start, 0u64);
            for pause in pauses {
                now += Duration::from_millis(pause);
                begun += u64::from(rate.take(now, most));
            }
            let passed = (now - start).as_secs_f64() / 60.0;
            prop_assert!(begun as f64 <= f64::from(most) * (1.0 + passed) + 1e-3);
        }
    }
}
