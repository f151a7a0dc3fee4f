//! What comes from the host: events of contexts, and what is made of them.

use super::context::{Heard, Message, State};
use super::device::RING_SEND;
use super::pipe::{Carrier, Pipe};
use super::{Allocation, Arrived, Arriving, Channel, Error, Event, PipeEnd, VfdId, VirtgpuChannel};
use crate::memory::Mapping;
use std::fmt::Display;
use std::os::fd::AsFd;
use wlproxy_protocol::cross_domain::{Identifier, identifier};
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};

impl VirtgpuChannel {
    /// Takes the next event of a context, and asks for another.
    pub(super) fn hear(&mut self, vfd: VfdId, events: &mut Vec<Event>) {
        let Some(context) = self.contexts.get_mut(&vfd) else { return };
        match context.hear() {
            Ok(None) => return,
            Ok(Some(Heard::Message(bytes, ids))) => self.arrived(vfd, bytes, &ids, events),
            Ok(Some(Heard::HangUp)) => {
                context.state = State::HungUp;
                if !context.closed {
                    events.push(Event::Readable(vfd));
                }
            }
            Ok(Some(Heard::Pipe(name, bytes, last))) => {
                self.piped(vfd, name, bytes, last, events);
            }
            Ok(Some(Heard::Nothing)) => self.end(vfd, &"the host refused it", events),
            Err(errno) => self.end(vfd, &errno, events),
        }
        if let Some(context) = self.contexts.get_mut(&vfd)
            && let Err(errno) = context.poll()
        {
            self.end(vfd, &errno, events);
        }
        self.settle_context(vfd);
    }

    /// Something came over a stream.
    fn arrived(&mut self, vfd: VfdId, bytes: Vec<u8>, ids: &[Identifier], events: &mut Vec<Event>) {
        let mut arriving = Vec::with_capacity(ids.len());
        for id in ids {
            let end = match id.kind {
                identifier::BLOB => {
                    arriving.push(Arriving::Memory(id.id, id.size));
                    continue;
                }
                identifier::READ_PIPE => PipeEnd::Read,
                identifier::WRITE_PIPE => PipeEnd::Write,
                kind => {
                    let why =
                        format!("something arrived that is neither memory nor a pipe: {kind}");
                    return self.end(vfd, &why, events);
                }
            };
            let pipe = self.free_id();
            let carrier = Carrier { context: vfd, name: id.id };
            self.pipes.insert(pipe, Pipe::new(end, Some(carrier)));
            if let Some(context) = self.contexts.get_mut(&vfd) {
                context.pipes.insert(id.id, pipe);
            }
            arriving.push(Arriving::Pipe(pipe, end));
        }
        let message = Message { bytes, arriving };
        let Some(context) = self.contexts.get_mut(&vfd) else { return };
        if context.closed {
            return self.drop_message(message);
        }
        context.queued += message.cost();
        context.queue.push_back(message);
        if context.queue.len() == 1 {
            events.push(Event::Readable(vfd));
        }
    }

    /// Something came over a pipe.
    fn piped(
        &mut self,
        over: VfdId,
        name: u32,
        bytes: Vec<u8>,
        last: bool,
        events: &mut Vec<Event>,
    ) {
        let Some(context) = self.contexts.get_mut(&over) else { return };
        let Some(&vfd) = context.pipes.get(&name) else { return };
        let Some(pipe) = self.pipes.get_mut(&vfd) else { return };
        let was_readable = pipe.is_readable();
        pipe.ended |= last;
        if !bytes.is_empty() && !pipe.closed {
            let before = pipe.cost();
            let hold = pipe.push(bytes);
            context.queued += pipe.cost() - before;
            if let Some(hold) = hold {
                // If it can't be told, the context waits as a whole.
                let _ = context.file.submit(&hold.encode(), RING_SEND, None);
            }
        }
        if pipe.is_readable() && !was_readable && pipe.is_heard() {
            events.push(Event::Readable(vfd));
        }
    }

