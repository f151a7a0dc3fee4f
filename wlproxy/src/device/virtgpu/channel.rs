//! Contexts, and their commands: what comes from the guest for a stream and its pipes.

use super::events::Event;
use super::fences::{Fences, Ticket};
use super::outgoing::Flow;
use super::{MALFORMED, Refusal, Virtgpu, is_of_ring, ok};
use crate::device::Side;
use crate::device::carried::Carried;
use crate::device::context::End;
use crate::device::opener::{OpenError, Opened, Target};
use crate::device::pipe::Direction;
use crate::device::ring::Reply;
use crate::device::vfd_error::VfdError;
use crate::device::vfds::Vfd;
use std::collections::{HashMap, VecDeque};
use wlproxy_protocol::accept::CHANNEL_TYPES;
use wlproxy_protocol::cross_domain::{
    self as wire, CHANNEL_WAYLAND, GUEST_PIPE, GetImageRequirements, HEARS_ENDS, Hold, Identifier,
    ImageRequirements, Init, PipeTransfer, STREAM, Transfer, command, identifier,
};
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_gpu::{Header, Submit, message};
use wlproxy_protocol::virtio_wl::read;

/// One part in so many of the control queue is left to what isn't a connection's own: each of these has a POLL that
/// waits in the queue for as long as it is idle.
const SPARE: usize = 4;

/// Where a context is connected to.
#[derive(Debug)]
pub(super) enum Link {
    /// Nowhere: there was no INIT.
    None,
    /// The stream with this number was asked for; what was sent meanwhile.
    Opening(u32, Flow),
    /// To the stream that is this vfd.
    Open(u32),
    /// Nowhere any more.
    Over,
}

/// One context of the guest's.
#[derive(Debug)]
pub(super) struct Context {
    cross_domain: bool,
    pub(super) link: Link,
    /// Resources of the query ring and the channel ring.
    query_ring: u32,
    pub(super) channel_ring: u32,
    /// Bytes of the latter.
    pub(super) room: usize,
    /// Whether it is told when nobody reads a pipe any more that came over its stream.
    pub(super) hears_ends: bool,
    /// What it may name: pipes, and memory that came. As vfds.
    pub(super) ids: HashMap<u32, u32>,
    pub(super) fences: Fences,
    /// Those of POLLs.
    pub(super) polls: VecDeque<Ticket>,
    /// Events that no POLL waits for. Nothing is read while there are any.
    pub(super) pending: VecDeque<Event>,
    /// Whether its streams and pipes are watched for something to read.
    pub(super) reads: bool,
}

impl Context {
    /// Not connected.
    pub(super) fn new(cross_domain: bool) -> Self {
        Self {
            cross_domain,
            link: Link::None,
            query_ring: 0,
            channel_ring: 0,
            room: 0,
            hears_ends: false,
            ids: HashMap::new(),
            fences: Fences::default(),
            polls: VecDeque::new(),
            pending: VecDeque::new(),
            reads: true,
        }
    }
}

impl Virtgpu {
    /// A command of a context.
    pub(super) fn submit(&mut self, header: Header, bytes: &[u8], reply: Reply) {
        let result = match Submit::command(bytes) {
            None => Err(MALFORMED),
            Some((_, bytes)) => match bytes.first() {
                _ if !self.contexts.get(&header.context).is_some_and(|of| of.cross_domain) => {
                    Err(Refusal(message::RESP_ERR_INVALID_CONTEXT_ID))
                }
                Some(&command::SEND) => return self.send(header, bytes, reply),
                Some(&command::WRITE) => return self.write(header, bytes, reply),
                Some(&command::POLL) => return self.poll(header, reply),
                Some(&command::INIT) => self.init(header.context, bytes),
                Some(&command::GET_IMAGE_REQUIREMENTS) => self.image(header.context, bytes),
                _ => Err(Refusal(message::RESP_ERR_UNSPEC)),
            },
        };
        self.answer(header, result.map(|()| ok(header)), reply);
    }

