//! Lending: applications that draw into allocations, so that nothing has to be copied.
//!
//! An application whose interposer asks for it gets an allocation instead of the file that is about to become its
//! wl_shm pool (`wlproxy_protocol::lend`). It sends the allocation's fd as the pool's file, and is recognised by that.
//!
//! An allocation is lent once, and never used for anything else afterwards: the application may have it mapped for
//! longer than it has an fd. It is given back to the host when the application has parted from it (has closed it, or was
//! demoted, or has ended), everything that it sent before has arrived, and no pool or shadow uses it.

mod lent;
mod open_file;
mod socket;

pub use lent::Lent;
pub use socket::LendSocket;

use crate::channel::{Channel, Error};
use crate::recycler::Recycler;
use crate::stats::Stats;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use wlproxy_protocol::lend::{Answer, Parting, RECORD, Request};

/// Most applications that may borrow at a time. Each costs an fd; one more draws into files of its own.
const MAX_BORROWERS: usize = 256;

/// Most allocations that one application has, or that its wl_buffers still use: a window has two to four, and toolkits keep
/// dozens of windows and popups.
const MAX_OF_ONE: usize = 128;

/// Most bytes of them: three wl_buffers of 4K for each of five windows.
const MAX_BYTES_OF_ONE: u64 = 512 * 1024 * 1024;

/// Most that are lent in all: a quarter of the 2,047 ids that all clients of a VM share (virtio_wl, driver ids).
const MAX_LENT: usize = 512;

/// Records of one application in one step: then others get their turn.
const BURST: usize = 16;

/// Names an application's connection, as the event loop knows it.
type Key = u64;

/// Who borrows, and what.
#[derive(Default)]
pub struct Lender {
    borrowers: BTreeMap<Key, Borrower>,
    lent: Vec<Entry>,
    /// Nothing can be lent: it couldn't be known again.
    is_unable: bool,
}

/// An application's connection.
struct Borrower {
    socket: OwnedFd,
    last_id: u32,
}

/// An allocation that is lent.
struct Entry {
    borrower: Key,
    id: u32,
    lent: Rc<Lent>,
    /// How often its fd has arrived.
    arrived: u32,
    /// The application has no fd of it any more, and has sent it so often.
    parted: Option<u32>,
}

impl Entry {
    /// Whether nobody uses it, or will.
    fn is_over(&self) -> bool {
        Rc::strong_count(&self.lent) == 1 && self.parted.is_some_and(|sent| self.arrived >= sent)
    }
}

/// What the lender works with.
pub(crate) struct Means<'a> {
    pub(crate) channel: &'a mut dyn Channel,
    pub(crate) memory: &'a mut Recycler,
    pub(crate) stats: &'a mut Stats,
}

/// What has become of an application's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing more for now.
    Waiting,
    /// There may be more.
    More,
    /// It is over.
    Ended,
}

/// Why an application's connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it hung up")]
    HungUp,
    #[error("{0}")]
    Receive(Errno),
    #[error("it doesn't take its answer: {0}")]
    Answer(Errno),
    #[error("a record that isn't one")]
    Malformed,
    #[error("an allocation {0} that it wasn't lent")]
    Unknown(u32),
    #[error("{0}")]
    Channel(#[from] Error),
}

impl Lender {
    /// Whether one more application may borrow.
    pub(crate) fn has_room(&self) -> bool {
        self.borrowers.len() < MAX_BORROWERS
    }

    /// One more application.
    pub(crate) fn add(&mut self, key: Key, socket: OwnedFd) {
        if let Err(errno) = open_file::is_same(&socket, &socket)
            && !std::mem::replace(&mut self.is_unable, true)
        {
            tracing::warn!(
                "nothing is lent to applications, and all is copied: the kernel's kcmp(2) isn't there ({errno})"
            );
        }
        self.borrowers.insert(key, Borrower { socket, last_id: 0 });
    }

    /// Whether this is an application's connection.
    pub(crate) fn knows(&self, key: Key) -> bool {
        self.borrowers.contains_key(&key)
    }

    /// The allocation that a client has sent as the fd of a request, if it is one. That it has arrived is counted.
    pub(crate) fn arrived(&mut self, fd: impl AsFd) -> Option<Rc<Lent>> {
        let fd = fd.as_fd();
        let is_same = |entry: &&mut Entry| open_file::is_same(entry.lent.fd(), fd) == Ok(true);
        let entry = self.lent.iter_mut().find(is_same)?;
        entry.arrived = entry.arrived.saturating_add(1);
        Some(entry.lent.clone())
    }

    /// Gives back to the host what nobody uses any more.
    pub(crate) fn sweep(&mut self, memory: &mut Recycler, stats: &mut Stats) {
        for entry in self.lent.extract_if(.., |entry| entry.is_over()) {
            stats.lent -= 1;
            memory.give_back(entry.lent.vfd(), entry.lent.size(), stats);
        }
    }

    /// Does what an application asks for. Fails only with [`Error::Lost`].
    pub(crate) fn step(&mut self, key: Key, means: &mut Means<'_>) -> Result<Progress, Error> {
        for _ in 0..BURST {
            match self.take_record(key, means) {
                Ok(()) => {}
                Err(End::Receive(Errno::EAGAIN)) => return Ok(Progress::Waiting),
                Err(End::Channel(error)) => return Err(error),
                Err(end) => {
                    match end {
                        End::HungUp => tracing::debug!("an application borrows no more"),
                        end => tracing::warn!("nothing is lent to an application any more: {end}"),
                    }
                    self.end(key, means);
                    return Ok(Progress::Ended);
                }
            }
        }
        Ok(Progress::More)
    }

