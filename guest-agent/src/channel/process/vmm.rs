//! The VMM's part: vhost-user as QEMU speaks it to a device with a window.
//!
//! User addresses in this protocol only name places in the memory table, so here they equal the guest addresses.

use super::deadline::within;
use super::duplicate::duplicate;
use super::ram::{self, Ram};
use super::ring::Layout;
use super::window::{self, Window};
use super::{Error, Options};
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{self, Frontend, FrontendReqHandler, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::virtio_wl::{F_TRANS_FLAGS, F_USE_SHMEM, NUM_QUEUES, QUEUE_SIZE, SHMID};

/// Most regions of a memory table without `CONFIGURE_MEM_SLOTS` (vhost-user specification,
/// `VHOST_MEMORY_BASELINE_NREGIONS`). QEMU announces nothing as long as there are more.
const MAX_REGIONS: usize = 8;

/// What a device needs for a window, and what tells it that a mapping failed.
const NEEDED: Protocol = Protocol::BACKEND_REQ
    .union(Protocol::BACKEND_SEND_FD)
    .union(Protocol::SHMEM)
    .union(Protocol::REPLY_ACK);

/// What else is acked if it is offered.
const KNOWN: Protocol =
    NEEDED.union(Protocol::MQ).union(Protocol::CONFIG).union(Protocol::SHARED_OBJECT);

/// How long a device may take to agree on features, and to start its rings; it does in milliseconds. One that serves
/// another frontend answers when that is gone. Whoever waits should have other things to do in between, so this is short.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// The connection to a device, from the VMM's side. Dropping it is the end of the VM.
pub(super) struct Vmm {
    frontend: Frontend,
    /// Another fd of the connection, to see and to bring about its end.
    connection: OwnedFd,
    /// Another fd of the device's channel to us, to end its thread.
    requests: OwnedFd,
    thread: Option<JoinHandle<()>>,
    window: Arc<Window>,
    announcer: Arc<Announcer>,
    features: u64,
    kicks: [EventFd; NUM_QUEUES],
    call: EventFd,
}

impl Vmm {
    /// Connects to a device and agrees with it on features. Its rings don't run yet.
    pub(super) fn connect(socket: &Path, options: &Options, ram: Arc<Ram>) -> Result<Self, Error> {
        let stream = wlproxy_unix::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => silent(socket),
            _ => Error::Lost(format!("can't connect to {}: {error}", socket.display())),
        })?;
        stream.set_nonblocking(false).map_err(lost)?;
        let connection = OwnedFd::from(stream.try_clone().map_err(lost)?);
        let agreed = within(connection.as_fd(), HANDSHAKE, || Self::agree(stream, options, ram));
        agreed.map_err(lost)?.unwrap_or_else(|| Err(silent(socket)))
    }

    fn agree(stream: UnixStream, options: &Options, ram: Arc<Ram>) -> Result<Self, Error> {
        let connection = OwnedFd::from(stream.try_clone().map_err(lost)?);
        let mut frontend = Frontend::from_stream(stream, NUM_QUEUES as u64);

        let features = features(frontend.get_features().map_err(lost)?, options)?;
        frontend.set_owner().map_err(lost)?;
        let protocol = frontend.get_protocol_features().map_err(lost)?;
        if let Some(missing) = missing(NEEDED - protocol) {
            return Err(lacks(&format!("the protocol features {missing}")));
        }
        frontend.set_protocol_features(protocol & KNOWN).map_err(lost)?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        if protocol.contains(Protocol::MQ) {
            let queues = frontend.get_queue_num().map_err(lost)?;
            if queues < NUM_QUEUES as u64 {
                return Err(lacks(&format!("{NUM_QUEUES} queues, it has {queues}")));
            }
        }
        let shared = frontend.get_shmem_config().map_err(lost)?;
        let size = shared.memory_sizes[usize::from(SHMID)];
        if size == 0 || !size.is_multiple_of(PAGE_SIZE) {
            return Err(lacks(&format!("a shared memory region {SHMID} of whole pages")));
        }

        let window = Arc::new(Window::new(size));
        let announcer = Arc::new(Announcer {
            frontend: (!options.use_shmem).then(|| frontend.clone()),
            running: Mutex::new(false),
            ram,
            window: window.clone(),
        });
        let mut handler = FrontendReqHandler::new(window.clone()).map_err(lost)?;
        handler.set_reply_ack_flag(true);
        frontend.set_backend_request_fd(&handler.get_tx_raw_fd()).map_err(lost)?;
        let requests = duplicate(&handler).map_err(lost)?;
        let event = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(lost);
        let kicks = [event()?, event()?];
        let call = event()?;
        let thread = {
            let announcer = announcer.clone();
            let body = move || serve(handler, &announcer);
            thread::Builder::new().name("window".into()).spawn(body).map_err(lost)?
        };
        let thread = Some(thread);
        Ok(Self {
            frontend,
            connection,
            requests,
            thread,
            window,
            announcer,
            features,
            kicks,
            call,
        })
    }

    /// The window.
    pub(super) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// Whether a feature bit is acked.
    pub(super) fn has(&self, bit: u32) -> bool {
        self.features & 1 << bit != 0
    }

    /// Becomes readable when the device used buffers.
    pub(super) fn call(&self) -> &EventFd {
        &self.call
    }

    /// Hangs up when the device is gone.
    pub(super) fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Tells the device that a queue has buffers for it.
    pub(super) fn kick(&self, queue: usize) -> Result<(), Error> {
        self.kicks[queue].write(1).map_err(lost)
    }

    /// Starts the rings, which are empty or filled, but unused: the driver is ready.
    pub(super) fn start(&mut self, layouts: [Layout; NUM_QUEUES]) -> Result<(), Error> {
        let connection = self.connection.try_clone().map_err(lost)?;
        within(connection.as_fd(), HANDSHAKE, || self.start_rings(layouts))
            .map_err(lost)?
            .unwrap_or_else(|| Err(Error::Lost("the device doesn't start".into())))
    }

    fn start_rings(&mut self, layouts: [Layout; NUM_QUEUES]) -> Result<(), Error> {
        self.frontend.set_features(self.features).map_err(lost)?;
        self.frontend.set_mem_table(&[self.announcer.ram_region()]).map_err(lost)?;
        *self.announcer.lock() = true;
        self.window.start();
        for (queue, layout) in layouts.into_iter().enumerate() {
            let config = VringConfigData {
                queue_max_size: QUEUE_SIZE,
                queue_size: QUEUE_SIZE,
                flags: 0,
                desc_table_addr: Ram::address(layout.descriptors),
                used_ring_addr: Ram::address(layout.used),
                avail_ring_addr: Ram::address(layout.available),
                log_addr: None,
            };
            self.frontend.set_vring_num(queue, QUEUE_SIZE).map_err(lost)?;
            self.frontend.set_vring_base(queue, 0).map_err(lost)?;
            self.frontend.set_vring_addr(queue, &config).map_err(lost)?;
            self.frontend.set_vring_call(queue, &self.call).map_err(lost)?;
            self.frontend.set_vring_kick(queue, &self.kicks[queue]).map_err(lost)?;
        }
        for queue in 0..NUM_QUEUES {
            self.frontend.set_vring_enable(queue, true).map_err(lost)?;
        }
        Ok(())
    }

    /// Stops the rings and drops the mappings, as the VM's reset does.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        // From here on no announcement can wait for the connection that the requests below occupy.
        *self.announcer.lock() = false;
        for queue in 0..NUM_QUEUES {
            self.frontend.set_vring_enable(queue, false).map_err(lost)?;
            self.frontend.get_vring_base(queue).map_err(lost)?;
        }
        self.window.stop();
        Ok(())
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // The thread reads from the one, or waits for an answer on the other.
        for fd in [&self.connection, &self.requests] {
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the window's thread panicked");
        }
    }
}

