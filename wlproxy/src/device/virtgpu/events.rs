//! What goes to the guest: one event for each POLL of a context.

use super::Virtgpu;
use super::channel::{Link, receive_room};
use crate::device::carried::Carried;
use crate::device::context::End;
use crate::device::flow::{Incoming, Sent};
use crate::device::pipe::Direction;
use crate::device::vfds::Vfd;
use nix::sys::epoll::EpollFlags;
use std::time::Instant;
use wlproxy_protocol::cross_domain::{
    GUEST_PIPE, Identifier, PipeTransfer, ReadWrite, Transfer, command, identifier,
};
use wlproxy_protocol::limits::MAX_FDS;
use wlproxy_protocol::wayland::Batch;

/// Something that is to be written into a channel ring.
#[derive(Debug)]
pub(super) struct Event {
    bytes: Vec<u8>,
    /// It is the last of what was read then, and how long it took is to be told.
    read: Option<Instant>,
}

impl From<Vec<u8>> for Event {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, read: None }
    }
}

impl Virtgpu {
    /// The poller says that vfd `id` can go on.
    pub(super) fn polled(&mut self, id: u32, flags: EpollFlags) {
        if flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            let sent = match self.vfds.get_mut(id) {
                Some(Vfd::Context(context)) => context.flush(),
                Some(Vfd::Pipe(pipe)) => pipe.flush(),
                Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => return,
            };
            if sent == Sent::Done {
                self.resume(id);
                // An event's fence may have waited behind one that was held back.
                if let Some(&(owner, _)) = self.owners.get(&id) {
                    self.deliver(owner);
                }
            }
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            && self.vfds.is_told(id, flags)
        {
            if self.may_read(id) {
                self.receive(id);
            } else {
                self.read_ahead(id);
            }
        }
        self.refresh(id);
    }

    /// Reads once from a stream whose guest hasn't taken what came before.
    fn read_ahead(&mut self, id: u32) {
        let Some(&(owner, _)) = self.owners.get(&id) else { return };
        let Some(room) = self.contexts.get(&owner).map(receive_room) else { return };
        if let Some(Vfd::Context(stream)) = self.vfds.get_mut(id) {
            stream.read_ahead(room);
            self.traces.tell(&mut self.vfds, id, None);
        }
    }

    fn may_read(&self, id: u32) -> bool {
        let context = self.owners.get(&id).and_then(|(context, _)| self.contexts.get(context));
        context.is_some_and(|context| context.pending.is_empty())
    }

    /// Reads once, and delivers what came or keeps it for the next POLLs.
    fn receive(&mut self, id: u32) {
        let owner = self.owners.get(&id).map(|&(owner, _)| owner);
        self.take_in(id);
        owner.into_iter().for_each(|owner| self.deliver(owner));
    }

    /// Reads once, and keeps what came.
    fn take_in(&mut self, id: u32) {
        let Some(&(owner, name)) = self.owners.get(&id) else { return };
        let Some(context) = self.contexts.get(&owner) else { return };
        let mut batch = Batch::default();
        let read = match self.vfds.get_mut(id) {
            Some(Vfd::Context(stream)) => stream.read(receive_room(context), &mut batch),
            Some(Vfd::Pipe(pipe)) if !pipe.is_wanted() => return,
            Some(Vfd::Pipe(pipe)) => pipe.read(context.room - size_of::<ReadWrite>()),
            Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => return,
        };
        let now = Instant::now();
        self.traces.tell(&mut self.vfds, id, None);
        let result = match read {
            Ok(Incoming::Nothing) => return,
            Ok(Incoming::Batch(batch)) => self.queue(id, batch, now),
            Ok(Incoming::HangUp) => {
                self.traces.tell(&mut self.vfds, id, Some("the other side has hung up"));
                self.hung_up(id, owner, name);
                Ok(())
            }
            Err(end) => self.queue(id, batch, now).and(Err(end)),
        };
        if let Err(end) = result {
            self.end(id, &end);
        }
    }

