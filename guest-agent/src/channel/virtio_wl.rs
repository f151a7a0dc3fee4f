//! The `virtio_wl` channel: a VM's device of that name, through the driver in its kernel and `/dev/wl0`.
//!
//! | file | what is in it |
//! |---|---|
//! | `device.rs` | what the driver does for a channel |
//! | `node.rs` | the driver: the ioctls of `/dev/wl0` |
//! | `errno.rs` | what its errors mean |
//! | `sender.rs`, `closer.rs` | threads for what waits for the device's answer |
//! | `arrival.rs` | what fds that arrive are |
//!
//! What is said here of the driver stands in its source: `drivers/virtio/virtio_wl.c` of ChromiumOS's kernels, also
//! shipped as the DKMS module `virtio-wayland-1` of its reference VM.
//!
//! # Who waits
//!
//! NEW waits for the device's answer, and so do the calls here that make a vfd. A SEND may wait for as long as the
//! other side doesn't read, so each vfd that is sent to has a thread for that. The last close of a vfd waits for an
//! answer as well: that vfd's thread does it, or one thread for all that have none. If somebody has mapped an
//! allocation for longer than its vfd is open, the last close is when it is unmapped, there.
//!
//! # What an fd that arrived is
//!
//! RECV gives fds, and not a word about them: all are anonymous inodes, of which `fstat` tells nothing, and which have
//! no `lseek`. But two things depend on what the host announced:
//!
//! - Only memory can be mapped, others fail with `EACCES` (`virtwl_vfd_mmap`). A mapping that doesn't end within the
//!   size, rounded up to a page, fails with `EINVAL`, and its offset counts. So one page at a time tells the size, in
//!   20 steps by halves; nothing is ever read there.
//! - The access mode of a pipe's fd is its direction (`virtwl_vfd_file_flags`): read only, or write only.
//!
//! What is neither memory nor one end of a pipe is a stream both ways. Our device sends none, and nobody here could use
//! it: it ends the context that it came over.

mod arrival;
mod closer;
mod device;
mod errno;
mod node;
mod sender;

use super::{Allocation, Arrived, Channel, Error, Event, PipeEnd, Received, Sent, VfdId};
use arrival::Arrival;
use closer::Closer;
use device::Device;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use node::Node;
use sender::{Notice, Notices, STACK, Sender};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use wlproxy_protocol::accept::{Token, Way, Ways};
use wlproxy_protocol::limits::{MAX_FDS, MAX_SEND};
use wlproxy_protocol::report;
use wlproxy_protocol::wl0::{NEW_CTX, NEW_PIPE_READ, NEW_PIPE_WRITE, NewIoctl};

/// The device node that the driver makes; it serves one device.
pub const NODE: &str = "/dev/wl0";

/// Events that one dispatch takes at most. If there are more, the channel stays readable.
const EVENTS: usize = 64;

/// The key of [`Notices`] in the epoll set. vfds have their id, which is smaller.
const NOTICES: u64 = u64::MAX;

/// What a vfd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Context,
    /// One end of a pipe: ours.
    Pipe(PipeEnd),
    Memory,
}

/// A vfd that is open.
#[derive(Debug)]
struct Vfd {
    kind: Kind,
    fd: Arc<OwnedFd>,
    /// Made at the first SEND.
    sender: Option<Sender>,
    /// The other side hung up and all was received, or some of the stream was lost, or nothing can be sent.
    ended: bool,
}

/// A VM's virtio_wl device. Dropping it closes all vfds.
pub struct VirtioWlChannel {
    device: Arc<dyn Device>,
    vfds: HashMap<VfdId, Vfd>,
    last_id: u32,
    closer: Closer,
    notices: Arc<Notices>,
    /// All vfds but memory, edge-triggered, and the notices.
    epoll: Epoll,
    lost: Option<String>,
    /// Of threads that send, in bytes.
    stack: usize,
}

