//! A stand-in for the driver and its device, made of sockets, pipes and memfds.
//!
//! What arrives is queued as the driver does it: bytes and vfds of several messages are taken independently of each
//! other. The vfd's fd only tells that there is something: it has a byte in it then, and hangs up when the vfd does.

use super::super::device::Device;
use crate::channel::PipeEnd;
use crate::channel::scenarios::{FLOOD, token};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::fstat;
use nix::unistd::{pipe2, read, write};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use wlproxy_protocol::limits::{MAX_FDS, MAX_RECV, MAX_SEND, PAGE_SIZE};
use wlproxy_protocol::report;
use wlproxy_protocol::wl0::{
    NEW_ALLOC, NEW_CTX, NEW_CTX_NAMED, NEW_PIPE_READ, NEW_PIPE_WRITE, NewIoctl,
};
use wlproxy_unix::memory;

/// The other side of a vfd, named by the file that its fd is: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer(u64, u64);

impl Peer {
    /// The other side of the vfd that an fd is.
    pub(super) fn of(fd: impl AsFd) -> Self {
        let stat = fstat(fd).unwrap();
        Self(stat.st_dev, stat.st_ino)
    }
}

#[derive(Debug, Default)]
struct Message {
    bytes: VecDeque<u8>,
    vfds: VecDeque<OwnedFd>,
}

#[derive(Debug, Default)]
struct Vfd {
    /// What the vfd's fd is connected to. None for memory, and after a hang-up.
    bell: Option<OwnedFd>,
    queue: VecDeque<Message>,
    hung_up: bool,
    /// SENDs aren't answered.
    held: bool,
    sending: bool,
    /// What was sent: all bytes, and the other sides of all vfds.
    bytes: Vec<u8>,
    vfds: Vec<Peer>,
}

#[derive(Debug, Default)]
struct State {
    vfds: HashMap<Peer, Vfd>,
    newest: Option<Peer>,
    memory: Vec<Peer>,
    /// What the next calls fail with.
    new_failures: VecDeque<Errno>,
    send_failures: VecDeque<Errno>,
    receive_failures: VecDeque<Errno>,
    /// How many allocations may be open.
    quota: Option<usize>,
}

/// See the module's text.
pub(super) struct Fake {
    state: Mutex<State>,
    answered: Condvar,
    /// Readable after a SEND has begun or ended.
    pub(super) turn: EventFd,
    /// Does what the bytes say that are sent.
    obeys: bool,
}

/// Both ends of something that can be polled: the vfd's, and the bell's.
fn context() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs.into())
}

fn pipe(end: PipeEnd) -> (OwnedFd, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    match end {
        PipeEnd::Read => (read, write),
        PipeEnd::Write => (write, read),
    }
}

/// Whether this process has a file open.
fn is_open(peer: Peer) -> bool {
    fs::read_dir("/proc/self/fd").unwrap().flatten().any(|entry| {
        // Meanwhile others may close theirs.
        fs::metadata(entry.path()).is_ok_and(|file| Peer(file.dev(), file.ino()) == peer)
    })
}

impl Fake {
    /// One that does what [`crate::channel::scenarios`] says.
    pub(super) fn obedient() -> Arc<Self> {
        Self::new(true)
    }

    /// One that is silent unless the test speaks.
    pub(super) fn silent() -> Arc<Self> {
        Self::new(false)
    }