    /// Makes events of what came over a stream or pipe.
    fn queue(&mut self, id: u32, batch: Batch<Carried>, read: Instant) -> Result<(), End> {
        let Some(&(owner, name)) = self.owners.get(&id) else { return Ok(()) };
        let Some(context) = self.contexts.get(&owner) else { return Ok(()) };
        let (room, timed) = match self.vfds.get(id) {
            Some(Vfd::Context(of)) => (receive_room(context), of.brings_requests()),
            _ => {
                let room = context.room - size_of::<ReadWrite>();
                let part = |bytes| PipeTransfer { id: name, hang_up: false, bytes };
                let events =
                    batch.bytes.chunks(room).map(|bytes| part(bytes).encode(command::READ));
                let events: Vec<Event> = events.map(Event::from).collect();
                self.pend(owner, events);
                return Ok(());
            }
        };
        let ids = self.adopt(id, owner, batch.fds)?;
        let mut events = chunks(&batch.bytes, &ids, room);
        if let Some(last) = events.last_mut().filter(|_| timed) {
            last.read = Some(read);
        }
        self.pend(owner, events);
        Ok(())
    }

    /// Makes vfds of fds that came over a stream, all or none.
    fn adopt(&mut self, id: u32, owner: u32, fds: Vec<Carried>) -> Result<Vec<Identifier>, End> {
        let mut ids = Vec::with_capacity(fds.len());
        for fd in fds {
            let made = self.vfds.adopt(fd, id).and_then(|vfd| {
                ids.push(Identifier { id: vfd, kind: identifier::BLOB, size: 0 });
                match self.vfds.get(vfd) {
                    Some(Vfd::Pipe(pipe)) => Ok((pipe.direction().into_kind(), 0)),
                    // No longer than a u32 has bits for: it couldn't be mapped.
                    _ => Ok((identifier::BLOB, self.vfds.length(vfd)? as u32)),
                }
            });
            match (made, ids.last_mut()) {
                (Ok((kind, size)), Some(last)) => (last.kind, last.size) = (kind, size),
                (Ok(_), None) => {}
                (Err(error), _) => {
                    for id in ids {
                        self.vfds.remove(id.id);
                    }
                    return Err(End::Fd(error.to_string()));
                }
            }
        }
        for id in &ids {
            if let Some(context) = self.contexts.get_mut(&owner) {
                context.ids.insert(id.id, id.id);
            }
            if id.kind != identifier::BLOB {
                self.owners.insert(id.id, (owner, id.id));
                // If a POLL waits for this message, nobody else would have it watched.
                self.refresh(id.id);
            }
        }
        Ok(ids)
    }

    fn pend(&mut self, context: u32, events: impl IntoIterator<Item = Event>) {
        if let Some(context) = self.contexts.get_mut(&context) {
            context.pending.extend(events);
        }
    }

    /// The other side of a stream or pipe is gone: after what is pending, the guest is told.
    fn hung_up(&mut self, id: u32, owner: u32, name: u32) {
        match self.vfds.get(id) {
            Some(Vfd::Pipe(pipe)) => {
                // Most programs that are told of a pipe that they write don't expect to hear of it; those that made it do.
                let hears = self.contexts.get(&owner).is_some_and(|context| context.hears_ends);
                let told = pipe.direction() == Direction::Read || name & GUEST_PIPE != 0 || hears;
                let event = PipeTransfer { id: name, hang_up: true, bytes: &[] };
                self.pend(owner, told.then(|| event.encode(command::READ).into()));
                self.forget(owner, name);
            }
            _ => self.hang_up(owner),
        }
    }

    /// Closes a context's stream; the guest is told by a RECEIVE of nothing.
    pub(super) fn hang_up(&mut self, id: u32) {
        self.close(id);
        let event = Transfer { ids: Vec::new(), bytes: &[] }.encode(command::RECEIVE);
        self.pend(id, [event.into()]);
        self.deliver(id);
    }

    /// Ends a stream or pipe from here.
    pub(super) fn end(&mut self, id: u32, end: &End) {
        let Some(&(owner, name)) = self.owners.get(&id) else { return };
        if let Some(Vfd::Pipe(pipe)) = self.vfds.get_mut(id) {
            tracing::warn!(vm = self.vm, pipe = name, "a pipe ends: {end}");
            pipe.finish(&end.to_string());
            self.hung_up(id, owner, name);
            return self.deliver(owner);
        }
        self.traces.tell(&mut self.vfds, id, Some(&end.to_string()));
        self.over(owner, end);
    }

