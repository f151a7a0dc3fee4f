//! What all connections of an agent share: the channel, memory to reuse, constant files, pumps, numbers.

use crate::channel::{Allocation, Arrived, Channel, Error, PipeEnd, VfdId};
use crate::constants::Constants;
use crate::pump::{Progress, Pump};
use crate::recycler::Recycler;
use crate::stats::Stats;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::pipe2;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use wlproxy_protocol::limits::PAGE_SIZE;

/// The key of the channel in the epoll set. Connections and pumps count from one.
pub(crate) const CHANNEL: u64 = 0;

/// Most pipes that are pumped at once, per agent. A desktop has a handful; each holds two fds.
const MAX_PUMPS: usize = 256;

/// Largest file that is copied for a peer (keymaps and format tables have some 60 KB), in bytes.
const MAX_CONSTANT: u64 = 16 * 1024 * 1024;

/// Why an fd or a vfd could not be carried over.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The channel refused.
    #[error(transparent)]
    Channel(#[from] Error),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The fd is nothing that can cross.
    #[error("only pipes and files can cross between VMs, not {0}")]
    Kind(&'static str),
    /// A bound is reached.
    #[error("more than {0}")]
    Limit(&'static str),
}

impl From<Errno> for CarryError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What all connections of an agent share.
pub struct World {
    /// The way out.
    pub channel: Box<dyn Channel>,
    /// Memory that no client needs now.
    pub memory: Recycler,
    /// Numbers.
    pub stats: Stats,
    constants: Constants,
    /// One page that stands for every pool without a buffer.
    placeholder: Option<Allocation>,
    epoll: Epoll,
    pumps: HashMap<u64, Pump>,
    pipe_keys: HashMap<VfdId, u64>,
    last_key: u64,
    /// Pumps that were made and never run: data may wait already.
    pub(crate) fresh: Vec<u64>,
}

impl World {
    /// Everything on top of `channel`.
    pub fn new(channel: Box<dyn Channel>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(channel.poll_fd(), EpollEvent::new(EpollFlags::EPOLLIN, CHANNEL))?;
        Ok(Self {
            channel,
            memory: Recycler::default(),
            stats: Stats::default(),
            constants: Constants::default(),
            placeholder: None,
            epoll,
            pumps: HashMap::new(),
            pipe_keys: HashMap::new(),
            last_key: CHANNEL,
            fresh: Vec::new(),
        })
    }

    /// The epoll set of the channel and of every local fd.
    pub(crate) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Watches a local fd, edge-triggered both ways. Returns its key.
    pub(crate) fn watch(&mut self, fd: impl AsFd) -> io::Result<u64> {
        self.last_key += 1;
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(fd, EpollEvent::new(flags, self.last_key))?;
        Ok(self.last_key)
    }

    /// The pump that uses this vfd.
    pub(crate) fn pump_of(&self, vfd: VfdId) -> Option<u64> {
        self.pipe_keys.get(&vfd).copied()
    }

    /// Lets a pump move what it can; `false` if `key` is no pump's.
    pub(crate) fn run_pump(&mut self, key: u64) -> Result<bool, Error> {
        let Some(pump) = self.pumps.get_mut(&key) else { return Ok(false) };
        if pump.progress(&mut *self.channel)? == Progress::Done {
            let pump = self.pumps.remove(&key).expect("it was there");
            self.pipe_keys.remove(&pump.vfd());
            self.channel.close(pump.vfd());
            self.stats.pipes -= 1;
        }
        Ok(true)
    }

    fn add_pump(&mut self, vfd: VfdId, end: PipeEnd, local: OwnedFd) -> Result<(), CarryError> {
        if self.pumps.len() >= MAX_PUMPS {
            self.channel.close(vfd);
            return Err(CarryError::Limit("256 pipes at once"));
        }
        let pump = Pump::new(vfd, end, local)?;
        let key = match self.watch(&pump) {
            Ok(key) => key,
            // A file, which is always ready: the pump then runs when the vfd is.
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                self.last_key += 1;
                self.last_key
            }
            Err(error) => return Err(error.into()),
        };
        self.pipe_keys.insert(vfd, key);
        self.pumps.insert(key, pump);
        self.fresh.push(key);
        self.stats.pipes += 1;
        Ok(())
    }

    /// The vfd of a page that nothing is ever drawn in, shared by all clients.
    pub(crate) fn placeholder(&mut self) -> Result<VfdId, Error> {
        if self.placeholder.is_none() {
            self.placeholder =
                Some(self.memory.take(PAGE_SIZE, &mut *self.channel, &mut self.stats)?);
        }
        Ok(self.placeholder.as_ref().expect("just made").vfd)
    }

    /// Carries an fd of this VM out: a pipe goes on as a pipe, a file's content as an allocation.
    pub fn carry_out(&mut self, fd: OwnedFd) -> Result<VfdId, CarryError> {
        let stat = fstat(&fd)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFREG {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            if size == 0 || size > MAX_CONSTANT {
                return Err(CarryError::Limit("16 MiB in a file, or nothing"));
            }
            return self.constants.allocation_of(&fd, size, &mut *self.channel, &mut self.stats);
        }
        if kind != SFlag::S_IFIFO && kind != SFlag::S_IFSOCK {
            return Err(CarryError::Kind("a device or directory"));
        }
        let mode = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
        // Who may only read gets what this VM writes, and the other way round. A socket goes the way of the selection
        // protocols, in which the fd is there to be written to.
        let end = if mode == OFlag::O_RDONLY { PipeEnd::Write } else { PipeEnd::Read };
        let vfd = self.channel.pipe(end)?;
        self.add_pump(vfd, end, fd)?;
        Ok(vfd)
    }

    /// Carries a pipe that arrived in: the end that the local peer is to get.
    pub fn carry_pipe_in(&mut self, vfd: VfdId, end: PipeEnd) -> Result<OwnedFd, CarryError> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let (ours, theirs) = match end {
            PipeEnd::Read => (write, read),
            PipeEnd::Write => (read, write),
        };
        self.add_pump(vfd, end, ours)?;
        Ok(theirs)
    }

    /// A constant file with the first `size` bytes of an allocation that arrived.
    pub fn constant_file(
        &mut self,
        allocation: &Allocation,
        size: u64,
    ) -> Result<OwnedFd, CarryError> {
        if size == 0 || size > allocation.size.min(MAX_CONSTANT) {
            return Err(CarryError::Limit("its memory has, or 16 MiB"));
        }
        self.constants.file_of(&allocation.fd, size)
    }

    /// Closes what arrived and wasn't used.
    pub fn discard(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Allocation(allocation) => self.channel.close(allocation.vfd),
            Arrived::Pipe(vfd, _) => self.channel.close(vfd),
        }
    }
}
