//! Streams that nobody here needs any more, and that still have something to write.

use super::carried::Carried;
use super::poller::{Poller, Watched};
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use wlproxy_unix::Stream;

/// Most of them. Each holds at most [`wlproxy_protocol::limits::MAX_QUEUED`] bytes; beyond this the oldest is cut off.
pub(super) const MAX_LINGERING: usize = 64;

/// Where the poller's keys of them start: above those of all that isn't closed. A device's are ids; a socket's, two for each
/// 32-bit number.
const KEYS: u64 = 1 << 34;

/// All of one device.
#[derive(Debug)]
pub(super) struct Lingering {
    poller: Poller,
    streams: VecDeque<(u64, Watched<Stream<Carried>>)>,
    next: u64,
}

impl Lingering {
    /// None yet.
    pub(super) fn new(poller: Poller) -> Self {
        Self { poller, streams: VecDeque::new(), next: KEYS }
    }

    /// Lets a stream write what it has, and closes it then.
    pub(super) fn add(&mut self, mut stream: Watched<Stream<Carried>>) {
        if self.streams.len() >= MAX_LINGERING {
            self.streams.pop_front();
        }
        let key = self.next;
        self.next += 1;
        if stream.rekey(key).is_ok() && goes_on(&mut stream, &self.poller) {
            self.streams.push_back((key, stream));
        }
    }

    /// The poller found something under `key`, which may be the key of one.
    pub(super) fn polled(&mut self, key: u64) {
        let Self { poller, streams, .. } = self;
        streams.retain_mut(|(other, stream)| *other != key || goes_on(stream, poller));
    }

    /// [`RETRY`](super::poller::RETRY) is due: those go on that wait for what no fd tells of.
    pub(super) fn retry(&mut self) {
        let Self { poller, streams, .. } = self;
        streams.retain_mut(|(_, stream)| !stream.is_stuck() || goes_on(stream, poller));
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }
}

/// Writes what a stream has. Whether it still has something, and is waited for.
fn goes_on(stream: &mut Watched<Stream<Carried>>, poller: &Poller) -> bool {
    if !matches!(stream.flush(), Ok(false)) {
        return false;
    }
    let waits = if stream.is_stuck() {
        stream.watch(None).and_then(|()| poller.retry_later())
    } else {
        stream.watch(Some(EpollFlags::EPOLLOUT))
    };
    waits.is_ok()
}
