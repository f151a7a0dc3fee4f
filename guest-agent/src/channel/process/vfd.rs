//! What the driver knows of one vfd.

use super::PipeEnd;
use std::collections::VecDeque;

/// What a vfd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stream.
    Context,
    /// One end of a pipe: ours.
    Pipe(PipeEnd),
    /// Memory in the window; both in bytes.
    Memory { offset: u64, size: u64 },
}

impl Kind {
    /// Whether SEND works.
    pub(super) fn can_send(self) -> bool {
        matches!(self, Self::Context | Self::Pipe(PipeEnd::Write))
    }

    /// Whether RECV may come.
    pub(super) fn can_receive(self) -> bool {
        matches!(self, Self::Context | Self::Pipe(PipeEnd::Read))
    }
}

/// Who has a vfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The channel's user, or it is about to.
    Open,
    /// The device announced it, and no message lists it yet.
    Announced,
    /// A message lists it that wasn't received yet.
    Listed,
    /// Nobody: a CLOSE is under way.
    Closing,
}

/// A message that wasn't received yet, in a buffer of the IN ring.
#[derive(Debug)]
pub(super) struct Message {
    /// The buffer.
    pub(super) buffer: u16,
    /// Where the bytes begin in it.
    pub(super) start: usize,
    /// How many bytes there are.
    pub(super) len: usize,
    /// What comes with them.
    pub(super) vfds: Vec<u32>,
}

/// A vfd.
#[derive(Debug)]
pub(super) struct Vfd {
    /// What it is.
    pub(super) kind: Kind,
    /// Who has it.
    pub(super) state: State,
    /// What came for it.
    pub(super) queue: VecDeque<Message>,
    /// Nothing more will come for it.
    pub(super) hung_up: bool,
    /// A SEND is under way.
    pub(super) sending: bool,
    /// The response that refused a SEND; there will be no more.
    pub(super) refused: Option<u32>,
    /// The CLOSE was answered.
    pub(super) closed: bool,
}

impl Vfd {
    /// A vfd to which nothing has happened.
    pub(super) fn new(kind: Kind, state: State) -> Self {
        Self {
            kind,
            state,
            queue: VecDeque::new(),
            hung_up: false,
            sending: false,
            refused: None,
            closed: false,
        }
    }

    /// Whether there is something to receive, or the end.
    pub(super) fn is_readable(&self) -> bool {
        self.hung_up || !self.queue.is_empty()
    }
}