impl VirtioWlChannel {
    /// Opens the device node at `path`, most often [`NODE`].
    ///
    /// # Errors
    /// [`Error::Lost`] if there is none, [`Error::Refused`] if it may not be opened or is something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::new(Arc::new(Node::open(path)?))
    }

    fn new(device: Arc<dyn Device>) -> Result<Self, Error> {
        let notices = Arc::new(Notices::new().map_err(lost)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(lost)?;
        epoll.add(&notices, EpollEvent::new(EpollFlags::EPOLLIN, NOTICES)).map_err(lost)?;
        let closer = Closer::start().map_err(lost)?;
        let vfds = HashMap::new();
        Ok(Self { device, vfds, last_id: 0, closer, notices, epoll, lost: None, stack: STACK })
    }

    fn check(&self) -> Result<(), Error> {
        match &self.lost {
            Some(why) => Err(Error::Lost(why.clone())),
            None => Ok(()),
        }
    }

    /// Makes a vfd and waits until the device has answered.
    fn create(&mut self, new: NewIoctl, kind: Kind) -> Result<VfdId, Error> {
        self.check()?;
        let closing = self.closer.is_busy();
        let made = match self.device.create(new) {
            // What was closed before this isn't needed any more, but may have been in the way.
            Err(Errno::ENOMEM | Errno::ENOSPC) if closing => {
                self.closer.finish();
                self.device.create(new)
            }
            made => made,
        };
        let fd = made.map_err(|errno| self.refusal(errno))?;
        self.insert(fd, kind)
    }

    /// What NEW or SEND failed with. If the channel is lost, that is kept.
    fn refusal(&mut self, errno: Errno) -> Error {
        let error = errno::refusal(errno);
        if let Error::Lost(why) = &error {
            self.lost.get_or_insert_with(|| why.clone());
        }
        error
    }

    /// Takes a vfd in. If it can't, the vfd is closed.
    fn insert(&mut self, fd: OwnedFd, kind: Kind) -> Result<VfdId, Error> {
        let vfd = self.free_id();
        let fd = Arc::new(fd);
        if kind != Kind::Memory
            && let Err(errno) = self.watch(&fd, vfd)
        {
            self.closer.close(fd);
            return Err(Error::Refused(format!("the new vfd can't be watched: {errno}")));
        }
        self.vfds.insert(vfd, Vfd { kind, fd, sender: None, ended: false });
        Ok(vfd)
    }

    fn free_id(&mut self) -> VfdId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if !self.vfds.contains_key(&VfdId(self.last_id)) {
                return VfdId(self.last_id);
            }
        }
    }

    fn watch(&self, fd: &OwnedFd, vfd: VfdId) -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // Edges: what isn't read would be told again and again. A hang-up is always told.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(fd, EpollEvent::new(flags, vfd.0.into()))
    }

    fn memory(&mut self, vfd: VfdId, size: u64) -> Result<Allocation, Error> {
        let fd = self.vfds.get(&vfd).ok_or(Error::NotFound)?.fd.try_clone();
        match fd {
            Ok(fd) => Ok(Allocation { vfd, fd, size }),
            Err(error) => {
                self.close(vfd);
                Err(Error::Refused(format!("its fd can't be duplicated: {error}")))
            }
        }
    }

    /// Takes in all fds that arrived, or closes them all.
    fn hand_out(&mut self, fds: Vec<OwnedFd>) -> Result<Vec<Arrived>, Error> {
        let mut arrived: Vec<Arrived> = Vec::with_capacity(fds.len());
        let mut fds = fds.into_iter();
        while let Some(fd) = fds.next() {
            match self.hand_out_one(fd) {
                Ok(one) => arrived.push(one),
                Err(error) => {
                    arrived.iter().for_each(|one| self.close(one.vfd()));
                    fds.for_each(|fd| self.closer.close(Arc::new(fd)));
                    return Err(error);
                }
            }
        }
        Ok(arrived)
    }

    fn hand_out_one(&mut self, fd: OwnedFd) -> Result<Arrived, Error> {
        match arrival::tell(&*self.device, fd.as_fd()) {
            Ok(Some(Arrival::Memory(size))) => {
                let vfd = self.insert(fd, Kind::Memory)?;
                Ok(Arrived::Allocation(self.memory(vfd, size)?))
            }
            Ok(Some(Arrival::Pipe(end))) => {
                Ok(Arrived::Pipe(self.insert(fd, Kind::Pipe(end))?, end))
            }
            other => {
                self.closer.close(Arc::new(fd));
                Err(other.map_or_else(errno::loss, |_| {
                    Error::Refused("a vfd arrived that is neither memory nor a pipe".into())
                }))
            }
        }
    }

    /// Takes in what a sender told.
    fn heard(&mut self, notice: Notice, events: &mut Vec<Event>) {
        match notice {
            Notice::Writable(vfd) if self.vfds.contains_key(&vfd) => {
                events.push(Event::Writable(vfd));
            }
            Notice::Failed(vfd, errno) => {
                let error = self.refusal(errno);
                if self.vfds.contains_key(&vfd) {
                    tracing::warn!("sending on {vfd}: {error}; it ends");
                    events.push(Event::Readable(vfd));
                }
            }
            Notice::Writable(_) => {}
        }
    }
}

