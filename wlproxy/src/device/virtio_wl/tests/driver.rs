//! A driver for tests: a split ring over plain memory, and the device called directly.

use crate::counters::Counters;
use crate::device::dialect::Device;
use crate::device::neighbours::{Host, Presence};
use crate::device::opener::{Answer, Opened, Opener, Role, Target};
use crate::device::poller::Poller;
use crate::device::ring::{Memory, Ring, Runs, Vring};
use crate::device::vfds::Vfds;
use crate::device::virtio_wl::VirtioWl;
use crate::device::window::Window;
use crate::device::window::tests::FakeFrontend;
use crate::device::{Dialect, Options, Side, trace};
use crate::policy::{Current, Policy, Selections};
use crate::quota::Quota;
use crate::quota::vm::VmQuota;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::epoll::EpollFlags;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use vhost_user_backend::{VringMutex, VringT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};
use wlproxy_protocol::virtio_wl::{Header, Transfer, Vfd, VfdNew, VfdTransfer, message, read};

pub(in crate::device) const NEXT: u16 = 1;
pub(in crate::device) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;
pub(super) const IN: usize = 0;
pub(super) const OUT: usize = 1;

const RAM: usize = 32 << 20;
const QUEUE: u64 = 256;
/// Where a command and its answer stand: one slot for each pair of descriptors.
const SLOTS: u64 = 8 << 20;
const SLOT: u64 = 72 << 10;
const BUFFERS: u64 = 4 << 20;
/// Command and answer may use half of a slot each; this is where the answer stands.
const ANSWER: u64 = SLOT - 4096;

#[derive(Default)]
pub(in crate::device) struct FakeOpener(pub(in crate::device) Mutex<VecDeque<(Target, Answer)>>);

impl Opener for FakeOpener {
    fn open(&self, target: Target, answer: Answer) {
        self.0.lock().unwrap().push_back((target, answer));
    }
}

#[derive(Debug, Clone, Copy)]
pub(in crate::device) struct Descriptor {
    pub(in crate::device) address: u64,
    pub(in crate::device) length: u32,
    pub(in crate::device) flags: u16,
    pub(in crate::device) next: u16,
}

pub(super) struct Driver {
    pub(super) memory: Memory,
    vrings: [Vring; 2],
    avail: [u16; 2],
    used: [u16; 2],
    pub(super) runs: Runs,
    poller: Poller,
    pub(super) device: Option<VirtioWl>,
    pub(super) opener: Arc<FakeOpener>,
    pub(super) counters: Arc<Counters>,
    pub(super) traces: Arc<trace::Requests>,
    pub(super) policy: Arc<Current>,
    pub(super) frontend: FakeFrontend,
    free_slots: Vec<u16>,
    answers: BTreeMap<u16, Vec<u8>>,
}

/// A received message, and the buffer that it holds.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    buffer: u16,
}

/// What holds for every VM, but that tests may have any number of types: [`super::wayland::request`] is one.
fn policy(side: Side) -> Policy {
    Policy::of_test(side).with_any_types()
}

impl Policy {
    /// The same, but each client may offer as many types as it likes, of any length: requests that have to be long do.
    pub(in crate::device) fn with_any_types(self) -> Self {
        Self { quota: Quota { types: u32::MAX, ..self.quota }, ..self }
    }

    /// The same, but each client may send so many requests in a second.
    pub(in crate::device) fn with_haste(self, per_second: u32) -> Self {
        let vm_quota = VmQuota { client_messages_per_second: per_second, ..self.vm_quota };
        Self { vm_quota, ..self }
    }

    /// The same of all clients together.
    pub(in crate::device) fn with_haste_of_all(self, per_second: u32) -> Self {
        let vm_quota = VmQuota { messages_per_second: per_second, ..self.vm_quota };
        Self { vm_quota, ..self }
    }
}

impl Driver {
    pub(super) fn new(side: Side) -> Self {
        Self::with_features(side, 1 << 1 | 1 << 3)
    }

