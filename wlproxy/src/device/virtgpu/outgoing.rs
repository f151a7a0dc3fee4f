//! What goes to streams and pipes, and the answers that wait for it.

use super::fences::{Answer, Ticket};
use super::{Virtgpu, is_of_ring, ok};
use crate::device::carried::Carried;
use crate::device::context::{End, MAX_QUEUED_FDS};
use crate::device::flow::Sent;
use crate::device::ring::Reply;
use crate::device::vfds::{Vfd, take_report};
use std::collections::VecDeque;
use std::time::Instant;
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_protocol::virtio_gpu::Header;

/// One part in so many of the control queue: as many SENDs and WRITEs are held back together. More are answered at once;
/// what they bring is bounded all the same.
const HELD: usize = 8;

/// Most bytes of memory that what waits for all streams and pipes of a device takes: so many contexts that have as many as one
/// may. A guest can make thousands of pipes that nobody reads.
const MAX_WAITING: usize = 64 * MAX_QUEUED;

/// What each thing that waits costs beside its bytes, in bytes: its place in the queue, and what an allocator adds to each of
/// its parts. A guest may send one byte at a time.
const EACH: usize = size_of::<Later>() + 32;

/// What waits to be written to one stream or pipe.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Something is with the vfd, and not all written. It may hold an answer back.
    flushing: Option<Option<Ticket>>,
    /// Comes after that.
    later: VecDeque<Later>,
    pub(super) bytes: usize,
    fds: usize,
}

#[derive(Debug)]
enum Later {
    Send(Vec<u8>, Vec<Carried>, Option<Ticket>, Instant),
    Close,
}

impl Flow {
    /// Closes the pipe after all that.
    pub(super) fn close(&mut self) {
        if !matches!(self.later.back(), Some(Later::Close)) {
            self.later.push_back(Later::Close);
        }
    }

    /// Something comes last.
    pub(super) fn push(&mut self, bytes: &[u8], fds: Vec<Carried>, ticket: Option<Ticket>) {
        self.bytes += bytes.len();
        self.fds += fds.len();
        self.later.push_back(Later::Send(bytes.to_vec(), fds, ticket, Instant::now()));
    }

    /// Whether more waits than `most` bytes, or than fds may.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.cost() > most || self.fds > MAX_QUEUED_FDS
    }

    /// Bytes of memory that it takes.
    fn cost(&self) -> usize {
        self.bytes + self.later.len() * EACH
    }

    /// How many things come after what is being written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.later.len()
    }

    /// The answers that wait for it.
    pub(super) fn tickets(self) -> impl Iterator<Item = Ticket> {
        let later = self.later.into_iter().map(|later| match later {
            Later::Send(_, _, ticket, _) => ticket,
            Later::Close => None,
        });
        self.flushing.into_iter().chain(later).flatten()
    }
}

impl Virtgpu {
    /// Sends, after what waits already: answered at once, or when the other side has taken it.
    pub(super) fn send_to(
        &mut self,
        vfd: u32,
        header: Header,
        bytes: &[u8],
        fds: Vec<Carried>,
        reply: Reply,
    ) {
        // One that has come when its VM had sent too much waits before it has said anything.
        let is_held = self.flows.contains_key(&vfd);
        if !is_held && !self.vfds.waits(vfd) {
            match self.send_now(vfd, bytes, fds, Instant::now()) {
                Ok(Sent::Waiting) => {
                    let ticket = self.hold(header, reply);
                    self.flows.entry(vfd).or_default().flushing = Some(ticket);
                }
                result => {
                    self.answer(header, Ok(ok(header)), reply);
                    if let Err(end) = result {
                        self.end(vfd, &end);
                    }
                }
            }
        } else {
            let ticket = self.hold(header, reply);
            let most = match self.vfds.get(vfd) {
                Some(Vfd::Context(_)) => self.vfds.most_requests(),
                _ => MAX_QUEUED,
            };
            let flow = self.flows.entry(vfd).or_default();
            flow.push(bytes, fds, ticket);
            let full = flow.is_full(most);
            if full || self.flows.values().map(Flow::cost).sum::<usize>() > MAX_WAITING {
                let is_hasty =
                    matches!(self.vfds.get(vfd), Some(Vfd::Context(of)) if of.is_paused());
                self.end(vfd, if is_hasty { &End::Hasty } else { &End::Full });
            }
        }
        self.refresh(vfd);
    }

    /// Hands bytes to a stream or pipe.
    fn send_now(
        &mut self,
        vfd: u32,
        bytes: &[u8],
        fds: Vec<Carried>,
        taken: Instant,
    ) -> Result<Sent, End> {
        let sent = match self.vfds.get_mut(vfd) {
            Some(Vfd::Context(context)) => context.send(bytes, fds, taken),
            Some(Vfd::Pipe(pipe)) => pipe.send(bytes),
            Some(Vfd::Reports(reporter)) => take_report(reporter.as_mut(), bytes),
            Some(Vfd::Allocation(_)) | None => Ok(Sent::Done),
        };
        self.traces.tell(&mut self.vfds, vfd, None);
        sent
    }

    /// What was with a stream or pipe is written: goes on with what comes after.
    pub(super) fn resume(&mut self, vfd: u32) {
        while let Some(flow) = self.flows.get_mut(&vfd) {
            if let Some(Some(ticket)) = flow.flushing.take() {
                self.finish(ticket);
                continue;
            }
            match flow.later.pop_front() {
                None => drop(self.flows.remove(&vfd)),
                Some(Later::Close) => {
                    if let Some(&(context, name)) = self.owners.get(&vfd) {
                        self.forget(context, name);
                    }
                }
                Some(Later::Send(bytes, fds, ticket, taken)) => {
                    flow.bytes -= bytes.len();
                    flow.fds -= fds.len();
                    match self.send_now(vfd, &bytes, fds, taken) {
                        Ok(Sent::Waiting) => {
                            self.flows.entry(vfd).or_default().flushing = Some(ticket);
                            return;
                        }
                        result => {
                            ticket.into_iter().for_each(|ticket| self.finish(ticket));
                            if let Err(end) = result {
                                return self.end(vfd, &end);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Holds the answer to a command back, unless nobody would wait for it, or too many are.
    pub(super) fn hold(&mut self, header: Header, reply: Reply) -> Option<Ticket> {
        let held = self.contexts.values().map(|of| of.fences.len() - of.polls.len());
        let room = held.sum::<usize>() < self.control.size() / HELD;
        match self.contexts.get_mut(&header.context) {
            Some(context) if room && is_of_ring(header) => {
                let answer = (reply, ok(header));
                Some(context.fences.hold(header.context, header.ring, answer))
            }
            _ => {
                self.answer(header, Ok(ok(header)), reply);
                None
            }
        }
    }

    /// Gives an answer that was held back, and those that only waited for it.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        let Some(context) = self.contexts.get_mut(&ticket.context) else { return };
        let answers = context.fences.finish(ticket);
        self.give(answers);
    }

    pub(super) fn give(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for (reply, response) in answers {
            self.control.complete(reply, &response);
        }
    }

    /// Removes a vfd and all that waits for it.
    pub(super) fn remove(&mut self, vfd: u32) {
        self.vfds.remove(vfd);
        self.owners.remove(&vfd);
        if let Some(flow) = self.flows.remove(&vfd) {
            flow.tickets().for_each(|ticket| self.finish(ticket));
        }
    }
}
