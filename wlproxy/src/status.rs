//! What `wlproxy status` shows: the document. [`crate::ask`] tells how it is asked for.
//!
//! Its fields are a contract with other programs: they may be added to, never changed, unless [`VERSION`] changes too.
//!
//! It tells what the host knows, and apart from that what VMs tell of themselves. How much of a buffer is damaged and how
//! much was copied, only they know: a client copies in its own VM, and the host never touches a pixel. Whether it is true,
//! nobody can check.

pub(crate) mod table;
pub(crate) mod used;

pub use table::{Connections, table};

use crate::config::Compositor;
use crate::counters::Snapshot;
use crate::device::Side;
use crate::histogram::BOUNDS;
use crate::quota::Quota;
use crate::quota::vm::VmQuota;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Version of the document.
pub const VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// wlproxy's process.
    pub pid: u32,
    /// Where the compositor is.
    pub compositor: CompositorStatus,
    /// Clients that wait for the compositor VM now.
    pub pending: usize,
    /// [`BOUNDS`]: the largest duration, in microseconds, of each bucket in `commit_in` and `commit_out`. One more
    /// bucket has what took longer.
    pub bucket_bounds_us: Vec<u64>,
    /// All VMs, by name.
    pub vms: BTreeMap<String, VmStatus>,
}

/// Where the compositor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompositorStatus {
    /// The compositor VM, if it is in one.
    pub vm: Option<String>,
    /// Its socket, if it is on the host.
    pub socket: Option<PathBuf>,
    /// Whether clients are taken: the compositor VM has its main context, or the compositor is on the host.
    pub ready: bool,
}

impl CompositorStatus {
    /// The status of `compositor`.
    pub fn new(compositor: &Compositor, ready: bool) -> Self {
        match compositor.clone() {
            Compositor::Vm(vm) => Self { vm: Some(vm), socket: None, ready },
            Compositor::Socket(socket) => Self { vm: None, socket: Some(socket), ready },
        }
    }
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// `client` or `compositor`.
    pub side: String,
    /// Its vhost-user socket.
    pub socket: PathBuf,
    /// Whether its frontend is connected.
    pub connected: bool,
    /// The process of its worker, unless that is down just now.
    pub pid: Option<u32>,
    /// How often its worker died.
    pub restarts: u64,
    /// What each of its clients may have at once, from its next one on. The compositor VM has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// What all of them may have together, and how fast they may be. The compositor VM has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_quota: Option<VmQuota>,
    /// KiB that wait at most for each client that doesn't read, of what the compositor VM has sent. Client VMs have it in
    /// `vm_quota`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_kib: Option<u32>,
    /// What its worker counts since it was started; at most a second old. The numbers stand beside the fields above.
    #[serde(flatten)]
    pub counters: Snapshot,
}

/// The name of a side in the document.
pub fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Compositor => "compositor",
    }
}

impl Status {
    /// The document of this process, now.
    pub fn new(
        compositor: CompositorStatus,
        pending: usize,
        vms: BTreeMap<String, VmStatus>,
    ) -> Self {
        let bucket_bounds_us = BOUNDS.to_vec();
        Self {
            version: VERSION,
            pid: std::process::id(),
            compositor,
            pending,
            bucket_bounds_us,
            vms,
        }
    }
}

#[cfg(test)]
impl VmStatus {
    /// A VM that is there, and has no quotas.
    pub(crate) fn of_test(side: &str, counters: Snapshot) -> Self {
        Self {
            side: side.to_owned(),
            socket: "/s".into(),
            connected: true,
            pid: Some(7),
            restarts: 0,
            quota: None,
            vm_quota: None,
            events_kib: None,
            counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{self, MAX_LINE};
    use crate::config::MAX_VMS;
    use crate::packet::MAX_PACKET;
    use wlproxy_protocol::limits::MAX_VM_NAME;

    #[test]
    fn whoever_asks_takes_the_largest_document() {
        let vm = VmStatus {
            side: side_name(Side::Compositor).to_owned(),
            socket: format!("/{:s>106}", "").into(),
            connected: true,
            pid: Some(u32::MAX),
            restarts: u64::MAX,
            quota: Some(Quota::default()),
            vm_quota: Some(VmQuota::default()),
            events_kib: Some(u32::MAX),
            counters: Snapshot::default(),
        };
        let name = |n: usize| format!("{n:->MAX_VM_NAME$}");
        let compositor = CompositorStatus::new(&Compositor::Vm(name(0)), false);
        let vms = (0..MAX_VMS).map(|n| (name(n), vm.clone())).collect();
        let document = ask::line(&Status::new(compositor, usize::MAX, vms));
        // A worker's numbers came in a packet.
        let largest = document.len() + MAX_VMS * MAX_PACKET;
        assert!((largest as u64) < MAX_LINE, "{largest}");
    }
}
