//! Bytes in both directions, and who has to wait for what.

use super::{Refusal, VirtioWl};
use crate::device::carried::Carried;
use crate::device::context::End;
use crate::device::flow::{Incoming, Sent};
use crate::device::in_ring::Taker;
use crate::device::pipe::Direction;
use crate::device::ring::Reply;
use crate::device::shares::Vm;
use crate::device::vfds::{Vfd, take_report};
use nix::sys::epoll::EpollFlags;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;
use wlproxy_protocol::limits::{MAX_FDS, MAX_RECV};
use wlproxy_protocol::virtio_wl::{Header, Transfer, Vfd as VfdMessage, message};
use wlproxy_protocol::wayland::Batch;

/// One part in so many of the OUT ring's descriptors: as many commands may be held back by pipes together. With two
/// descriptors to a command that is a quarter of all that fit in, and of 256 descriptors 32: a desktop has a handful of
/// transfers at a time.
const HELD_BY_PIPES: usize = 8;

/// What waits for one vfd.
#[derive(Default)]
pub(super) struct Flow {
    /// Commands, in order; the first may be under way. Bounded by the OUT ring.
    held: VecDeque<Held>,
    /// The turn in which the other side last took something, or commands began to be held.
    since: u64,
    /// Messages for the guest: what came of one read, and the hang-up. Nothing is read while there are any.
    pending: VecDeque<Pending>,
}

enum Held {
    /// Its bytes are with the vfd, and not all written.
    Flushing(Reply),
    /// It comes after that, and was taken from the ring then.
    Send(Reply, Vec<u8>, Vec<Carried>, Instant),
    /// The guest is done with the vfd.
    Close(Reply),
}

struct Pending {
    bytes: Vec<u8>,
    /// The vfd that this makes known to the guest. Before that it may not speak.
    announces: Option<u32>,
    /// The vfds that the guest's user space gets with this.
    brings: Vec<u32>,
    /// It is the last of what was read then, and how long it took is to be told.
    read: Option<Instant>,
}

/// What one read brought.
pub(super) struct Came {
    batch: Batch<Carried>,
    end: Option<Ending>,
    read: Instant,
}

/// Why nothing comes after it.
enum Ending {
    /// The other side is gone.
    HangUp,
    /// Something was wrong.
    Fault(End),
}

impl VirtioWl {
    /// SEND: answered at once, or held until the other side takes the bytes.
    pub(super) fn send(&mut self, transfer: &Transfer<'_>, reply: Reply) {
        let taken = Instant::now();
        let fds = match self.check_send(transfer) {
            Ok(fds) => fds,
            Err(Refusal(code)) => return self.answer(reply, code),
        };
        let id = transfer.id;
        // One that has come when its VM had sent too much waits before it has said anything.
        let is_held = self.flows.get(&id).is_some_and(|flow| !flow.held.is_empty());
        if is_held || self.vfds.waits(id) {
            let flow = self.flows.entry(id).or_default();
            flow.held.push_back(Held::Send(reply, transfer.bytes.to_vec(), fds, taken));
            self.count_queues(id);
            return self.bound_pipes();
        }
        if self.send_now(id, transfer.bytes, fds, reply, taken) == Sent::Waiting {
            self.bound_pipes();
        }
        self.refresh(id);
    }

    /// The fds that travel along, if the vfd can carry all of it. They are taken now: the guest may close their vfds
    /// while this SEND waits.
    fn check_send(&mut self, transfer: &Transfer<'_>) -> Result<Vec<Carried>, Refusal> {
        let carries_fds = match self.vfds.get(transfer.id) {
            None => return Err(Refusal(message::RESP_INVALID_ID)),
            Some(Vfd::Context(_)) => !transfer.bytes.is_empty(),
            Some(Vfd::Reports(_)) => false,
            Some(Vfd::Pipe(pipe)) if pipe.direction() == Direction::Write => false,
            Some(Vfd::Pipe(_) | Vfd::Allocation(_)) => {
                return Err(Refusal(message::RESP_INVALID_TYPE));
            }
        };
        if !transfer.vfds.is_empty() && !carries_fds {
            return Err(Refusal(message::RESP_INVALID_TYPE));
        }
        Ok(self.vfds.take_fds(&transfer.vfds)?)
    }

