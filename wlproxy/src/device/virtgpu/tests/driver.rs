//! A driver for tests, and a program in its VM: a split ring over plain memory, and the device called directly. It says
//! what mainline Linux and its users say.

use super::super::Virtgpu;
use super::super::outgoing::Flow;
use crate::counters::Counters;
use crate::device::dialect::Device;
use crate::device::opener::{Opened, Role, Target};
use crate::device::poller::Poller;
use crate::device::ring::{Memory, Ring, Runs, Vring};
use crate::device::vfds::Vfds;
use crate::device::virtio_wl::tests::driver::{
    Descriptor, FakeOpener, NEXT, WRITE, avail, table, used,
};
use crate::device::virtio_wl::tests::{take, wayland};
use crate::device::window::Window;
use crate::device::window::tests::FakeFrontend;
use crate::device::{Dialect, Options, Side, trace};
use crate::policy::{Current, Policy};
use bytemuck::{Pod, bytes_of};
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vhost_user_backend::{VringMutex, VringT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};
use wlproxy_protocol::cross_domain::{
    self as wire, GetImageRequirements, Identifier, ImageRequirements, Init, PipeTransfer,
    RING_CHANNEL, Transfer, command,
};
use wlproxy_protocol::virtio_gpu::{
    CreateBlob, CtxCreate, Header, MapBlob, MemEntry, OfResource, Submit, blob_mem, flags, message,
};
use wlproxy_protocol::virtio_wl::read;

const RAM: usize = 32 << 20;
const QUEUE: u64 = 256;
/// Where a command and its answer stand: one slot for each pair of descriptors.
const SLOTS: u64 = 20 << 20;
const SLOT: u64 = 72 << 10;
const ANSWER: u64 = SLOT - 4096;
/// Where rings stand: one place for each resource.
const RINGS: u64 = 1 << 20;

/// Resources of context `id`.
pub(super) const fn query_ring(id: u32) -> u32 {
    2 * id
}

pub(super) const fn channel_ring(id: u32) -> u32 {
    2 * id + 1
}

/// Where the memory of a resource of the guest's starts, of up to 64 KiB.
pub(super) fn place(resource: u32) -> u64 {
    RINGS + 0x1_0000 * u64::from(resource)
}

pub(super) struct Driver {
    pub(super) memory: Memory,
    avail: u16,
    used: u16,
    poller: Poller,
    pub(super) device: Option<Virtgpu>,
    pub(super) opener: Arc<FakeOpener>,
    pub(super) counters: Arc<Counters>,
    pub(super) policy: Arc<Current>,
    pub(super) frontend: FakeFrontend,
    free_slots: Vec<u16>,
    answers: BTreeMap<u16, Vec<u8>>,
    fences: u64,
}

impl Driver {
    pub(super) fn new(side: Side) -> Self {
        Self::with(side, Policy::of_test(side))
    }

    /// A client VM's, whose clients may each send so many requests in a second.
    pub(super) fn hasty(per_second: u32) -> Self {
        Self::with(Side::Client, Policy::of("test").with_haste(per_second))
    }

