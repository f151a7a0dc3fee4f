//! Somebody else's device: crosvm's, libkrun's, rutabaga's; or none, and plain clients.
//!
//! Such a device knows one path, and dials it once for each context of its VM. What comes over a connection then is a
//! Wayland stream with its fds, so there are no rings here, no window and no vfds: only the relay. For a client VM, each
//! connection is a client. For the compositor VM, which learns of clients over its main context as ever, the first bytes
//! say what a connection is: this is dialling back, the third way to open an accepted stream.

use super::carried::Carried;
use super::context::{Context, End, MAX_QUEUED_FDS};
use super::flow::{Incoming, Sent};
use super::lingering::Lingering;
use super::opener::{Answers, OpenError, Opened, Opener, Target};
use super::poller::{Poller, RETRY, Watched};
use super::serve::Stop;
use super::{MAX_CONTEXTS, Options, Side};
use crate::counters::Counters;
use crate::policy;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollFlags, EpollTimeout};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Instant;
use wlproxy_protocol::accept::{Opening, Token};
use wlproxy_protocol::limits::MAX_SEND_ACCEPTED;
use wlproxy_protocol::wayland::Batch;
use wlproxy_unix::{Read, Stream};

/// Most bytes that are read at once, in both directions.
const READ: usize = MAX_SEND_ACCEPTED;

/// Most connections of the compositor VM that haven't said what they are. An agent says so at once, and seldom has more
/// than one of them; whoever connects and is silent makes room for the next.
const MAX_SILENT: usize = 64;

/// Most connections of the compositor VM: as many accepted streams as one client VM may have, of all client VMs the
/// double, as it is with virtio_wl's ids.
const MAX_ACCEPTED: usize = 2 * MAX_CONTEXTS;

/// Takes connections from `listener` until [`Stop::stop`] is called. Fails if nothing can be waited for.
pub(crate) fn serve(listener: &UnixListener, options: &Options, stop: &Stop) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let set = epoll.0.try_clone()?;
    let poller = Poller::new(epoll)?;
    let mut connections = Connections::new(options, poller.clone());
    // After a shortage, until the poller says RETRY.
    let mut rests = false;
    loop {
        let accepts = !rests && !connections.is_full();
        let accepts = if accepts { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(set.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), accepts),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let ready = fds.map(|fd| fd.any() == Some(true));
        if ready[0] {
            return Ok(());
        }
        if ready[1] {
            let mut events = Vec::new();
            poller.wait(&mut events, EpollTimeout::ZERO)?;
            rests &= events.iter().all(|&(key, _)| key != RETRY);
            connections.turn(&events);
        }
        if ready[2] {
            match listener.accept().and_then(|(socket, _)| Stream::new(socket)) {
                Ok(stream) => connections.add(stream),
                Err(error) if passes(&error) => {}
                // Most likely there are no fds left: those who are connected go on.
                Err(error) => {
                    tracing::warn!(vm = options.vm, "a connection can't be accepted: {error}");
                    poller.retry_later()?;
                    rests = true;
                }
            }
        }
    }
}

/// Whether accepting failed for no reason of ours: who connected has left, or a signal came.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// What a connection is.
#[derive(Debug)]
enum State {
    /// Not known yet; what it has said.
    Silent(Batch<OwnedFd>),
    /// A stream was asked for; the same.
    Opening(Batch<OwnedFd>),
    /// A context.
    Open(Box<Context>),
    /// Over: what is queued for the VM is still written.
    Over,
}

/// One connection of the VM's device.
#[derive(Debug)]
struct Connection {
    guest: Watched<Stream>,
    state: State,
    /// The other side doesn't take what the VM has sent.
    held: bool,
}

impl Connection {
    /// Whether it isn't read from, for its haste.
    fn is_paused(&self) -> bool {
        self.held && matches!(&self.state, State::Open(context) if context.is_paused())
    }
}

/// All of one VM.
struct Connections {
    vm: String,
    side: Side,
    opener: Arc<dyn Opener>,
    counters: Arc<Counters>,
    policy: Arc<policy::Current>,
    answers: Arc<Answers>,
    poller: Poller,
    next: u32,
    all: BTreeMap<u32, Connection>,
    /// The other sides of those that are over, until what is queued for them is written.
    lingering: Lingering,
}

/// What the poller calls the two ends of a connection.
fn guest_key(id: u32) -> u64 {
    2 * u64::from(id)
}

fn host_key(id: u32) -> u64 {
    guest_key(id) + 1
}

impl Connections {
    fn new(options: &Options, poller: Poller) -> Self {
        Self {
            vm: options.vm.clone(),
            side: options.side,
            opener: options.opener.clone(),
            counters: options.counters.clone(),
            policy: options.policy.clone(),
            answers: Answers::new(poller.waker()),
            lingering: Lingering::new(poller.clone()),
            poller,
            next: 0,
            all: BTreeMap::new(),
        }
    }