    /// Ends a context's stream from here.
    pub(super) fn over(&mut self, id: u32, end: &End) {
        let Some(context) = self.contexts.get(&id) else { return };
        let room = receive_room(context);
        let connection = match context.link {
            Link::Open(vfd) => match self.vfds.get(vfd) {
                Some(Vfd::Context(stream)) => stream.connection(),
                _ => None,
            },
            _ => None,
        };
        tracing::warn!(vm = self.vm, connection, context = id, "a stream ends: {end}");
        if let End::Violation(violation) = end {
            self.counters.violations.add(1);
            let events = chunks(&violation.to_event(), &[], room);
            self.pend(id, events);
        }
        self.hang_up(id);
    }

    /// Writes events into a context's ring, as POLLs wait for them, and what was read ahead behind them.
    pub(super) fn deliver(&mut self, id: u32) {
        self.deliver_pending(id);
        while let Some(stream) = self.ahead(id) {
            self.take_in(stream);
            self.deliver_pending(id);
        }
        let Some(context) = self.contexts.get_mut(&id) else { return };
        let reads = context.pending.is_empty();
        // Of what was read ahead less may be there now, so that there is room for more.
        let stream = if let Link::Open(vfd) = context.link { Some(vfd) } else { None };
        let pipes = context.ids.values().copied();
        let pipes: Vec<u32> = if context.reads == reads { Vec::new() } else { pipes.collect() };
        context.reads = reads;
        stream.into_iter().chain(pipes).for_each(|id| self.refresh(id));
    }

    /// The stream of a context that has taken all that came before, if something was read ahead for it.
    fn ahead(&self, id: u32) -> Option<u32> {
        let context = self.contexts.get(&id).filter(|context| context.pending.is_empty())?;
        let Link::Open(stream) = context.link else { return None };
        let is_ahead = matches!(self.vfds.get(stream), Some(Vfd::Context(of)) if of.is_ahead());
        is_ahead.then_some(stream)
    }

    fn deliver_pending(&mut self, id: u32) {
        while let Some(context) = self.contexts.get_mut(&id)
            && let Some(&ticket) = context.polls.front()
            && context.fences.is_first(ticket)
            && let Some(event) = context.pending.pop_front()
        {
            if !self.resources.write(context.channel_ring, &event.bytes) {
                tracing::warn!(
                    vm = self.vm,
                    context = id,
                    "a context ends: its channel ring is no memory of the VM's any more"
                );
                context.pending.clear();
                return self.close(id);
            }
            context.polls.pop_front();
            if let Some(read) = event.read {
                self.counters.commit_out.add(read.elapsed(), 1);
            }
            self.finish(ticket);
        }
    }

    /// Waits for what vfd `id` has to wait for now.
    pub(super) fn refresh(&mut self, id: u32) {
        let Some((owner, _)) = self.owners.get(&id) else { return };
        let Some(context) = self.contexts.get(owner) else { return };
        if let Some(Vfd::Context(stream)) = self.vfds.get(id) {
            let held = self.flows.get(&id).map_or(0, |flow| flow.bytes);
            stream.count_queues(held, context.pending.iter().map(|event| event.bytes.len()).sum());
        }
        let may_read = context.pending.is_empty();
        if let Err(end) = self.vfds.watch(id, may_read) {
            self.end(id, &end);
        }
    }
}

impl Direction {
    /// What the guest does with it, as an identifier.
    fn into_kind(self) -> u32 {
        match self {
            Self::Read => identifier::READ_PIPE,
            Self::Write => identifier::WRITE_PIPE,
        }
    }
}

/// Splits bytes and their identifiers into events: none later than the bytes it goes with.
fn chunks(mut bytes: &[u8], mut ids: &[Identifier], room: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() || !ids.is_empty() {
        let (now, later) = ids.split_at(ids.len().min(MAX_FDS));
        // While identifiers are left, the bytes that may need them wait.
        let most = if later.is_empty() { room } else { 1 };
        let (part, rest) = bytes.split_at(bytes.len().min(most));
        events.push(Transfer { ids: now.to_vec(), bytes: part }.encode(command::RECEIVE).into());
        (bytes, ids) = (rest, later);
    }
    events
}
