//! A pipe of which a guest has one end, and the host stands in for it.

use super::context::End;
use super::flow::{Incoming, Sent};
use super::poller::{Poller, Watched};
use super::toll::Toll;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::EpollFlags;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{pipe2, read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wlproxy_protocol::wayland::Batch;

/// How a transfer ends whose reader leaves.
const UNREAD: &str = "nobody reads it any more";

/// What the guest does with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// One end, and the other one as long as nobody was given it.
#[derive(Debug)]
pub(super) struct Pipe {
    direction: Direction,
    /// `None` after the other side hung up.
    end: Option<Watched<OwnedFd>>,
    remote: Option<OwnedFd>,
    /// What the pipe didn't take, from `written` on.
    waiting: Vec<u8>,
    written: usize,
    /// The guest wants no more for now of what it reads.
    held: bool,
    /// What is known of what it carries.
    toll: Toll,
}

impl Pipe {
    /// A new pipe, both ends still here.
    pub(super) fn new(direction: Direction, poller: &Poller, key: u64) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let (end, remote) = match direction {
            Direction::Read => (reader, writer),
            Direction::Write => (writer, reader),
        };
        let mut pipe = Self::of(direction, end, Toll::default(), poller, key)?;
        pipe.remote = Some(remote);
        Ok(pipe)
    }

    /// What kind of pipe end `fd` is; `None` if it is none.
    pub(super) fn direction_of(fd: BorrowedFd<'_>) -> Option<Direction> {
        let kind = SFlag::from_bits_truncate(fstat(fd).ok()?.st_mode) & SFlag::S_IFMT;
        let mode = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).ok()?) & OFlag::O_ACCMODE;
        match mode {
            _ if kind != SFlag::S_IFIFO => None,
            OFlag::O_RDONLY => Some(Direction::Read),
            OFlag::O_WRONLY => Some(Direction::Write),
            _ => None,
        }
    }

    /// An end that came with a stream, and what it carries.
    pub(super) fn of(
        direction: Direction,
        end: OwnedFd,
        toll: Toll,
        poller: &Poller,
        key: u64,
    ) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFL)?);
        fcntl(&end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let end = Some(poller.watched(key, end));
        Ok(Self {
            direction,
            end,
            remote: None,
            waiting: Vec::new(),
            written: 0,
            held: false,
            toll,
        })
    }

    /// Where it is counted what it carries.
    pub(super) fn toll(&self) -> &Toll {
        &self.toll
    }

    /// What the guest does with it.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// From now on the guest wants no more, or wants it again.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether the guest wants what there is to read.
    pub(super) fn is_wanted(&self) -> bool {
        !self.held
    }

    /// The other end, to be given away; `None` if it was already.
    pub(super) fn remote(&self) -> Option<BorrowedFd<'_>> {
        self.remote.as_ref().map(|fd| fd.as_fd())
    }

    /// The other end was given away. Ours must not keep it open: its closing is the hang-up.
    pub(super) fn give_away(&mut self) {
        self.remote = None;
    }

    /// Writes `bytes` after what waits already. After an error it has to end.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<Sent, End> {
        if self.end.is_none() {
            return Ok(Sent::Done);
        }
        let fits = self.toll.add(bytes.len());
        self.waiting.extend_from_slice(&bytes[..bytes.len().min(fits)]);
        let sent = self.flush();
        if fits < bytes.len() { Err(End::TooMuch) } else { Ok(sent) }
    }

    /// Writes what waits. [`Sent::Done`] also if nobody will ever read it.
    pub(super) fn flush(&mut self) -> Sent {
        while let (Some(end), false) = (&self.end, self.written == self.waiting.len()) {
            match write(&**end, &self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Sent::Waiting,
                Err(_) => {
                    self.toll.end(self.waiting.len() - self.written, UNREAD);
                    break;
                }
            }
        }
        self.waiting.clear();
        self.written = 0;
        Sent::Done
    }

    /// What is there to read, at most `limit` bytes, or that the other side hung up. After an error it has to end.
    pub(super) fn read(&mut self, limit: usize) -> Result<Incoming, End> {
        let Some(end) = &self.end else { return Ok(Incoming::Nothing) };
        if self.direction == Direction::Write {
            // Nothing can be read here; the only news is that there are no readers.
            return Ok(self.hang_up(UNREAD));
        }
        // One byte more than may come tells whether there is more.
        let left = self.toll.left();
        let mut bytes = vec![0; limit.min(left.max(1))];
        match read(&**end, &mut bytes) {
            Ok(0) => Ok(self.hang_up("whoever wrote it has closed it")),
            Ok(_) if left == 0 => Err(End::TooMuch),
            Ok(count) => {
                self.toll.add(count);
                bytes.truncate(count);
                Ok(Incoming::Batch(Batch { bytes, fds: Vec::new() }))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Incoming::Nothing),
            Err(errno) => Ok(self.hang_up(errno.desc())),
        }
    }

    fn hang_up(&mut self, why: &str) -> Incoming {
        self.finish(why);
        Incoming::HangUp
    }

    /// Closes our end. What waits is dropped: nobody is there for it.
    pub(super) fn finish(&mut self, why: &str) {
        self.toll.end(self.waiting.len() - self.written, why);
        self.end = None;
        self.waiting.clear();
        self.written = 0;
    }

    /// Waits for what there is to wait for; for bytes only if `may_read`.
    pub(super) fn watch(&mut self, may_read: bool) -> io::Result<()> {
        let interest = match self.direction {
            Direction::Read => (may_read && !self.held).then_some(EpollFlags::EPOLLIN),
            // With nothing to write, that the last reader went is still reported.
            Direction::Write if !may_read => None,
            Direction::Write if self.waiting.is_empty() => Some(EpollFlags::empty()),
            Direction::Write => Some(EpollFlags::EPOLLOUT),
        };
        self.end.as_mut().map_or(Ok(()), |end| end.watch(interest))
    }
}
