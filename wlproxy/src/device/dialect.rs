//! The dialects: what a device is to a driver, before a word is said.

use super::Options;
use super::frontend::RunningFrontend;
use super::neighbours::{Host, Presence};
use super::poller::Poller;
use super::ring::Ring;
use super::vfds::Vfds;
use super::virtio_wl::VirtioWl;
use super::window::Window;
use nix::sys::epoll::EpollFlags;
use std::sync::Arc;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use wlproxy_protocol::virtio_wl;

/// Queues of a device of any dialect.
pub(super) const NUM_QUEUES: usize = 2;

const _: () = assert!(virtio_wl::NUM_QUEUES == NUM_QUEUES);

/// Which device a VM has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// ChromiumOS's.
    #[default]
    VirtioWl,
}

/// A device in one run of its rings.
pub(super) trait Device: Send {
    /// Does what there is to do: `events` of the poller, commands, answers of the opener, deliveries.
    fn turn(&mut self, events: &[(u64, EpollFlags)]);

    /// Takes to the guest what came over streams, on the thread of another device. Never waits for the frontend.
    fn visited(&mut self, events: &[(u64, EpollFlags)]);

    /// Who has to be visited for what was written since the last call.
    fn calls(&mut self) -> Vec<Arc<dyn Host>>;
}

/// What a device starts with when its rings do.
pub(super) struct Start<'a> {
    pub(super) options: &'a Options,
    /// What the driver acked.
    pub(super) features: u64,
    pub(super) frontend: RunningFrontend,
    /// By their index.
    pub(super) rings: [Ring; NUM_QUEUES],
    pub(super) poller: Poller,
    pub(super) presence: Option<Presence>,
}

impl Dialect {
    /// The features that are offered, less those of vhost-user.
    pub(super) fn features(self) -> u64 {
        let common = [VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC];
        let own: &[u32] = match self {
            Self::VirtioWl => &[virtio_wl::F_TRANS_FLAGS, virtio_wl::F_USE_SHMEM],
        };
        common.iter().chain(own).fold(0, |all, bit| all | 1 << bit)
    }

    /// Most descriptors of a queue.
    pub(super) fn queue_size(self) -> u16 {
        match self {
            Self::VirtioWl => virtio_wl::QUEUE_SIZE,
        }
    }

    /// The configuration space.
    pub(super) fn config(self) -> Vec<u8> {
        match self {
            Self::VirtioWl => Vec::new(),
        }
    }

    /// Which of the VM's shared memory regions is the window.
    pub(super) fn shmid(self) -> u8 {
        match self {
            Self::VirtioWl => virtio_wl::SHMID,
        }
    }

    /// Starts a device.
    pub(super) fn start(self, start: Start<'_>) -> Box<dyn Device> {
        let Start { options, features, frontend, rings, poller, presence } = start;
        let Options { vm, counters, window_size, .. } = options;
        let frontend = Box::new(frontend);
        match self {
            Self::VirtioWl => {
                let relative = features & (1 << virtio_wl::F_USE_SHMEM) != 0;
                tracing::info!(vm, use_shmem = relative, "the driver is up");
                let window = Window::new(vm, frontend, *window_size, relative, counters.clone());
                let vfds = Vfds::new(poller.clone(), window, counters.clone());
                Box::new(VirtioWl::new(options, features, vfds, rings, poller, presence))
            }
        }
    }
}