    /// INIT: answered at once. If there is no stream, the context hears of a hang-up.
    fn init(&mut self, id: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let command: Init = read(bytes).ok_or(MALFORMED)?;
        // Only client VMs have something to report: that ends here, and nobody else is asked for a stream.
        let target = match (command.channel, self.side) {
            (CHANNEL_WAYLAND, _) => Some(Target::Default),
            (channel, Side::Compositor) if CHANNEL_TYPES.contains(&channel) => {
                Some(Target::Channel(channel))
            }
            (report::CHANNEL, Side::Client) => None,
            (_, Side::Compositor | Side::Client) => return Err(MALFORMED),
        };
        let room = self.resources.ring_size(command.channel_ring)?;
        let query = self.resources.ring_size(command.query_ring)?;
        if room.min(query) < PAGE_SIZE as usize {
            return Err(MALFORMED);
        }
        let Some(context) = self.contexts.get_mut(&id) else { return Err(MALFORMED) };
        if !matches!(context.link, Link::None) {
            return Err(MALFORMED);
        }
        context.query_ring = command.query_ring;
        context.channel_ring = command.channel_ring;
        context.room = room;
        context.hears_ends = command.header.padding & HEARS_ENDS != 0;
        let opened = match target {
            _ if self.has_all_connections(target.is_none()) => false,
            None => self.open_reports(id),
            Some(target) => {
                self.opening = self.opening.wrapping_add(1);
                if let Some(context) = self.contexts.get_mut(&id) {
                    context.link = Link::Opening(self.opening, Flow::default());
                }
                self.opener.open(target, self.answers.answer(self.opening));
                true
            }
        };
        if !opened {
            self.counters.contexts_refused.add(u64::from(target.is_some()));
            // Linux tells a program nothing of a refusal, so it polls.
            self.hang_up(id);
            return Err(Refusal(message::RESP_ERR_OUT_OF_MEMORY));
        }
        Ok(())
    }

    /// A context is for an agent's reports from now on. `false` if there are too many.
    fn open_reports(&mut self, id: u32) -> bool {
        if self.vfds.check_room().is_err() {
            return false;
        }
        let vfd = self.vfds.fresh_id();
        if !self.vfds.add_reports(vfd) {
            return false;
        }
        self.owners.insert(vfd, (id, 0));
        if let Some(context) = self.contexts.get_mut(&id) {
            context.link = Link::Open(vfd);
        }
        true
    }

    /// Whether there are as many connections as there may be, those counted that wait for their stream. Each may have a
    /// POLL in the queue; but those for reports don't count among a client VM's streams.
    fn has_all_connections(&self, reports: bool) -> bool {
        let is_connected =
            |context: &&Context| matches!(context.link, Link::Opening(..) | Link::Open(_));
        let connected = self.contexts.values().filter(is_connected).count();
        let streams = connected.saturating_sub(self.vfds.reporters());
        let of_side = self.side == Side::Client && !reports && streams >= self.vfds.most_contexts();
        of_side || connected >= self.most_connections()
    }

    /// As many as the control queue leaves room for.
    fn most_connections(&self) -> usize {
        self.control.size() - self.control.size() / SPARE
    }

    /// The stream that was asked for by `request` is there, or isn't.
    pub(super) fn opened(&mut self, request: u32, result: Result<Opened, OpenError>) {
        let most = self.most_connections();
        let asked = |context: &Context| matches!(context.link, Link::Opening(number, _) if number == request);
        // If the context is gone, the stream closes here.
        let Some((&id, context)) = self.contexts.iter_mut().find(|(_, of)| asked(of)) else {
            return;
        };
        let Link::Opening(_, flow) = std::mem::replace(&mut context.link, Link::Over) else {
            return;
        };
        let vfd = self.vfds.fresh_id();
        let made = result.and_then(|opened| {
            self.vfds.check_room().map_err(|_| OpenError::Limit)?;
            self.vfds.add_context(vfd, opened, most)
        });
        if let Err(error) = made {
            self.counters.contexts_refused.add(u64::from(error == OpenError::Limit));
            tracing::warn!(vm = self.vm, context = id, "a context is not connected: {error}");
            flow.tickets().for_each(|ticket| self.finish(ticket));
            return self.hang_up(id);
        }
        context.link = Link::Open(vfd);
        self.owners.insert(vfd, (id, 0));
        self.flows.insert(vfd, flow);
        if !self.vfds.waits(vfd) {
            self.resume(vfd);
        }
        self.refresh(vfd);
    }

