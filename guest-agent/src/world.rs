//! What all connections of an agent share: the channel, memory to reuse, constant files, pumps, numbers.

use crate::carry::CarryError;
use crate::channel::{Allocation, Arrived, Channel, Error, PipeEnd, VfdId};
use crate::constants::{Constants, MAX_CONSTANT};
use crate::lend::{self, Lender, Lent};
use crate::mapped::Mapped;
use crate::pump::{Progress, Pump};
use crate::recycler::Recycler;
use crate::stats::Stats;
use crate::turns::Account;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::pipe2;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use wlproxy_protocol::limits::PAGE_SIZE;

/// The key of the channel in the epoll set. Connections and pumps count on from [`REST_END`].
pub(crate) const CHANNEL: u64 = 0;

/// The key of the timer that tells when stuck streams have rested.
pub(crate) const REST_END: u64 = 1;

/// Most pipes that are pumped at once on one account. A desktop has a handful; each holds an fd and a vfd. One more ends
/// the oldest.
const MAX_PUMPS: usize = 64;

/// Most pipes whose readers are behind at once, on all accounts together. What comes next for each holds a receive buffer,
/// and our device leaves 72 of a ring's to unread pipes (`wlproxy`, `in_ring.rs`): the rest is for those that are read. One
/// more ends the oldest of the account that has most of them.
const MAX_STUCK: usize = 64;

/// How long a stream that is stuck rests. Short beside a person's patience, long beside the cost of a look at all
/// connections.
const REST: Duration = Duration::from_millis(10);

/// Device number of `/dev/null` (Linux, `Documentation/admin-guide/devices.txt`).
const NULL: u64 = makedev(1, 3);

/// For whom something is carried.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The VM on the other side, as far as that is known: no two of them share memory.
    pub vm: &'a str,
    /// Whose pipes are counted together, so that nobody else's suffer if they are too many, and have turns together.
    pub account: &'a str,
}

/// What all connections of an agent share.
pub struct World {
    /// The way out.
    pub channel: Box<dyn Channel>,
    /// Memory that no client needs now.
    pub memory: Recycler,
    /// Numbers.
    pub stats: Stats,
    /// What applications draw into themselves.
    pub(crate) lender: Lender,
    constants: Constants,
    /// One page that stands for every pool without a buffer.
    placeholder: Option<Mapped>,
    epoll: Epoll,
    /// Is due when stuck streams have rested.
    rest: TimerFd,
    /// Pumps, oldest first, and on whose account they are.
    pumps: BTreeMap<u64, (Pump, Account)>,
    /// On whose account all are who borrow.
    lending: Account,
    pipe_keys: HashMap<VfdId, u64>,
    last_key: u64,
    /// Pumps and borrowers that were made and never run: data may wait already.
    pub(crate) fresh: Vec<u64>,
}