    pub(super) fn with_features(side: Side, features: u64) -> Self {
        Self::start(side, features, None, policy(side))
    }

    /// One device among others in its process.
    pub(super) fn among(side: Side, presence: Presence) -> Self {
        Self::start(side, 1 << 1 | 1 << 3, Some(presence), policy(side))
    }

    /// A client VM's, which may have so much together.
    pub(super) fn within(vm_quota: VmQuota) -> Self {
        Self::start(
            Side::Client,
            1 << 1 | 1 << 3,
            None,
            Policy { vm_quota, ..policy(Side::Client) },
        )
    }

    /// A client VM's, whose clients may copy and paste so.
    pub(super) fn selecting(selections: Selections) -> Self {
        let policy = Policy { selections: Arc::new(selections), ..policy(Side::Client) };
        Self::start(Side::Client, 1 << 1 | 1 << 3, None, policy)
    }

    /// A client VM's, whose clients may each send so many requests in a second.
    pub(super) fn hasty(per_second: u32) -> Self {
        Self::start(
            Side::Client,
            1 << 1 | 1 << 3,
            None,
            policy(Side::Client).with_haste(per_second),
        )
    }

    /// The same of all of them together.
    pub(super) fn hasty_together(per_second: u32) -> Self {
        let policy = policy(Side::Client).with_haste_of_all(per_second);
        Self::start(Side::Client, 1 << 1 | 1 << 3, None, policy)
    }

    fn start(side: Side, features: u64, presence: Option<Presence>, policy: Policy) -> Self {
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
        let policy = Arc::new(Current::new(policy));
        let (opener, counters) = (Arc::new(FakeOpener::default()), Arc::new(Counters::default()));
        let traces = Arc::new(trace::Requests::default());
        let options = Options {
            vm: "test".into(),
            side,
            dialect: Dialect::VirtioWl,
            opener: opener.clone(),
            counters: counters.clone(),
            policy: policy.clone(),
            traces: traces.clone(),
            neighbours: None,
            window_size: 64 << 20,
            on_panic: Arc::new(|| ()),
        };
        let frontend = FakeFrontend { base: Some(1 << 36), ..Default::default() };
        let window = Window::new(
            &options.vm,
            Box::new(frontend.clone()),
            options.window_size,
            features & 1 << 3 != 0,
            counters.clone(),
        );
        let vfds = Vfds::new(poller.clone(), window, &options, presence);
        let rings = vrings.clone().map(|vring| Ring::new(vring, memory.clone(), runs.current()));
        let device = Some(VirtioWl::new(&options, features, vfds, rings, poller.clone()));
        let mut driver = Self {
            memory,
            vrings,
            avail: [0; 2],
            used: [0; 2],
            runs,
            poller,
            device,
            opener,
            counters,
            traces,
            policy,
            frontend,
            free_slots: (0..QUEUE as u16 / 2).rev().collect(),
            answers: BTreeMap::new(),
        };
        for buffer in 0..QUEUE as u16 {
            let address = BUFFERS + 4096 * u64::from(buffer);
            driver.describe(
                IN,
                buffer,
                Descriptor { address, length: 4096, flags: WRITE, next: 0 },
            );
            driver.make_available(IN, buffer);
        }
        driver
    }

    pub(super) fn describe(&self, queue: usize, index: u16, descriptor: Descriptor) {
        let mut bytes = descriptor.address.to_le_bytes().to_vec();
        bytes.extend(descriptor.length.to_le_bytes());
        bytes.extend(descriptor.flags.to_le_bytes());
        bytes.extend(descriptor.next.to_le_bytes());
        self.write(table(queue) + 16 * u64::from(index), &bytes);
    }

