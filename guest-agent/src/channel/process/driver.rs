//! What the virtio_wl driver of a Linux guest does, on the two rings: no I/O here but in guest RAM.
//!
//! Differences to `/dev/wl0`: a SEND doesn't wait for its response, and neither does a CLOSE.
//!
//! Of the two rings OUT is always looked at first. So what the device sent before it answered is seen before the id
//! in that answer is used again.

use super::ram::Ram;
use super::ring::{Broken, Layout, Part, Ring, Used};
use super::vfd::{Kind, Message, State, Vfd};
use super::window::{self, Window};
use super::{Allocation, Arrived, Error, Event, PipeEnd, Received, Sent, VfdId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use wlproxy_protocol::limits::{IN_BUFFER, MAX_FDS, MAX_SEND, PAGE_SIZE};
use wlproxy_protocol::virtio_wl::{
    self, HOST_ID, Header, ILLEGAL_ID, MAX_DRIVER_ID, NUM_QUEUES, QUEUE_IN, QUEUE_OUT, QUEUE_SIZE,
    Transfer, VfdNew, VfdTransfer, flags, legacy_flags, message,
};

/// Buffers for requests: each takes two descriptors.
const OUT_BUFFERS: u16 = QUEUE_SIZE / 2;
/// Size of a buffer for requests, in bytes: a SEND with all that may be in it.
const OUT_BUFFER: usize = size_of::<VfdTransfer>() + 4 * MAX_FDS + MAX_SEND;
/// Most bytes of an IN message before its payload.
const MAX_HEAD: usize = size_of::<VfdTransfer>() + 4 * MAX_FDS;
/// What a response that tells of memory has at least, in bytes: up to and with the size.
const NEW_ANSWER: u32 = 28;

/// The rings, and behind them the buffers.
const IN_LAYOUT: Layout = Layout::new(0, QUEUE_SIZE);
const OUT_LAYOUT: Layout = Layout::new(IN_LAYOUT.end, QUEUE_SIZE);
const IN_START: usize = OUT_LAYOUT.end;
const OUT_START: usize = IN_START + QUEUE_SIZE as usize * IN_BUFFER;

/// How much RAM the driver needs, in bytes: whole pages, about 1.6 MiB.
pub(super) const RAM_SIZE: usize =
    (OUT_START + OUT_BUFFERS as usize * OUT_BUFFER).next_multiple_of(PAGE_SIZE as usize);
/// Where the rings stand, by queue.
pub(super) const LAYOUTS: [Layout; NUM_QUEUES] = [IN_LAYOUT, OUT_LAYOUT];
const _: () = assert!(QUEUE_IN == 0 && QUEUE_OUT == 1);

/// Ids that are left for contexts, so that clients who take all others don't keep new ones out: as many as wlproxy lets
/// wait of one VM.
const FOR_CONTEXTS: usize = 64;

/// What was agreed on with the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    pub(super) event_idx: bool,
    pub(super) use_shmem: bool,
    pub(super) trans_flags: bool,
}

/// What a buffer for requests is used for.
#[derive(Debug, Clone, Copy)]
enum Request {
    Free,
    /// Somebody waits for its answer.
    Asked,
    /// The answer is there: how many bytes the device wrote.
    Answered(u32),
    Send(u32),
    Close(u32),
}

/// The answer to a request that makes a vfd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    written: u32,
    new: VfdNew,
}

/// A request somebody waits for.
#[derive(Debug)]
pub(super) struct Ticket(u16);

