//! A guest's way out: contexts, allocations and pipes, whatever device carries them.
//!
//! A channel is driven by one thread. It never blocks but in the calls that make a vfd or take memory in, which wait for
//! the device's answer (they are ioctls on a device node).

#[cfg(test)]
pub(crate) mod fake;
pub mod process;
#[cfg(test)]
pub(crate) mod scenarios;
mod spec;
pub mod virtgpu;
pub mod virtio_wl;

pub use spec::ChannelSpec;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use wlproxy_protocol::accept::{Token, Way, Ways};
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};

/// Names a vfd of one channel. Never reused while anything still refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VfdId(pub u32);

impl fmt::Display for VfdId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vfd {:#x}", self.0)
    }
}

/// Memory that the host made, or that another VM shares.
///
/// Dropping it closes the fd, not the vfd: [`Channel::close`] does that.
#[derive(Debug)]
pub struct Allocation {
    /// What to send it as.
    pub vfd: VfdId,
    /// To be mapped, whole, and nothing else: on other channels it is a dma-buf or a virtwl vfd.
    pub fd: OwnedFd,
    /// Size in bytes, a multiple of the page size.
    pub size: u64,
}

/// Which end of a pipe this guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipeEnd {
    /// This guest reads.
    Read,
    /// This guest writes.
    Write,
}

/// A vfd that arrived with some bytes.
#[derive(Debug)]
pub enum Arrived {
    /// Memory.
    Allocation(Allocation),
    /// One end of a pipe.
    Pipe(VfdId, PipeEnd),
}

impl Arrived {
    /// The vfd.
    pub fn vfd(&self) -> VfdId {
        match self {
            Self::Allocation(allocation) => allocation.vfd,
            &Self::Pipe(vfd, _) => vfd,
        }
    }
}

/// What [`Channel::receive`] found.
#[derive(Debug)]
pub enum Received {
    /// Bytes were appended; these vfds came with them, in order.
    Message(Vec<Arrived>),
    /// Nothing now. An [`Event::Readable`] tells when there is more.
    Nothing,
    /// The other side hung up, and everything that it sent before was received.
    HangUp,
}

/// Something that [`Channel::dispatch`] noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// [`Channel::receive`] has something for a vfd where it had nothing.
    Readable(VfdId),
    /// [`Channel::send`] takes bytes again, after it returned [`Sent::Busy`].
    Writable(VfdId),
}

/// What became of a [`Channel::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The device has it, or will.
    Accepted,
    /// Nothing was sent: an earlier send of this vfd isn't finished. An [`Event::Writable`] tells when it is.
    Busy,
}

/// Why a channel refused something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device, or whoever runs it, is gone. Every vfd with it.
    #[error("the channel is lost: {0}")]
    Lost(String),
    /// Memory, ids or a quota are used up.
    #[error("the host grants no more memory or vfds")]
    OutOfMemory,
    /// No such vfd or name.
    #[error("the host knows no such vfd or name")]
    NotFound,
    /// The device answered something else.
    #[error("the device refused: {0}")]
    Refused(String),
}

/// A guest's way out.
pub trait Channel {
    /// Becomes readable when [`Channel::dispatch`] has something to do.
    fn poll_fd(&self) -> BorrowedFd<'_>;

    /// Has `epoll` tell, as `key`, when [`Channel::dispatch`] has something to do: from now on, nobody waits for
    /// [`Channel::poll_fd`], which may be readable for no reason.
    ///
    /// An epoll set in another one costs each message some system calls more; so a channel has its own fds join.
    fn join(&mut self, epoll: &Epoll, key: u64) -> io::Result<()> {
        epoll.add(self.poll_fd(), EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        Ok(())
    }

    /// Takes in what happened, without blocking, and appends events. Fails only with [`Error::Lost`].
    fn dispatch(&mut self, events: &mut Vec<Event>) -> Result<(), Error>;

    /// The ways to open an accepted stream that this channel has.
    fn ways(&self) -> Ways;

    /// Opens a context to the host's default socket.
    fn connect(&mut self) -> Result<VfdId, Error>;

    /// Opens the stream that a record announced. The caller then sends the token.
    fn open(&mut self, way: Way, token: Token) -> Result<VfdId, Error>;

    /// Opens the context for this agent's [reports](wlproxy_protocol::report).
    ///
    /// Whoever is on the other side may know nothing of reports: that is an error like any other, and what a channel
    /// says that has no such context.
    fn open_reports(&mut self) -> Result<VfdId, Error> {
        Err(Error::NotFound)
    }

    /// Asks for memory of at least `size` bytes, zeroed. `size` must not be 0.
    fn allocate(&mut self, size: u64) -> Result<Allocation, Error>;

    /// Makes a pipe of which this guest has `end`. Sending it gives the other end away.
    fn pipe(&mut self, end: PipeEnd) -> Result<VfdId, Error>;

    /// Sends up to [`wlproxy_protocol::limits::MAX_SEND`] bytes and [`wlproxy_protocol::limits::MAX_FDS`] vfds over a
    /// context or pipe, all or nothing.
    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error>;

    /// Takes one message that arrived for a context or pipe, and appends its bytes to `bytes`.
    ///
    /// What isn't taken holds a buffer of the device: that is how a slow reader is noticed by the sender.
    fn receive(&mut self, vfd: VfdId, bytes: &mut Vec<u8>) -> Result<Received, Error>;

    /// Closes a vfd. Unknown ids are ignored; what already arrived for it is dropped.
    fn close(&mut self, vfd: VfdId);
}

/// What to ask a device for when somebody wants an allocation of `size` bytes: whole pages, in bytes.
fn whole_pages(size: u64) -> Result<u32, Error> {
    if size == 0 {
        return Err(Error::Refused("an allocation of 0 bytes".into()));
    }
    let rounded = size.checked_next_multiple_of(PAGE_SIZE).filter(|&size| size <= MAX_ALLOCATION);
    rounded.and_then(|size| u32::try_from(size).ok()).ok_or(Error::OutOfMemory)
}
