//! A small virtio_wl device behind vhost-user, which does what the bytes sent to a context say: what
//! `channel/scenarios.rs` lists, and more.

use crate::channel::scenarios::{FLOOD, token};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use vhost::vhost_user::message::{
    VhostUserMMap, VhostUserMMapFlags, VhostUserShMemConfig, VhostUserSharedMsg,
};
use vhost::vhost_user::{
    Backend, Listener, VhostUserFrontendReqHandler, VhostUserProtocolFeatures as Protocol,
};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend,
    GuestMemoryMmap, GuestMemoryRegion,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_wl::{
    self, F_TRANS_FLAGS, F_USE_SHMEM, HOST_ID, Header, NUM_QUEUES, QUEUE_IN, QUEUE_OUT, QUEUE_SIZE,
    Transfer, VfdNew, flags, message,
};
use wlproxy_unix::memory;

/// The name whose NEW is never answered.
pub(super) fn silent() -> Token {
    Token::new([8; 16])
}

/// A host vfd that was never announced.
const UNKNOWN: u32 = HOST_ID | 0xfffff;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// What the device says that it can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offers {
    pub(super) virtio: u64,
    pub(super) protocol: Protocol,
    pub(super) window: u64,
}

impl Default for Offers {
    fn default() -> Self {
        let protocol = Protocol::MQ
            | Protocol::CONFIG
            | Protocol::BACKEND_REQ
            | Protocol::BACKEND_SEND_FD
            | Protocol::SHMEM
            | Protocol::SHARED_OBJECT
            | Protocol::REPLY_ACK;
        // VERSION_1, PROTOCOL_FEATURES, EVENT_IDX.
        let virtio = 1 << 32 | 1 << 30 | 1 << 29 | 1 << F_TRANS_FLAGS | 1 << F_USE_SHMEM;
        Self { virtio, protocol, window: 1 << 30 }
    }
}

#[derive(Debug)]
enum Object {
    Context,
    Pipe,
    Memory { fd: OwnedFd, offset: u64, len: u64 },
}

#[derive(Debug, Default)]
struct State {
    features: u64,
    vfds: HashMap<u32, Object>,
    /// First free byte of the window.
    end: u64,
    /// Guest address of the window, once learned.
    base: Option<u64>,
    last_host_id: u32,
    input: VecDeque<Vec<u8>>,
    /// Requests whose response is held back: head, and where the response goes.
    held: Vec<(u16, GuestAddress)>,
    closed: Vec<u32>,
    written: Vec<u8>,
}

/// The device.
pub(super) struct Fake {
    offers: Offers,
    memory: Mutex<Option<Memory>>,
    frontend: Mutex<Option<Backend>>,
    exit: (EventConsumer, EventNotifier),
    state: Mutex<State>,
}

impl Fake {
    pub(super) fn new(offers: Offers) -> Arc<Self> {
        Arc::new(Self {
            offers,
            memory: Mutex::default(),
            frontend: Mutex::default(),
            exit: new_event_consumer_and_notifier(EventFlag::NONBLOCK).unwrap(),
            state: Mutex::default(),
        })
    }

    /// Listens at `socket` for one VM, whose connection is served once the thread is joined.
    pub(super) fn listen(
        self: &Arc<Self>,
        socket: &Path,
    ) -> thread::JoinHandle<VhostUserDaemon<Arc<Self>>> {
        let mut listener = Listener::new(socket, true).unwrap();
        let memory = Memory::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new("fake".into(), self.clone(), memory).unwrap();
        thread::spawn(move || {
            daemon.start(&mut listener).unwrap();
            daemon
        })
    }

    /// vfds that were closed, in order.
    pub(super) fn closed(&self) -> Vec<u32> {
        self.state.lock().unwrap().closed.clone()
    }