/// The driver.
#[derive(Debug)]
pub(super) struct Driver {
    ram: Arc<Ram>,
    window: Arc<Window>,
    features: Features,
    input: Ring,
    output: Ring,
    requests: Vec<Request>,
    free: Vec<u16>,
    vfds: HashMap<u32, Vfd>,
    last_id: u32,
    /// vfds that are closed at the device, too. What it sent them before may still lie in the IN ring.
    gone: Vec<u32>,
    /// vfds whose CLOSE found no room.
    unsent: VecDeque<u32>,
    /// vfds whose SEND found no room.
    starved: Vec<u32>,
    /// vfds that somebody wants to send to, while a SEND is under way.
    waiting: HashSet<u32>,
    /// Requests somebody waits for, that aren't answered.
    asked: usize,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

impl Driver {
    /// A driver with no vfds, whose IN ring is filled. The device must not run.
    pub(super) fn new(ram: Arc<Ram>, window: Arc<Window>, features: Features) -> Self {
        let ring = |layout| Ring::new(ram.clone(), layout, QUEUE_SIZE, features.event_idx);
        let mut driver = Self {
            input: ring(IN_LAYOUT),
            output: ring(OUT_LAYOUT),
            ram,
            window,
            features,
            requests: vec![Request::Free; usize::from(OUT_BUFFERS)],
            free: (0..OUT_BUFFERS).rev().collect(),
            vfds: HashMap::new(),
            last_id: 0,
            gone: Vec::new(),
            unsent: VecDeque::new(),
            starved: Vec::new(),
            waiting: HashSet::new(),
            asked: 0,
            events: Vec::new(),
            scratch: Vec::new(),
        };
        (0..QUEUE_SIZE).for_each(|buffer| driver.refill(buffer));
        driver
    }

    /// Queues with buffers that the device wants to be told of.
    pub(super) fn kicks(&mut self) -> [bool; NUM_QUEUES] {
        [self.input.needs_kick(), self.output.needs_kick()]
    }

    /// Takes in what the device did. Afterwards it tells of what comes next.
    pub(super) fn pump(&mut self) -> Result<(), Broken> {
        self.take_answers()?;
        loop {
            while let Some(used) = self.input.pop()? {
                if !self.arrived(used) {
                    self.refill(used.token);
                }
            }
            if !self.input.want_calls() {
                break;
            }
        }
        self.gone.drain(..).for_each(|id| drop(self.vfds.remove(&id)));
        Ok(())
    }

    /// Takes the answers that are there. The device is to tell of the next one only if somebody waits for it: most
    /// requests are SENDs that nobody thinks of again, and to be woken for each costs more than the SEND.
    fn take_answers(&mut self) -> Result<(), Broken> {
        loop {
            let mut answered = false;
            while let Some(used) = self.output.pop()? {
                self.answered(used);
                answered = true;
            }
            if answered {
                self.room();
            }
            if !self.is_waiting() || !self.output.want_calls() {
                return Ok(());
            }
        }
    }

    /// Whether somebody waits for an answer, or for the room that it takes.
    fn is_waiting(&self) -> bool {
        self.asked > 0
            || !self.waiting.is_empty()
            || !self.starved.is_empty()
            || !self.unsent.is_empty()
    }

    /// Somebody waits for whatever the device answers: it is to tell. `true` if it has already.
    pub(super) fn listen(&mut self) -> bool {
        // What is gone already only has to be forgotten, which the next pump does.
        !self.gone.is_empty() || self.output.want_calls()
    }

    /// What [`Driver::pump`] noticed.
    pub(super) fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    // Requests.

    /// An id for a new vfd. `None` if all are used, of which some may become free if some [`Driver::is_closing`]. Only
    /// contexts get the last ones.
    pub(super) fn reserve(&mut self, kind: Kind) -> Option<u32> {
        if kind != Kind::Context {
            let used = self.vfds.keys().filter(|&&id| id <= MAX_DRIVER_ID).count();
            if used + FOR_CONTEXTS >= MAX_DRIVER_ID as usize {
                return None;
            }
        }
        let after = self.last_id + 1..=MAX_DRIVER_ID;
        let id = after.chain(1..=self.last_id).find(|id| !self.vfds.contains_key(id))?;
        self.last_id = id;
        self.vfds.insert(id, Vfd::new(kind, State::Open));
        Some(id)
    }

    /// Whether ids will become free.
    pub(super) fn is_closing(&self) -> bool {
        self.vfds.values().any(|vfd| vfd.state == State::Closing)
    }

    /// Asks for a new vfd. `None` if there is no room now.
    pub(super) fn ask(&mut self, new: &VfdNew) -> Option<Ticket> {
        let response = size_of::<VfdNew>();
        let ticket = self.submit(bytemuck::bytes_of(new), response, Request::Asked).map(Ticket);
        self.asked += usize::from(ticket.is_some());
        ticket
    }

