//! How much of what it may have a VM or a client has.

use super::VmStatus;
use crate::counters::ConnectionSnapshot;
use std::cmp::Ordering;
use std::fmt;

/// How much of one quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    what: &'static str,
    used: u64,
    most: u64,
}

impl Used {
    /// Of the quotas of a VM that one which is used most; none if nothing is.
    pub(crate) fn of_vm(vm: &VmStatus) -> Option<Self> {
        let c = &vm.counters;
        let client = vm.vm_quota.map(|quota| {
            [
                Self::new("clients", c.contexts, quota.connections.into()),
                Self::new("vfds", c.vfds, quota.vfds.into()),
                Self::new("memory", c.allocation_bytes, quota.memory()),
                Self::new("messages", c.messages, quota.speed().all.burst.into()),
            ]
        });
        let compositor = vm.events_kib.map(|kib| {
            let waiting = c.connections.iter().map(|one| one.sending_bytes).max().unwrap_or(0);
            Self::new("events", waiting, u64::from(kib) << 10)
        });
        Self::fullest(client.into_iter().flatten().chain(compositor))
    }

    /// Of those of one client of such a VM.
    pub(crate) fn of_client(vm: &VmStatus, one: &ConnectionSnapshot) -> Option<Self> {
        let objects = vm.quota.map(|quota| Self::new("objects", one.objects, quota.objects.into()));
        let others = vm.vm_quota.map(|quota| {
            [
                Self::new("messages", one.messages, quota.speed().each.burst.into()),
                Self::new("requests", one.sending_bytes, quota.waiting_requests() as u64),
                Self::new("events", one.receiving_bytes, quota.waiting_events() as u64),
            ]
        });
        Self::fullest(objects.into_iter().chain(others.into_iter().flatten()))
    }

    fn new(what: &'static str, used: u64, most: u64) -> Self {
        Self { what, used, most: most.max(1) }
    }

    fn fullest(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.filter(|one| one.used > 0).max_by(Self::fuller_than)
    }

    fn fuller_than(&self, other: &Self) -> Ordering {
        let times = |one: u64, other: u64| u128::from(one) * u128::from(other);
        times(self.used, other.most).cmp(&times(other.used, self.most))
    }
}

/// At most 13 characters; where there is anything, at least 1 %.
impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (u128::from(self.used) * 100).div_ceil(self.most.into());
        write!(f, "{} {}%", self.what, percent.min(999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Snapshot;
    use crate::quota::Quota;
    use crate::quota::vm::VmQuota;

    fn vm(counters: Snapshot) -> VmStatus {
        let (quota, vm_quota) = (Some(Quota::default()), Some(VmQuota::default()));
        VmStatus { quota, vm_quota, ..VmStatus::of_test("client", counters) }
    }

    fn shown(used: Option<Used>) -> Option<String> {
        used.map(|used| used.to_string())
    }

    #[test]
    fn the_fullest_is_shown_with_its_name() {
        let of = |counters| shown(Used::of_vm(&vm(counters)));
        assert_eq!(of(Snapshot::default()), None);
        let one = Snapshot { contexts: 1, vfds: 3, ..Snapshot::default() };
        assert_eq!(of(one.clone()).as_deref(), Some("clients 1%"));
        let memory = Snapshot { allocation_bytes: 6 << 30, ..one.clone() };
        assert_eq!(of(memory.clone()).as_deref(), Some("memory 75%"));
        assert_eq!(of(Snapshot { messages: 40_001, ..memory }).as_deref(), Some("messages 101%"));
        assert_eq!(of(Snapshot { vfds: u64::MAX, ..one }).as_deref(), Some("vfds 999%"));
    }

    #[test]
    fn so_it_is_of_a_client() {
        let of = |one| shown(Used::of_client(&vm(Snapshot::default()), &one));
        let idle = ConnectionSnapshot::default();
        assert_eq!(of(idle.clone()), None);
        let one = ConnectionSnapshot { objects: 41, ..idle };
        assert_eq!(of(one.clone()).as_deref(), Some("objects 1%"));
        let one = ConnectionSnapshot { messages: 2000, ..one };
        assert_eq!(of(one.clone()).as_deref(), Some("messages 20%"));
        let one = ConnectionSnapshot { sending_bytes: 1 << 19, ..one };
        assert_eq!(of(one.clone()).as_deref(), Some("requests 50%"));
        let one = ConnectionSnapshot { receiving_bytes: 255 << 10, ..one };
        assert_eq!(of(one.clone()).as_deref(), Some("events 100%"));
    }

    #[test]
    fn the_compositor_vm_has_one() {
        let connection = ConnectionSnapshot { sending_bytes: 32 << 10, ..Default::default() };
        let counters =
            Snapshot { connections: vec![connection], contexts: 9, ..Default::default() };
        let gui = VmStatus { events_kib: Some(64), ..VmStatus::of_test("compositor", counters) };
        assert_eq!(shown(Used::of_vm(&gui)).as_deref(), Some("events 50%"));
        assert_eq!(Used::of_vm(&VmStatus { events_kib: None, ..gui }), None);
    }
}