    /// Whether there are as many as there may be.
    fn is_full(&self) -> bool {
        let most = match self.side {
            Side::Client => self.policy.vm_quota().connections as usize,
            Side::Compositor => MAX_ACCEPTED,
        };
        self.all.len() >= most
    }

    /// Takes a new one in.
    fn add(&mut self, guest: Stream) {
        // Numbers come round after 2^32 connections; those that are still there keep theirs.
        while self.all.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        if self.all.is_empty() {
            self.counters.frontends.add(1);
        }
        let guest = self.poller.watched(guest_key(id), guest);
        let state = State::Silent(Batch::default());
        self.all.insert(id, Connection { guest, state, held: false });
        match self.side {
            // A client speaks when it likes to.
            Side::Client => self.ask(id, Target::Default),
            Side::Compositor => self.end_silent(),
        }
        self.refresh(id);
    }

    /// Ends the oldest one that is silent, if there are too many.
    fn end_silent(&mut self) {
        let silent = |(_, of): &(&u32, &Connection)| matches!(of.state, State::Silent(_));
        if self.all.iter().filter(silent).count() > MAX_SILENT
            && let Some((&id, _)) = self.all.iter().find(silent)
        {
            tracing::warn!(vm = self.vm, "a connection ends: it doesn't say what it is");
            self.remove(id);
        }
    }

