//! What the agents of a VM have told of themselves, which nobody can check.

use crate::counter::Counter;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wlproxy_protocol::report::Report;

/// The live numbers of one VM.
#[derive(Debug, Default)]
pub(super) struct Reported {
    agents: Counter,
    /// Frames, damaged bytes and copied bytes. Wider than what an agent tells, so that absurd numbers of one don't swallow
    /// those of another, and go with what it tells next.
    sums: Mutex<[u128; 3]>,
}

/// What a VM's agents have told up to one moment, since the worker was started: the sum of what each of them told
/// last, also of those that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSnapshot {
    /// Agents that have a context for their reports now.
    pub agents: u64,
    /// See [`Report::frames`].
    pub frames: u64,
    /// See [`Report::damaged_bytes`].
    pub damaged_bytes: u64,
    /// See [`Report::copied_bytes`].
    pub copied_bytes: u64,
}

impl Reported {
    pub(super) fn snapshot(&self) -> ReportedSnapshot {
        let shown = |sum| u64::try_from(sum).unwrap_or(u64::MAX);
        let [frames, damaged_bytes, copied_bytes] = self.sums().map(shown);
        ReportedSnapshot { agents: self.agents.get(), frames, damaged_bytes, copied_bytes }
    }

    /// Nothing that holds the lock can leave it half-way, so a panic elsewhere changes nothing.
    fn sums(&self) -> MutexGuard<'_, [u128; 3]> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place where one agent's reports are counted.
#[derive(Debug)]
pub struct Reporter {
    last: Report,
    of: Arc<Reported>,
}

impl Reporter {
    pub(super) fn add(of: &Arc<Reported>) -> Self {
        of.agents.add(1);
        Self { last: Report::default(), of: of.clone() }
    }

    /// The agent tells this now, in place of what it told before.
    pub fn tell(&mut self, now: Report) {
        let before = std::mem::replace(&mut self.last, now);
        let numbers = |of: Report| [of.frames, of.damaged_bytes, of.copied_bytes].map(u128::from);
        for ((sum, before), now) in self.of.sums().iter_mut().zip(numbers(before)).zip(numbers(now))
        {
            *sum = sum.saturating_sub(before).saturating_add(now);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.of.agents.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;

    fn report(n: u64) -> Report {
        Report { frames: n, damaged_bytes: n.saturating_mul(2), copied_bytes: n.saturating_mul(3) }
    }

    fn told(counters: &Counters) -> [u64; 4] {
        let ReportedSnapshot { agents, frames, damaged_bytes, copied_bytes } =
            counters.snapshot().reported;
        [agents, frames, damaged_bytes, copied_bytes]
    }

    #[test]
    fn the_last_word_of_each_agent_counts_and_stays_when_it_goes() {
        let counters = Counters::default();
        let mut first = counters.reporter();
        first.tell(report(5));
        first.tell(report(7));
        assert_eq!(told(&counters), [1, 7, 14, 21]);
        let mut second = counters.reporter();
        second.tell(report(100));
        drop(first);
        assert_eq!(told(&counters), [1, 107, 214, 321]);
        second.tell(report(1));
        assert_eq!(told(&counters), [1, 8, 16, 24], "it may go backwards");
        drop(second);
        assert_eq!(told(&counters), [0, 8, 16, 24]);
    }

    #[test]
    fn absurd_numbers_overflow_nothing() {
        let counters = Counters::default();
        let mut reporters = [counters.reporter(), counters.reporter()];
        for told in [u64::MAX, 0, u64::MAX, 1] {
            reporters.iter_mut().for_each(|reporter| reporter.tell(report(told)));
        }
        assert_eq!(told(&counters), [2, 2, 4, 6], "what was absurd is past");
        drop(reporters);
        counters.reporter().tell(report(u64::MAX));
        assert_eq!(told(&counters), [0, u64::MAX, u64::MAX, u64::MAX]);
    }
}