    /// The same of a VM with this policy.
    pub(super) fn with(side: Side, policy: Policy) -> Self {
        let memory = Memory::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap());
        let vrings = [0, 1].map(|queue| {
            let vring: Vring = VringMutex::new(memory.clone(), QUEUE as u16).unwrap();
            vring.set_queue_info(table(queue), avail(queue), used(queue)).unwrap();
            vring.set_queue_event_idx(true);
            vring.set_queue_ready(true);
            vring.set_enabled(true);
            vring
        });
        let (runs, poller) = (Runs::default(), Poller::alone());
        let policy = Arc::new(Current::new(policy.with_any_types()));
        let (opener, counters) = (Arc::new(FakeOpener::default()), Arc::new(Counters::default()));
        let options = Options {
            vm: "test".into(),
            side,
            dialect: Dialect::Virtgpu,
            opener: opener.clone(),
            counters: counters.clone(),
            policy: policy.clone(),
            traces: Arc::new(trace::Requests::default()),
            neighbours: None,
            window_size: 64 << 20,
            on_panic: Arc::new(|| ()),
        };
        let frontend = FakeFrontend::default();
        let size = options.window_size;
        let window = Window::new("test", Box::new(frontend.clone()), size, true, counters.clone());
        let vfds = Vfds::new(poller.clone(), window, &options, None);
        let rings = vrings.map(|vring| Ring::new(vring, memory.clone(), runs.current()));
        let device = Virtgpu::new(&options, vfds, memory.clone(), rings, poller.clone());
        Self {
            memory,
            avail: 0,
            used: 0,
            poller,
            device: Some(device),
            opener,
            counters,
            policy,
            frontend,
            free_slots: (0..QUEUE as u16 / 2).rev().collect(),
            answers: BTreeMap::new(),
            fences: 0,
        }
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.memory().write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(super) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn describe(&self, index: u16, descriptor: Descriptor) {
        let mut bytes = descriptor.address.to_le_bytes().to_vec();
        bytes.extend(descriptor.length.to_le_bytes());
        bytes.extend(descriptor.flags.to_le_bytes());
        bytes.extend(descriptor.next.to_le_bytes());
        self.write(table(0) + 16 * u64::from(index), &bytes);
    }

    /// How many things wait for streams and pipes of the device.
    pub(super) fn waiting(&self) -> usize {
        self.device.as_ref().map_or(0, |device| device.flows.values().map(Flow::waiting).sum())
    }

    /// Turns of the device until it has nothing to do.
    pub(super) fn turn(&mut self) {
        for _ in 0..1000 {
            let mut events = Vec::new();
            self.poller.ready(&mut events);
            self.device.as_mut().unwrap().turn(&events);
            if events.is_empty() {
                return;
            }
        }
        panic!("the device spins");
    }

    /// Waits until the device has something to do by itself, and lets it.
    pub(super) fn wait(&mut self) {
        let mut fd = [PollFd::new(self.poller.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fd, 10_000u16), Ok(1), "nothing happens");
        self.turn();
    }

    /// Puts a command and room for `room` bytes of an answer into the control queue.
    pub(super) fn submit(&mut self, bytes: &[u8], room: u32) -> u16 {
        let slot = self.free_slots.pop().expect("a free slot");
        let address = SLOTS + SLOT * u64::from(slot);
        self.write(address, bytes);
        let length = bytes.len() as u32;
        self.describe(2 * slot, Descriptor { address, length, flags: NEXT, next: 2 * slot + 1 });
        let answer = Descriptor { address: address + ANSWER, length: room, flags: WRITE, next: 0 };
        self.describe(2 * slot + 1, answer);
        let position = avail(0) + 4 + 2 * (u64::from(self.avail) % QUEUE);
        self.write(position, &(2 * slot).to_le_bytes());
        self.avail = self.avail.wrapping_add(1);
        self.write(avail(0) + 2, &self.avail.to_le_bytes());
        self.turn();
        slot
    }

    /// The answer to a command, if it came.
    pub(super) fn answer(&mut self, slot: u16) -> Option<Vec<u8>> {
        let index = u16::from_le_bytes(self.read(used(0) + 2, 2).try_into().unwrap());
        while self.used != index {
            let element = self.read(used(0) + 4 + 8 * (u64::from(self.used) % QUEUE), 8);
            let number = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
            let head = number(0) as u16 / 2;
            let address = SLOTS + SLOT * u64::from(head) + ANSWER;
            self.answers.insert(head, self.read(address, number(4) as usize));
            self.used = self.used.wrapping_add(1);
        }
        let answer = self.answers.remove(&slot)?;
        self.free_slots.push(slot);
        Some(answer)
    }

    pub(super) fn header(&mut self, slot: u16) -> Option<Header> {
        Some(read(&self.answer(slot)?).expect("a header"))
    }

    /// A command that is answered at once.
    pub(super) fn ask<T: Pod>(&mut self, command: &[u8]) -> T {
        let slot = self.submit(command, 408);
        let mut answer = self.answer(slot).expect("an answer");
        answer.resize(answer.len().max(size_of::<T>()), 0);
        read(&answer).unwrap()
    }

