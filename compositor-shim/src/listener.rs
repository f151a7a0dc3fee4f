//! Accepts clients of other VMs, and carries what they and the compositor say.

use calloop::generic::Generic;
use calloop::{Interest, Mode};
use guest_agent::agent::Agent;
use guest_agent::channel::{ChannelSpec, Error, Event};
use guest_agent::connection::Link;
use guest_agent::listener::{ListenError, Listener as Main};
use guest_agent::passage::Passage;
use guest_agent::queue::{Next, Queue};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::{Record, Refusal};
use wlproxy_unix::Stream;

/// How often a host that isn't there is tried, as `guest-agent serve` does.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes of one VM that one dispatch carries, in either direction. libwayland reads so many of a client in its turn (1.21, the
/// size of a wl_connection's buffer); so what one VM's clients have the compositor do between two dispatches is as much as one
/// client of the compositor's own can have it do, however many they are.
const QUANTUM: usize = 4096;

/// Who a client is. The host says so, and no client can: it is to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Peer {
    /// The client VM's name in the host's configuration, which has no characters but letters, digits, `-` and `_`.
    pub vm: String,
    /// The connection's number on the host, as in `wlproxy status`. No other has the same until the host is started again.
    pub connection: u64,
}

/// A client that was accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Client {
    /// Its Wayland stream, which is non-blocking. When it is closed, the client is disconnected.
    pub stream: UnixStream,
    /// Who it is.
    pub peer: Peer,
}

/// An epoll set, as a file.
#[derive(Debug)]
pub(crate) struct Set(Epoll);

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// The channel, while the host is there.
struct Open {
    agent: Agent,
    main: Main,
    /// Clients that wait for their turn.
    queue: Queue,
}

/// Accepts clients of other VMs. Dropping it disconnects them.
///
/// It is an object to poll: [`Listener::poll_fd`] becomes readable, [`Listener::dispatch`] does what there is to do. It is
/// also an event source of calloop's, which does both.
///
/// The host may come later and go meanwhile: clients are disconnected then, and it is looked for five times a second. A
/// new main context is opened as soon as it is there.
pub struct Listener {
    channel: ChannelSpec,
    open: Option<Open>,
    /// What [`Listener::poll_fd`] is: of the agent and the timer.
    pub(crate) set: Generic<Set>,
    /// Runs while there is no host.
    timer: TimerFd,
    /// Why there is none, as far as it was told.
    told: Option<String>,
}

impl Listener {
    /// Accepts clients over a channel. Whether the host is there shows later: that is logged, and tried again.
    ///
    /// # Errors
    /// If the system has no fds left.
    pub fn new(channel: ChannelSpec) -> io::Result<Self> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        set.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let set = Generic::new(Set(set), Interest::READ, Mode::Level);
        let mut listener = Self { channel, open: None, set, timer, told: None };
        listener.look()?;
        Ok(listener)
    }

    /// Becomes readable when [`Listener::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.set.get_ref().as_fd()
    }

    /// Whether the host is there, so that clients are accepted.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Clients that are connected.
    pub fn clients(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.agent.connections())
    }

    /// Does what there is to do: carries what clients and compositor have sent, and appends clients that came.
    ///
    /// It waits for no client. It may wait for the host, as long as that takes to give memory for a keymap or to take the
    /// channel.
    ///
    /// # Errors
    /// If the timer can't be set, which doesn't happen.
    pub fn dispatch(&mut self, clients: &mut Vec<Client>) -> io::Result<()> {
        // Reading the timer fails unless it has ended.
        if self.open.is_none() && self.timer.wait().is_ok() {
            self.look()?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Err(error) = open.dispatch(clients) {
            tracing::warn!(
                "{error}; clients of other VMs are disconnected, and the host is waited for"
            );
            self.open = None;
            self.look_later()?;
        }
        Ok(())
    }

    /// Opens channel and main context, or tries again later.
    fn look(&mut self) -> io::Result<()> {
        let open = Open::new(&self.channel);
        let watched = open.and_then(|open| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, 1);
            let added = self.set.get_ref().0.add(open.agent.poll_fd(), event);
            added.map(|()| open).map_err(|errno| Error::Lost(errno.to_string()))
        });
        match watched {
            Ok(open) => {
                tracing::info!("clients of other VMs are accepted");
                self.open = Some(open);
                self.told = None;
                Ok(())
            }
            Err(error) => {
                self.tell(&error);
                self.look_later()
            }
        }
    }

    fn look_later(&self) -> io::Result<()> {
        let end = Expiration::OneShot(TimeSpec::from_duration(RETRY));
        Ok(self.timer.set(end, TimerSetTimeFlags::empty())?)
    }

    /// Each reason once.
    fn tell(&mut self, why: &dyn Display) {
        let why = why.to_string();
        if self.told.as_ref() != Some(&why) {
            tracing::info!("waiting for the host: {why}");
            self.told = Some(why);
        }
    }
}