/// Serves the device's requests until its end of the channel is shut down.
fn serve(mut requests: FrontendReqHandler<Window>, announcer: &Announcer) {
    loop {
        match requests.handle_request() {
            // A refused request was answered; the channel goes on.
            Ok(_) | Err(vhost_user::Error::ReqHandlerError(_)) => announcer.announce(),
            Err(vhost_user::Error::Disconnected | vhost_user::Error::PartialMessage) => return,
            Err(error) => {
                return tracing::warn!("the device's requests can't be read any more: {error}");
            }
        }
    }
}

/// Tells the device of each mapping as guest memory, as QEMU does after it has answered the SHMEM_MAP.
struct Announcer {
    /// `None` if the device needn't know: its driver acked USE_SHMEM.
    frontend: Option<Frontend>,
    running: Mutex<bool>,
    ram: Arc<Ram>,
    window: Arc<Window>,
}

impl Announcer {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        let Some(frontend) = &self.frontend else {
            return;
        };
        let running = self.lock();
        let Some(mappings) = self.window.changed().filter(|_| *running) else {
            return;
        };
        if mappings.len() + 1 > MAX_REGIONS {
            return tracing::debug!("{} mappings are too many to be announced", mappings.len());
        }
        let window = mappings.iter().map(|(offset, mapping)| VhostUserMemoryRegionInfo {
            guest_phys_addr: window::BASE + offset,
            memory_size: mapping.len,
            userspace_addr: window::BASE + offset,
            mmap_offset: mapping.file_offset,
            mmap_handle: mapping.file.as_raw_fd(),
        });
        let regions: Vec<_> = std::iter::once(self.ram_region()).chain(window).collect();
        if let Err(error) = frontend.set_mem_table(&regions) {
            tracing::warn!("can't announce {} regions: {error}", regions.len());
        }
    }

    fn ram_region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: ram::BASE,
            memory_size: self.ram.size(),
            userspace_addr: ram::BASE,
            mmap_offset: 0,
            mmap_handle: self.ram.fd(),
        }
    }
}

/// The virtio features to ack of those offered.
fn features(offered: u64, options: &Options) -> Result<u64, Error> {
    let bit = |bit: u32| 1u64 << bit;
    let mut needed = bit(VIRTIO_F_VERSION_1) | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    if options.use_shmem {
        needed |= bit(F_USE_SHMEM);
    }
    if options.trans_flags {
        needed |= bit(F_TRANS_FLAGS);
    }
    match needed & !offered {
        0 => Ok(needed | offered & bit(VIRTIO_RING_F_EVENT_IDX)),
        missing => Err(lacks(&format!("the virtio features {missing:#x}"))),
    }
}

fn missing(features: Protocol) -> Option<String> {
    let names: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn lacks(what: &str) -> Error {
    Error::Refused(format!("the device lacks {what}"))
}

fn silent(socket: &Path) -> Error {
    Error::Lost(format!(
        "nobody answers at {}: another agent may be connected, and there can be one per VM",
        socket.display()
    ))
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::Lost(error.to_string())
}
