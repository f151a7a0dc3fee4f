//! The dialects: what a device is to a driver, before a word is said.

use super::Options;
use super::frontend::Frontend;
use super::neighbours::{Host, Presence};
use super::poller::Poller;
use super::ring::{Memory, Ring};
use super::vfds::Vfds;
use super::virtgpu::Virtgpu;
use super::virtio_wl::VirtioWl;
use super::window::Window;
use nix::sys::epoll::EpollFlags;
use std::sync::Arc;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use wlproxy_protocol::accept::Ways;
use wlproxy_protocol::{virtio_gpu, virtio_wl};

/// Queues of a device of any dialect.
pub(super) const NUM_QUEUES: usize = 2;

const _: () = assert!(virtio_wl::NUM_QUEUES == NUM_QUEUES && virtio_gpu::NUM_QUEUES == NUM_QUEUES);

/// Which device a VM has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// ChromiumOS's.
    #[default]
    VirtioWl,
    /// virtio-gpu with the cross-domain capset alone, which mainline Linux has a driver for.
    Virtgpu,
}

/// A device in one run of its rings.
pub(super) trait Device: Send {
    /// Does what there is to do: `events` of the poller or of others' calls, commands, answers of the opener, deliveries.
    fn turn(&mut self, events: &[(u64, EpollFlags)]);

    /// Takes to the guest what came over streams, on the thread of another device. Never waits for the frontend.
    fn visited(&mut self, events: &[(u64, EpollFlags)]);

    /// Calls those to whom something was written since the last time: they have to be visited.
    fn calls(&mut self) -> Vec<Arc<dyn Host>>;
}

/// What a device starts with when its rings do.
pub(super) struct Start<'a> {
    pub(super) options: &'a Options,
    /// What the driver acked.
    pub(super) features: u64,
    pub(super) frontend: Box<dyn Frontend>,
    /// The guest's.
    pub(super) memory: Memory,
    /// By their index.
    pub(super) rings: [Ring; NUM_QUEUES],
    pub(super) poller: Poller,
    pub(super) presence: Option<Presence>,
}

impl Dialect {
    /// How the compositor VM opens accepted streams with it.
    pub(crate) fn ways(self) -> Ways {
        match self {
            Self::VirtioWl => Ways::NAME,
            Self::Virtgpu => Ways::CHANNEL_TYPE,
        }
    }

    /// The features that are offered, less those of vhost-user.
    pub(super) fn features(self) -> u64 {
        let common = [VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC];
        let own: &[u32] = match self {
            Self::VirtioWl => &[virtio_wl::F_TRANS_FLAGS, virtio_wl::F_USE_SHMEM],
            Self::Virtgpu => &[
                virtio_gpu::F_VIRGL,
                virtio_gpu::F_RESOURCE_UUID,
                virtio_gpu::F_RESOURCE_BLOB,
                virtio_gpu::F_CONTEXT_INIT,
            ],
        };
        common.iter().chain(own).fold(0, |all, bit| all | 1 << bit)
    }

    /// Most descriptors of a queue.
    pub(super) fn queue_size(self) -> u16 {
        match self {
            Self::VirtioWl => virtio_wl::QUEUE_SIZE,
            Self::Virtgpu => virtio_gpu::QUEUE_SIZE,
        }
    }

    /// The configuration space.
    pub(super) fn config(self) -> Vec<u8> {
        match self {
            Self::VirtioWl => Vec::new(),
            Self::Virtgpu => {
                let config =
                    virtio_gpu::Config { num_scanouts: 1, num_capsets: 1, ..Default::default() };
                bytemuck::bytes_of(&config).to_vec()
            }
        }
    }

    /// Which of the VM's shared memory regions is the window.
    pub(super) fn shmid(self) -> u8 {
        match self {
            Self::VirtioWl => virtio_wl::SHMID,
            Self::Virtgpu => virtio_gpu::SHMID,
        }
    }

    /// Starts a device.
    pub(super) fn start(self, start: Start<'_>) -> Box<dyn Device> {
        let Options { vm, counters, window_size, .. } = start.options;
        let relative = match self {
            Self::VirtioWl => start.features & (1 << virtio_wl::F_USE_SHMEM) != 0,
            Self::Virtgpu => true,
        };
        tracing::info!(vm, device = self.name(), relative, "the driver is up");
        let window = Window::new(vm, start.frontend, *window_size, relative, counters.clone());
        let vfds = Vfds::new(start.poller.clone(), window, start.options, start.presence);
        let Start { options, features, memory, rings, poller, .. } = start;
        match self {
            Self::VirtioWl => Box::new(VirtioWl::new(options, features, vfds, rings, poller)),
            Self::Virtgpu => Box::new(Virtgpu::new(options, vfds, memory, rings, poller)),
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtioWl => "virtio_wl",
            Self::Virtgpu => "virtgpu",
        }
    }

    /// The dialect of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::VirtioWl, Self::Virtgpu].into_iter().find(|dialect| dialect.name() == name)
    }
}