    pub(super) fn make_available(&mut self, queue: usize, head: u16) {
        let position = self.avail[queue];
        self.write(avail(queue) + 4 + 2 * (u64::from(position) % QUEUE), &head.to_le_bytes());
        self.avail[queue] = position.wrapping_add(1);
        self.write(avail(queue) + 2, &self.avail[queue].to_le_bytes());
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.memory().write_slice(bytes, GuestAddress(address)).unwrap();
    }

    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// What was used since the last time, as (head, length).
    pub(super) fn take_used(&mut self, queue: usize) -> Vec<(u16, u32)> {
        let index = u16::from_le_bytes(self.read(used(queue) + 2, 2).try_into().unwrap());
        let mut found = Vec::new();
        while self.used[queue] != index {
            let element = self.read(used(queue) + 4 + 8 * (u64::from(self.used[queue]) % QUEUE), 8);
            let (head, length) = element.split_at(4);
            let head = u32::from_le_bytes(head.try_into().unwrap()) as u16;
            found.push((head, u32::from_le_bytes(length.try_into().unwrap())));
            self.used[queue] = self.used[queue].wrapping_add(1);
        }
        found
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

    /// Another device's thread comes by, which has called for vfd `id`.
    pub(super) fn visit(&mut self, id: u32) {
        self.device.as_mut().unwrap().visited(&[(id.into(), EpollFlags::EPOLLIN)]);
    }

    /// A turn after which nothing is left of a call for vfd `id`.
    pub(super) fn turn_for(&mut self, id: u32) {
        self.device.as_mut().unwrap().turn(&[(id.into(), EpollFlags::EPOLLIN)]);
    }

    /// The devices that it has to visit after its last turn.
    pub(super) fn calls(&mut self) -> Vec<Arc<dyn Host>> {
        self.device.as_mut().unwrap().calls()
    }

    /// Whether its own thread would be woken now.
    pub(super) fn is_woken(&self) -> bool {
        poll(&mut [PollFd::new(self.poller.as_fd(), PollFlags::POLLIN)], 0u8) == Ok(1)
    }

    /// Waits until the device has something to do by itself, and lets it.
    pub(super) fn wait(&mut self) {
        let mut fd = [PollFd::new(self.poller.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fd, 10_000u16), Ok(1), "nothing happens");
        self.turn();
    }

    /// Puts a command and room for `room` bytes of an answer into the OUT ring.
    pub(super) fn submit(&mut self, bytes: &[u8], room: u32) -> u16 {
        let slot = self.put(bytes, room);
        self.turn();
        slot
    }

    /// The same, but the device isn't told.
    pub(super) fn put(&mut self, bytes: &[u8], room: u32) -> u16 {
        let slot = self.free_slots.pop().expect("a free slot");
        let address = SLOTS + SLOT * u64::from(slot);
        self.write(address, bytes);
        let length = bytes.len() as u32;
        self.describe(
            OUT,
            2 * slot,
            Descriptor { address, length, flags: NEXT, next: 2 * slot + 1 },
        );
        let answer = Descriptor { address: address + ANSWER, length: room, flags: WRITE, next: 0 };
        self.describe(OUT, 2 * slot + 1, answer);
        self.make_available(OUT, 2 * slot);
        slot
    }

    /// The answer to a command, if it came.
    pub(super) fn answer(&mut self, slot: u16) -> Option<Vec<u8>> {
        for (head, length) in self.take_used(OUT) {
            let bytes = self.read(SLOTS + SLOT * u64::from(head / 2) + ANSWER, length as usize);
            self.answers.insert(head / 2, bytes);
        }
        let answer = self.answers.remove(&slot)?;
        self.free_slots.push(slot);
        Some(answer)
    }

    /// The code that answers a command at once.
    pub(super) fn code(&mut self, bytes: &[u8], room: u32) -> u32 {
        let slot = self.submit(bytes, room);
        read::<Header>(&self.answer(slot).expect("an answer")).expect("a header").kind
    }

    pub(super) fn kind(&mut self, slot: u16) -> Option<u32> {
        Some(read::<Header>(&self.answer(slot)?).expect("a header").kind)
    }

    /// A command with a `VfdNew`, and its answer; zeros stand for what a refusal doesn't have.
    pub(super) fn new_vfd(&mut self, command: VfdNew) -> VfdNew {
        let slot = self.submit(bytemuck::bytes_of(&command), 64);
        let mut answer = self.answer(slot).expect("an answer");
        answer.resize(64, 0);
        read(&answer).expect("a whole answer")
    }

    /// Opens context `id` and returns the other end.
    pub(super) fn open(&mut self, id: u32, role: Role) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.open_with(id, ours, role);
        theirs.set_nonblocking(true).unwrap();
        theirs
    }

