//! Bytes and fds that arrived on a Wayland stream, as messages.

use super::wire::{self, Message, WireError};
use crate::limits::KEPT;
use std::collections::VecDeque;

/// Most fds that may wait for their message, per stream and direction: nine full `sendmsg` of libwayland's. Peers that
/// stuff fds onto messages that take none get no further.
pub const MAX_PENDING_FDS: usize = 256;

/// Keeps what arrived until it makes whole messages. `F` stands for a file descriptor.
#[derive(Debug)]
pub struct Inbox<F> {
    bytes: Vec<u8>,
    read: usize,
    fds: VecDeque<F>,
}

impl<F> Default for Inbox<F> {
    fn default() -> Self {
        Self { bytes: Vec::new(), read: 0, fds: VecDeque::new() }
    }
}

impl<F> Inbox<F> {
    /// Adds what arrived. `false` if more than [`MAX_PENDING_FDS`] fds wait: the peer is to be disconnected.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>) -> bool {
        self.bytes.drain(..std::mem::take(&mut self.read));
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
        self.fds.len() <= MAX_PENDING_FDS
    }

    /// The next whole message, and the fds that wait (its own first). `max` is its largest size, in bytes.
    #[expect(clippy::type_complexity, reason = "the message borrows from here, and so do the fds")]
    pub fn next(
        &mut self,
        max: usize,
    ) -> Result<Option<(Message<'_>, &mut VecDeque<F>)>, (u32, WireError)> {
        let before = &self.bytes[self.read..];
        let mut rest = before;
        let message = wire::split(&mut rest, max)?;
        self.read += before.len() - rest.len();
        Ok(message.map(|message| (message, &mut self.fds)))
    }

    /// Takes the fds that wait for their message: the stream is over.
    pub fn drain_fds(&mut self) -> impl Iterator<Item = F> + use<'_, F> {
        self.fds.drain(..)
    }

    /// Bytes that wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REQUEST;
    use crate::wayland::Arg;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut bytes = Vec::new();
        for id in 1..50 {
            wire::encode(id, 2, &[Arg::Str(Some(c"some text")), Arg::Fd], &mut bytes);
        }
        let mut inbox = Inbox::default();
        let mut seen = 0;
        for (at, piece) in bytes.chunks(7).enumerate() {
            assert!(inbox.push(piece, [at]));
            while let Some((message, _)) = inbox.next(MAX_REQUEST).unwrap() {
                seen += 1;
                assert_eq!(message.object, seen);
            }
        }
        assert_eq!((seen, inbox.pending()), (49, 0));
    }

    #[test]
    fn what_was_large_once_is_not_kept() {
        let mut inbox = Inbox::<u32>::default();
        let mut bytes = Vec::new();
        (1..1000).for_each(|id| wire::encode(id, 2, &[], &mut bytes));
        for bytes in [&bytes[..], &bytes[..8]] {
            assert!(inbox.push(bytes, []));
            while inbox.next(MAX_REQUEST).unwrap().is_some() {}
        }
        assert!(inbox.bytes.capacity() <= KEPT);
    }

    #[test]
    fn stuffed_fds_are_noticed() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(&[], 0..MAX_PENDING_FDS));
        assert!(!inbox.push(&[], [0]));
    }
}