    /// The code that answers it.
    pub(super) fn code(&mut self, command: &[u8]) -> u32 {
        self.ask::<Header>(command).kind
    }

    pub(super) fn of_resource(&mut self, kind: u32, resource: u32) -> u32 {
        let header = Header { kind, ..Default::default() };
        self.code(bytes_of(&OfResource { header, resource, padding: 0 }))
    }

    pub(super) fn create_context(&mut self, id: u32, capset: u32) -> u32 {
        let header = Header { kind: message::CTX_CREATE, context: id, ..Default::default() };
        let name = [0; 64];
        self.code(bytes_of(&CtxCreate { header, name_length: 0, context_init: capset, name }))
    }

    pub(super) fn destroy_context(&mut self, id: u32) -> u32 {
        let header = Header { kind: message::CTX_DESTROY, context: id, ..Default::default() };
        self.code(bytes_of(&header))
    }

    /// A blob of guest memory.
    pub(super) fn guest_blob(&mut self, resource: u32, pieces: &[(u64, u32)]) -> u32 {
        let entry = |&(address, length): &(u64, u32)| MemEntry { address, length, padding: 0 };
        let entries: Vec<MemEntry> = pieces.iter().map(entry).collect();
        let blob = CreateBlob {
            header: Header { kind: message::RESOURCE_CREATE_BLOB, ..Default::default() },
            resource,
            memory: blob_mem::GUEST,
            flags: 1,
            entries: entries.len() as u32,
            blob_id: 0,
            size: pieces.iter().map(|&(_, length)| u64::from(length)).sum(),
        };
        self.code(&[bytes_of(&blob), bytemuck::cast_slice(&entries)].concat())
    }

    /// A blob of the host's memory.
    pub(super) fn host_blob(&mut self, context: u32, resource: u32, id: u32, size: u64) -> u32 {
        let header = Header { kind: message::RESOURCE_CREATE_BLOB, context, ..Default::default() };
        let (memory, blob_id) = (blob_mem::HOST3D, id.into());
        self.code(bytes_of(&CreateBlob {
            header,
            resource,
            memory,
            flags: 3,
            entries: 0,
            blob_id,
            size,
        }))
    }

    pub(super) fn map(&mut self, resource: u32, offset: u64) -> u32 {
        let header = Header { kind: message::RESOURCE_MAP_BLOB, ..Default::default() };
        self.code(bytes_of(&MapBlob { header, resource, padding: 0, offset }))
    }

    /// A command of context `id`, with a fence of one of its rings or without.
    pub(super) fn execute(&mut self, id: u32, bytes: &[u8], ring: Option<u8>) -> u16 {
        let mut header = Header { kind: message::SUBMIT_3D, context: id, ..Default::default() };
        if let Some(ring) = ring {
            self.fences += 1;
            (header.flags, header.ring) = (flags::FENCE | flags::RING, ring);
            header.fence = self.fences;
        }
        let submit = Submit { header, size: bytes.len() as u32, padding: 0 };
        self.submit(&[bytes_of(&submit), bytes].concat(), 24)
    }

    pub(super) fn executed(&mut self, id: u32, bytes: &[u8]) -> u32 {
        let slot = self.execute(id, bytes, None);
        self.header(slot).expect("an answer").kind
    }

    /// Makes a context with rings of one page and has it connected, but lets the opener wait.
    pub(super) fn begin(&mut self, id: u32, channel: u32) -> u32 {
        self.begin_with(id, channel, 0)
    }

    /// The same with something in the padding of INIT.
    pub(super) fn begin_with(&mut self, id: u32, channel: u32, padding: u32) -> u32 {
        assert_eq!(self.create_context(id, 5), message::RESP_OK_NODATA);
        for ring in [query_ring(id), channel_ring(id)] {
            assert_eq!(self.guest_blob(ring, &[(place(ring), 4096)]), message::RESP_OK_NODATA);
        }
        self.init_with(id, channel, padding)
    }

    pub(super) fn init(&mut self, id: u32, channel: u32) -> u32 {
        self.init_with(id, channel, 0)
    }