    /// Hands bytes to the vfd. Answers, or holds the answer in front of all others.
    fn send_now(
        &mut self,
        id: u32,
        bytes: &[u8],
        fds: Vec<Carried>,
        reply: Reply,
        taken: Instant,
    ) -> Sent {
        let sent = match self.vfds.get_mut(id) {
            Some(Vfd::Context(context)) => context.send(bytes, fds, taken),
            Some(Vfd::Pipe(pipe)) => pipe.send(bytes),
            Some(Vfd::Reports(reporter)) => take_report(reporter.as_mut(), bytes),
            Some(Vfd::Allocation(_)) | None => Ok(Sent::Done),
        };
        self.traces.tell(&mut self.vfds, id, None);
        match sent {
            Ok(Sent::Waiting) => {
                let flow = self.flows.entry(id).or_default();
                flow.held.push_front(Held::Flushing(reply));
                flow.since = self.turns;
                return Sent::Waiting;
            }
            Ok(Sent::Done) => self.answer(reply, message::RESP_OK),
            Err(end) => {
                // The guest learns of it by the hang-up, as it would from a socket.
                self.answer(reply, message::RESP_OK);
                self.end(id, &end);
            }
        }
        Sent::Done
    }

    /// CLOSE: after the SENDs that are held.
    pub(super) fn close(&mut self, id: u32, reply: Reply) {
        if let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.held.is_empty()) {
            flow.held.push_back(Held::Close(reply));
            self.leave(id);
            return self.bound_pipes();
        }
        self.close_now(id, reply);
    }

    /// Closes a context whose guest is done with it, if only its haste holds that up: nothing is owed by who has left. What it
    /// wasn't read for is forgotten, or who leaves would be faster than who stays.
    fn leave(&mut self, id: u32) {
        if !matches!(self.vfds.get(id), Some(Vfd::Context(context)) if context.is_paused()) {
            return;
        }
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let Some(at) = flow.held.iter().position(|held| matches!(held, Held::Close(_))) else {
            return;
        };
        let later = flow.held.split_off(at);
        for held in std::mem::replace(&mut flow.held, later) {
            self.answer(held.into_reply(), message::RESP_OK);
        }
        self.resume(id);
    }

    /// Ends the pipe that has waited longest if pipes hold more commands back than they may. Who pastes and never reads
    /// could stop the VM otherwise: its driver has only so many commands.
    fn bound_pipes(&mut self) {
        let waits = |(id, flow): &(&u32, &Flow)| {
            !flow.held.is_empty() && matches!(self.vfds.get(**id), Some(Vfd::Pipe(_)))
        };
        let pipes = || self.flows.iter().filter(waits);
        let held: usize = pipes().map(|(_, flow)| flow.held.len()).sum();
        if held <= self.out.size() / HELD_BY_PIPES {
            return;
        }
        if let Some((&id, _)) = pipes().min_by_key(|(_, flow)| flow.since) {
            self.end(id, &End::Unread);
        }
    }

    fn close_now(&mut self, id: u32, reply: Reply) {
        let code = if self.forget(id) { message::RESP_OK } else { message::RESP_INVALID_ID };
        self.answer(reply, code);
    }

    /// Removes a vfd and all that waits for it.
    fn forget(&mut self, id: u32) -> bool {
        self.traces.end_context(&mut self.vfds, id);
        let existed = self.vfds.remove(id);
        self.buffers.forget(id);
        if let Some(flow) = self.flows.remove(&id) {
            for held in flow.held {
                self.answer(held.into_reply(), message::RESP_INVALID_ID);
            }
            // Nobody can ever name these. Only contexts bring vfds, and they bring no contexts.
            for brought in flow.pending.into_iter().flat_map(|pending| pending.brings) {
                self.forget(brought);
            }
        }
        existed
    }

    /// Goes on with what is held, as far as the other side takes it.
    fn resume(&mut self, id: u32) {
        while let Some(held) = self.flows.get_mut(&id).and_then(|flow| flow.held.pop_front()) {
            match held {
                Held::Flushing(reply) => self.answer(reply, message::RESP_OK),
                Held::Send(reply, bytes, fds, taken) => {
                    if self.send_now(id, &bytes, fds, reply, taken) == Sent::Waiting {
                        return self.leave(id);
                    }
                }
                Held::Close(reply) => return self.close_now(id, reply),
            }
        }
    }

    /// The poller says that vfd `id` can go on.
    pub(super) fn polled(&mut self, id: u32, flags: EpollFlags) {
        if flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            let sent = match self.vfds.get_mut(id) {
                Some(Vfd::Context(context)) => context.flush(),
                Some(Vfd::Pipe(pipe)) => pipe.flush(),
                Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => return,
            };
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.since = self.turns;
            }
            if sent == Sent::Done {
                self.resume(id);
            }
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            && self.vfds.is_told(id, flags)
        {
            if self.may_read(id) {
                self.receive(id);
            } else if !self.is_over(id)
                && let Some(Vfd::Context(context)) = self.vfds.get_mut(id)
            {
                context.read_ahead(MAX_RECV);
                self.traces.tell(&mut self.vfds, id, None);
            }
        }
        self.refresh(id);
    }

    fn may_read(&self, id: u32) -> bool {
        self.flows.get(&id).is_none_or(|flow| flow.pending.is_empty())
            && self.left.iter().all(|&(of, _)| of != id)
    }

    /// Whether a visitor has found the end of vfd `id`.
    fn is_over(&self, id: u32) -> bool {
        self.left.iter().any(|(of, came)| *of == id && came.end.is_some())
    }

    /// Reads once, and delivers what came or puts it in front of the guest's door.
    fn receive(&mut self, id: u32) {
        if let Some(came) = self.read(id) {
            self.take_in(id, came);
        }
    }

    /// Reads once; what is to be taken in now.
    ///
    /// A visitor leaves memory, which has to be mapped, and ends, after which some may have to be unmapped.
    fn read(&mut self, id: u32) -> Option<Came> {
        let mut batch = Batch::default();
        let read = match self.vfds.get_mut(id) {
            Some(Vfd::Context(context)) => context.read(MAX_RECV, &mut batch),
            Some(Vfd::Pipe(pipe)) => pipe.read(MAX_RECV),
            Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => return None,
        };
        let end = match read {
            Ok(Incoming::Nothing) => return None,
            Ok(Incoming::Batch(all)) => {
                batch = all;
                None
            }
            Ok(Incoming::HangUp) => Some(Ending::HangUp),
            Err(end) => Some(Ending::Fault(end)),
        };
        let came = Came { batch, end, read: Instant::now() };
        self.traces.tell(&mut self.vfds, id, None);
        if self.visited && (came.end.is_some() || !came.batch.fds.is_empty()) {
            self.left.push_back((id, came));
            self.waker.wake();
            return None;
        }
        Some(came)
    }

    /// What was read ahead for a guest that has taken all that came before.
    fn read_on(&mut self, id: u32) -> Option<Came> {
        let is_ahead = matches!(self.vfds.get(id), Some(Vfd::Context(of)) if of.is_ahead());
        (is_ahead && self.may_read(id)).then(|| self.read(id)).flatten()
    }

    /// Goes on with what a visitor left.
    pub(super) fn take_in_left(&mut self) {
        for (id, came) in std::mem::take(&mut self.left) {
            self.take_in(id, came);
        }
    }

    fn take_in(&mut self, id: u32, came: Came) {
        self.put(id, came);
        // Who waits for a buffer already comes first: all have their turns when what came was taken in.
        let others_wait =
            self.flows.iter().any(|(&other, flow)| other != id && !flow.pending.is_empty());
        if others_wait { self.refresh(id) } else { self.place(id) }
    }

    fn put(&mut self, id: u32, came: Came) {
        match (self.queue(id, came.batch, came.read), came.end) {
            (Err(end), _) | (Ok(()), Some(Ending::Fault(end))) => self.end(id, &end),
            (Ok(()), Some(Ending::HangUp)) => {
                self.traces.tell(&mut self.vfds, id, Some("the other side has hung up"));
                self.hang_up(id);
            }
            (Ok(()), None) => {}
        }
    }

    /// Makes messages of what came: each arrived fd is announced, then the bytes follow with their ids.
    fn queue(&mut self, id: u32, batch: Batch<Carried>, read: Instant) -> Result<(), End> {
        let mut vfds = Vec::with_capacity(batch.fds.len());
        let mut messages = VecDeque::new();
        for fd in batch.fds {
            let announced = self.vfds.adopt(fd, id).and_then(|vfd| {
                vfds.push(vfd);
                self.announcement(vfd, message::VFD_NEW)
            });
            match announced {
                Ok(new) => {
                    let bytes = bytemuck::bytes_of(&new).to_vec();
                    messages.push_back(Pending {
                        bytes,
                        announces: Some(new.id),
                        brings: Vec::new(),
                        read: None,
                    });
                }
                Err(error) => {
                    for vfd in vfds {
                        self.vfds.remove(vfd);
                    }
                    return Err(End::Fd(error.to_string()));
                }
            }
        }
        messages.extend(chunks(id, &batch.bytes, &vfds));
        let timed = matches!(self.vfds.get(id), Some(Vfd::Context(of)) if of.brings_requests());
        if let Some(last) = messages.back_mut().filter(|_| timed) {
            last.read = Some(read);
        }
        if !messages.is_empty() {
            self.flows.entry(id).or_default().pending.append(&mut messages);
        }
        Ok(())
    }

    /// The other side is gone: after what is pending, the guest is told.
    fn hang_up(&mut self, id: u32) {
        let hup = VfdMessage { header: Header::new(message::VFD_HUP), id };
        let bytes = bytemuck::bytes_of(&hup).to_vec();
        self.flows.entry(id).or_default().pending.push_back(Pending {
            bytes,
            announces: None,
            brings: Vec::new(),
            read: None,
        });
        self.resume(id);
    }

    /// Ends a context or pipe from here.
    fn end(&mut self, id: u32, end: &End) {
        let (connection, rest) = match self.vfds.get_mut(id) {
            Some(Vfd::Context(context)) => (context.connection(), context.finish()),
            Some(Vfd::Pipe(pipe)) => {
                pipe.finish(&end.to_string());
                (None, None)
            }
            Some(Vfd::Reports(reporter)) => {
                *reporter = None;
                (None, None)
            }
            Some(Vfd::Allocation(_)) | None => return,
        };
        tracing::warn!(vm = self.vm, connection, vfd = id, "a stream ends: {end}");
        self.traces.tell(&mut self.vfds, id, Some(&end.to_string()));
        if let Some(stream) = rest {
            self.vfds.lingering.add(stream);
        }
        if let End::Violation(violation) = end {
            self.counters.violations.add(1);
            let event = violation.to_event();
            let pending = &mut self.flows.entry(id).or_default().pending;
            pending.extend(chunks(id, &event, &[]));
        }
        self.hang_up(id);
        self.place(id);
    }

    /// Puts messages of vfd `id` into receive buffers, as many as it may have.
    fn place(&mut self, id: u32) {
        self.place_pending(id);
        while let Some(came) = self.read_on(id) {
            self.put(id, came);
            self.place_pending(id);
        }
        if self.flows.get(&id).is_some_and(|flow| flow.pending.is_empty() && flow.held.is_empty()) {
            self.flows.remove(&id);
        }
        self.refresh(id);
    }

    fn place_pending(&mut self, id: u32) {
        self.take_buffers();
        let taker = match self.vfds.get(id) {
            Some(Vfd::Pipe(_)) => Taker::Pipe,
            Some(Vfd::Context(_) | Vfd::Reports(_) | Vfd::Allocation(_)) | None => Taker::Context,
        };
        while let Some(flow) = self.flows.get_mut(&id)
            && let Some(pending) = flow.pending.front()
            && let Some(buffer) = self.buffers.take(id, taker)
        {
            self.r#in.complete(buffer, &pending.bytes);
            if let Some(read) = pending.read {
                self.counters.commit_out.add(read.elapsed(), 1);
            }
            let announced = pending.announces;
            flow.pending.pop_front();
            if let Some(vfd) = announced {
                self.refresh(vfd);
            }
        }
    }

    /// Delivers what waits for buffers. Kicks on IN are wanted only while something does.
    pub(super) fn deliver(&mut self) {
        loop {
            for id in self.waiting() {
                self.take_buffers();
                if self.buffers.is_empty() {
                    break;
                }
                let before = self.pending(id);
                self.place(id);
                if self.pending(id) != before {
                    self.last_given += 1;
                    self.given.insert(self.vfds.client_vm(id), self.last_given);
                    self.next = id + 1;
                }
            }
            if self.flows.values().all(|flow| flow.pending.is_empty()) {
                return self.r#in.refuse_kicks();
            }
            if self.in_budget == 0 {
                return self.waker.wake();
            }
            if !self.r#in.want_kicks() || !self.take_buffers() {
                return;
            }
        }
    }

    /// Those for which messages wait, in the order in which they get buffers. VMs take turns, whichever got one longest ago
    /// first; so do all that are of one VM.
    fn waiting(&self) -> Vec<u32> {
        let all = self.flows.range(self.next..).chain(self.flows.range(..self.next));
        let mut turns: HashMap<Option<Vm>, usize> = HashMap::new();
        let mut order: Vec<(usize, u64, u32)> = all
            .filter(|(_, flow)| !flow.pending.is_empty())
            .map(|(&id, _)| {
                let vm = self.vfds.client_vm(id);
                let turn = turns.entry(vm).or_default();
                *turn += 1;
                (*turn, self.given.get(&vm).copied().unwrap_or(0), id)
            })
            .collect();
        // Stable: within a VM they stay as they are.
        order.sort_by_key(|&(turn, given, _)| (turn, given));
        order.into_iter().map(|(.., id)| id).collect()
    }

    /// How many messages wait for vfd `id`.
    fn pending(&self, id: u32) -> usize {
        self.flows.get(&id).map_or(0, |flow| flow.pending.len())
    }

    /// Waits for what vfd `id` has to wait for now.
    pub(super) fn refresh(&mut self, id: u32) {
        self.count_queues(id);
        let may_read = self.may_read(id);
        if let Err(end) = self.vfds.watch(id, may_read) {
            self.end(id, &end);
        }
    }

    /// Tells what waits for context `id`.
    fn count_queues(&self, id: u32) {
        let Some(Vfd::Context(context)) = self.vfds.get(id) else { return };
        let flow = self.flows.get(&id);
        let held = flow.into_iter().flat_map(|flow| &flow.held).map(Held::bytes).sum();
        let pending = flow.into_iter().flat_map(|flow| &flow.pending);
        context.count_queues(held, pending.map(|pending| pending.bytes.len()).sum());
    }
}

