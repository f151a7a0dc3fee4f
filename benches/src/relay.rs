//! A bare relay, a process of its own: it forwards bytes and fds from one Unix socket to another, and does nothing else.
//!
//! That is the least that a process on the way can cost: for each message an epoll_wait, a recvmsg and a sendmsg, and one
//! wake-up.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use wlproxy_unix::{Stream, receive};

/// Bytes that are forwarded at once.
const ROOM: usize = 64 * 1024;

/// The epoll token of the harness, which closes our stdin when we may end.
const STDIN: u64 = 0;
/// The epoll token of the listening socket. Those of streams follow, in pairs: `n` and `n ^ 1` are connected.
const LISTENER: u64 = 1;

/// One end of a connection, and what epoll was told to look for.
struct End {
    stream: Stream,
    interest: EpollFlags,
}

/// Takes clients at `socket` to `compositor`, until stdin is closed.
pub(crate) fn main(socket: &Path, compositor: &Path) -> Result<()> {
    wlproxy_unix::fd_limit::raise().context("can't raise the limit of open files")?;
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("can't listen at {}", socket.display()))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(std::io::stdin(), EpollEvent::new(EpollFlags::EPOLLIN, STDIN))?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut relay = Relay { epoll, ends: HashMap::new(), next: 2, room: Box::new([0; ROOM]) };
    let mut events = [EpollEvent::empty(); 32];
    loop {
        let count = match relay.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        for event in &events[..count] {
            match event.data() {
                STDIN => return Ok(()),
                LISTENER => relay.accept(&listener, compositor)?,
                token => relay.serve(token, event.events())?,
            }
        }
    }
}

struct Relay {
    epoll: Epoll,
    ends: HashMap<u64, End>,
    next: u64,
    room: Box<[u8; ROOM]>,
}

impl Relay {
    fn accept(&mut self, listener: &UnixListener, compositor: &Path) -> Result<()> {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("can't accept a client"),
        };
        // If nobody is there, the client learns it.
        let Ok(compositor) = UnixStream::connect(compositor) else { return Ok(()) };
        for (token, socket) in [(self.next, client), (self.next + 1, compositor)] {
            let (stream, interest) = (Stream::new(socket)?, EpollFlags::EPOLLIN);
            self.epoll.add(&stream, EpollEvent::new(interest, token))?;
            self.ends.insert(token, End { stream, interest });
        }
        self.next += 2;
        Ok(())
    }

    /// Something has come at one end, or has room again.
    fn serve(&mut self, token: u64, events: EpollFlags) -> Result<()> {
        let mut open = true;
        if events.contains(EpollFlags::EPOLLOUT) {
            open = self.forward(token, 0, Vec::new())?;
        }
        if open && events.intersects(!EpollFlags::EPOLLOUT) {
            let Some(from) = self.ends.get(&token) else { return Ok(()) };
            let mut fds = Vec::new();
            open = match receive(&from.stream, &mut self.room[..], &mut fds) {
                Ok(0) => false,
                Ok(count) => self.forward(token ^ 1, count, fds)?,
                Err(Errno::EAGAIN | Errno::EINTR) => true,
                Err(_) => false,
            };
        }
        if !open {
            for token in [token, token ^ 1] {
                if let Some(end) = self.ends.remove(&token) {
                    self.epoll.delete(end.stream.as_fd())?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is in the room to an end, after what waits there. While something waits, the other end isn't read. `false`
    /// if nobody is there.
    fn forward(&mut self, token: u64, count: usize, fds: Vec<OwnedFd>) -> Result<bool> {
        let Some(to) = self.ends.get_mut(&token) else { return Ok(false) };
        to.stream.queue(&self.room[..count], fds);
        let Ok(sent) = to.stream.flush() else { return Ok(false) };
        let out = if sent { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let input = if sent { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        self.look_for(token, EpollFlags::EPOLLOUT, out)?;
        self.look_for(token ^ 1, EpollFlags::EPOLLIN, input)?;
        Ok(true)
    }

    /// Tells epoll, if it doesn't know yet, whether to look for `which` at an end.
    fn look_for(&mut self, token: u64, which: EpollFlags, wanted: EpollFlags) -> Result<()> {
        let Some(end) = self.ends.get_mut(&token) else { return Ok(()) };
        let interest = (end.interest - which) | wanted;
        if interest != end.interest {
            end.interest = interest;
            self.epoll.modify(end.stream.as_fd(), &mut EpollEvent::new(interest, token))?;
        }
        Ok(())
    }
}