impl Channel for VirtioWlChannel {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        self.check()?;
        let mut ready = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut ready, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            other => other.map_err(lost)?,
        };
        for event in &ready[..count] {
            if event.data() == NOTICES {
                for notice in self.notices.take() {
                    self.heard(notice, events);
                }
            } else if let Ok(id) = u32::try_from(event.data()) {
                events.push(Event::Readable(VfdId(id)));
            }
        }
        self.check()
    }

    fn ways(&self) -> Ways {
        Ways::NAME.or(Ways::DIAL_BACK)
    }

    fn connect(&mut self) -> Result<VfdId, Error> {
        self.create(NewIoctl::plain(NEW_CTX), Kind::Context)
    }

    fn open(&mut self, way: Way, token: Token) -> Result<VfdId, Error> {
        match way {
            Way::Name => self.create(NewIoctl::named(token.to_name()), Kind::Context),
            // Somebody else's device: it knows no names but those it was started with.
            Way::DialBack => self.connect(),
            way => {
                Err(Error::Refused(format!("a virtio_wl device doesn't open streams by {way:?}")))
            }
        }
    }

    fn open_reports(&mut self) -> Result<VfdId, Error> {
        self.create(NewIoctl::named(report::NAME), Kind::Context)
    }

    fn allocate(&mut self, size: u64) -> Result<Allocation, Error> {
        let size = super::whole_pages(size)?;
        let vfd = self.create(NewIoctl::allocation(size), Kind::Memory)?;
        self.memory(vfd, size.into())
    }

    fn pipe(&mut self, end: PipeEnd) -> Result<VfdId, Error> {
        let kind = match end {
            PipeEnd::Read => NEW_PIPE_READ,
            PipeEnd::Write => NEW_PIPE_WRITE,
        };
        self.create(NewIoctl::plain(kind), Kind::Pipe(end))
    }

    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        self.check()?;
        if bytes.len() > MAX_SEND || vfds.len() > MAX_FDS {
            let (bytes, vfds) = (bytes.len(), vfds.len());
            return Err(Error::Refused(format!("{bytes} bytes and {vfds} vfds are too many")));
        }
        let along = vfds.iter().map(|vfd| Some(self.vfds.get(vfd)?.fd.clone()));
        let along: Vec<_> = along.collect::<Option<_>>().ok_or(Error::NotFound)?;
        let open = self.vfds.get_mut(&vfd).ok_or(Error::NotFound)?;
        if !matches!(open.kind, Kind::Context | Kind::Pipe(PipeEnd::Write)) {
            return Err(Error::Refused(format!("{vfd} can't be sent to")));
        }
        if bytes.is_empty() && vfds.is_empty() {
            return Ok(Sent::Accepted);
        }
        let sender = match &mut open.sender {
            Some(sender) => sender,
            None if open.ended => return Err(Error::Refused(format!("{vfd} has ended"))),
            none => {
                let (fd, device, notices) =
                    (open.fd.clone(), self.device.clone(), self.notices.clone());
                match Sender::start(vfd, fd, device, notices, self.stack) {
                    Ok(sender) => none.insert(sender),
                    Err(error) => {
                        // It is heard of as of any other SEND that failed.
                        open.ended = true;
                        self.notices.push(Notice::Failed(vfd, Errno::EAGAIN));
                        let why = format!("no thread can be started to send: {error}");
                        return Err(Error::Refused(why));
                    }
                }
            }
        };
        sender.send(bytes, along).map_err(|errno| self.refusal(errno))
    }

    fn receive(&mut self, vfd: VfdId, bytes: &mut Vec<u8>) -> Result<Received, Error> {
        self.check()?;
        let open = self.vfds.get_mut(&vfd).ok_or(Error::NotFound)?;
        if open.ended {
            return Ok(Received::HangUp);
        }
        if open.kind == Kind::Memory {
            return Ok(Received::Nothing);
        }
        let (before, mut fds) = (bytes.len(), Vec::new());
        let result = match arrival::receive(&*self.device, open.fd.as_fd(), bytes, &mut fds) {
            Ok(true) => self.hand_out(fds).map(Received::Message),
            Err(Errno::EAGAIN) if !open.sender.as_ref().is_some_and(Sender::has_failed) => {
                return Ok(Received::Nothing);
            }
            Ok(false) | Err(Errno::EAGAIN) => Ok(Received::HangUp),
            Err(errno) => {
                fds.into_iter().for_each(|fd| self.closer.close(Arc::new(fd)));
                Err(errno::loss(errno))
            }
        };
        if result.is_err() {
            bytes.truncate(before);
        }
        if !matches!(result, Ok(Received::Message(_)))
            && let Some(open) = self.vfds.get_mut(&vfd)
        {
            open.ended = true;
        }
        result
    }

    fn close(&mut self, vfd: VfdId) {
        let Some(Vfd { kind, fd, sender, .. }) = self.vfds.remove(&vfd) else { return };
        if kind != Kind::Memory {
            // Closing isn't enough: a thread may still have the file that epoll knows it by.
            let _ = self.epoll.delete(&*fd);
        }
        match sender {
            // In this order, so that the thread has the last of it.
            Some(sender) => {
                drop(fd);
                drop(sender);
            }
            None => self.closer.close(fd),
        }
    }
}

impl Drop for VirtioWlChannel {
    fn drop(&mut self) {
        let vfds: Vec<VfdId> = self.vfds.keys().copied().collect();
        vfds.into_iter().for_each(|vfd| self.close(vfd));
    }
}

fn lost(error: impl Into<io::Error>) -> Error {
    Error::Lost(error.into().to_string())
}

#[cfg(test)]
mod tests;