    /// SEND: answered at once, or when the other side has taken the bytes, if its fence is one of the context's rings.
    fn send(&mut self, header: Header, bytes: &[u8], reply: Reply) {
        let Some(transfer) = Transfer::parse(bytes) else {
            return self.answer(header, Err(MALFORMED), reply);
        };
        let stream = match self.contexts.get(&header.context).map(|context| &context.link) {
            Some(Link::Open(vfd)) => Some(*vfd),
            Some(Link::Opening(..)) => None,
            // A race, no error.
            Some(Link::Over) => return self.answer(header, Ok(ok(header)), reply),
            Some(Link::None) | None => return self.answer(header, Err(MALFORMED), reply),
        };
        let fds = match self.fds(header.context, &transfer) {
            Ok(fds) => fds,
            Err(refusal) => return self.answer(header, Err(refusal), reply),
        };
        if transfer.bytes.is_empty() {
            return self.answer(header, Ok(ok(header)), reply);
        }
        match stream {
            Some(vfd) => self.send_to(vfd, header, transfer.bytes, fds, reply),
            None => {
                let ticket = self.hold(header, reply);
                let most = self.vfds.most_requests();
                let link = self.contexts.get_mut(&header.context).map(|context| &mut context.link);
                if let Some(Link::Opening(_, flow)) = link {
                    flow.push(transfer.bytes, fds, ticket);
                    if flow.is_full(most) {
                        self.over(header.context, &End::Full);
                    }
                }
            }
        }
    }

    /// The fds of what travels along. Pipes are made here; what fails leaves none.
    fn fds(&mut self, context: u32, transfer: &Transfer<'_>) -> Result<Vec<Carried>, Refusal> {
        // Nothing goes without bytes, or along with a report.
        let carries_fds = !transfer.bytes.is_empty() && !self.is_for_reports(context);
        if !transfer.ids.is_empty() && !carries_fds {
            return Err(MALFORMED);
        }
        let (mut vfds, mut pipes) = (Vec::new(), Vec::new());
        let mut result = transfer.ids.iter().try_for_each(|id| {
            let (vfd, pipe) = self.identified(context, *id)?;
            vfds.push(vfd);
            pipes.extend(pipe.then_some(id.id));
            Ok(())
        });
        let mut fds = Vec::new();
        if result.is_ok() {
            result = self.vfds.take_fds(&vfds).map(|taken| fds = taken).map_err(Into::into);
        }
        if result.is_err() {
            pipes.into_iter().for_each(|name| self.forget(context, name));
        }
        result.map(|()| fds)
    }

    fn is_for_reports(&self, context: u32) -> bool {
        let vfd = match self.contexts.get(&context).map(|context| &context.link) {
            Some(Link::Open(vfd)) => self.vfds.get(*vfd),
            _ => None,
        };
        matches!(vfd, Some(Vfd::Reports(_)))
    }

    /// The vfd that an identifier of a SEND means, and whether it is a pipe that was just made.
    fn identified(&mut self, context: u32, id: Identifier) -> Result<(u32, bool), Refusal> {
        let direction = match id.kind {
            identifier::BLOB => return Ok((self.resources.host(id.id)?, false)),
            identifier::READ_PIPE => Direction::Read,
            identifier::WRITE_PIPE => Direction::Write,
            _ => return Err(MALFORMED),
        };
        let Some(of) = self.contexts.get_mut(&context) else { return Err(MALFORMED) };
        if id.id & GUEST_PIPE == 0 || of.ids.contains_key(&id.id) {
            return Err(MALFORMED);
        }
        self.vfds.check_room()?;
        let vfd = self.vfds.fresh_id();
        self.vfds.add_pipe(vfd, direction).map_err(VfdError::Io)?;
        of.ids.insert(id.id, vfd);
        self.owners.insert(vfd, (context, id.id));
        self.refresh(vfd);
        Ok((vfd, true))
    }