    /// Lets the device do nothing until the guard is dropped.
    pub(super) fn freeze(&self) -> impl Sized + use<'_> {
        self.state.lock().unwrap()
    }

    /// Bytes that were sent into pipes.
    pub(super) fn written(&self) -> Vec<u8> {
        self.state.lock().unwrap().written.clone()
    }

    /// Whether `fd` is the memory of an allocation of this device.
    pub(super) fn has_file(&self, fd: impl AsFd) -> bool {
        let is = |object: &Object| matches!(object, Object::Memory { fd: own, .. } if memory::same_file(own, &fd));
        self.state.lock().unwrap().vfds.values().any(is)
    }

    fn mmap(&self, offset: u64, len: u64, fd: &OwnedFd) -> io::Result<u64> {
        let frontend = self.frontend.lock().unwrap().clone().unwrap();
        let flags = VhostUserMMapFlags::WRITABLE.bits();
        let request = VhostUserMMap { shm_offset: offset, len, flags, ..VhostUserMMap::default() };
        frontend.shmem_map(&request, fd)
    }

    /// Makes memory appear in the window. Returns its pfn.
    fn map(&self, state: &mut State, id: u32, fd: OwnedFd, len: u64) -> u64 {
        let offset = state.end;
        self.mmap(offset, len, &fd).unwrap();
        let frontend = self.frontend.lock().unwrap().clone().unwrap();
        let barrier = *VhostUserSharedMsg::from_slice(&[1; 16]).unwrap();
        assert!(frontend.shared_object_remove(&barrier).is_err());
        let base = if state.features & 1 << F_USE_SHMEM != 0 {
            0
        } else {
            *state.base.get_or_insert_with(|| self.learn(&fd, offset))
        };
        state.end += len;
        state.vfds.insert(id, Object::Memory { fd, offset, len });
        (base + offset) / PAGE_SIZE
    }

    /// Where the window stands, if `fd` was announced as guest memory.
    fn learn(&self, fd: &OwnedFd, offset: u64) -> u64 {
        let memory = self.memory.lock().unwrap().clone().unwrap().memory();
        let region = memory.iter().find(|region| {
            region.file_offset().is_some_and(|file| memory::same_file(file.file(), fd))
        });
        region.expect("announced before the barrier was answered").start_addr().0 - offset
    }

    /// Does one request. `None` if there is no response now.
    fn request(
        &self,
        state: &mut State,
        bytes: &[u8],
        place: (u16, GuestAddress),
    ) -> Option<Vec<u8>> {
        let header: Header = virtio_wl::read(bytes).unwrap();
        if header.kind == message::VFD_SEND {
            return self.send(state, bytes, place).map(|kind| Header::new(kind).to_vec());
        }
        if header.kind == message::VFD_CLOSE {
            let vfd: virtio_wl::Vfd = virtio_wl::read(bytes).unwrap();
            state.closed.push(vfd.id);
            let object = state.vfds.remove(&vfd.id).expect("closed twice");
            if let Object::Memory { offset, len, .. } = object {
                let frontend = self.frontend.lock().unwrap().clone().unwrap();
                let request = VhostUserMMap { shm_offset: offset, len, ..VhostUserMMap::default() };
                frontend.shmem_unmap(&request).unwrap();
            }
            return Some(Header::new(message::RESP_OK).to_vec());
        }
        let mut new: VfdNew = virtio_wl::read(bytes).unwrap();
        assert!(!state.vfds.contains_key(&new.id), "vfd {:#x} exists", new.id);
        new.header.kind = message::RESP_VFD_NEW;
        match header.kind {
            message::VFD_NEW => {
                let len = u64::from(new.size);
                new.pfn = self.map(state, new.id, memory::allocate("fake", len).unwrap(), len);
            }
            message::VFD_NEW_CTX_NAMED if new.name == silent().to_name() => return None,
            message::VFD_NEW_CTX_NAMED
                if ![token().to_name(), report::NAME].contains(&new.name) =>
            {
                return Some(Header::new(message::RESP_INVALID_ID).to_vec());
            }
            message::VFD_NEW_CTX | message::VFD_NEW_CTX_NAMED => {
                state.vfds.insert(new.id, Object::Context);
            }
            message::VFD_NEW_PIPE => {
                state.vfds.insert(new.id, Object::Pipe);
                if new.flags == flags::READ {
                    state.recv(new.id, &[], b"from the pipe");
                    state.hang_up(new.id);
                }
            }
            other => panic!("unknown command {other:#x}"),
        }
        Some(bytemuck::bytes_of(&new).to_vec())
    }

    fn send(&self, state: &mut State, bytes: &[u8], place: (u16, GuestAddress)) -> Option<u32> {
        let Transfer { id, vfds, bytes } = Transfer::parse(bytes).unwrap();
        if let Some(Object::Pipe) = state.vfds.get(&id) {
            state.written.extend_from_slice(bytes);
            return Some(message::RESP_OK);
        }
        match bytes {
            b"hold" => {
                state.recv(id, &[], b"held");
                state.held.push(place);
                return None;
            }
            b"keep" => {
                state.held.push(place);
                return None;
            }
            b"release" => {}
            b"refuse" => return Some(message::RESP_INVALID_TYPE),
            b"hang up" => {
                state.recv(id, &[], b"bye");
                state.hang_up(id);
            }
            b"flood" => (0..FLOOD).for_each(|n| state.recv(id, &[], &n.to_le_bytes())),
            b"orphan" => {
                let pipe = state.announce_pipe(flags::READ);
                state.recv(id, &[pipe, UNKNOWN], b"dropped");
                state.recv(UNKNOWN, &[], b"dropped");
            }
            b"pipe" => {
                let pipe = state.announce_pipe(flags::READ);
                state.recv(pipe, &[], b"early");
                state.recv(id, &[pipe], b"here");
            }
            b"overlap" => {
                let fd = memory::allocate("fake", 2 * PAGE_SIZE).unwrap();
                assert!(self.mmap(state.end, PAGE_SIZE, &fd).is_ok());
                assert!(self.mmap(state.end, 2 * PAGE_SIZE, &fd).is_err());
                state.end += PAGE_SIZE;
            }
            _ => {
                let back: Vec<u32> =
                    vfds.iter().map(|vfd| self.announce_again(state, *vfd)).collect();
                state.recv(id, &back, bytes);
            }
        }
        Some(message::RESP_OK)
    }

    /// Announces the same memory as a host vfd.
    fn announce_again(&self, state: &mut State, id: u32) -> u32 {
        let Object::Memory { fd, len, .. } = &state.vfds[&id] else {
            panic!("vfd {id:#x} is no memory");
        };
        let (fd, len) = (fd.try_clone().unwrap(), *len);
        let id = state.host_id();
        let pfn = self.map(state, id, fd, len);
        let header = Header::new(message::VFD_NEW);
        state.announce(VfdNew { header, id, pfn, size: len as u32, ..VfdNew::default() });
        id
    }

    fn run(&self, vrings: &[VringRwLock<Memory>]) {
        if !vrings.iter().all(|vring| vring.get_ref().get_queue().ready()) {
            return;
        }
        let memory = self.memory.lock().unwrap().clone().unwrap().memory();
        let mut state = self.state.lock().unwrap();
        loop {
            for vring in vrings {
                vring.disable_notification().unwrap();
            }
            self.requests(&mut state, &memory, vrings);
            flush(&mut state, &memory, &vrings[QUEUE_IN]);
            for vring in vrings {
                if vring.needs_notification().unwrap() {
                    vring.signal_used_queue().unwrap();
                }
            }
            let more: Vec<bool> =
                vrings.iter().map(|vring| vring.enable_notification().unwrap()).collect();
            if !more[QUEUE_OUT] && (!more[QUEUE_IN] || state.input.is_empty()) {
                return;
            }
        }
    }

    fn requests(
        &self,
        state: &mut State,
        memory: &GuestMemoryMmap,
        vrings: &[VringRwLock<Memory>],
    ) {
        let vring = &vrings[QUEUE_OUT];
        loop {
            let Some(chain) = next(memory, vring) else {
                return;
            };
            let head = chain.head_index();
            let parts: Vec<_> = chain.collect();
            let [readable, writable] = &parts[..] else {
                panic!("{} descriptors", parts.len());
            };
            assert!(!readable.is_write_only() && writable.is_write_only());
            let mut bytes = vec![0; readable.len() as usize];
            memory.read_slice(&mut bytes, readable.addr()).unwrap();
            if let Some(response) = self.request(state, &bytes, (head, writable.addr())) {
                memory.write_slice(&response, writable.addr()).unwrap();
                // What was said before the answer is there before it.
                flush(state, memory, &vrings[QUEUE_IN]);
                vring.add_used(head, response.len() as u32).unwrap();
                if Header::new(message::RESP_OK).to_vec() != response {
                    // As our own device: it tells of a refusal whether that was wanted or not.
                    vring.signal_used_queue().unwrap();
                }
            }
            if bytes.ends_with(b"release") {
                for (head, address) in state.held.drain(..) {
                    memory.write_slice(&Header::new(message::RESP_OK).to_vec(), address).unwrap();
                    vring.add_used(head, 8).unwrap();
                }
            }
        }
    }
}

