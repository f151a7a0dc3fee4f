//! The `virtgpu` channel: a VM's virtio-gpu device with the cross-domain capset, through mainline Linux' driver.
//!
//! | file | what is in it |
//! |---|---|
//! | `device.rs` | what the driver does for a channel |
//! | `node.rs` | the driver: the ioctls of its render node |
//! | `find.rs` | which node that is |
//! | `context.rs` | a context: its rings, and what comes over them |
//! | `pipe.rs` | a pipe that a context carries |
//! | `incoming.rs` | what becomes of what comes |
//! | `outgoing.rs` | whether the device has taken what was sent |
//!
//! What is said here of the driver stands in its source, `drivers/gpu/drm/virtio` of Linux.
//!
//! # One file, one context
//!
//! The driver makes one context for each open file, and the device connects a context to one stream. So each context is
//! a file of its own. All that is asked for is queued: that the device refuses something shows nowhere but in a fence
//! that is signalled and an event that isn't there. So a context that can't be connected hangs up, sooner or later.
//!
//! # Who waits
//!
//! A SEND has a fence, a file that becomes readable once the device has passed it on. Until then nothing more is sent
//! over that context or pipe. What the host sends comes as one event at a time, after a POLL for it; it is taken at once
//! and kept here, so that what nobody reads yet stands in the way of nothing else, up to a bound for each context with
//! its pipes. Beyond it that context waits; before that, our device is told which pipe to leave alone for now.
//!
//! # Whose memory
//!
//! Memory is made, or taken in, over some context, since there the host has a number for it. But it lives as long as any
//! file has a handle for it. That is the *keeper*, a file that is never connected: contexts come and go.
//!
//! A pipe is carried by the context that it was sent over. So a context that is closed stays, silent and without its
//! stream, until its last pipe is closed, too.

mod context;
mod device;
mod find;
mod incoming;
mod node;
mod outgoing;
mod pipe;

use super::{Allocation, Arrived, Channel, Error, Event, PipeEnd, Received, Sent, VfdId};
use context::{Context, Message, State};
use device::{Blob, Device, File};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use node::Node;
use pipe::{Carrier, Pipe};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use wlproxy_protocol::accept::{CHANNEL_TYPES, Token, Way, Ways};
use wlproxy_protocol::cross_domain::{
    CHANNEL_WAYLAND, Identifier, PipeTransfer, STREAM, command, identifier,
};
use wlproxy_protocol::limits::{MAX_ALLOCATION, MAX_FDS, MAX_SEND, PAGE_SIZE};
use wlproxy_protocol::report;

pub use find::find;

/// Events that one dispatch takes at most. If there are more, the channel stays readable.
const EVENTS: usize = 64;

/// The key of the bell in the epoll set. Contexts have their id, which is smaller.
const BELL: u64 = u64::MAX;

/// Set in the key of a fence, beside the id of what was sent.
const FENCE: u64 = 1 << 32;

/// What came with a message that wasn't received yet.
#[derive(Debug)]
enum Arriving {
    /// Memory: the host's number of it, and its size in bytes.
    Memory(u32, u32),
    /// A pipe, which may bring something before it is known.
    Pipe(VfdId, PipeEnd),
}

/// A VM's virtio-gpu device. Dropping it closes all vfds.
pub struct VirtgpuChannel {
    device: Box<dyn Device>,
    keeper: Box<dyn File>,
    contexts: HashMap<VfdId, Context>,
    pipes: HashMap<VfdId, Pipe>,
    /// As the keeper knows it.
    memory: HashMap<VfdId, Blob>,
    last_id: u32,
    /// All contexts, fences that somebody waits for, and the bell.
    epoll: Epoll,
    /// What is to be told at the next dispatch, for which the bell rings.
    told: Vec<Event>,
    bell: EventFd,
    lost: Option<String>,
}