    /// WRITE: bytes for a pipe that the guest writes, its end, or that it doesn't read one any more. Or the end of the
    /// stream: its pipes go on. Or that a pipe is to wait.
    fn write(&mut self, header: Header, bytes: &[u8], reply: Reply) {
        let end = PipeTransfer { id: STREAM, hang_up: true, bytes: &[] };
        if PipeTransfer::parse(bytes) == Some(end) {
            let link = self.contexts.get(&header.context).map(|context| &context.link);
            if matches!(link, None | Some(Link::None)) {
                return self.answer(header, Err(MALFORMED), reply);
            }
            self.close(header.context);
            return self.answer(header, Ok(ok(header)), reply);
        }
        if let Some(hold) = Hold::parse(bytes) {
            let held = self.hold_pipe(header.context, hold);
            return self.answer(header, held.map(|()| ok(header)), reply);
        }
        let pipe = PipeTransfer::parse(bytes).and_then(|transfer| {
            let &vfd = self.contexts.get(&header.context)?.ids.get(&transfer.id)?;
            let Some(Vfd::Pipe(pipe)) = self.vfds.get(vfd) else { return None };
            let writes = pipe.direction() == Direction::Write;
            (writes || transfer.bytes.is_empty()).then_some((vfd, transfer))
        });
        let Some((vfd, transfer)) = pipe else {
            return self.answer(header, Err(MALFORMED), reply);
        };
        if transfer.bytes.is_empty() {
            self.answer(header, Ok(ok(header)), reply);
        } else {
            self.send_to(vfd, header, transfer.bytes, Vec::new(), reply);
        }
        if transfer.hang_up {
            match self.flows.get_mut(&vfd) {
                Some(flow) => flow.close(),
                None => self.forget(header.context, transfer.id),
            }
        }
    }

    /// No more is read from a pipe for the guest, or is again.
    fn hold_pipe(&mut self, context: u32, hold: Hold) -> Result<(), Refusal> {
        let vfd = self.contexts.get(&context).and_then(|of| of.ids.get(&hold.id).copied());
        let vfd = vfd.ok_or(MALFORMED)?;
        match self.vfds.get_mut(vfd) {
            Some(Vfd::Pipe(pipe)) if pipe.direction() == Direction::Read => pipe.hold(hold.held),
            _ => return Err(MALFORMED),
        }
        self.refresh(vfd);
        Ok(())
    }

    /// POLL: its fence is signalled by the next event.
    fn poll(&mut self, header: Header, reply: Reply) {
        let id = header.context;
        let Some(context) = self.contexts.get_mut(&id) else { return };
        if !is_of_ring(header) || matches!(context.link, Link::None) {
            return self.answer(header, Err(MALFORMED), reply);
        }
        let ticket = context.fences.hold(id, header.ring, (reply, ok(header)));
        context.polls.push_back(ticket);
        self.deliver(id);
    }

    fn image(&mut self, id: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let command: GetImageRequirements = read(bytes).ok_or(MALFORMED)?;
        let ring = self.contexts.get(&id).map_or(0, |context| context.query_ring);
        let image = ImageRequirements::of(&command).ok_or(MALFORMED)?;
        let written = self.resources.write(ring, bytemuck::bytes_of(&image));
        written.then_some(()).ok_or(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID))
    }

    /// CTX_DESTROY, with all that the context has. Its resources are the VM's.
    pub(super) fn destroy(&mut self, header: Header, reply: Reply) {
        let Some(context) = self.contexts.get_mut(&header.context) else {
            let refusal = Refusal(message::RESP_ERR_INVALID_CONTEXT_ID);
            return self.answer(header, Err(refusal), reply);
        };
        let names: Vec<u32> = context.ids.keys().copied().collect();
        names.into_iter().for_each(|name| self.forget(header.context, name));
        self.close(header.context);
        if let Some(context) = self.contexts.remove(&header.context) {
            self.give(context.fences.into_answers());
        }
        self.control.complete(reply, &ok(header));
    }

    /// Removes what a context calls `name`.
    pub(super) fn forget(&mut self, context: u32, name: u32) {
        let vfd = self.contexts.get_mut(&context).and_then(|context| context.ids.remove(&name));
        if let Some(vfd) = vfd {
            self.remove(vfd);
        }
    }

    /// Closes the stream of a context.
    pub(super) fn close(&mut self, id: u32) {
        let Some(context) = self.contexts.get_mut(&id) else { return };
        match std::mem::replace(&mut context.link, Link::Over) {
            Link::Open(vfd) => {
                self.traces.end_context(&mut self.vfds, vfd);
                self.remove(vfd);
            }
            Link::Opening(_, flow) => flow.tickets().for_each(|ticket| self.finish(ticket)),
            Link::None | Link::Over => {}
        }
    }
}

/// Room for bytes in one event of a stream.
pub(super) fn receive_room(context: &Context) -> usize {
    wire::receive_room(context.room).unwrap_or(1)
}
