//! What was sent last over a context or pipe, and whether the device has taken it.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::os::fd::{AsFd, OwnedFd};

/// The device holds the fence of a SEND back while the other side doesn't read.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    fence: Option<OwnedFd>,
    watched: bool,
}

impl Outgoing {
    /// Something was sent.
    pub(super) fn sent(&mut self, fence: OwnedFd) {
        *self = Self { fence: Some(fence), watched: false };
    }

    /// Whether the device hasn't taken it yet. Then the epoll set tells of `key` when it has.
    pub(super) fn is_busy(&mut self, epoll: &Epoll, key: u64) -> nix::Result<bool> {
        let Some(fence) = &self.fence else { return Ok(false) };
        let mut fds = [PollFd::new(fence.as_fd(), PollFlags::POLLIN)];
        let is_signalled = match poll(&mut fds, PollTimeout::ZERO) {
            Err(Errno::EINTR) => false,
            result => result? > 0,
        };
        if is_signalled {
            self.taken();
            return Ok(false);
        }
        if !self.watched {
            epoll.add(fence, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
            self.watched = true;
        }
        Ok(true)
    }

    /// The device has taken it.
    pub(super) fn taken(&mut self) {
        // Nobody else has this file, so the epoll set forgets it.
        *self = Self::default();
    }
}
