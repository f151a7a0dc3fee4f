//! What all clients of a VM may have together, and how fast they may be.

use crate::bucket::Rate;
use crate::pace::Speed;
use serde::{Deserialize, Serialize};
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_protocol::virtio_wl::MAX_DRIVER_ID;

/// Most connections that a client VM may have at once. Half of the vfds that the compositor VM's driver can make: each
/// client needs one there, and no VM may take them all.
pub const MAX_CONNECTIONS: u32 = 1024;

/// Most vfds of one device: as many that the host makes as a Linux driver can make.
pub const MAX_VFDS: u32 = 2 * (MAX_DRIVER_ID + 1);

/// Most KiB that may wait at one connection for who doesn't read, in each direction and at each end.
pub const MAX_WAITING_KIB: u32 = (MAX_QUEUED >> 10) as u32;

/// What all clients of a VM may send in a second. 1,024 that each sent as much as Firefox does in the busiest second of its start
/// (294) would send less. It is a sixth of what a path of this project passes on one processor (2.5 million,
/// `benches/record`), so a VM that floods leaves others something.
pub const MESSAGES_PER_SECOND: u32 = 400_000;

/// As many an application may say at once, if it may say so many in a second: 64 KiB of requests of 8 bytes.
const AT_ONCE: u32 = 8192;

/// Or one part in so many of what it may say in a second. With 100,000 that is a flood of 4 ms.
const AT_ONCE_OF: u32 = 10;

/// What each of them may: 20,000 frames. One that floods leaves enough to its siblings, and so do three.
pub const CLIENT_MESSAGES_PER_SECOND: u32 = 100_000;

/// Most of each that one VM may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmQuota {
    /// Connections at once.
    pub connections: u32,
    /// New connections in a second; as many at once as there may be at all.
    pub connections_per_second: u32,
    /// vfds: connections, and what stands for file descriptors.
    pub vfds: u32,
    /// Memory that the host makes for it, in MiB.
    pub memory_mib: u32,
    /// Requests of each client that wait for a compositor that doesn't read, in KiB.
    pub requests_kib: u32,
    /// Events that wait for each client that doesn't read, in KiB. The compositor VM has this as well: of what it has sent, and
    /// what the client VM's worker doesn't take.
    pub events_kib: u32,
    /// Requests of all clients in a second.
    pub messages_per_second: u32,
    /// The same of each client.
    pub client_messages_per_second: u32,
}

impl Default for VmQuota {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            // A session starts with some dozens, and a client that is served costs a millisecond or so: more than this
            // comes from a VM that only connects.
            connections_per_second: 1000,
            vfds: MAX_VFDS,
            // The default of its window.
            memory_mib: 8192,
            requests_kib: MAX_WAITING_KIB,
            // As many as wait in an agent.
            events_kib: MAX_WAITING_KIB / 4,
            messages_per_second: MESSAGES_PER_SECOND,
            client_messages_per_second: CLIENT_MESSAGES_PER_SECOND,
        }
    }
}

impl VmQuota {
    /// The compositor VM's, in which nothing but `events_kib` is anybody's choice.
    pub fn of_compositor() -> Self {
        // A compositor is never made to wait, so what its client doesn't take is for here.
        Self { events_kib: MAX_WAITING_KIB, ..Self::default() }
    }

    /// How fast its clients may come.
    pub fn arrivals(&self) -> Rate {
        Rate { per_second: self.connections_per_second, burst: self.connections }
    }

    /// How fast they may ask.
    pub fn speed(&self) -> Speed {
        let rate = |per_second: u32| {
            let burst = per_second.min(AT_ONCE.max(per_second / AT_ONCE_OF));
            Rate { per_second, burst }
        };
        Speed { each: rate(self.client_messages_per_second), all: rate(self.messages_per_second) }
    }

    /// Bytes of each client's requests that may wait.
    pub fn waiting_requests(&self) -> usize {
        (self.requests_kib as usize) << 10
    }

    /// Bytes of events that may wait for each client.
    pub fn waiting_events(&self) -> usize {
        (self.events_kib as usize) << 10
    }

    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_may_say_much_when_it_starts() {
        let at_once = |per_second| {
            let quota = VmQuota { client_messages_per_second: per_second, ..VmQuota::default() };
            quota.speed().each.burst
        };
        assert_eq!(
            [1, 100, 8192, 10_000, 50_000, 100_000].map(at_once),
            [1, 100, 8192, 8192, 8192, 10_000]
        );
        assert_eq!(VmQuota::default().speed().all.burst, 40_000);
    }
}