    /// Takes the answer, if it is there; then the ticket is used up.
    pub(super) fn answer(&mut self, ticket: &Ticket) -> Option<Answer> {
        let Request::Answered(written) = self.requests[usize::from(ticket.0)] else {
            return None;
        };
        let mut new = VfdNew::default();
        self.ram.read(out_offset(ticket.0), bytemuck::bytes_of_mut(&mut new));
        self.release(ticket.0);
        self.room();
        Some(Answer { written, new })
    }

    /// Takes back [`Driver::reserve`]: the device made no such vfd.
    pub(super) fn forget(&mut self, id: u32) {
        let arrived = self.empty(id);
        self.vfds.remove(&id);
        self.close_all(arrived);
    }

    /// Memory that the device answered with.
    pub(super) fn allocated(
        &mut self,
        id: u32,
        asked: u64,
        answer: &Answer,
    ) -> Result<Allocation, Error> {
        let VfdNew { pfn, size, .. } = answer.new;
        let memory = self.memory(pfn, size).filter(|_| {
            answer.new.header.kind == message::RESP_VFD_NEW
                && answer.written >= NEW_ANSWER
                && u64::from(size) >= asked
        });
        let Some((offset, size)) = memory else {
            return Err(Error::Refused(format!(
                "it answered {asked} bytes with {size} bytes at pfn {pfn:#x}"
            )));
        };
        let fd = self.window.file(offset, size).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Refused(format!("it answered with memory at {offset:#x} that it didn't map"))
            }
            _ => Error::OutOfMemory,
        })?;
        if let Some(vfd) = self.vfds.get_mut(&id) {
            vfd.kind = Kind::Memory { offset, size };
        }
        Ok(Allocation { vfd: VfdId(id), fd, size })
    }

    /// As [`super::Channel::send`].
    pub(super) fn send(&mut self, id: u32, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        if bytes.len() > MAX_SEND || vfds.len() > MAX_FDS {
            return Err(Error::Refused(format!(
                "{} bytes and {} vfds are too many",
                bytes.len(),
                vfds.len()
            )));
        }
        let open = |id: &u32| self.vfds.get(id).is_some_and(|vfd| vfd.state == State::Open);
        if !open(&id) || !vfds.iter().all(|vfd| open(&vfd.0)) {
            return Err(Error::NotFound);
        }
        let vfd = self.vfds.get_mut(&id).ok_or(Error::NotFound)?;
        if !vfd.kind.can_send() {
            return Err(Error::Refused(format!("vfd {id:#x} can't be sent to")));
        }
        if bytes.is_empty() && vfds.is_empty() {
            return Ok(Sent::Accepted);
        }
        if vfd.sending {
            // It may have been answered, and nobody told.
            self.take_answers().map_err(super::lost)?;
        }
        let vfd = self.vfds.get(&id).ok_or(Error::NotFound)?;
        if let Some(kind) = vfd.refused {
            check(kind)?;
        }
        if vfd.sending {
            self.waiting.insert(id);
            self.take_answers().map_err(super::lost)?;
            return Ok(Sent::Busy);
        }
        let mut request = std::mem::take(&mut self.scratch);
        request.clear();
        let vfds = vfds.iter().map(|vfd| vfd.0).collect();
        Transfer { id, vfds, bytes }.encode(message::VFD_SEND, &mut request);
        let sent = self.submit(&request, size_of::<Header>(), Request::Send(id));
        self.scratch = request;
        let vfd = self.vfds.get_mut(&id).ok_or(Error::NotFound)?;
        vfd.sending = sent.is_some();
        if sent.is_some() {
            return Ok(Sent::Accepted);
        }
        if !self.starved.contains(&id) {
            self.starved.push(id);
        }
        // Now that somebody waits for room, the device is to tell of it.
        self.take_answers().map_err(super::lost)?;
        Ok(Sent::Busy)
    }

    /// As [`super::Channel::close`].
    pub(super) fn close(&mut self, id: u32) {
        if self.vfds.get(&id).is_some_and(|vfd| vfd.state == State::Open) {
            self.close_all(vec![id]);
        }
    }

    /// Closes vfds, and those that arrived for them and now never will.
    fn close_all(&mut self, mut ids: Vec<u32>) {
        while let Some(id) = ids.pop() {
            match self.vfds.get_mut(&id) {
                Some(vfd) if vfd.state != State::Closing => vfd.state = State::Closing,
                _ => continue,
            }
            ids.extend(self.empty(id));
            self.submit_close(id);
        }
    }

    /// Drops what waits for a vfd and what is to be told of it. Returns the vfds that were to arrive there.
    fn empty(&mut self, id: u32) -> Vec<u32> {
        self.events.retain(|event| {
            let (Event::Readable(vfd) | Event::Writable(vfd)) = event;
            vfd.0 != id
        });
        self.starved.retain(|&starved| starved != id);
        self.waiting.remove(&id);
        let queue = self.vfds.get_mut(&id).map(|vfd| std::mem::take(&mut vfd.queue));
        let mut vfds = Vec::new();
        for message in queue.into_iter().flatten() {
            self.refill(message.buffer);
            vfds.extend(message.vfds);
        }
        vfds
    }

    fn submit_close(&mut self, id: u32) {
        let header = Header::new(message::VFD_CLOSE);
        let close = virtio_wl::Vfd { header, id };
        let request = Request::Close(id);
        if self.submit(bytemuck::bytes_of(&close), size_of::<Header>(), request).is_none() {
            self.unsent.push_back(id);
            // As in `send`. A broken ring is found again by whoever can tell of it.
            let _ = self.take_answers();
        }
    }

    /// Puts a request on the OUT ring; the response overwrites it, as with Linux. `None` if there is no room now.
    fn submit(&mut self, bytes: &[u8], response: usize, request: Request) -> Option<u16> {
        if self.free.is_empty() {
            // A broken ring is found again by whoever can tell of it.
            let _ = self.take_answers();
        }
        let buffer = self.free.pop()?;
        let offset = out_offset(buffer);
        self.ram.write(offset, bytes);
        let part = |len: usize| [Part { offset, len: len as u32 }];
        let added = self.output.add(buffer, &part(bytes.len()), &part(response));
        assert!(added, "the ring has room for all buffers");
        self.requests[usize::from(buffer)] = request;
        Some(buffer)
    }

    fn release(&mut self, buffer: u16) {
        self.requests[usize::from(buffer)] = Request::Free;
        self.free.push(buffer);
    }

    fn answered(&mut self, used: Used) {
        let request = self.requests[usize::from(used.token)];
        if let Request::Asked = request {
            self.requests[usize::from(used.token)] = Request::Answered(used.written);
            self.asked -= 1;
            return;
        }
        let mut header = Header::default();
        self.ram.read(out_offset(used.token), bytemuck::bytes_of_mut(&mut header));
        let whole = used.written as usize >= size_of::<Header>();
        let result = check(if whole { header.kind } else { message::RESP_ERR });
        self.release(used.token);
        match request {
            Request::Send(id) => self.sent(id, header.kind, result),
            Request::Close(id) => {
                if let Err(error) = result {
                    tracing::warn!("closing vfd {id:#x}: {error}");
                }
                if let Some(vfd) = self.vfds.get_mut(&id) {
                    vfd.closed = true;
                }
                self.go_if_closed(id);
            }
            Request::Free | Request::Asked | Request::Answered(_) => unreachable!("not in flight"),
        }
    }

    fn sent(&mut self, id: u32, kind: u32, result: Result<(), Error>) {
        let Some(vfd) = self.vfds.get_mut(&id) else {
            return;
        };
        vfd.sending = false;
        if vfd.state == State::Closing {
            return self.go_if_closed(id);
        }
        if self.waiting.remove(&id) {
            self.events.push(Event::Writable(VfdId(id)));
        }
        if let Err(error) = result {
            tracing::warn!("sending on vfd {id:#x}: {error}; it ends");
            vfd.refused = Some(kind);
            self.hung_up(id);
        }
    }

    fn go_if_closed(&mut self, id: u32) {
        if self.vfds.get(&id).is_some_and(|vfd| vfd.closed && !vfd.sending) {
            self.gone.push(id);
        }
    }

    /// There is room on the OUT ring again.
    fn room(&mut self) {
        while !self.free.is_empty() {
            let Some(id) = self.unsent.pop_front() else {
                self.events.extend(self.starved.drain(..).map(|id| Event::Writable(VfdId(id))));
                return;
            };
            self.submit_close(id);
        }
    }

    // Events of the device.

    fn refill(&mut self, buffer: u16) {
        let part = Part { offset: in_offset(buffer), len: IN_BUFFER as u32 };
        assert!(self.input.add(buffer, &[], &[part]), "the ring has room for all buffers");
    }

    /// Takes in one message. Whether it keeps its buffer.
    fn arrived(&mut self, used: Used) -> bool {
        let len = used.written as usize;
        let mut head = [0; MAX_HEAD];
        let head = &mut head[..len.min(MAX_HEAD)];
        self.ram.read(in_offset(used.token), head);
        let kind = virtio_wl::read::<Header>(head).map_or(0, |header| header.kind);
        match kind {
            message::VFD_NEW if len >= NEW_ANSWER as usize => {
                let mut whole = [0; size_of::<VfdNew>()];
                let known = head.len().min(whole.len());
                whole[..known].copy_from_slice(&head[..known]);
                self.announced(&bytemuck::cast(whole));
            }
            message::VFD_RECV => return self.received(used.token, len, head),
            message::VFD_HUP => match virtio_wl::read::<virtio_wl::Vfd>(head) {
                Some(hup) => self.hung_up(hup.id),
                None => tracing::warn!("the device sent a hang-up of {len} bytes"),
            },
            _ => tracing::warn!("the device sent an unknown message {kind:#x} of {len} bytes"),
        }
        false
    }

    fn announced(&mut self, new: &VfdNew) {
        let id = new.id;
        if !(HOST_ID..ILLEGAL_ID).contains(&id) || self.vfds.contains_key(&id) {
            return tracing::warn!("the device announced vfd {id:#x}, an id it may not use now");
        }
        let Some(kind) = self.kind(new) else {
            let (flags, pfn, size) = (new.flags, new.pfn, new.size);
            return tracing::warn!(
                "the device announced vfd {id:#x} of no known kind: flags {flags:#x}, {size} bytes at pfn {pfn:#x}"
            );
        };
        self.vfds.insert(id, Vfd::new(kind, State::Announced));
    }

    fn kind(&self, new: &VfdNew) -> Option<Kind> {
        let no_pfn = if self.features.use_shmem { self.window.size() / PAGE_SIZE } else { 0 };
        if new.pfn != no_pfn && new.size != 0 {
            let (offset, size) = self.memory(new.pfn, new.size)?;
            return self.window.contains(offset, size).then_some(Kind::Memory { offset, size });
        }
        if !self.features.trans_flags {
            // The old flags tell nothing of reading: what isn't for writing is for reading.
            return match new.flags & (legacy_flags::WRITE | legacy_flags::CONTROL) {
                0 => Some(Kind::Pipe(PipeEnd::Read)),
                legacy_flags::WRITE => Some(Kind::Pipe(PipeEnd::Write)),
                _ => None,
            };
        }
        match new.flags {
            flags::READ => Some(Kind::Pipe(PipeEnd::Read)),
            flags::WRITE => Some(Kind::Pipe(PipeEnd::Write)),
            _ => None,
        }
    }

    /// Offset in the window and length, both in bytes, of memory that the device names.
    fn memory(&self, pfn: u64, size: u32) -> Option<(u64, u64)> {
        let address = pfn.checked_mul(PAGE_SIZE)?;
        let base = if self.features.use_shmem { 0 } else { window::BASE };
        let offset = address.checked_sub(base)?;
        Some((offset, u64::from(size).next_multiple_of(PAGE_SIZE)))
    }

    fn received(&mut self, buffer: u16, len: usize, head: &[u8]) -> bool {
        let Some(Transfer { id, vfds, .. }) = Transfer::parse(head) else {
            tracing::warn!("the device sent a RECV that is cut short, of {len} bytes");
            return false;
        };
        let start = size_of::<VfdTransfer>() + 4 * vfds.len();
        let is = |id: &u32, state| self.vfds.get(id).is_some_and(|vfd| vfd.state == state);
        let taker = self.vfds.get(&id);
        let fits = taker.is_some_and(|vfd| vfd.state != State::Closing && vfd.kind.can_receive());
        let distinct = vfds.iter().enumerate().all(|(i, id)| !vfds[..i].contains(id));
        if !fits || !distinct || !vfds.iter().all(|id| is(id, State::Announced)) {
            if taker.is_none_or(|vfd| vfd.state != State::Closing) {
                tracing::warn!(
                    "the device sent {len} bytes for vfd {id:#x} with {vfds:x?}: dropped"
                );
            }
            let lost = vfds.into_iter().filter(|id| is(id, State::Announced)).collect();
            self.close_all(lost);
            return false;
        }
        for vfd in &vfds {
            if let Some(vfd) = self.vfds.get_mut(vfd) {
                vfd.state = State::Listed;
            }
        }
        if let Some(vfd) = self.vfds.get_mut(&id) {
            let readable = vfd.is_readable();
            vfd.queue.push_back(Message { buffer, start, len: len - start, vfds });
            if !readable && vfd.state == State::Open {
                self.events.push(Event::Readable(VfdId(id)));
            }
        }
        true
    }

    fn hung_up(&mut self, id: u32) {
        if let Some(vfd) = self.vfds.get_mut(&id)
            && !std::mem::replace(&mut vfd.hung_up, true)
            && vfd.state == State::Open
        {
            self.events.push(Event::Readable(VfdId(id)));
        }
    }

    /// As [`super::Channel::receive`].
    pub(super) fn receive(&mut self, id: u32, bytes: &mut Vec<u8>) -> Result<Received, Error> {
        let vfd =
            self.vfds.get(&id).filter(|vfd| vfd.state == State::Open).ok_or(Error::NotFound)?;
        let Some(message) = vfd.queue.front() else {
            return Ok(if vfd.hung_up { Received::HangUp } else { Received::Nothing });
        };
        // First what may fail, so that it can be tried again.
        let arrived = message.vfds.iter().map(|&id| self.hand_out(id)).collect::<Result<_, _>>()?;
        let Some(message) = self.vfds.get_mut(&id).and_then(|vfd| vfd.queue.pop_front()) else {
            return Ok(Received::Nothing);
        };
        for &id in &message.vfds {
            if let Some(vfd) = self.vfds.get_mut(&id) {
                vfd.state = State::Open;
                if vfd.is_readable() {
                    self.events.push(Event::Readable(VfdId(id)));
                }
            }
        }
        let end = bytes.len();
        bytes.resize(end + message.len, 0);
        self.ram.read(in_offset(message.buffer) + message.start, &mut bytes[end..]);
        self.refill(message.buffer);
        Ok(Received::Message(arrived))
    }

    fn hand_out(&self, id: u32) -> Result<Arrived, Error> {
        match self.vfds.get(&id).map(|vfd| vfd.kind) {
            Some(Kind::Memory { offset, size }) => {
                let fd = self.window.file(offset, size).map_err(|_| Error::OutOfMemory)?;
                Ok(Arrived::Allocation(Allocation { vfd: VfdId(id), fd, size }))
            }
            Some(Kind::Pipe(end)) => Ok(Arrived::Pipe(VfdId(id), end)),
            Some(Kind::Context) | None => Err(Error::NotFound),
        }
    }
}

impl Answer {
    /// What the device said.
    pub(super) fn check(&self) -> Result<(), Error> {
        let whole = self.written as usize >= size_of::<Header>();
        check(if whole { self.new.header.kind } else { message::RESP_ERR })
    }
}

/// What a response means.
fn check(kind: u32) -> Result<(), Error> {
    let name = match kind {
        message::RESP_OK | message::RESP_VFD_NEW => return Ok(()),
        message::RESP_OUT_OF_MEMORY => return Err(Error::OutOfMemory),
        message::RESP_INVALID_ID => return Err(Error::NotFound),
        message::RESP_ERR => "ERR",
        message::RESP_INVALID_TYPE => "INVALID_TYPE",
        message::RESP_INVALID_FLAGS => "INVALID_FLAGS",
        message::RESP_INVALID_CMD => "INVALID_CMD",
        _ => return Err(Error::Refused(format!("response {kind:#x}"))),
    };
    Err(Error::Refused(name.into()))
}

fn in_offset(buffer: u16) -> usize {
    IN_START + usize::from(buffer) * IN_BUFFER
}

fn out_offset(buffer: u16) -> usize {
    OUT_START + usize::from(buffer) * OUT_BUFFER
}
