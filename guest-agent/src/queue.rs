//! Clients that were announced and not accepted yet.
//!
//! To accept one takes the host's answer, for which everybody else waits, and the compositor's time. So they come one by one,
//! and VMs take turns: whoever announces many has those of others come between its own. And a VM that does nothing but connect
//! is slowed down, so that there is time between two of its clients.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::Record;

/// Most clients that are kept. So many wait at the host at once (`accept::MAX_PENDING` there); but it doesn't tell of
/// those that leave.
pub(crate) const MAX_WAITING: usize = 512;

/// How long a client is kept. Then the host has given it up as well (`accept::EXPIRY` there).
const EXPIRY: Duration = Duration::from_secs(30);

/// Clients of one VM that are taken as fast as they come, if none came for long enough. So many may wait at the host at once
/// (`accept::MAX_PENDING_PER_VM` there): a session's start, several times over.
const BURST: u32 = 64;

/// How long it is from one client of a VM to the next when there are more. To take one keeps all others waiting for 0.1 to
/// 0.3 ms, so this leaves them nine tenths of the time; and a script that starts programs one after the other is slower.
const PACE: Duration = Duration::from_millis(2);

/// Clients of each VM in the order in which they came.
#[derive(Debug, Default)]
pub struct Queue {
    vms: HashMap<String, Vm>,
    /// VMs that have clients here, the next one first.
    turns: VecDeque<String>,
}

/// A VM that has clients here, or had some a moment ago.
#[derive(Debug)]
struct Vm {
    clients: VecDeque<Waiting>,
    /// From then on [`BURST`] clients may come at once.
    rested: Instant,
}

impl Vm {
    /// When the next one may be taken.
    fn due(&self) -> Instant {
        self.rested.checked_sub(PACE * (BURST - 1)).unwrap_or(self.rested)
    }
}

/// Who is to be taken.
#[derive(Debug)]
pub enum Next {
    /// This one, now.
    Client(Waiting),
    /// Somebody, but not before this time.
    At(Instant),
    /// Nobody waits.
    Nobody,
}

/// A client, and when it came.
#[derive(Debug)]
pub struct Waiting {
    /// How it was announced.
    pub record: Record,
    since: Instant,
}

impl Queue {
    /// Appends a client that came at `now`. If there are too many then, returns the one to be refused: the first of the
    /// VM that has most, which has most likely left. So no VM is in another's way.
    pub fn push(&mut self, record: Record, now: Instant) -> Option<Record> {
        let name = record.vm.clone();
        let rested = Vm { clients: VecDeque::new(), rested: now };
        let vm = self.vms.entry(name.clone()).or_insert(rested);
        if vm.clients.is_empty() {
            self.turns.push_back(name);
        }
        vm.clients.push_back(Waiting { record, since: now });
        if self.vms.values().map(|vm| vm.clients.len()).sum::<usize>() <= MAX_WAITING {
            return None;
        }
        let most = self.vms.iter().max_by_key(|(_, vm)| vm.clients.len());
        let name = most.map(|(name, _)| name.clone())?;
        self.take(&name).map(|refused| refused.record)
    }

    /// Takes the first that may still be there at `now`, of the VM whose turn it is.
    pub fn next(&mut self, now: Instant) -> Next {
        self.vms.retain(|_, vm| !vm.clients.is_empty() || vm.rested > now);
        let mut due: Option<Instant> = None;
        for _ in 0..self.turns.len() {
            let Some(name) = self.turns.pop_front() else { break };
            self.turns.push_back(name.clone());
            let is_over = |one: &Waiting| now.duration_since(one.since) >= EXPIRY;
            while self.vms.get(&name).and_then(|vm| vm.clients.front()).is_some_and(is_over) {
                self.take(&name);
            }
            let Some(vm) = self.vms.get_mut(&name).filter(|vm| !vm.clients.is_empty()) else {
                continue;
            };
            if vm.due() > now {
                due = Some(due.map_or(vm.due(), |due| due.min(vm.due())));
                continue;
            }
            vm.rested = vm.rested.max(now) + PACE;
            if let Some(first) = self.take(&name) {
                return Next::Client(first);
            }
        }
        due.map_or(Next::Nobody, Next::At)
    }

    /// Whoever of this VM was taken last had left: to find that out costs little, so the next one need not wait for it. At the
    /// host all of them count as waiting meanwhile, and there may be 64 of those.
    pub fn had_left(&mut self, vm: &str) {
        if let Some(vm) = self.vms.get_mut(vm) {
            vm.rested = vm.rested.checked_sub(PACE).unwrap_or(vm.rested);
        }
    }