/// The next chain. The ring may have been stopped at any moment, then there is none.
fn next<'a>(
    memory: &'a GuestMemoryMmap,
    vring: &VringRwLock<Memory>,
) -> Option<DescriptorChain<&'a GuestMemoryMmap>> {
    vring.get_mut().get_queue_mut().iter(memory).ok()?.next()
}

fn flush(state: &mut State, memory: &GuestMemoryMmap, vring: &VringRwLock<Memory>) {
    while !state.input.is_empty() {
        let Some(mut chain) = next(memory, vring) else {
            return;
        };
        let (head, part) = (chain.head_index(), chain.next().unwrap());
        let message = state.input.pop_front().unwrap();
        memory.write_slice(&message, part.addr()).unwrap();
        vring.add_used(head, message.len() as u32).unwrap();
    }
}

impl State {
    fn recv(&mut self, id: u32, vfds: &[u32], bytes: &[u8]) {
        let mut message = Vec::new();
        Transfer { id, vfds: vfds.to_vec(), bytes }.encode(message::VFD_RECV, &mut message);
        self.input.push_back(message);
    }

    fn hang_up(&mut self, id: u32) {
        let hup = virtio_wl::Vfd { header: Header::new(message::VFD_HUP), id };
        self.input.push_back(bytemuck::bytes_of(&hup).to_vec());
    }