    fn new(obeys: bool) -> Arc<Self> {
        let turn = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap();
        Arc::new(Self { state: Mutex::default(), answered: Condvar::new(), turn, obeys })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The other side of the vfd that was made last.
    pub(super) fn newest(&self) -> Peer {
        self.lock().newest.unwrap()
    }

    /// Makes a pipe to deliver. This VM gets `end`.
    pub(super) fn pipe(&self, end: PipeEnd) -> OwnedFd {
        self.lock().add(pipe(end))
    }

    /// Makes a stream both ways to deliver, which no host does.
    pub(super) fn stream(&self) -> OwnedFd {
        self.lock().add(context())
    }

    pub(super) fn deliver(&self, to: Peer, bytes: &[u8], vfds: Vec<OwnedFd>) {
        self.lock().deliver(to, bytes, vfds);
    }

    pub(super) fn hang_up(&self, peer: Peer) {
        self.lock().hang_up(peer);
    }

    /// From now on SENDs to it aren't answered.
    pub(super) fn hold(&self, peer: Peer) {
        self.lock().vfds.get_mut(&peer).unwrap().held = true;
    }

    /// Answers all SENDs.
    pub(super) fn release(&self) {
        self.lock().vfds.values_mut().for_each(|vfd| vfd.held = false);
        self.answered.notify_all();
    }

    pub(super) fn is_sending(&self, peer: Peer) -> bool {
        self.lock().vfds[&peer].sending
    }

    pub(super) fn bytes_to(&self, peer: Peer) -> Vec<u8> {
        self.lock().vfds[&peer].bytes.clone()
    }

    pub(super) fn vfds_to(&self, peer: Peer) -> Vec<Peer> {
        self.lock().vfds[&peer].vfds.clone()
    }

    /// Messages that wait to be received.
    pub(super) fn undelivered(&self, peer: Peer) -> usize {
        self.lock().vfds[&peer].queue.len()
    }

    pub(super) fn fail_new(&self, errno: Errno) {
        self.lock().new_failures.push_back(errno);
    }

    pub(super) fn fail_send(&self, errno: Errno) {
        self.lock().send_failures.push_back(errno);
    }

    pub(super) fn fail_receive(&self, errno: Errno) {
        self.lock().receive_failures.push_back(errno);
    }

    pub(super) fn set_quota(&self, allocations: usize) {
        self.lock().quota = Some(allocations);
    }

    /// Waits up to `patience` until a context or a pipe is closed on the VM's side. Whether it is.
    pub(super) fn is_closed(&self, peer: Peer, patience: PollTimeout) -> bool {
        let bell = self.lock().vfds[&peer].bell.as_ref().map(|bell| bell.try_clone().unwrap());
        let bell = bell.expect("it hasn't hung up");
        let mut fd = [PollFd::new(bell.as_fd(), PollFlags::empty())];
        poll(&mut fd, patience).unwrap() == 1
    }
}

impl State {
    fn add(&mut self, (fd, bell): (OwnedFd, OwnedFd)) -> OwnedFd {
        let peer = Peer::of(&fd);
        fcntl(&bell, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        self.vfds.insert(peer, Vfd { bell: Some(bell), ..Vfd::default() });
        self.newest = Some(peer);
        fd
    }

    fn deliver(&mut self, to: Peer, bytes: &[u8], vfds: Vec<OwnedFd>) {
        let vfd = self.vfds.get_mut(&to).unwrap();
        vfd.queue.push_back(Message { bytes: bytes.iter().copied().collect(), vfds: vfds.into() });
        // If there is no room, there is enough to be told.
        let _ = write(vfd.bell.as_ref().unwrap(), b"!");
    }

    fn hang_up(&mut self, peer: Peer) {
        let vfd = self.vfds.get_mut(&peer).unwrap();
        vfd.hung_up = true;
        vfd.bell = None;
    }

    fn obey(&mut self, peer: Peer, bytes: &[u8], vfds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        match bytes {
            b"hold" => {
                self.vfds.get_mut(&peer).unwrap().held = true;
                self.deliver(peer, b"held", vec![]);
            }
            b"release" => self.vfds.values_mut().for_each(|vfd| vfd.held = false),
            b"refuse" => return Err(Errno::EINVAL),
            b"hang up" => {
                self.deliver(peer, b"bye", vec![]);
                self.hang_up(peer);
            }
            b"flood" => (0..FLOOD).for_each(|n| self.deliver(peer, &n.to_le_bytes(), vec![])),
            b"pipe" => {
                let pipe = self.add(pipe(PipeEnd::Read));
                self.deliver(Peer::of(&pipe), b"early", vec![]);
                self.deliver(peer, b"here", vec![pipe]);
            }
            _ => {
                let back = vfds.iter().map(|vfd| vfd.try_clone_to_owned().unwrap()).collect();
                self.deliver(peer, bytes, back);
            }
        }
        Ok(())
    }
}

impl Device for Fake {
    fn create(&self, new: NewIoctl) -> nix::Result<OwnedFd> {
        let mut state = self.lock();
        if let Some(errno) = state.new_failures.pop_front() {
            return Err(errno);
        }
        match new.kind {
            NEW_CTX_NAMED if ![token().to_name(), report::NAME].contains(&new.payload) => {
                Err(Errno::ENOENT)
            }
            NEW_CTX | NEW_CTX_NAMED => Ok(state.add(context())),
            NEW_PIPE_READ => Ok(state.add(pipe(PipeEnd::Read))),
            NEW_PIPE_WRITE => Ok(state.add(pipe(PipeEnd::Write))),
            NEW_ALLOC => {
                let open = state.memory.iter().filter(|&&memory| is_open(memory)).count();
                if state.quota.is_some_and(|quota| open >= quota) {
                    return Err(Errno::ENOMEM);
                }
                let size = u32::from_ne_bytes(new.payload[..4].try_into().unwrap());
                let fd = memory::allocate("fake", size.into()).unwrap();
                state.memory.push(Peer::of(&fd));
                Ok(fd)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn send(&self, vfd: BorrowedFd<'_>, bytes: &[u8], vfds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        assert!(bytes.len() <= MAX_SEND && vfds.len() <= MAX_FDS);
        let (peer, mut state) = (Peer::of(vfd), self.lock());
        if let Some(errno) = state.send_failures.pop_front() {
            return Err(errno);
        }
        let to = state.vfds.get_mut(&peer).ok_or(Errno::ENOTTY)?;
        assert!(!std::mem::replace(&mut to.sending, true), "one at a time");
        let is_context = fcntl(vfd, FcntlArg::F_GETFL).unwrap() & OFlag::O_ACCMODE.bits()
            == OFlag::O_RDWR.bits();
        let result = if self.obeys && is_context { state.obey(peer, bytes, vfds) } else { Ok(()) };
        self.answered.notify_all();
        self.turn.write(1).unwrap();
        state = self.answered.wait_while(state, |state| state.vfds[&peer].held).unwrap();
        let to = state.vfds.get_mut(&peer).unwrap();
        to.sending = false;
        to.bytes.extend(bytes);
        // As late as that: they have to be open still.
        to.vfds.extend(vfds.iter().map(Peer::of));
        self.turn.write(1).unwrap();
        result
    }

    fn receive(
        &self,
        vfd: BorrowedFd<'_>,
        bytes: &mut Vec<u8>,
        vfds: &mut Vec<OwnedFd>,
    ) -> nix::Result<()> {
        let mut state = self.lock();
        if let Some(errno) = state.receive_failures.pop_front() {
            return Err(errno);
        }
        let flags = OFlag::from_bits_retain(fcntl(vfd, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK), "it would wait here");
        let from = state.vfds.get_mut(&Peer::of(vfd)).ok_or(Errno::ENOTTY)?;
        if from.queue.is_empty() {
            return if from.hung_up { Ok(()) } else { Err(Errno::EAGAIN) };
        }
        let (mut room, mut places) = (MAX_RECV, MAX_FDS);
        for message in &mut from.queue {
            let taken = message.bytes.len().min(room);
            bytes.extend(message.bytes.drain(..taken));
            room -= taken;
        }
        for message in &mut from.queue {
            let taken = message.vfds.len().min(places);
            vfds.extend(message.vfds.drain(..taken));
            places -= taken;
        }
        from.queue.retain(|message| !message.bytes.is_empty() || !message.vfds.is_empty());
        if from.queue.is_empty() {
            while read(vfd, &mut [0; 1024]).is_ok_and(|count| count > 0) {}
        }
        Ok(())
    }

    fn map_page(&self, vfd: BorrowedFd<'_>, page: u64) -> nix::Result<()> {
        if !self.lock().memory.contains(&Peer::of(vfd)) {
            return Err(Errno::EACCES);
        }
        let size = fstat(vfd).unwrap().st_size as u64;
        if (page + 1) * PAGE_SIZE > size.next_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}