impl Held {
    fn into_reply(self) -> Reply {
        let (Self::Flushing(reply) | Self::Send(reply, ..) | Self::Close(reply)) = self;
        reply
    }

    /// Bytes that the vfd hasn't got yet.
    fn bytes(&self) -> usize {
        match self {
            Self::Send(_, bytes, ..) => bytes.len(),
            Self::Flushing(_) | Self::Close(_) => 0,
        }
    }
}

/// Splits bytes and their vfds into messages: at most [`MAX_FDS`] vfds each, none later than the bytes they go with.
fn chunks(id: u32, mut bytes: &[u8], mut vfds: &[u32]) -> Vec<Pending> {
    let mut messages = Vec::new();
    while !bytes.is_empty() || !vfds.is_empty() {
        let (now, later) = vfds.split_at(vfds.len().min(MAX_FDS));
        // While vfds are left, the bytes that may need them wait.
        let most = if later.is_empty() { MAX_RECV } else { 1 };
        let (part, rest) = bytes.split_at(bytes.len().min(most));
        let mut message = Vec::new();
        Transfer { id, vfds: now.to_vec(), bytes: part }.encode(message::VFD_RECV, &mut message);
        messages.push(Pending {
            bytes: message,
            announces: None,
            brings: now.to_vec(),
            read: None,
        });
        (bytes, vfds) = (rest, later);
    }
    messages
}