    fn host_id(&mut self) -> u32 {
        self.last_host_id += 1;
        HOST_ID | self.last_host_id
    }

    fn announce(&mut self, new: VfdNew) {
        self.input.push_back(bytemuck::bytes_of(&new).to_vec());
    }

    fn announce_pipe(&mut self, flags: u32) -> u32 {
        let id = self.host_id();
        self.vfds.insert(id, Object::Pipe);
        self.announce(VfdNew {
            header: Header::new(message::VFD_NEW),
            id,
            flags,
            ..VfdNew::default()
        });
        id
    }
}

trait ToVec {
    fn to_vec(&self) -> Vec<u8>;
}

impl ToVec for Header {
    fn to_vec(&self) -> Vec<u8> {
        bytemuck::bytes_of(self).to_vec()
    }
}

impl VhostUserBackend for Fake {
    type Bitmap = ();
    type Vring = VringRwLock<Memory>;

    fn num_queues(&self) -> usize {
        NUM_QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE.into()
    }

    fn features(&self) -> u64 {
        self.offers.virtio
    }

    fn acked_features(&self, features: u64) {
        self.state.lock().unwrap().features = features;
    }

    fn protocol_features(&self) -> Protocol {
        self.offers.protocol
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        *self.memory.lock().unwrap() = Some(memory);
        Ok(())
    }

    fn set_backend_req_fd(&self, backend: Backend) {
        *self.frontend.lock().unwrap() = Some(backend);
    }

    fn get_shmem_config(&self) -> io::Result<VhostUserShMemConfig> {
        Ok(VhostUserShMemConfig::new(1, &[self.offers.window]))
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some((self.exit.0.try_clone().unwrap(), self.exit.1.try_clone().unwrap()))
    }

    fn stop_vring(&self, _queue: u32) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        *state = State { features: state.features, ..State::default() };
        Ok(())
    }

    fn handle_event(
        &self,
        _event: u16,
        _events: EventSet,
        vrings: &[Self::Vring],
        _thread: usize,
    ) -> io::Result<()> {
        self.run(vrings);
        Ok(())
    }
}
