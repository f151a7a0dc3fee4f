//! One end of a pipe. The other end is the host's, once the pipe was sent over a context.

use super::device::RING_PIPES;
use super::outgoing::Outgoing;
use super::{PipeEnd, VfdId};
use std::collections::VecDeque;
use wlproxy_protocol::cross_domain::Hold;
use wlproxy_protocol::render_node::MAX_RINGS;

/// So much waits of one pipe, in bytes, before the host is told to let it wait: a little more than one event brings
/// (a ring of 64 KiB, without the event's header).
const HOLD: usize = 64 * 1024;

/// More than that only waits, in bytes, if the host doesn't do so: less than [`HOLD`] before an event, that event, and one
/// more that is on its way when the host is told. An agent leaves few pipes unread (`guest-agent/src/world.rs`), so that
/// much of each needs no bound of its own.
const ROOM: usize = 3 * HOLD;

/// The context that carries a pipe, and what it is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) context: VfdId,
    pub(super) name: u32,
}

impl Carrier {
    /// The fence ring of what is written.
    pub(super) fn ring(self) -> u32 {
        RING_PIPES + self.name % (MAX_RINGS - RING_PIPES)
    }
}

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) end: PipeEnd,
    /// None until it is sent.
    pub(super) carrier: Option<Carrier>,
    pub(super) outgoing: Outgoing,
    /// Somebody wanted to write before there was anybody to read.
    pub(super) wants_writable: bool,
    /// What waits to be received.
    queue: VecDeque<Vec<u8>>,
    /// Bytes of that.
    queued: usize,
    /// The host was told to let it wait.
    held: bool,
    /// There is no more to come, or nobody who reads.
    pub(super) ended: bool,
    /// It arrived, and the message that brought it wasn't received: nothing is told of it.
    pub(super) hidden: bool,
    /// Nobody knows the vfd any more.
    pub(super) closed: bool,
}

impl Pipe {
    /// A pipe of which this VM has `end`.
    pub(super) fn new(end: PipeEnd, carrier: Option<Carrier>) -> Self {
        Self {
            end,
            hidden: carrier.is_some(),
            carrier,
            outgoing: Outgoing::default(),
            wants_writable: false,
            queue: VecDeque::new(),
            queued: 0,
            held: false,
            ended: false,
            closed: false,
        }
    }

    /// Something came. What the host is to be told of that, if anything.
    pub(super) fn push(&mut self, bytes: Vec<u8>) -> Option<Hold> {
        self.queued += bytes.len();
        match self.queue.back_mut() {
            // Or a byte at a time would cost many times its size.
            Some(last) if last.len() + bytes.len() <= HOLD => last.extend(bytes),
            _ => self.queue.push_back(bytes),
        }
        let is_much = self.queued >= HOLD && !self.held && !self.ended;
        is_much.then(|| self.hold(true)).flatten()
    }

    /// What came first, and what the host is to be told when it is taken.
    pub(super) fn pop(&mut self) -> Option<(Vec<u8>, Option<Hold>)> {
        let bytes = self.queue.pop_front()?;
        self.queued -= bytes.len();
        let is_little = self.queue.is_empty() && self.held;
        Some((bytes, is_little.then(|| self.hold(false)).flatten()))
    }

    /// Drops all that came.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.queued = 0;
    }

    /// Bytes that count against its context: none as long as the host lets it wait, but all while nobody has been told of
    /// it. So many such pipes may come with a message, and of these an agent's bound knows nothing.
    pub(super) fn cost(&self) -> usize {
        self.queued.saturating_sub(if self.hidden { 0 } else { ROOM })
    }

    fn hold(&mut self, held: bool) -> Option<Hold> {
        self.held = held;
        self.carrier.map(|carrier| Hold { id: carrier.name, held })
    }

    /// Whether there is something to receive, or the end.
    pub(super) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.ended
    }

    /// Whether the vfd is to hear of things.
    pub(super) fn is_heard(&self) -> bool {
        !self.hidden && !self.closed
    }
}
