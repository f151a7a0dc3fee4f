//! `guest-agent serve`: brings clients of other VMs to the compositor of this one.

use crate::agent::Agent;
use crate::channel::{Channel, Error, Event};
use crate::compositor::{Compositor, Door};
use crate::connection::Link;
use crate::listener::{ListenError, Listener};
use crate::passage::Passage;
use crate::queue::{Next, Queue};
use nix::sys::epoll::EpollTimeout;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::{Record, Refusal};
use wlproxy_unix::Stream;

/// How long a compositor that has no room is left alone, at first and at most: it takes a client in about a millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// The accept side, in front of a compositor that listens on a socket.
///
/// There is a main context while there is a compositor. Without one, clients wait at the host.
pub struct Serve {
    agent: Agent,
    open: Option<(Listener, Compositor)>,
    /// Clients that wait for their turn.
    queue: Queue,
    /// Whether the compositor had no room for the last one: it is left alone, and they all wait.
    is_full: bool,
    /// Where the compositor hasn't accepted yet, and for which connection.
    doors: Vec<(u64, Door)>,
    /// What the agent knows the open compositor's fd by.
    compositor_key: u64,
    /// Runs while the compositor is left alone, and as long as there are doors.
    timer: TimerFd,
    /// What the agent knows it by.
    timer_key: u64,
    /// How long it is left alone the next time.
    pause: Duration,
    /// Whether it is left alone now.
    pausing: bool,
}

impl Serve {
    /// Takes no clients yet.
    pub fn new(channel: Box<dyn Channel>) -> Result<Self, Error> {
        let mut agent = Agent::new(channel).map_err(lost)?;
        agent.has_one_peer();
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        let timer = timer.map_err(|errno| lost(errno.into()))?;
        let timer_key = agent.world.watch(&timer).map_err(lost)?;
        Ok(Self {
            agent,
            open: None,
            queue: Queue::default(),
            is_full: false,
            doors: Vec::new(),
            compositor_key: 0,
            timer,
            timer_key,
            pause: FIRST_PAUSE,
            pausing: false,
        })
    }

    /// Opens a main context: from now on clients are taken to `compositor`, until it ends.
    pub fn open(&mut self, compositor: Compositor) -> Result<(), Error> {
        self.close();
        let watched = self.agent.world.watch(compositor.poll_fd());
        self.compositor_key = watched.map_err(lost)?;
        let listener = Listener::new(&mut *self.agent.world.channel)?;
        self.open = Some((listener, compositor));
        Ok(())
    }

    /// Whether clients are taken to a compositor.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes no more clients. Those that are connected aren't concerned.
    fn close(&mut self) {
        if let Some((listener, _)) = self.open.take() {
            listener.close(&mut *self.agent.world.channel);
        }
        // The host announces them again on the next main context.
        self.queue.clear();
        self.is_full = false;
        // With our listeners, who is in their queues would never learn that nobody accepts.
        self.doors.clear();
        self.stop_pausing();
    }

