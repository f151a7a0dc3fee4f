//! What becomes of bytes that a guest sends or is to get: the same for contexts and pipes.

use super::carried::Carried;
use wlproxy_protocol::wayland::Batch;

/// What became of bytes that the guest sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The device is done with them: they are written, queued within bounds, or nobody is there to read them.
    Done,
    /// The other side doesn't take them now. The guest's SEND is to be held back until a flush is done.
    Waiting,
}

/// What came for the guest.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Nothing now.
    Nothing,
    /// Bytes, and fds that go with the first of them.
    Batch(Batch<Carried>),
    /// The other side hung up; everything before was delivered.
    HangUp,
}