    /// An application has ended, or has to draw into files of its own.
    fn end(&mut self, key: Key, means: &mut Means<'_>) {
        self.borrowers.remove(&key);
        for entry in self.lent.iter_mut().filter(|entry| entry.borrower == key) {
            // What is on its way still arrives, and is then read like any other file.
            entry.parted = Some(0);
        }
        self.sweep(means.memory, means.stats);
    }

    fn take_record(&mut self, key: Key, means: &mut Means<'_>) -> Result<(), End> {
        let Some(borrower) = self.borrowers.get(&key) else { return Err(End::HungUp) };
        // One byte more, so that a record that is too long shows.
        let (mut bytes, mut fds) = ([0; RECORD + 1], Vec::new());
        let len = match wlproxy_unix::receive(&borrower.socket, &mut bytes, &mut fds) {
            Ok(0) | Err(Errno::ECONNRESET) => return Err(End::HungUp),
            Err(Errno::EINTR) => return Ok(()),
            received => received.map_err(End::Receive)?,
        };
        let request = Request::from_bytes(&bytes[..len]).ok_or(End::Malformed)?;
        let mut fds = fds.into_iter();
        match (request, fds.next(), fds.next(), fds.next()) {
            (Request::Lend { size }, None, None, None) => self.lend(key, size, means),
            (Request::Close(parting), None, None, None) => {
                self.part(key, parting)?;
                self.sweep(means.memory, means.stats);
                Ok(())
            }
            (Request::Demote(parting), Some(lent), Some(file), None) => {
                means.stats.demotions += u64::from(self.demote(parting.sent, &lent, file));
                self.sweep(means.memory, means.stats);
                self.answer(key, Answer::Demoted { id: parting.id }, None)
            }
            _ => Err(End::Malformed),
        }
    }

    /// An application draws into `file` instead of an allocation. That is known by its fd, since the connection over which
    /// it was lent may be over: its window would show no more changes. `false` if nobody uses the allocation any more.
    fn demote(&mut self, sent: u32, lent: &OwnedFd, file: OwnedFd) -> bool {
        let is_it = |entry: &&mut Entry| open_file::is_same(entry.lent.fd(), lent) == Ok(true);
        let Some(entry) = self.lent.iter_mut().find(is_it) else { return false };
        entry.parted = Some(sent);
        entry.lent.demote(file);
        true
    }

    fn part(&mut self, key: Key, Parting { id, sent }: Parting) -> Result<(), End> {
        let is_it = |entry: &&mut Entry| (entry.borrower, entry.id) == (key, id);
        let entry = self.lent.iter_mut().filter(|entry| entry.parted.is_none()).find(is_it);
        let entry = entry.ok_or(End::Unknown(id))?;
        entry.parted = Some(sent);
        Ok(())
    }

    fn lend(&mut self, key: Key, size: u64, means: &mut Means<'_>) -> Result<(), End> {
        let lent = match self.may_lend(key, size) {
            true => Self::make(size, means)?,
            false => None,
        };
        let (Some(lent), Some(borrower)) = (lent, self.borrowers.get_mut(&key)) else {
            return self.answer(key, Answer::Refused, None);
        };
        borrower.last_id += 1;
        let id = borrower.last_id;
        let lent = Rc::new(lent);
        means.stats.lent += 1;
        let entry = Entry { borrower: key, id, lent: lent.clone(), arrived: 0, parted: None };
        self.lent.push(entry);
        self.answer(key, Answer::Lent { id }, Some(&lent))
    }

    /// Whether an application may have one more, of so many bytes.
    fn may_lend(&self, key: Key, size: u64) -> bool {
        let of_one = || self.lent.iter().filter(|entry| entry.borrower == key);
        let bytes: u64 = of_one().map(|entry| entry.lent.size()).sum();
        !self.is_unable
            && self.lent.len() < MAX_LENT
            && of_one().count() < MAX_OF_ONE
            && bytes.saturating_add(size) <= MAX_BYTES_OF_ONE
    }

    /// A new allocation, if the host grants one.
    fn make(size: u64, means: &mut Means<'_>) -> Result<Option<Lent>, Error> {
        let Means { channel, memory, stats } = means;
        let allocation = match memory.allocate(size, *channel, stats) {
            Ok(allocation) => allocation,
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) => {
                tracing::debug!("{size} bytes can't be lent: {error}");
                return Ok(None);
            }
        };
        match Lent::new(allocation, size) {
            Ok(lent) => Ok(Some(lent)),
            Err(other) => {
                memory.give_back(other.vfd, other.size, stats);
                Ok(None)
            }
        }
    }

    fn answer(&self, key: Key, answer: Answer, lent: Option<&Lent>) -> Result<(), End> {
        let Some(borrower) = self.borrowers.get(&key) else { return Err(End::HungUp) };
        let fds: Vec<_> = lent.iter().map(|lent| lent.fd().as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let record = answer.to_bytes();
        let bytes = [IoSlice::new(&record)];
        let sent = sendmsg::<()>(borrower.socket.as_raw_fd(), &bytes, rights, flags, None);
        sent.map(drop).map_err(End::Answer)
    }
}

#[cfg(test)]
pub(crate) mod tests;