    /// Becomes readable when [`Serve::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.agent.poll_fd()
    }

    /// The connections, and what they share.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Lets [`Serve::wait`] also return when this fd is readable; [`Agent::outer_is_ready`] tells.
    pub fn wait_for(&mut self, outer: impl AsFd) -> io::Result<()> {
        self.agent.wait_for(outer)
    }

    /// Does what there is to do, without blocking: as [`Serve::wait`].
    pub fn dispatch(&mut self) -> Result<(), ListenError> {
        self.wait(EpollTimeout::ZERO)
    }

    /// Waits, up to `timeout`, until there is something to do, and does it.
    ///
    /// When the compositor has ended, [`Serve::is_open`] isn't true any more. Fails with [`Error::Lost`] when the channel
    /// is; and when the main context ended, after which a new `Serve` may be made.
    pub fn wait(&mut self, timeout: EpollTimeout) -> Result<(), ListenError> {
        let mut others: Vec<Event> = Vec::new();
        self.agent.wait(&mut others, timeout)?;
        let strange = self.agent.take_strange();
        let Some((listener, compositor)) = &mut self.open else { return Ok(()) };
        if strange.contains(&self.compositor_key)
            && let Err(error) = compositor.dispatch()
        {
            tracing::warn!("{error}");
            self.close();
            return Ok(());
        }
        let (mut records, mut listened) = (Vec::new(), Ok(()));
        if others.iter().any(|&event| listener.concerns(event)) {
            listened = listener.dispatch(&mut *self.agent.world.channel, &mut records);
        }
        // Reading the timer fails unless it has ended.
        let has_paused = strange.contains(&self.timer_key) && self.timer.wait().is_ok();
        self.pausing &= !has_paused;
        self.is_full &= !has_paused;
        for record in records {
            if let Some(record) = self.queue.push(record, Instant::now()) {
                self.refuse(&record, &"too many wait for it")?;
            }
        }
        if !self.is_full {
            self.take_next()?;
        }
        self.doors.retain(|(key, door)| self.agent.is_connected(*key) && door.is_waited_at());
        if !self.is_full && self.doors.is_empty() {
            self.stop_pausing();
        } else if !self.pausing {
            self.set_timer()?;
        }
        listened
    }

    /// Leaves the compositor alone, for longer each time.
    fn set_timer(&mut self) -> Result<(), Error> {
        let end = Expiration::OneShot(TimeSpec::from_duration(self.pause));
        let set = self.timer.set(end, TimerSetTimeFlags::empty());
        set.map_err(|errno| Error::Lost(errno.to_string()))?;
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.pausing = true;
        Ok(())
    }

    /// The compositor owes nothing. If the timer still runs, its end is no harm.
    fn stop_pausing(&mut self) {
        self.pause = FIRST_PAUSE;
        self.pausing = false;
    }

    /// Takes one client, if the compositor has room for it. Others wait until the connections had their turns.
    fn take_next(&mut self) -> Result<(), Error> {
        match self.queue.next(Instant::now()) {
            Next::Client(waiting) => {
                if !self.accept(&waiting.record)? {
                    self.queue.put_back(waiting);
                    self.is_full = true;
                } else if !self.queue.is_empty() {
                    self.agent.call_again().map_err(lost)?;
                }
            }
            Next::At(when) => self.agent.call_at(when).map_err(lost)?,
            Next::Nobody => {}
        }
        Ok(())
    }

    /// Takes a client. Returns whether the compositor had room for it, if there is one.
    fn accept(&mut self, record: &Record) -> Result<bool, Error> {
        let Some((listener, compositor)) = &mut self.open else { return Ok(true) };
        let name = format!("{}:{}", record.vm, record.connection);
        let channel = &mut *self.agent.world.channel;
        let client = compositor.client(&record.vm, record.connection);
        let (local, door) = match client.and_then(|(local, door)| Ok((Stream::new(local)?, door))) {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if is_gone(&error) => {
                let socket = compositor.socket().display();
                // Not answered: the host announces the client again on the next main context.
                tracing::warn!(
                    connection = name,
                    "nobody takes clients on {socket} any more ({error}): it waits"
                );
                self.close();
                return Ok(true);
            }
            Err(error) => return self.refuse(record, &error).map(|()| true),
        };
        match listener.accept(channel, record) {
            Ok((context, out)) => {
                let role = Box::new(Passage::new(&record.vm));
                tracing::info!(connection = name, "accepted");
                let link = Link { local, out };
                match self.agent.connect(name.clone(), link, context, role) {
                    Ok(key) => self.doors.extend(door.map(|door| (key, door))),
                    Err(error) => {
                        tracing::warn!(connection = name, "it can't be watched: {error}");
                    }
                }
            }
            Err(error @ Error::Lost(_)) => return Err(error),
            // While its record was on the way: applications probe for a display and hang up.
            Err(Error::NotFound) => {
                tracing::info!(connection = name, "the client has left meanwhile");
                self.queue.had_left(&record.vm);
            }
            Err(error) => tracing::warn!(connection = name, "its stream can't be opened: {error}"),
        }
        Ok(true)
    }

    fn refuse(&mut self, record: &Record, why: &dyn Display) -> Result<(), Error> {
        let Some((listener, compositor)) = &mut self.open else { return Ok(()) };
        tracing::warn!(
            connection = format!("{}:{}", record.vm, record.connection),
            "the compositor takes no more clients on {} ({why}): client refused",
            compositor.socket().display()
        );
        listener.refuse(&mut *self.agent.world.channel, record, Refusal::NoCompositor)
    }
}

fn lost(error: io::Error) -> Error {
    Error::Lost(error.to_string())
}

/// Whether connecting failed because nobody listens.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound)
}

/// Turns a lost channel into an error of the caller's kind.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests;
