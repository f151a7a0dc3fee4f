//! How long a worker that died stays down.

use std::time::{Duration, Instant};

/// Pause before the first restart: short beside a VM's boot.
pub(crate) const FIRST: Duration = Duration::from_millis(100);

/// Longest pause: a worker that always dies costs next to nothing, and is back soon after its cause is gone.
const LONGEST: Duration = Duration::from_secs(10);

/// A worker that ran this long was healthy: its next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(30);

/// Counts the restarts of one worker, and spaces them out. Pure.
#[derive(Debug, Default)]
pub struct Backoff {
    restarts: u64,
    pause: Option<Duration>,
}

impl Backoff {
    /// A worker that was started at `started` is dead: when to start the next.
    pub fn after_death(&mut self, started: Instant, now: Instant) -> Instant {
        self.restarts += 1;
        if now.saturating_duration_since(started) >= HEALTHY {
            self.pause = None;
        }
        self.after_failure(now)
    }

    /// A worker could not even be started: when to try again.
    pub fn after_failure(&mut self, now: Instant) -> Instant {
        let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        self.pause = Some(pause);
        now + pause
    }

    /// Deaths so far.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_shrink_again() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let mut pause = |lived| backoff.after_death(start, start + lived) - (start + lived);
        let pauses: Vec<_> = (0..9).map(|_| pause(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause(HEALTHY), FIRST);
        assert_eq!(backoff.restarts(), 10);
    }
}
