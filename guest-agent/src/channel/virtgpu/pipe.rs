//! One end of a pipe. The other end is the host's, once the pipe was sent over a context.

use super::device::RING_PIPES;
use super::outgoing::Outgoing;
use super::{PipeEnd, VfdId};
use std::collections::VecDeque;
use wlproxy_protocol::render_node::MAX_RINGS;

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
    pub(super) queue: VecDeque<Vec<u8>>,
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
            ended: false,
            closed: false,
        }
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
