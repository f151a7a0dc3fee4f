//! How fast something may go on. Pure: whoever asks brings the time.

use std::time::Instant;

/// Parts of one that are counted: so many nanoseconds in which so many a second come are whole numbers of them.
const PARTS: u64 = 1_000_000_000;

/// So many in a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// In each second, at least 1.
    pub per_second: u32,
    /// At once, if nothing came for long enough, at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many in a second, and as many at once.
    pub fn per_second(count: u32) -> Self {
        Self { per_second: count, burst: count }
    }

    fn burst(self) -> u64 {
        parts(self.burst.into())
    }
}

fn parts(count: u64) -> u64 {
    count.saturating_mul(PARTS)
}

/// What is left of a [`Rate`]. It is full at first, and refills by itself. The rate may be another one each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// What was missing then, in parts of one.
    missing: u64,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let missing = self.missing.saturating_add(PARTS);
        let is_there = missing <= rate.burst();
        if is_there {
            self.missing = missing;
        }
        is_there
    }

    /// Takes so many, though fewer may be there: what is missing has to come first, before there is anything again.
    pub fn spend(&mut self, count: u64, rate: Rate, now: Instant) {
        self.refill(rate, now);
        self.missing = self.missing.saturating_add(parts(count));
    }

    /// What was taken beyond what was there, is owed no more.
    pub fn forgive(&mut self, rate: Rate, now: Instant) {
        self.refill(rate, now);
        self.missing = self.missing.min(rate.burst());
    }

    /// Whichever of the two has less left.
    pub fn emptier(self, other: Self, rate: Rate) -> Self {
        let Some(now) = self.at.max(other.at) else { return self };
        if other.after(rate, now) > self.after(rate, now) { other } else { self }
    }

    /// How many were taken beyond what was there.
    pub fn debt(&self, rate: Rate, now: Instant) -> u64 {
        self.after(rate, now).saturating_sub(rate.burst()).div_ceil(PARTS)
    }

    /// Whether more was taken than was there.
    pub fn owes(&self, rate: Rate, now: Instant) -> bool {
        self.after(rate, now) > rate.burst()
    }

    /// How many may still be taken.
    pub fn left(&self, rate: Rate, now: Instant) -> u64 {
        rate.burst().saturating_sub(self.after(rate, now)) / PARTS
    }

    /// How many are missing.
    pub fn missing(&self, rate: Rate, now: Instant) -> u64 {
        self.after(rate, now).div_ceil(PARTS)
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        self.missing = self.after(rate, now);
        // Time that goes back brings nothing.
        self.at = self.at.max(Some(now));
    }

    /// What is missing after all that has come since.
    fn after(&self, rate: Rate, now: Instant) -> u64 {
        let Some(at) = self.at else { return self.missing };
        let nanos = u64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
        self.missing.saturating_sub(nanos.saturating_mul(rate.per_second.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        assert_eq!([400, 60_000].map(|millis| bucket.missing(RATE, at(millis))), [2, 0]);
        assert_eq!([349, 400, 60_000].map(|millis| bucket.left(RATE, at(millis))), [0, 1, 3]);
        assert_eq!(taken(&mut bucket, at(60_000)), 3, "it doesn't run over");
        assert_eq!(taken(&mut bucket, at(59_000)), 0, "time that goes back brings nothing");
        assert_eq!(taken(&mut bucket, at(60_100)), 1);
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
        assert_eq!([0, 1900, 2000].map(|millis| bucket.debt(RATE, at(millis))), [20, 1, 0]);
        assert!(!bucket.take(RATE, at(2050)) && bucket.take(RATE, at(2100)));
        // No number makes it panic.
        bucket.spend(u64::MAX, Rate { per_second: 1, burst: 1 }, at(0));
        assert!(bucket.owes(RATE, at(5000)));
        assert!(!bucket.owes(Rate::per_second(u32::MAX), at(u64::MAX >> 20)));
    }

    #[test]
    fn what_is_owed_is_paid_at_the_rate_of_now() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.spend(23, RATE, start);
        let faster = Rate { per_second: 1000, ..RATE };
        assert!(!bucket.owes(faster, start + Duration::from_millis(20)));
        assert!(bucket.owes(Rate { burst: 2, ..RATE }, start + Duration::from_secs(2)));
        let later = start + Duration::from_secs(1);
        let mut other = Bucket::default();
        assert_eq!((bucket.emptier(other, RATE), other.emptier(other, RATE)), (bucket, other));
        other.spend(13, RATE, later);
        assert_eq!(other.emptier(bucket, RATE), other, "of the first as many have come");
        other.spend(1, RATE, later);
        assert_eq!(bucket.emptier(other, RATE), other);
        bucket.forgive(RATE, start);
        assert_eq!((bucket.missing(RATE, start), bucket.owes(RATE, start)), (3, false));
    }
}
