//! How much a worker writes to the log. A VM can have its worker say something as often as it likes, and fills no disk by that,
//! nor uses up what the log takes of all workers.

use crate::bucket::{Bucket, Rate};
use std::io::{self, Stderr, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

/// Half of what journald takes of a unit at once (`RateLimitBurst=`, 10,000 in 30 s), and then twice as much as the transfers
/// that are told by default: a million lines in half a day.
const RATE: Rate = Rate { per_second: 20, burst: 5_000 };

/// Standard error, for as many lines as that. What comes beyond is left out, and it is told how many; but errors, each of which
/// ends a worker.
#[derive(Debug, Default)]
pub struct Bounded(Mutex<Lines>);

/// Lines that were written, or left out. Pure.
#[derive(Debug, Default)]
struct Lines {
    bucket: Bucket,
    left_out: u64,
}

impl Lines {
    /// Whether one more line may be written `now`: then, how many were left out since the last.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if !self.bucket.take(RATE, now) {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = OptionalWriter<Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        // Nothing that holds the lock can leave it half-way.
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        let Some(left_out) = taken else { return OptionalWriter::none() };
        if left_out > 0 {
            // Nobody can be told that the log takes nothing.
            let _ = writeln!(
                io::stderr(),
                " WARN wlproxy: {left_out} lines of this worker are left out: it says more than {} in a second, after {} at once",
                RATE.per_second,
                RATE.burst
            );
        }
        OptionalWriter::some(io::stderr())
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        match *of.level() {
            Level::ERROR => OptionalWriter::some(io::stderr()),
            _ => self.make_writer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_too_much_is_left_out_and_told() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let burst = (0..10_000).filter(|_| lines.take(start).is_some()).count();
        assert_eq!(burst, 5_000);
        let later = start + Duration::from_secs(1);
        let taken: Vec<_> = (0..100).filter_map(|_| lines.take(later)).collect();
        assert_eq!((taken.len(), taken[0]), (20, 5_000));
        assert!(taken[1..].iter().all(|&left_out| left_out == 0));
        assert_eq!(lines.take(later + Duration::from_secs(1)), Some(80));
    }
}