    /// Opens context `id`, which gets `stream`.
    pub(super) fn open_with(&mut self, id: u32, stream: UnixStream, role: Role) {
        let bytes = bytemuck::bytes_of(&new(message::VFD_NEW_CTX, id)).to_vec();
        let slot = self.submit(&bytes[..12], 64);
        assert_eq!(self.answer(slot), None, "answered before the stream is there");
        let (_, answer) =
            self.opener.0.lock().unwrap().pop_front().expect("a request for a stream");
        answer(Ok(Opened { stream, role }));
        self.turn();
        assert_eq!(self.kind(slot), Some(message::RESP_VFD_NEW));
    }

    pub(super) fn send(&mut self, id: u32, bytes: &[u8], vfds: &[u32]) -> u16 {
        let mut command = Vec::new();
        Transfer { id, vfds: vfds.to_vec(), bytes }.encode(message::VFD_SEND, &mut command);
        self.submit(&command, 8)
    }

    pub(super) fn sent(&mut self, id: u32, bytes: &[u8], vfds: &[u32]) -> Option<u32> {
        let slot = self.send(id, bytes, vfds);
        self.kind(slot)
    }

    pub(super) fn close(&mut self, id: u32) -> u16 {
        let close = Vfd { header: Header::new(message::VFD_CLOSE), id };
        self.submit(bytemuck::bytes_of(&close), 8)
    }

    /// What came on IN. The buffers are held until [`Driver::give_back`].
    pub(super) fn received(&mut self) -> Vec<Received> {
        self.turn();
        let used = self.take_used(IN);
        used.into_iter()
            .map(|(buffer, length)| {
                let bytes = self.read(BUFFERS + 4096 * u64::from(buffer), length as usize);
                Received { bytes, buffer }
            })
            .collect()
    }

    pub(super) fn give_back(&mut self, received: Vec<Received>) {
        for Received { buffer, .. } in received {
            self.make_available(IN, buffer);
        }
        self.turn();
    }

    /// What came on IN, told in short; the buffers go back.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let received = self.received();
        let events = received.iter().map(|received| event(&received.bytes)).collect();
        self.give_back(received);
        events
    }

    /// The rings are stopped, and the device with them.
    pub(super) fn stop(&mut self) {
        for vring in &self.vrings {
            vring.set_queue_ready(false);
        }
        self.runs.end();
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    New(VfdNew),
    Recv(u32, Vec<u32>, Vec<u8>),
    Hup(u32),
}

pub(super) fn event(bytes: &[u8]) -> Event {
    match read::<Header>(bytes).unwrap().kind {
        message::VFD_NEW => Event::New(read(bytes).unwrap()),
        message::VFD_RECV => {
            assert!(bytes.len() >= size_of::<VfdTransfer>());
            let Transfer { id, vfds, bytes } = Transfer::parse(bytes).unwrap();
            Event::Recv(id, vfds, bytes.to_vec())
        }
        message::VFD_HUP => Event::Hup(read::<Vfd>(bytes).unwrap().id),
        other => panic!("event of kind {other:#x}"),
    }
}

pub(super) fn new(kind: u32, id: u32) -> VfdNew {
    VfdNew { header: Header::new(kind), id, ..Default::default() }
}

pub(in crate::device) fn table(queue: usize) -> u64 {
    0x1_0000 * (queue as u64 + 1)
}

pub(in crate::device) fn avail(queue: usize) -> u64 {
    table(queue) + 0x4000
}

pub(in crate::device) fn used(queue: usize) -> u64 {
    table(queue) + 0x8000
}