impl World {
    /// Everything on top of `channel`.
    pub fn new(mut channel: Box<dyn Channel>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        channel.join(&epoll, CHANNEL)?;
        let rest = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        epoll.add(&rest, EpollEvent::new(EpollFlags::EPOLLIN, REST_END))?;
        Ok(Self {
            channel,
            memory: Recycler::default(),
            stats: Stats::default(),
            lender: Lender::default(),
            constants: Constants::default(),
            placeholder: None,
            epoll,
            rest,
            pumps: BTreeMap::new(),
            lending: Account::default(),
            pipe_keys: HashMap::new(),
            last_key: REST_END,
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

    /// Lets a stream rest that [is stuck](wlproxy_unix::Stream::is_stuck): what it waits for, no fd tells of.
    pub(crate) fn rest(&self) -> io::Result<()> {
        if self.rest.get()?.is_none() {
            let end = Expiration::OneShot(TimeSpec::from_duration(REST));
            self.rest.set(end, TimerSetTimeFlags::empty())?;
        }
        Ok(())
    }

    /// The rest is over.
    pub(crate) fn end_rest(&self) {
        // The only error is that it isn't.
        let _ = self.rest.wait();
    }

    /// The pump that uses this vfd.
    pub(crate) fn pump_of(&self, vfd: VfdId) -> Option<u64> {
        self.pipe_keys.get(&vfd).copied()
    }

    /// Who shares a turn with what has this key, if it is a pump's or a borrower's.
    pub(crate) fn account_of(&self, key: u64) -> Option<&Account> {
        let account = self.pumps.get(&key).map(|(_, account)| account);
        account.or_else(|| self.lender.knows(key).then_some(&self.lending))
    }

    /// Lets a pump move what it can. Keys that are no pump's are ignored. Fails only with [`Error::Lost`].
    pub(crate) fn run_pump(&mut self, key: u64) -> Result<Progress, Error> {
        let Some((pump, _)) = self.pumps.get_mut(&key) else { return Ok(Progress::Done) };
        let progress = match pump.progress(&mut *self.channel) {
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) => {
                tracing::warn!("a pipe between VMs ends: {error}");
                Progress::Done
            }
            Ok(progress) => progress,
        };
        match progress {
            Progress::Done => self.end_pump(key),
            Progress::Waiting => self.bound_stuck(),
            Progress::More => {}
        }
        Ok(progress)
    }

    fn bound_stuck(&mut self) {
        if self.pumps.len() <= MAX_STUCK {
            return;
        }
        // How many there are, and which is the oldest, by account.
        let mut stuck: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for (&key, (pump, account)) in &self.pumps {
            if pump.is_stuck() {
                stuck.entry(account).or_insert((0, key)).0 += 1;
            }
        }
        if stuck.values().map(|(count, _)| count).sum::<usize>() <= MAX_STUCK {
            return;
        }
        if let Some((&account, &(_, oldest))) = stuck.iter().max_by_key(|(_, (count, _))| *count) {
            tracing::warn!(account, "more than {MAX_STUCK} pipes aren't read: one of them ends");
            self.end_pump(oldest);
        }
    }

    fn end_pump(&mut self, key: u64) {
        let Some((pump, _)) = self.pumps.remove(&key) else { return };
        // Closing the fd isn't enough: whoever sent it may still have the open file that epoll knows it by.
        let _ = self.epoll.delete(&pump);
        self.pipe_keys.remove(&pump.vfd());
        // Not closed at once: the message that gives the other end away may still wait.
        self.memory.retire(pump.vfd());
        self.stats.pipes -= 1;
    }

    /// Closes what nobody needs any more, but for vfds that a message in some queue still names.
    pub(crate) fn close_retired(&mut self, is_queued: impl Fn(VfdId) -> bool) {
        let Self { memory, channel, .. } = self;
        memory.close_retired(&mut **channel, is_queued);
    }

    /// An application wants to borrow allocations, over `socket`. If too many do, it is told nothing.
    pub(crate) fn lend_to(&mut self, socket: OwnedFd) -> io::Result<()> {
        if self.lender.has_room() {
            let key = self.watch(&socket)?;
            self.lender.add(key, socket);
            self.fresh.push(key);
        }
        Ok(())
    }

    /// Does what an application that borrows asks for. Fails only with [`Error::Lost`].
    pub(crate) fn run_borrower(&mut self, key: u64) -> Result<lend::Progress, Error> {
        let Self { lender, channel, memory, stats, .. } = self;
        lender.step(key, &mut lend::Means { channel: &mut **channel, memory, stats })
    }

    /// Gives back to the host what applications have parted from and nobody uses.
    pub(crate) fn sweep_lent(&mut self) {
        self.lender.sweep(&mut self.memory, &mut self.stats);
    }

    /// An fd of an application's arrived, and isn't used as an allocation. If it is one, it isn't waited for any more.
    pub(crate) fn arrived_unused(&mut self, fd: impl AsFd) {
        drop(self.lender.arrived(fd));
        self.sweep_lent();
    }

    /// A vfd won't be sent: if it is a pipe's, nobody will ever have the other end.
    pub(crate) fn abandon(&mut self, vfd: VfdId) {
        if let Some(key) = self.pump_of(vfd) {
            self.end_pump(key);
        }
    }

    /// Pumps between a pipe vfd and an fd. If it can't, the vfd is closed.
    fn add_pump(
        &mut self,
        vfd: VfdId,
        end: PipeEnd,
        local: OwnedFd,
        account: &str,
    ) -> Result<(), CarryError> {
        let added = self.try_add_pump(vfd, end, local, account);
        if added.is_err() {
            self.channel.close(vfd);
        }
        added
    }

    fn try_add_pump(
        &mut self,
        vfd: VfdId,
        end: PipeEnd,
        local: OwnedFd,
        account: &str,
    ) -> Result<(), CarryError> {
        let of_account = self.pumps.iter().filter(|(_, (_, of))| **of == *account);
        let theirs: Vec<u64> = of_account.map(|(&key, _)| key).collect();
        if theirs.len() >= MAX_PUMPS {
            // Who opens so many loses a transfer that it left lying, and nobody a window.
            tracing::warn!(account, "more than {MAX_PUMPS} pipes at once: the oldest ends");
            self.end_pump(theirs[0]);
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
        self.pumps.insert(key, (pump, account.into()));
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

    /// Carries an fd of this VM out to `peer`: a pipe goes on as a pipe, a file's content as an allocation.
    pub fn carry_out(&mut self, fd: OwnedFd, peer: Peer<'_>) -> Result<VfdId, CarryError> {
        if let Some(lent) = self.lender.arrived(&fd) {
            let carried = self.carry_lent(&lent, peer);
            drop(lent);
            self.sweep_lent();
            return carried;
        }
        let stat = fstat(&fd)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let mode = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
        if kind == SFlag::S_IFREG && mode != OFlag::O_WRONLY {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            if size > MAX_CONSTANT {
                return Err(CarryError::Limit("16 MiB in a file"));
            }
            // Read, rather than mapped: nobody can take its pages away meanwhile.
            let mut content = vec![0; size as usize];
            File::from(fd).read_exact_at(&mut content, 0)?;
            return self.carry_content(content, peer.vm);
        }
        if kind == SFlag::S_IFCHR && stat.st_rdev == NULL {
            // What compositors send where there is no keymap.
            return self.carry_content(Vec::new(), peer.vm);
        }
        self.carry_stream(fd, kind, mode, peer)
    }

    /// A file that isn't a pool, though an application took it for one. Of an allocation nothing may be read but through a
    /// mapping.
    fn carry_lent(&mut self, lent: &Lent, peer: Peer<'_>) -> Result<VfdId, CarryError> {
        if lent.size() > MAX_CONSTANT {
            return Err(CarryError::Limit("16 MiB in a file"));
        }
        self.carry_content(lent.content()?, peer.vm)
    }

    /// Carries an fd of this VM out to `peer` that is there to be written to, whatever could be read from it.
    pub fn carry_target(&mut self, fd: OwnedFd, peer: Peer<'_>) -> Result<VfdId, CarryError> {
        self.arrived_unused(&fd);
        let stat = fstat(&fd)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let is_null = kind == SFlag::S_IFCHR && stat.st_rdev == NULL;
        self.carry_stream(fd, if is_null { SFlag::S_IFREG } else { kind }, OFlag::O_WRONLY, peer)
    }

    fn carry_stream(
        &mut self,
        fd: OwnedFd,
        kind: SFlag,
        mode: OFlag,
        peer: Peer<'_>,
    ) -> Result<VfdId, CarryError> {
        if ![SFlag::S_IFREG, SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&kind) {
            return Err(CarryError::Kind("devices or directories"));
        }
        // Who may only read gets what this VM writes, and the other way round. A socket goes the way of the selection
        // protocols, in which the fd is there to be written to.
        let end = if mode == OFlag::O_RDONLY { PipeEnd::Write } else { PipeEnd::Read };
        let vfd = self.channel.pipe(end)?;
        self.add_pump(vfd, end, fd, peer.account)?;
        Ok(vfd)
    }

    fn carry_content(&mut self, content: Vec<u8>, vm: &str) -> Result<VfdId, CarryError> {
        let Self { constants, channel, memory, stats, .. } = self;
        constants.allocation_of(content, vm, &mut **channel, memory, stats)
    }

    /// Carries a pipe of `peer`'s that arrived in: the end that the local peer is to get. If it can't, the vfd is closed.
    pub fn carry_pipe_in(
        &mut self,
        vfd: VfdId,
        end: PipeEnd,
        peer: Peer<'_>,
    ) -> Result<OwnedFd, CarryError> {
        let (read, write) = match pipe2(OFlag::O_CLOEXEC) {
            Ok(ends) => ends,
            Err(errno) => {
                self.channel.close(vfd);
                return Err(errno.into());
            }
        };
        let (ours, theirs) = match end {
            PipeEnd::Read => (write, read),
            PipeEnd::Write => (read, write),
        };
        self.add_pump(vfd, end, ours, peer.account)?;
        Ok(theirs)
    }

    /// A constant file with the first `size` bytes of an allocation that arrived.
    pub fn constant_file(
        &mut self,
        allocation: &Allocation,
        size: u64,
    ) -> Result<OwnedFd, CarryError> {
        if size > allocation.size.min(MAX_CONSTANT) {
            return Err(CarryError::Limit("its memory has, or 16 MiB"));
        }
        self.constants.file_of(allocation, size)
    }

    /// Closes what arrived and wasn't used.
    pub fn discard(&mut self, arrived: &Arrived) {
        self.channel.close(arrived.vfd());
    }
}

#[cfg(test)]
mod tests;
