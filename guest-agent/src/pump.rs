//! Moves bytes between a pipe of this VM and a pipe vfd: clipboards, drag and drop.

use crate::channel::{Arrived, Channel, Error, PipeEnd, Received, Sent, VfdId};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wlproxy_protocol::limits::MAX_SEND;

/// Messages that one [`Pump::progress`] moves, 64 KiB: then others get their turn. With a quarter of that,
/// pastes were seen to take twice as long.
const BURST: usize = 16;

/// A pipe vfd and the fd that continues it in this VM.
///
/// Holds at most one message's worth of bytes.
#[derive(Debug)]
pub(crate) struct Pump {
    vfd: VfdId,
    local: OwnedFd,
    /// Which end of the pipe the vfd is: `Read` means vfd to fd.
    end: PipeEnd,
    held: Vec<u8>,
    /// No more bytes will come; what is held still has to go.
    ended: bool,
}

/// Whether a pump has anything left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for the fd or the vfd.
    Waiting,
    /// It is to be called again.
    More,
    /// It is finished: close both.
    Done,
}

impl Pump {
    /// A pump between `vfd`, of which this VM has `end`, and `local`, which becomes non-blocking.
    pub(crate) fn new(vfd: VfdId, end: PipeEnd, local: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&local, FcntlArg::F_GETFL)?);
        fcntl(&local, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { vfd, local, end, held: Vec::new(), ended: false })
    }

    /// The vfd.
    pub(crate) fn vfd(&self) -> VfdId {
        self.vfd
    }

    /// Whether its fd takes no more for now. Then what comes next stays with the channel.
    pub(crate) fn is_stuck(&self) -> bool {
        self.end == PipeEnd::Read && !self.held.is_empty()
    }

    /// Moves what can be moved now.
    pub(crate) fn progress(&mut self, channel: &mut dyn Channel) -> Result<Progress, Error> {
        match self.end {
            PipeEnd::Read => self.feed_local(channel),
            PipeEnd::Write => self.feed_channel(channel),
        }
    }

    fn feed_local(&mut self, channel: &mut dyn Channel) -> Result<Progress, Error> {
        for _ in 0..BURST {
            while !self.held.is_empty() {
                match write(&self.local, &self.held) {
                    Ok(n) => drop(self.held.drain(..n)),
                    Err(Errno::EAGAIN) => return Ok(Progress::Waiting),
                    Err(Errno::EINTR) => {}
                    // The reader is gone, which is its right; closing the vfd tells the writer.
                    Err(_) => return Ok(Progress::Done),
                }
            }
            if self.ended {
                return Ok(Progress::Done);
            }
            match channel.receive(self.vfd, &mut self.held)? {
                Received::Message(vfds) => discard(vfds, channel),
                Received::Nothing if self.has_no_reader() => return Ok(Progress::Done),
                Received::Nothing => return Ok(Progress::Waiting),
                Received::HangUp => self.ended = true,
            }
        }
        Ok(Progress::More)
    }

    /// Whether nobody will read what is written to the fd. Without this a pump whose writer stays silent would outlive
    /// its reader.
    fn has_no_reader(&self) -> bool {
        let mut fd = [PollFd::new(self.local.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        matches!(poll(&mut fd, PollTimeout::ZERO), Ok(1))
            && fd[0].revents().is_some_and(|found| found.intersects(gone))
    }

    fn feed_channel(&mut self, channel: &mut dyn Channel) -> Result<Progress, Error> {
        match channel.receive(self.vfd, &mut Vec::new())? {
            Received::HangUp => return Ok(Progress::Done),
            // Nobody should write to it.
            Received::Message(vfds) => discard(vfds, channel),
            Received::Nothing => {}
        }
        for _ in 0..BURST {
            if !self.held.is_empty() {
                match channel.send(self.vfd, &self.held, &[])? {
                    Sent::Accepted => self.held.clear(),
                    Sent::Busy => return Ok(Progress::Waiting),
                }
            }
            if self.ended {
                return Ok(Progress::Done);
            }
            self.held.resize(MAX_SEND, 0);
            let read = read(&self.local, &mut self.held);
            self.held.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Progress::Waiting),
                Err(_) => return Ok(Progress::Done),
            }
        }
        Ok(Progress::More)
    }
}

/// vfds don't travel over pipes: closes those that did.
fn discard(vfds: Vec<Arrived>, channel: &mut dyn Channel) {
    vfds.iter().for_each(|arrived| channel.close(arrived.vfd()));
}

impl AsFd for Pump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.local.as_fd()
    }
}

#[cfg(test)]
mod tests;