impl VirtgpuChannel {
    /// Opens the render node at `path`, most often that of [`find()`].
    ///
    /// # Errors
    /// [`Error::Lost`] if there is none, [`Error::Refused`] if it may not be opened or is something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        find::check(path)?;
        Self::new(Box::new(Node(path.to_owned())))
    }

    fn new(device: Box<dyn Device>) -> Result<Self, Error> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let bell = bell.map_err(lost)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(lost)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL)).map_err(lost)?;
        let keeper = device.open().map_err(refusal)?;
        Ok(Self {
            device,
            keeper,
            contexts: HashMap::new(),
            pipes: HashMap::new(),
            memory: HashMap::new(),
            last_id: 0,
            epoll,
            told: Vec::new(),
            bell,
            lost: None,
        })
    }

    fn check(&self) -> Result<(), Error> {
        match &self.lost {
            Some(why) => Err(Error::Lost(why.clone())),
            None => Ok(()),
        }
    }

    /// What something failed with. If the channel is lost, that is kept.
    fn failure(&mut self, errno: Errno) -> Error {
        let error = refusal(errno);
        if let Error::Lost(why) = &error {
            self.lost.get_or_insert_with(|| why.clone());
        }
        error
    }

    fn free_id(&mut self) -> VfdId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = VfdId(self.last_id);
            let is_used = self.contexts.contains_key(&id)
                || self.pipes.contains_key(&id)
                || self.memory.contains_key(&id);
            if !is_used {
                return id;
            }
        }
    }

    /// Has an event told that nothing wakes for.
    fn tell(&mut self, event: Event) {
        self.told.push(event);
        // It fails only if it rings already.
        let _ = self.bell.write(1);
    }

    /// A context that is on its way to the stream of a channel type.
    fn connect_to(&mut self, channel: u32) -> Result<VfdId, Error> {
        self.check()?;
        let made = self.device.open().map_err(io::Error::from);
        let made = made.and_then(|file| Context::connect(file, channel));
        let context = made.map_err(|error| self.failure(errno_of(&error)))?;
        let vfd = self.free_id();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, vfd.0.into());
        self.epoll.add(context.file.poll_fd(), event).map_err(|errno| {
            Error::Refused(format!("the new context can't be watched: {errno}"))
        })?;
        self.contexts.insert(vfd, context);
        Ok(vfd)
    }

    /// The device has taken what was sent.
    fn taken(&mut self, vfd: VfdId, events: &mut Vec<Event>) {
        if let Some(context) = self.contexts.get_mut(&vfd) {
            context.outgoing.taken();
            if !context.closed {
                events.push(Event::Writable(vfd));
            }
            self.settle_context(vfd);
        } else if let Some(pipe) = self.pipes.get_mut(&vfd) {
            pipe.outgoing.taken();
            if !pipe.closed {
                events.push(Event::Writable(vfd));
            }
            self.settle_pipe(vfd);
        }
    }

    /// Forgets a context that was closed, as far as it isn't needed any more.
    fn settle_context(&mut self, vfd: VfdId) {
        let Some(context) = self.contexts.get_mut(&vfd).filter(|context| context.closed) else {
            return;
        };
        let is_over = context.state == State::Over;
        // The device forgets what it hasn't passed on when a context goes.
        if !is_over
            && matches!(context.outgoing.is_busy(&self.epoll, FENCE | u64::from(vfd.0)), Ok(true))
        {
            return;
        }
        if is_over || context.pipes.is_empty() {
            let _ = self.epoll.delete(context.file.poll_fd());
            self.contexts.remove(&vfd);
            // Those that somebody knows are closed by whoever does.
            let is_its = |pipe: &Pipe| pipe.carrier.is_some_and(|carrier| carrier.context == vfd);
            self.pipes.retain(|_, pipe| pipe.is_heard() || !is_its(pipe));
        } else if context.state == State::Open && !std::mem::replace(&mut context.hangs_up, true) {
            // Only our device knows this; to others the stream stays until its pipes are done.
            let stream = PipeTransfer { id: STREAM, hang_up: true, bytes: &[] };
            let _ = context.file.submit(&stream.encode(command::WRITE), device::RING_SEND, None);
        }
    }

    /// Forgets a pipe that was closed, once the device has all that was written.
    fn settle_pipe(&mut self, vfd: VfdId) {
        let Some(pipe) = self.pipes.get_mut(&vfd).filter(|pipe| pipe.closed) else { return };
        let Some(carrier) = pipe.carrier else {
            self.pipes.remove(&vfd);
            return;
        };
        let Some(context) = self.contexts.get_mut(&carrier.context) else {
            self.pipes.remove(&vfd);
            return;
        };
        if !pipe.ended {
            if matches!(pipe.outgoing.is_busy(&self.epoll, FENCE | u64::from(vfd.0)), Ok(true)) {
                return;
            }
            let end = PipeTransfer { id: carrier.name, hang_up: true, bytes: &[] };
            let _ = context.file.submit(&end.encode(command::WRITE), carrier.ring(), None);
        }
        context.pipes.remove(&carrier.name);
        self.pipes.remove(&vfd);
        self.settle_context(carrier.context);
    }

    fn close_pipe(&mut self, vfd: VfdId) {
        let Some(pipe) = self.pipes.get_mut(&vfd) else { return };
        pipe.closed = true;
        let unread = pipe.cost();
        pipe.clear();
        if let Some(carrier) = pipe.carrier {
            self.read(carrier.context, unread);
        }
        self.settle_pipe(vfd);
    }

    /// What vfds are called over a context; and which of them are pipes, that it carries from now on.
    fn identify(&mut self, over: VfdId, vfds: &[VfdId]) -> Result<Vec<(Identifier, VfdId)>, Error> {
        let context = self.contexts.get_mut(&over).ok_or(Error::NotFound)?;
        let mut ids: Vec<(Identifier, VfdId)> = Vec::with_capacity(vfds.len());
        for vfd in vfds {
            let (id, kind) = if let Some(blob) = self.memory.get(vfd) {
                (blob.resource, identifier::BLOB)
            } else {
                let pipe = self.pipes.get(vfd).filter(|pipe| pipe.is_heard());
                let pipe = pipe.ok_or(Error::NotFound)?;
                if pipe.carrier.is_some() || ids.iter().any(|(_, other)| other == vfd) {
                    return Err(Error::Refused(format!("{vfd} was given away already")));
                }
                let kind = match pipe.end {
                    PipeEnd::Read => identifier::READ_PIPE,
                    PipeEnd::Write => identifier::WRITE_PIPE,
                };
                (context.name_pipe(), kind)
            };
            ids.push((Identifier { id, kind, size: 0 }, *vfd));
        }
        Ok(ids)
    }

    fn send_stream(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        let context = self.contexts.get_mut(&vfd).ok_or(Error::NotFound)?;
        if context.state == State::Over {
            return Err(Error::Refused(format!("{vfd} has ended")));
        }
        if bytes.is_empty() {
            return match vfds {
                [] => Ok(Sent::Accepted),
                _ => Err(Error::Refused("vfds go with bytes".into())),
            };
        }
        match context.outgoing.is_busy(&self.epoll, FENCE | u64::from(vfd.0)) {
            Ok(false) => {}
            Ok(true) => return Ok(Sent::Busy),
            Err(errno) => return Err(self.failure(errno)),
        }
        let ids = self.identify(vfd, vfds)?;
        let context = self.contexts.get_mut(&vfd).ok_or(Error::NotFound)?;
        let sent = context.send(bytes, ids.iter().map(|&(id, _)| id).collect());
        match sent {
            Ok(fence) => context.outgoing.sent(fence),
            Err(errno) => return Err(self.failure(errno)),
        }
        for (id, of) in ids {
            let Some(pipe) = self.pipes.get_mut(&of) else { continue };
            context.pipes.insert(id.id, of);
            pipe.carrier = Some(Carrier { context: vfd, name: id.id });
            if std::mem::take(&mut pipe.wants_writable) {
                self.told.push(Event::Writable(of));
                let _ = self.bell.write(1);
            }
        }
        Ok(Sent::Accepted)
    }

    fn send_pipe(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        let pipe = self.pipes.get_mut(&vfd).ok_or(Error::NotFound)?;
        if pipe.end != PipeEnd::Write || !vfds.is_empty() {
            return Err(Error::Refused(format!("{vfd} can't be sent to, or not that")));
        }
        if pipe.ended {
            return Err(Error::Refused(format!("nobody reads {vfd} any more")));
        }
        if bytes.is_empty() {
            return Ok(Sent::Accepted);
        }
        let Some(carrier) = pipe.carrier else {
            pipe.wants_writable = true;
            return Ok(Sent::Busy);
        };
        match pipe.outgoing.is_busy(&self.epoll, FENCE | u64::from(vfd.0)) {
            Ok(false) => {}
            Ok(true) => return Ok(Sent::Busy),
            Err(errno) => return Err(self.failure(errno)),
        }
        let context = self.contexts.get(&carrier.context);
        let context = context.ok_or_else(|| Error::Refused(format!("{vfd} has ended")))?;
        let part = PipeTransfer { id: carrier.name, hang_up: false, bytes };
        match context.file.submit_fenced(&part.encode(command::WRITE), carrier.ring()) {
            Ok(fence) => pipe.outgoing.sent(fence),
            Err(errno) => return Err(self.failure(errno)),
        }
        Ok(Sent::Accepted)
    }
}