    /// Ends a context, and the pipes that it carries.
    pub(super) fn end(&mut self, vfd: VfdId, why: &dyn Display, events: &mut Vec<Event>) {
        let Some(context) = self.contexts.get_mut(&vfd) else { return };
        tracing::warn!("{vfd} ends: {why}");
        context.state = State::Over;
        if !context.closed {
            events.push(Event::Readable(vfd));
        }
        for pipe in context.pipes.values() {
            if let Some(open) = self.pipes.get_mut(pipe) {
                open.ended = true;
                if open.is_heard() {
                    events.push(Event::Readable(*pipe));
                }
            }
        }
    }

    /// So many bytes of what a context has brought are gone from here: it may bring more.
    pub(super) fn read(&mut self, vfd: VfdId, bytes: usize) {
        let Some(context) = self.contexts.get_mut(&vfd) else { return };
        context.queued -= bytes;
        if let Err(errno) = context.poll() {
            let mut events = Vec::new();
            self.end(vfd, &errno, &mut events);
            events.into_iter().for_each(|event| self.tell(event));
        }
    }

    pub(super) fn drop_message(&mut self, message: Message) {
        for arriving in message.arriving {
            // Memory that nobody took goes with its context.
            if let Arriving::Pipe(pipe, _) = arriving {
                self.close_pipe(pipe);
            }
        }
    }

    /// Makes vfds of what came with a message, all or none.
    pub(super) fn hand_out(
        &mut self,
        over: VfdId,
        arriving: Vec<Arriving>,
    ) -> Result<Vec<Arrived>, Error> {
        let mut arrived: Vec<Arrived> = Vec::with_capacity(arriving.len());
        let mut arriving = arriving.into_iter();
        while let Some(one) = arriving.next() {
            let made = match one {
                Arriving::Pipe(vfd, end) => {
                    self.show_pipe(vfd);
                    Ok(Arrived::Pipe(vfd, end))
                }
                Arriving::Memory(number, size) => {
                    let size = u64::from(size).next_multiple_of(PAGE_SIZE);
                    if (1..=MAX_ALLOCATION).contains(&size) {
                        self.take_memory(over, number, size).map(Arrived::Allocation)
                    } else {
                        Err(Error::Refused(format!("memory of {size} bytes arrived")))
                    }
                }
            };
            match made {
                Ok(one) => arrived.push(one),
                Err(error) => {
                    arrived.iter().for_each(|one| self.close(one.vfd()));
                    self.drop_message(Message { bytes: Vec::new(), arriving: arriving.collect() });
                    return Err(error);
                }
            }
        }
        Ok(arrived)
    }

    /// From now on things are told of a pipe.
    fn show_pipe(&mut self, vfd: VfdId) {
        let Some(pipe) = self.pipes.get_mut(&vfd) else { return };
        let before = pipe.cost();
        pipe.hidden = false;
        let (carrier, freed) = (pipe.carrier, before - pipe.cost());
        if pipe.is_readable() {
            self.tell(Event::Readable(vfd));
        }
        if let Some(carrier) = carrier {
            self.read(carrier.context, freed);
        }
    }

    /// Makes an allocation of what the host has a number for, over a context.
    pub(super) fn take_memory(
        &mut self,
        over: VfdId,
        number: u32,
        size: u64,
    ) -> Result<Allocation, Error> {
        let context = self.contexts.get(&over).ok_or(Error::NotFound)?;
        let blob = context.file.blob(number, size).map_err(super::refusal)?;
        let kept = context.file.export(blob.handle).and_then(|fd| {
            let kept = self.keeper.import(fd.as_fd())?;
            Ok((fd, kept))
        });
        context.file.close(blob.handle);
        let (fd, kept) = kept.map_err(super::refusal)?;
        // Only this tells whether the host has made and mapped it.
        if Mapping::new(&fd, size).is_err() {
            self.keeper.close(kept.handle);
            return Err(Error::OutOfMemory);
        }
        let vfd = self.free_id();
        self.memory.insert(vfd, kept);
        Ok(Allocation { vfd, fd, size })
    }
}