    fn init_with(&mut self, id: u32, channel: u32, padding: u32) -> u32 {
        let init = Init {
            header: wire::Header { command: command::INIT, ring: 0, size: 20, padding },
            query_ring: query_ring(id),
            channel_ring: channel_ring(id),
            channel,
        };
        self.executed(id, bytes_of(&init))
    }

    /// Lets the opener answer. Returns what was asked for, and the other end.
    pub(super) fn open(&mut self, role: Role) -> (Target, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (target, answer) =
            self.opener.0.lock().unwrap().pop_front().expect("a request for a stream");
        answer(Ok(Opened { stream: ours, role }));
        self.turn();
        theirs.set_nonblocking(true).unwrap();
        (target, theirs)
    }

    /// A context that is a link, with an object of each kind that the messages of [`wayland`] need.
    pub(super) fn link(&mut self, id: u32) -> UnixStream {
        assert_eq!(self.begin(id, 1), message::RESP_OK_NODATA);
        let (_, mut peer) = self.open(Role::Link { connection: id.into() });
        assert_eq!(self.send(id, &wayland::get_registry(), &[]), message::RESP_OK_NODATA);
        peer.write_all(&wayland::globals()).unwrap();
        self.receive(id);
        assert_eq!(self.send(id, &wayland::objects(), &[]), message::RESP_OK_NODATA);
        assert_eq!(take(&peer).0, [wayland::get_registry(), wayland::objects()].concat());
        peer.write_all(&wayland::offer()).unwrap();
        self.receive(id);
        peer
    }

    pub(super) fn send(&mut self, id: u32, bytes: &[u8], ids: &[(u32, u32)]) -> u32 {
        self.executed(id, &send(bytes, ids))
    }

    pub(super) fn poll(&mut self, id: u32) -> u16 {
        let poll = wire::Header { command: command::POLL, size: 16, ..Default::default() };
        self.execute(id, &[bytes_of(&poll), &[0; 8]].concat(), Some(RING_CHANNEL))
    }

    /// What the channel ring of a context holds.
    pub(super) fn event(&self, id: u32) -> Event {
        self.event_at(place(channel_ring(id)))
    }

    pub(super) fn event_at(&self, address: u64) -> Event {
        let bytes = self.read(address, 0x1_0000);
        match bytes[0] {
            command::RECEIVE => {
                let transfer = Transfer::parse(&bytes).unwrap();
                Event::Receive(transfer.ids, transfer.bytes.to_vec())
            }
            command::READ => {
                let transfer = PipeTransfer::parse(&bytes).unwrap();
                Event::Read(transfer.id, transfer.hang_up, transfer.bytes.to_vec())
            }
            other => panic!("event {other}"),
        }
    }

    /// The next event of a context, waited for.
    pub(super) fn receive(&mut self, id: u32) -> Event {
        let slot = self.poll(id);
        loop {
            if let Some(header) = self.header(slot) {
                assert_eq!(header.kind, message::RESP_OK_NODATA);
                return self.event(id);
            }
            self.wait();
        }
    }

    pub(super) fn image(&mut self, id: u32, width: u32, height: u32) -> ImageRequirements {
        let command = GetImageRequirements {
            header: wire::Header {
                command: command::GET_IMAGE_REQUIREMENTS,
                size: 24,
                ..Default::default()
            },
            width,
            height,
            format: u32::from_le_bytes(*b"XR24"),
            flags: 0,
        };
        let slot = self.execute(id, bytes_of(&command), Some(0));
        assert_eq!(self.header(slot).unwrap().kind, message::RESP_OK_NODATA);
        read(&self.read(place(query_ring(id)), 64)).unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Receive(Vec<Identifier>, Vec<u8>),
    Read(u32, bool, Vec<u8>),
}

/// A SEND; of each identifier its kind and id.
pub(super) fn send(bytes: &[u8], ids: &[(u32, u32)]) -> Vec<u8> {
    let id = |&(kind, id): &(u32, u32)| Identifier { id, kind, size: 0 };
    Transfer { ids: ids.iter().map(id).collect(), bytes }.encode(command::SEND)
}

pub(super) fn write(id: u32, hang_up: bool, bytes: &[u8]) -> Vec<u8> {
    PipeTransfer { id, hang_up, bytes }.encode(command::WRITE)
}