impl Channel for VirtgpuChannel {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        self.check()?;
        let mut ready = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut ready, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            other => other.map_err(lost)?,
        };
        for event in &ready[..count] {
            match event.data() {
                BELL => {
                    let _ = self.bell.read();
                    events.append(&mut self.told);
                }
                key => {
                    // Whatever the upper half says.
                    let vfd = VfdId(key as u32);
                    if key & FENCE == 0 { self.hear(vfd, events) } else { self.taken(vfd, events) }
                }
            }
        }
        self.check()
    }

    fn ways(&self) -> Ways {
        Ways::CHANNEL_TYPE.or(Ways::DIAL_BACK)
    }

    fn connect(&mut self) -> Result<VfdId, Error> {
        self.connect_to(CHANNEL_WAYLAND)
    }

    fn open(&mut self, way: Way, _: Token) -> Result<VfdId, Error> {
        match way {
            Way::ChannelType(channel) if CHANNEL_TYPES.contains(&channel) => {
                self.connect_to(channel)
            }
            // Somebody else's device: all of its streams are the default one.
            Way::DialBack => self.connect(),
            way => Err(Error::Refused(format!("a virtio-gpu doesn't open streams by {way:?}"))),
        }
    }

    fn open_reports(&mut self) -> Result<VfdId, Error> {
        self.connect_to(report::CHANNEL)
    }

    fn allocate(&mut self, size: u64) -> Result<Allocation, Error> {
        let size = super::whole_pages(size)?;
        self.check()?;
        // Where nobody takes reports, that context is over before long, and answers no question.
        let answers = |context: &Context| {
            context.state != State::Over && context.channel_type != report::CHANNEL
        };
        let over = self.contexts.iter_mut().find(|(_, context)| answers(context));
        let (&over, context) = over.ok_or_else(|| {
            Error::Refused("memory is asked for over a context, and none is open".into())
        })?;
        let image = match context.ask(size) {
            Ok(image) => image,
            // It has never answered late, so it is gone.
            Err(Errno::EBUSY) => {
                let why = "the device doesn't answer (EBUSY)".to_owned();
                self.lost = Some(why.clone());
                return Err(Error::Lost(why));
            }
            Err(errno) => return Err(self.failure(errno)),
        };
        let image = image.ok_or_else(|| Error::Refused("GET_IMAGE_REQUIREMENTS".into()))?;
        if image.size > MAX_ALLOCATION {
            return Err(Error::OutOfMemory);
        }
        self.take_memory(over, image.blob_id, image.size.next_multiple_of(PAGE_SIZE))
    }

    fn pipe(&mut self, end: PipeEnd) -> Result<VfdId, Error> {
        self.check()?;
        let vfd = self.free_id();
        self.pipes.insert(vfd, Pipe::new(end, None));
        Ok(vfd)
    }

    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        self.check()?;
        if bytes.len() > MAX_SEND || vfds.len() > MAX_FDS {
            let (bytes, vfds) = (bytes.len(), vfds.len());
            return Err(Error::Refused(format!("{bytes} bytes and {vfds} vfds are too many")));
        }
        if self.contexts.get(&vfd).is_some_and(|context| !context.closed) {
            self.send_stream(vfd, bytes, vfds)
        } else if self.pipes.get(&vfd).is_some_and(Pipe::is_heard) {
            self.send_pipe(vfd, bytes, vfds)
        } else if self.memory.contains_key(&vfd) {
            Err(Error::Refused(format!("{vfd} can't be sent to")))
        } else {
            Err(Error::NotFound)
        }
    }

    fn receive(&mut self, vfd: VfdId, bytes: &mut Vec<u8>) -> Result<Received, Error> {
        self.check()?;
        if let Some(context) = self.contexts.get_mut(&vfd).filter(|context| !context.closed) {
            let Some(message) = context.queue.pop_front() else {
                let is_open = context.state == State::Open;
                return Ok(if is_open { Received::Nothing } else { Received::HangUp });
            };
            self.read(vfd, message.cost());
            return match self.hand_out(vfd, message.arriving) {
                Ok(arrived) => {
                    bytes.extend(message.bytes);
                    Ok(Received::Message(arrived))
                }
                Err(error) => {
                    let mut events = Vec::new();
                    self.end(vfd, &error, &mut events);
                    events.into_iter().for_each(|event| self.tell(event));
                    Err(error)
                }
            };
        }
        if let Some(pipe) = self.pipes.get_mut(&vfd).filter(|pipe| pipe.is_heard()) {
            let before = pipe.cost();
            let Some((part, hold)) = pipe.pop() else {
                return Ok(if pipe.ended { Received::HangUp } else { Received::Nothing });
            };
            let (carrier, read) = (pipe.carrier, before - pipe.cost());
            bytes.extend(&part);
            if let Some(carrier) = carrier {
                let told = match (hold, self.contexts.get(&carrier.context)) {
                    (Some(hold), Some(context)) => {
                        context.file.submit(&hold.encode(), device::RING_SEND, None).map(drop)
                    }
                    _ => Ok(()),
                };
                self.read(carrier.context, read);
                // The host would let it wait for ever.
                told.map_err(|errno| self.failure(errno))?;
            }
            return Ok(Received::Message(Vec::new()));
        }
        if self.memory.contains_key(&vfd) { Ok(Received::Nothing) } else { Err(Error::NotFound) }
    }

    fn close(&mut self, vfd: VfdId) {
        if let Some(blob) = self.memory.remove(&vfd) {
            self.keeper.close(blob.handle);
        } else if self.pipes.contains_key(&vfd) {
            self.close_pipe(vfd);
        } else if let Some(context) = self.contexts.get_mut(&vfd) {
            context.closed = true;
            let unread: Vec<Message> = context.queue.drain(..).collect();
            let bytes = unread.iter().map(Message::cost).sum();
            self.read(vfd, bytes);
            unread.into_iter().for_each(|message| self.drop_message(message));
            self.settle_context(vfd);
        }
    }
}

fn lost(error: impl Into<io::Error>) -> Error {
    Error::Lost(error.into().to_string())
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the driver's errors mean. Those of the device it doesn't tell.
fn refusal(errno: Errno) -> Error {
    match errno {
        // No memory in the VM, or no room in the window.
        Errno::ENOMEM | Errno::ENOSPC => Error::OutOfMemory,
        Errno::ENODEV => Error::Lost("the device was taken away (ENODEV)".into()),
        Errno::EMFILE | Errno::ENFILE => Error::Refused(
            "there is no room for another file: raise the limit of open files (ulimit -n)".into(),
        ),
        errno => Error::Refused(errno.to_string()),
    }
}

#[cfg(test)]
mod tests;
