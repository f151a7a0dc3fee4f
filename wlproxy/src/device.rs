//! The devices: vhost-user backends that give a VM contexts, allocations and pipes.
//!
//! One device serves one VM, through one frontend (QEMU, or the `process` channel) at a time. From the outside in:
//!
//! | module | what it is |
//! |---|---|
//! | [`serve`] | one frontend connection from its start to its end |
//! | `backend` | the vhost-user backend: features, configuration, when the rings run |
//! | `kind` | what a VM has to do with us: one of the dialects, or a socket that somebody else's device dials |
//! | `socket` | the latter, whole: no rings, no window, no vfds |
//! | `dialect` | the kinds of devices of ours: what each is to a driver, and how it starts |
//! | `virtio_wl`, `virtgpu` | the dialects: commands of such a device to calls of the model, and back |
//! | `vfds` | the model: the table of vfds; `vfd_error` is why there is none, `made` and `shares` what counts of them |
//! | `context`, `allocation`, `pipe` | the kinds of vfds; `flow` is what contexts and pipes have in common |
//! | `lingering` | streams that are closed, until what they have is written |
//! | `arrival` | what becomes of an fd that came over a context |
//! | `window` | which memory is mapped where; `ranges` is its free room, `frontend` who maps it |
//! | `ring`, `in_ring` | the virtqueues, and the fair use of receive buffers |
//! | `poller` | the fds that are waited for |
//! | `neighbours` | devices in one process, which save each other's threads the waking up; `turns` is who works with one |
//! | [`opener`] | where connected streams come from |
//! | [`trace`] | who reads what passes |
//! | `bare` | with the feature `fuzz`: a device without a frontend, for `fuzz/` |
//!
//! # Threads
//! Two per connection, both started by the vhost-user crate. One serves the frontend's socket; the *vring worker* does
//! everything else, and it alone touches the model, but for neighbours in between its turns. They share atomics and locks
//! that are held for a few instructions, never while anyone waits for the frontend: the vring worker blocks in SHMEM_MAP
//! until the frontend answers, and a frontend may have requests of its own answered first.
//!
//! A *run* is the time from the start of the rings to their stop, which is the only sign of a reset that a backend
//! gets. Each run has a model of its own. A ring is touched only under its lock and after a look at the run, so nothing
//! reaches it after its stop.

use crate::counters::Counters;
use crate::policy;
pub use dialect::Dialect;
pub use kind::Kind;
pub use neighbours::Neighbours;
use opener::Opener;
use std::fmt;
use std::sync::Arc;

mod allocation;
mod arrival;
mod backend;
#[cfg(feature = "fuzz")]
pub mod bare;
mod carried;
mod context;
mod dialect;
mod flow;
mod frontend;
mod in_ring;
mod kind;
mod lingering;
mod link;
mod made;
mod neighbours;
pub mod opener;
mod pipe;
mod poller;
mod ranges;
mod ring;
pub mod serve;
mod shares;
pub(crate) mod socket;
mod toll;
pub mod trace;
mod turns;
mod vfd_error;
mod vfds;
mod virtgpu;
mod virtio_wl;
mod window;

/// Size of the window if nothing else is asked for, in bytes. Address space only. Above 4 GiB, so that it stands where
/// guests map it write-back cached.
pub const DEFAULT_WINDOW: u64 = 8 << 30;

/// Most contexts of one client VM, whatever its quota says.
const MAX_CONTEXTS: usize = crate::quota::vm::MAX_CONNECTIONS as usize;

/// Which of the VMs a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client VM: it opens links, and no names.
    Client,
    /// The compositor VM: it opens its main context, and accepted streams by name.
    Compositor,
}

/// What a device has to know.
#[derive(Clone)]
pub struct Options {
    /// The VM's name, for the log.
    pub vm: String,
    /// Which VM it is.
    pub side: Side,
    /// Which device it has.
    pub dialect: Dialect,
    /// Where its contexts come from.
    pub opener: Arc<dyn Opener>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What clients may do over links that begin from now on.
    pub policy: Arc<policy::Current>,
    /// Who wants to read what passes.
    pub traces: Arc<trace::Requests>,
    /// The devices of the other VMs, if they are in this process.
    pub neighbours: Option<Arc<Neighbours>>,
    /// Size of the window in bytes, a power of two: [`DEFAULT_WINDOW`].
    pub window_size: u64,
    /// Called when the vring worker panics or fails, maybe as its thread ends: nobody answers the VM any more.
    pub on_panic: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("vm", &self.vm)
            .field("side", &self.side)
            .field("dialect", &self.dialect)
            .field("window_size", &self.window_size)
            .finish_non_exhaustive()
    }
}
