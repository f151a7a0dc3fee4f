//! Clients that the compositor has no room for yet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::Record;

/// Most clients that are kept. So many wait at the host at once (`accept::MAX_PENDING` there); but it doesn't tell of
/// those that leave.
pub(super) const MAX_WAITING: usize = 512;

/// How long a client is kept. Then the host has given it up as well (`accept::EXPIRY` there).
const EXPIRY: Duration = Duration::from_secs(30);

/// Clients in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Waiting>);

/// A client, and when it came.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Record,
    since: Instant,
}

impl Queue {
    /// Appends a client that came at `now`. If there are too many then, returns the one to be refused: the first of the
    /// VM that has most, which has most likely left. So no VM is in another's way.
    pub(super) fn push(&mut self, record: Record, now: Instant) -> Option<Record> {
        self.0.push_back(Waiting { record, since: now });
        if self.0.len() <= MAX_WAITING {
            return None;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        self.0.iter().for_each(|one| *counts.entry(&one.record.vm).or_default() += 1);
        let most = counts.values().copied().max()?;
        let first = self.0.iter().position(|one| counts[&*one.record.vm] == most)?;
        Some(self.0.remove(first)?.record)
    }

    /// Takes the first that may still be there at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.0.retain(|one| now.duration_since(one.since) < EXPIRY);
        self.0.pop_front()
    }

    /// Puts back who was taken last.
    pub(super) fn put_back(&mut self, first: Waiting) {
        self.0.push_front(first);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wlproxy_protocol::accept::{Token, Way};

    fn record(vm: &str, connection: u64) -> Record {
        Record { vm: vm.into(), connection, token: Token::new([7; 16]), way: Way::Name }
    }

    #[test]
    fn a_vm_that_has_too_many_makes_room_itself() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.push(record("quiet", 0), now), None);
        for connection in 1..MAX_WAITING as u64 {
            assert_eq!(queue.push(record("busy", connection), now), None);
        }
        assert_eq!(queue.push(record("quiet", 512), now), Some(record("busy", 1)));
        assert_eq!(queue.push(record("busy", 513), now), Some(record("busy", 2)));
        let order: Vec<_> =
            std::iter::from_fn(|| Some(queue.pop(now)?.record.connection)).collect();
        assert_eq!(order, [0].into_iter().chain(3..=513).collect::<Vec<_>>());
    }

    #[test]
    fn who_was_given_up_by_the_host_is_forgotten() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push(record("work", 1), start);
        queue.push(record("work", 2), start + Duration::from_secs(1));
        let first = queue.pop(start + EXPIRY - Duration::from_secs(1)).unwrap();
        assert_eq!(first.record.connection, 1);
        queue.put_back(first);
        assert_eq!(queue.pop(start + EXPIRY).unwrap().record.connection, 2);
        assert!(queue.is_empty());
    }
}