    /// Puts back who was taken last: it is the next.
    pub fn put_back(&mut self, first: Waiting) {
        let name = first.record.vm.clone();
        self.turns.retain(|other| *other != name);
        self.turns.push_front(name.clone());
        let rested = Vm { clients: VecDeque::new(), rested: first.since };
        self.vms.entry(name).or_insert(rested).clients.push_front(first);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the first of a VM, which has no turns without any.
    fn take(&mut self, name: &str) -> Option<Waiting> {
        let clients = &mut self.vms.get_mut(name)?.clients;
        let first = clients.pop_front();
        if clients.is_empty() {
            self.turns.retain(|other| other != name);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wlproxy_protocol::accept::{Token, Way};

    fn record(vm: &str, connection: u64) -> Record {
        Record { vm: vm.into(), connection, token: Token::new([7; 16]), way: Way::Name }
    }

    /// Who may be taken now, if anybody.
    fn pop(queue: &mut Queue, now: Instant) -> Option<Waiting> {
        match queue.next(now) {
            Next::Client(waiting) => Some(waiting),
            Next::At(_) | Next::Nobody => None,
        }
    }

    fn all(queue: &mut Queue, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| Some(pop(queue, now)?.record.connection)).collect()
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
        // One every 2 ms.
        let came = (0..1000).flat_map(|turn| all(&mut queue, now + turn * PACE));
        let expected = [0, 3, 512].into_iter().chain(4..=511).chain([513]);
        assert_eq!(came.collect::<Vec<u64>>(), expected.collect::<Vec<_>>());
        assert!(queue.is_empty() && queue.vms.is_empty());
    }

    #[test]
    fn a_vm_that_only_connects_is_slowed_down_and_nobody_else() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..100).for_each(|connection| _ = queue.push(record("busy", connection), now));
        assert_eq!(all(&mut queue, now), (0..BURST.into()).collect::<Vec<u64>>());
        assert!(matches!(queue.next(now), Next::At(due) if due == now + PACE));
        queue.push(record("quiet", 500), now);
        assert_eq!(all(&mut queue, now), [500]);
        assert_eq!(all(&mut queue, now + PACE), [64]);
        assert!(matches!(queue.next(now + PACE), Next::At(due) if due == now + 2 * PACE));
        assert_eq!(all(&mut queue, now + 11 * PACE).len(), 10);
        // Who is put back takes no other's place.
        let first = pop(&mut queue, now + 12 * PACE).unwrap();
        queue.put_back(first);
        assert_eq!(all(&mut queue, now + 13 * PACE), [75]);
        assert_eq!(all(&mut queue, now + 14 * PACE), [76]);
    }

    #[test]
    fn who_has_left_meanwhile_slows_nobody_down() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..400).for_each(|connection| _ = queue.push(record("work", connection), now));
        for connection in 0..400 {
            assert_eq!(pop(&mut queue, now).unwrap().record.connection, connection);
            queue.had_left("work");
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn vms_take_turns_however_many_clients_of_one_came_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..64).for_each(|connection| _ = queue.push(record("busy", connection), now));
        assert_eq!(pop(&mut queue, now).unwrap().record.connection, 0);
        queue.push(record("quiet", 64), now);
        queue.push(record("other", 65), now);
        queue.push(record("quiet", 66), now);
        assert_eq!(all(&mut queue, now)[..6], [1, 64, 65, 2, 66, 3]);
    }

    #[test]
    fn who_is_put_back_is_the_next() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (vm, connection) in [("one", 0), ("two", 1), ("one", 2)] {
            queue.push(record(vm, connection), now);
        }
        for expected in [0, 1, 2] {
            let first = pop(&mut queue, now).unwrap();
            assert_eq!(first.record.connection, expected);
            queue.put_back(first);
            assert_eq!(pop(&mut queue, now).unwrap().record.connection, expected);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn who_was_given_up_by_the_host_is_forgotten() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push(record("work", 1), start);
        queue.push(record("work", 2), start + Duration::from_secs(1));
        let first = pop(&mut queue, start + EXPIRY - Duration::from_secs(1)).unwrap();
        assert_eq!(first.record.connection, 1);
        queue.put_back(first);
        assert_eq!(pop(&mut queue, start + EXPIRY).unwrap().record.connection, 2);
        assert!(queue.is_empty());
    }
}
