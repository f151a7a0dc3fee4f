//! How fast something may go on. Pure: whoever asks brings the time.

use std::time::{Duration, Instant};

/// So many in a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In each second, at least 1.
    pub per_second: u32,
    /// At once, if nothing came for long enough, at least 1.
    pub burst: u32,
}

impl Rate {
    /// How long so many last.
    fn lasts(self, count: u64) -> Duration {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What is left of a [`Rate`]. It is full at first, and refills by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// When it is full again, if it isn't.
    full: Option<Instant>,
}

impl Bucket {
    /// Takes one, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let missing = self.missing(now) + rate.lasts(1);
        let is_there = missing <= rate.lasts(rate.burst.into());
        if is_there {
            self.full = now.checked_add(missing);
        }
        is_there
    }

    /// Takes so many, though fewer may be there: what is missing has to come first, before there is anything again.
    pub fn spend(&mut self, count: u64, rate: Rate, now: Instant) {
        self.full = now.checked_add(self.missing(now).saturating_add(rate.lasts(count)));
    }

    /// Whether more was taken than was there.
    pub fn owes(&self, rate: Rate, now: Instant) -> bool {
        self.missing(now) > rate.lasts(rate.burst.into())
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.missing(now).is_zero()
    }

    /// How long it takes to be full.
    fn missing(&self, now: Instant) -> Duration {
        self.full.map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn as_many_as_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(RATE, now)).count();
        assert_eq!(taken(&mut bucket, at(0)), 3);
        assert_eq!(taken(&mut bucket, at(99)), 0);
        assert_eq!(taken(&mut bucket, at(100)), 1);
        assert_eq!(taken(&mut bucket, at(350)), 2);
        assert!(!bucket.is_full(at(400)) && bucket.is_full(at(60_000)));
        assert_eq!(taken(&mut bucket, at(60_000)), 3, "it doesn't run over");
    }

    #[test]
    fn who_spends_more_than_there_is_owes_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::default();
        bucket.spend(3, RATE, at(0));
        assert!(!bucket.owes(RATE, at(0)));
        bucket.spend(20, RATE, at(0));
        assert!(bucket.owes(RATE, at(1999)) && !bucket.owes(RATE, at(2000)));
        assert!(!bucket.take(RATE, at(2050)) && bucket.take(RATE, at(2100)));
        // No number makes it panic.
        bucket.spend(u64::MAX, Rate { per_second: 1, burst: 1 }, at(0));
        assert!(bucket.owes(RATE, at(5000)) || bucket.is_full(at(5000)));
    }
}