impl Open {
    fn new(channel: &ChannelSpec) -> Result<Self, Error> {
        let mut agent = Agent::new(channel.open()?).map_err(lost)?;
        agent.share(QUANTUM);
        agent.has_one_peer();
        let main = Main::new(&mut *agent.world.channel)?;
        Ok(Self { agent, main, queue: Queue::default() })
    }

    fn dispatch(&mut self, clients: &mut Vec<Client>) -> Result<(), ListenError> {
        let mut others: Vec<Event> = Vec::new();
        self.agent.dispatch(&mut others)?;
        let (mut records, mut listened) = (Vec::new(), Ok(()));
        if others.iter().any(|&event| self.main.concerns(event)) {
            listened = self.main.dispatch(&mut *self.agent.world.channel, &mut records);
        }
        for record in records {
            if let Some(record) = self.queue.push(record, Instant::now()) {
                let name = format!("{}:{}", record.vm, record.connection);
                tracing::warn!(connection = name, "client refused: too many wait");
                self.main.refuse(&mut *self.agent.world.channel, &record, Refusal::Limit)?;
            }
        }
        // One: the others wait until the compositor and the connections had their turns.
        match self.queue.next(Instant::now()) {
            Next::Client(waiting) => {
                clients.extend(self.accept(waiting.record)?);
                if !self.queue.is_empty() {
                    self.agent.call_again().map_err(lost)?;
                }
            }
            Next::At(when) => self.agent.call_at(when).map_err(lost)?,
            Next::Nobody => {}
        }
        listened
    }

    /// Takes a client. `None` if that failed, which isn't for long: the next one may be luckier.
    fn accept(&mut self, record: Record) -> Result<Option<Client>, Error> {
        let name = format!("{}:{}", record.vm, record.connection);
        let channel = &mut *self.agent.world.channel;
        let (stream, local) = match pair() {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(connection = name, "client refused: {error}");
                self.main.refuse(channel, &record, Refusal::Limit)?;
                return Ok(None);
            }
        };
        let (context, out) = match self.main.accept(channel, &record) {
            Ok(accepted) => accepted,
            Err(error @ Error::Lost(_)) => return Err(error),
            // While its record was on the way: applications probe for a display and hang up.
            Err(Error::NotFound) => {
                tracing::info!(connection = name, "the client has left meanwhile");
                self.queue.had_left(&record.vm);
                return Ok(None);
            }
            Err(error) => {
                tracing::warn!(connection = name, "its stream can't be opened: {error}");
                return Ok(None);
            }
        };
        let role = Box::new(Passage::new(&record.vm));
        let link = Link { local, out };
        if let Err(error) = self.agent.connect(name.clone(), link, context, role) {
            tracing::warn!(connection = name, "it can't be watched: {error}");
            return Ok(None);
        }
        tracing::debug!(connection = name, "accepted");
        let peer = Peer { vm: record.vm, connection: record.connection };
        Ok(Some(Client { stream, peer }))
    }
}

/// The compositor's end, and ours.
fn pair() -> io::Result<(UnixStream, Stream)> {
    let (theirs, ours) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    Ok((theirs, Stream::new(ours)?))
}

fn lost(error: io::Error) -> Error {
    Error::Lost(error.to_string())
}