    fn ask(&mut self, id: u32, target: Target) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if let State::Silent(said) = &mut connection.state {
            connection.state = State::Opening(std::mem::take(said));
            self.opener.open(target, self.answers.answer(id));
        }
    }

    /// Does what there is to do.
    fn turn(&mut self, events: &[(u64, EpollFlags)]) {
        for &(key, flags) in events {
            if key == RETRY {
                self.lingering.retry();
                let all: Vec<u32> = self.all.keys().copied().collect();
                for id in all {
                    self.flush_guest(id);
                    self.flush_host(id);
                    self.read_host(id);
                    self.refresh(id);
                }
                continue;
            }
            let Ok(id) = u32::try_from(key / 2) else {
                self.lingering.polled(key);
                continue;
            };
            let writes = EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
            let reads = EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
            match key == guest_key(id) {
                true => {
                    if flags.intersects(writes) {
                        self.flush_guest(id);
                    }
                    if flags.intersects(reads) {
                        self.read_guest(id);
                    }
                    // Nothing is owed by who has left: what it wasn't read for is forgotten.
                    if flags.contains(EpollFlags::EPOLLHUP)
                        && self.all.get(&id).is_some_and(Connection::is_paused)
                    {
                        self.guest_left(id);
                    }
                }
                false => {
                    if flags.intersects(writes) {
                        self.flush_host(id);
                    }
                    if flags.intersects(reads) {
                        self.read_host(id);
                    }
                }
            }
            self.refresh(id);
        }
        for (id, result) in self.answers.take() {
            self.opened(id, result);
            self.refresh(id);
        }
    }

    /// The stream that was asked for is there, or isn't.
    fn opened(&mut self, id: u32, result: Result<Opened, OpenError>) {
        // If the connection is gone, the stream closes here.
        let Some(connection) = self.all.get_mut(&id) else { return };
        let State::Opening(said) = &mut connection.state else { return };
        let said = std::mem::take(said);
        let context = result.and_then(|opened| {
            let key = host_key(id);
            let counters = self.counters.clone();
            let vm = self.vm.as_str().into();
            Context::new(opened, &self.poller, key, vm, counters, &self.policy).map_err(|error| {
                tracing::warn!(vm = self.vm, "a context was not made: {error}");
                OpenError::Failed
            })
        });
        match context {
            Ok(context) => {
                self.counters.contexts_opened.add(1);
                self.counters.contexts.add(1);
                connection.held = context.is_paused();
                connection.state = State::Open(Box::new(context));
                self.send(id, &said.bytes, said.fds);
            }
            Err(error) => {
                self.counters.contexts_refused.add(u64::from(error == OpenError::Limit));
                tracing::warn!(vm = self.vm, "a connection is not taken: {error}");
                self.remove(id);
            }
        }
    }

    /// Reads once what the VM says.
    fn read_guest(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let room = match &connection.state {
            State::Silent(said) => Token::LEN - said.bytes.len(),
            State::Open(_) if !connection.held => READ,
            // Nobody reads it; that it is gone is all that can be learned.
            _ => return,
        };
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        match connection.guest.read(&mut bytes, &mut fds, room) {
            Ok(Read::WouldBlock) => return,
            Ok(Read::Bytes(_)) => {}
            Ok(Read::Eof) => return self.guest_left(id),
            Err(error) => return self.end(id, &End::Io(error)),
        }
        match &mut connection.state {
            // Each of few bytes may bring hundreds.
            State::Silent(_) if !fds.is_empty() => self.end(id, &End::Early),
            State::Silent(said) => {
                said.bytes.extend(bytes);
                match Opening::decode(&said.bytes) {
                    Some(Opening::Main) => self.ask(id, Target::Default),
                    Some(Opening::Accepted(token)) => self.ask(id, Target::Accepted(token)),
                    None => {}
                }
            }
            _ => self.send(id, &bytes, fds.into()),
        }
    }

    /// Gives a context what its VM has sent.
    fn send(&mut self, id: u32, bytes: &[u8], fds: Vec<OwnedFd>) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let State::Open(context) = &mut connection.state else { return };
        if bytes.is_empty() {
            return;
        }
        let fds = fds.into_iter().map(Carried::foreign).collect();
        match context.send(bytes, fds, Instant::now()) {
            Ok(sent) => connection.held = sent == Sent::Waiting,
            Err(end) => self.end(id, &end),
        }
    }

    /// The VM has closed its end.
    fn guest_left(&mut self, id: u32) {
        self.over(id);
        self.remove(id);
    }

    fn flush_guest(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if connection.guest.flush().is_err() {
            return self.guest_left(id);
        }
        // What was read ahead comes after that.
        let is_ahead = matches!(&connection.state, State::Open(context) if context.is_ahead());
        if is_ahead && connection.guest.queued() == 0 {
            self.read_host(id);
        }
    }

    fn flush_host(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if let State::Open(context) = &mut connection.state {
            connection.held &= context.flush() == Sent::Waiting;
        }
    }

    /// Reads once what comes for the VM: it gets that if it has taken what came before.
    fn read_host(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let State::Open(context) = &mut connection.state else { return };
        if connection.guest.queued() > 0 {
            return context.read_ahead(READ);
        }
        let mut batch = Batch::default();
        let end = match context.read(READ, &mut batch) {
            Ok(Incoming::Nothing) => return,
            Ok(Incoming::Batch(read)) => {
                batch = read;
                None
            }
            Ok(Incoming::HangUp) => return self.last_words(id),
            Err(end) => Some(end),
        };
        connection.guest.queue(&batch.bytes, batch.fds.into_iter().map(Carried::hand_over));
        self.flush_guest(id);
        if let Some(end) = end {
            self.end(id, &end);
        } else if self.all.get(&id).is_some_and(|of| of.guest.queued_fds() > MAX_QUEUED_FDS) {
            self.end(id, &End::Full);
        }
    }

    /// Ends a connection from here.
    fn end(&mut self, id: u32, end: &End) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let number = match &connection.state {
            State::Open(context) => context.connection(),
            _ => None,
        };
        tracing::warn!(vm = self.vm, connection = number, "a stream ends: {end}");
        if let End::Violation(violation) = end {
            self.counters.violations.add(1);
            connection.guest.queue(&violation.to_event(), []);
        }
        self.last_words(id);
    }

    /// Nothing comes from the other side any more.
    fn last_words(&mut self, id: u32) {
        self.over(id);
        self.flush_guest(id);
    }

    /// Nothing goes to the other side any more, but what is queued for it.
    fn over(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if let State::Open(mut context) = std::mem::replace(&mut connection.state, State::Over) {
            self.counters.contexts.sub(1);
            if let Some(stream) = context.finish() {
                self.lingering.add(stream);
            }
        }
    }

    /// Waits for what there is to wait for now, or lets go of a connection that has nothing left to do.
    fn refresh(&mut self, id: u32) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let queued = connection.guest.queued() > 0;
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLOUT, queued && !connection.guest.is_stuck());
        // Only whether the VM leaves.
        let is_paused = connection.is_paused();
        let mut stuck = connection.guest.is_stuck();
        let watched = match &mut connection.state {
            State::Silent(_) => {
                interest |= EpollFlags::EPOLLIN;
                Ok(())
            }
            State::Opening(_) => Ok(()),
            State::Open(context) => {
                interest.set(EpollFlags::EPOLLIN, !connection.held);
                stuck |= context.is_stuck() || !queued && context.has_replies();
                context.count_queues(0, connection.guest.queued());
                context.watch(!queued)
            }
            State::Over if !queued => return self.remove(id),
            State::Over => Ok(()),
        };
        let interest = (is_paused || !interest.is_empty()).then_some(interest);
        let watched = watched
            .and_then(|()| connection.guest.watch(interest))
            .and_then(|()| if stuck { self.poller.retry_later() } else { Ok(()) });
        if let Err(error) = watched {
            tracing::warn!(vm = self.vm, "a connection can't be watched: {error}");
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        let Some(connection) = self.all.remove(&id) else { return };
        if let State::Open(_) = connection.state {
            self.counters.contexts.sub(1);
        }
        if self.all.is_empty() {
            self.counters.frontends.sub(1);
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let all: Vec<u32> = self.all.keys().copied().collect();
        all.into_iter().for_each(|id| self.remove(id));
    }
}

#[cfg(test)]
mod tests;
