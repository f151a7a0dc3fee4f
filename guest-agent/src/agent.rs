//! Connections between local Wayland sockets and contexts, all in one thread.
//!
//! An agent is an object to poll: [`Agent::poll_fd`] becomes readable, [`Agent::dispatch`] does what there is to do.
//! So it fits into any event loop, such as a compositor's. `run` and `serve` do it the other way round: the agent waits,
//! and their event loop's fd is one of those that it [waits for](Agent::wait). Nearly all that happens to them is the
//! agent's, and another loop around it would cost as many system calls as a message does.

use crate::channel::{Channel, Error, Event, VfdId};
use crate::connection::{Connection, Link, Role, Step};
use crate::lend;
use crate::pump::Progress;
use crate::turns::Turns;
use crate::unread::Unread;
use crate::world::{CHANNEL, REST_END, World};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Events that one `epoll_wait` takes at most.
const EVENTS: usize = 64;

/// Rounds in one [`Agent::dispatch`], each one turn of all accounts that have something to do: then the loop that it is called
/// from gets its turn. See [`Agent::share`].
const ROUNDS: usize = 16;

/// Bytes that the connections of one account may move in one turn, in either direction: what libwayland's 4 KiB buffers make
/// of a burst. The last message may come on top. See [`Agent::share`].
const QUANTUM: usize = 16 * 1024;

/// Bytes of one account that a local peer that is one for all may have and not have read while other accounts are there. With what
/// is said in so many, libwayland is busy for 20 to 30 µs, about as long as it takes to wake somebody up; with fewer, more of its
/// time is spent on coming and going than on what is said.
const SHARE: usize = 1024;

/// What a step counts beside its bytes: some system calls take as long as to move so many.
const STEP: usize = 512;

/// The key of [`Agent::wait_for`]: no other is so large.
const OUTER: u64 = u64::MAX;

/// The key of [`Agent::call_again`], the next largest.
const AGAIN: u64 = OUTER - 1;

/// See the module's text.
pub struct Agent {
    /// What the connections share.
    pub world: World,
    connections: HashMap<u64, Connection>,
    contexts: HashMap<VfdId, u64>,
    /// Who has something to do.
    turns: Turns,
    /// Readable while somebody has, between two dispatches.
    again: EventFd,
    /// Whether it is.
    calls: bool,
    /// Runs until [`Agent::call_at`].
    alarm: TimerFd,
    alarm_key: u64,
    /// Keys of [`World::watch`] that are nobody's here and were ready.
    strange: Vec<u64>,
    /// Whether what is watched as [`OUTER`] is ready.
    outer: bool,
    rounds: usize,
    quantum: usize,
    /// Who may write to the local peer, if that is one for all.
    unread: Option<Unread>,
}

impl Agent {
    /// An agent on top of `channel`, without connections.
    pub fn new(channel: Box<dyn Channel>) -> io::Result<Self> {
        let mut world = World::new(channel)?;
        let again = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        world.epoll().add(&again, EpollEvent::new(EpollFlags::EPOLLIN, AGAIN))?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let alarm = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let alarm_key = world.watch(&alarm)?;
        Ok(Self {
            world,
            connections: HashMap::new(),
            contexts: HashMap::new(),
            turns: Turns::default(),
            again,
            calls: false,
            alarm,
            alarm_key,
            strange: Vec::new(),
            outer: false,
            rounds: ROUNDS,
            quantum: QUANTUM,
            unread: None,
        })
    }

    /// Lets one [`Agent::dispatch`] have one turn of each account that has something to do, with so many bytes: the loop that
    /// it is called from has other things to do, among them with these bytes.
    pub fn share(&mut self, quantum: usize) {
        (self.rounds, self.quantum) = (1, quantum);
    }

    /// Says that the local peer is one for all connections: then of each account only one connection at a time has bytes that
    /// it hasn't read, and no more than a turn's; than 1 KiB while there are others.
    pub fn has_one_peer(&mut self) {
        self.unread = Some(Unread::default());
    }

    /// Becomes readable when [`Agent::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.world.epoll().0.as_fd()
    }

    /// Joins a local socket and a context; what is queued in `link` goes first. `name` stands in the log. Returns what
    /// [`Agent::is_connected`] knows it by. If it can't, the context is closed.
    pub fn connect(
        &mut self,
        name: String,
        link: Link,
        context: VfdId,
        role: Box<dyn Role>,
    ) -> io::Result<u64> {
        let key = match self.world.watch(link.local.as_fd()) {
            Ok(key) => key,
            Err(error) => {
                self.world.channel.close(context);
                return Err(error);
            }
        };
        self.connections.insert(key, Connection::new(name, link, context, role));
        self.contexts.insert(context, key);
        self.world.stats.connections += 1;
        self.world.stats.connections_now += 1;
        self.wake(key);
        self.call_again()?;
        Ok(key)
    }

    /// Whether a connection hasn't ended. No other is ever known by its key.
    pub fn is_connected(&self, key: u64) -> bool {
        self.connections.contains_key(&key)
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Connections of this account now.
    #[cfg(test)]
    pub(crate) fn connections_of(&self, account: &str) -> usize {
        self.connections.values().filter(|connection| **connection.account() == *account).count()
    }

    /// Whether something that local peers sent is still to go on.
    pub fn is_delivering(&self) -> bool {
        self.connections.values().any(Connection::is_delivering)
    }

    /// Does what there is to do, without blocking. Appends events of vfds that are no connection's and no pipe's.
    ///
    /// Fails only with [`Error::Lost`]: then every connection is to be dropped with the agent.
    pub fn dispatch(&mut self, others: &mut Vec<Event>) -> Result<(), Error> {
        self.wait(others, EpollTimeout::ZERO)
    }

    /// Lets [`Agent::wait`] also return when this fd is readable.
    pub fn wait_for(&mut self, outer: impl AsFd) -> io::Result<()> {
        self.world.epoll().add(outer, EpollEvent::new(EpollFlags::EPOLLIN, OUTER))?;
        Ok(())
    }

    /// Whether that fd was readable when the agent waited last.
    pub fn outer_is_ready(&self) -> bool {
        self.outer
    }

    /// Takes the keys of [`World::watch`] that were ready and are neither a connection's nor a pipe's.
    pub(crate) fn take_strange(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.strange)
    }

    /// As [`Agent::dispatch`], but waits first, up to `timeout`, until there is something to do.
    pub fn wait(&mut self, others: &mut Vec<Event>, timeout: EpollTimeout) -> Result<(), Error> {
        self.outer = false;
        self.strange.clear();
        for round in 0..self.rounds {
            self.collect(others, if round == 0 { timeout } else { EpollTimeout::ZERO })?;
            for _ in 0..self.turns.waiting() {
                self.turn()?;
            }
            if self.turns.waiting() == 0 && self.world.fresh.is_empty() {
                // If there is more already, the epoll set tells.
                if std::mem::take(&mut self.calls) {
                    let _ = self.again.read();
                }
                return Ok(());
            }
        }
        self.call_again().map_err(|error| Error::Lost(error.to_string()))
    }

    /// Has [`Agent::poll_fd`] be readable, and the next [`Agent::wait`] not wait.
    pub fn call_again(&mut self) -> io::Result<()> {
        if !self.calls {
            self.again.write(1)?;
            self.calls = true;
        }
        Ok(())
    }

    /// The same at a later time. Only the last one counts.
    pub fn call_at(&self, when: Instant) -> io::Result<()> {
        // No time at all would never be over.
        let left = when.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let end = Expiration::OneShot(TimeSpec::from_duration(left));
        self.alarm.set(end, TimerSetTimeFlags::empty())?;
        Ok(())
    }

    fn wake(&mut self, key: u64) {
        let account = match self.connections.get(&key) {
            Some(connection) => Some(connection.account()),
            None => self.world.account_of(key),
        };
        match account {
            Some(account) => self.turns.push(account, key),
            // Somebody else's, or of something that ended meanwhile.
            None => self.strange.push(key),
        }
    }

    /// Finds out who has something to do. What was interrupted by a signal has waited long enough.
    fn collect(&mut self, others: &mut Vec<Event>, mut timeout: EpollTimeout) -> Result<(), Error> {
        let mut found = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.world.epoll().wait(&mut found, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(errno) => return Err(Error::Lost(errno.to_string())),
            };
            timeout = EpollTimeout::ZERO;
            for event in &found[..count] {
                match event.data() {
                    CHANNEL => self.dispatch_channel(others)?,
                    OUTER => self.outer = true,
                    REST_END => self.end_rest(),
                    AGAIN => {}
                    // The only error is that it isn't over.
                    key if key == self.alarm_key => drop(self.alarm.wait()),
                    key => {
                        if let Some(connection) = self.connections.get_mut(&key) {
                            connection.local_is_ready(event.events());
                        }
                        // Ahead of it, since it has had its turn.
                        self.wake_next(key);
                        self.wake(key);
                    }
                }
            }
            for key in std::mem::take(&mut self.world.fresh) {
                self.wake(key);
            }
            if count < EVENTS {
                return Ok(());
            }
        }
    }

    /// Something of a connection was read, or it ends: lets the next one go on that waits for that.
    fn wake_next(&mut self, key: u64) {
        let Self { unread: Some(unread), connections, .. } = self else { return };
        let Some(connection) = connections.get(&key) else { return };
        let account = connection.account();
        if unread.are_of(account, key)
            && connection.is_read()
            && let Some(next) = unread.next(account, key)
        {
            self.wake(next);
        }
    }

    /// Lets connections go on whose streams were stuck.
    fn end_rest(&mut self) {
        self.world.end_rest();
        let all = self.connections.iter_mut();
        let rested = all.filter_map(|(&key, connection)| connection.end_rest().then_some(key));
        for key in rested.collect::<Vec<u64>>() {
            self.wake(key);
        }
    }

    fn dispatch_channel(&mut self, others: &mut Vec<Event>) -> Result<(), Error> {
        let mut events = Vec::new();
        self.world.channel.dispatch(&mut events)?;
        for event in events {
            let (Event::Readable(vfd) | Event::Writable(vfd)) = event;
            match self.contexts.get(&vfd).copied().or_else(|| self.world.pump_of(vfd)) {
                Some(key) => {
                    if let Some(connection) = self.connections.get_mut(&key) {
                        connection.remote_is_ready();
                    }
                    self.wake(key);
                }
                None => others.push(event),
            }
        }
        Ok(())
    }

    /// One account's turn.
    fn turn(&mut self) -> Result<(), Error> {
        let Some(account) = self.turns.begin() else { return Ok(()) };
        let mut used = 0;
        while used < self.quantum
            && let Some(key) = self.turns.take(&account)
        {
            used += STEP + self.step(key)?;
        }
        self.turns.end(account);
        Ok(())
    }

    /// How many bytes a connection may write to its local peer now. If none, it is woken when it may.
    fn room(&mut self, key: u64) -> usize {
        let Self { unread: Some(unread), connections, .. } = self else { return usize::MAX };
        let Some(connection) = connections.get(&key) else { return usize::MAX };
        if !connection.wants_to_write() {
            return usize::MAX;
        }
        let most = if self.turns.are_shared() { SHARE } else { self.quantum };
        if !connection.is_answered() {
            // Whom the compositor hasn't taken yet, neither waits for others nor keeps them waiting.
            return match usize::try_from(connection.written()) {
                Ok(written) if written < most => most - written,
                _ if connection.is_read() => most,
                _ => 0,
            };
        }
        unread.room(connection.account(), key, most)
    }

    /// Moves what can be moved. Returns how much of a turn that is, in bytes.
    fn step(&mut self, key: u64) -> Result<usize, Error> {
        let mut used = 0;
        let room = self.room(key);
        match self.connections.get_mut(&key) {
            Some(connection) => {
                let context = connection.context();
                let before = connection.written();
                connection.set_room(room);
                let (step, moved) = connection.step(&mut self.world, self.quantum)?;
                used = moved;
                let wrote = (connection.written() - before) as usize;
                let next = self.unread.as_mut().and_then(|unread| {
                    let account = connection.account();
                    if !(connection.is_answered() && wrote > 0 || unread.has_turn(account, key)) {
                        None
                    } else if connection.is_read() {
                        unread.next(account, key)
                    } else {
                        unread.wrote(account, key, wrote);
                        None
                    }
                });
                // Once it is closed, its id may be used again.
                if let Some(closed) = context.filter(|_| connection.context().is_none()) {
                    self.contexts.remove(&closed);
                }
                next.into_iter().for_each(|next| self.wake(next));
                match step {
                    Step::Wait => {}
                    Step::More => self.wake(key),
                    Step::End => {
                        let connection = self.connections.remove(&key).expect("it was there");
                        if let Some(unread) = &mut self.unread {
                            let next = unread.forget(connection.account(), key);
                            next.into_iter().for_each(|next| self.wake(next));
                        }
                        connection.close(&mut self.world);
                        self.world.stats.connections_now -= 1;
                    }
                }
            }
            None if self.world.lender.knows(key) => {
                if self.world.run_borrower(key)? == lend::Progress::More {
                    self.wake(key);
                    used = self.quantum;
                }
            }
            // Unless it has ended meanwhile.
            None => {
                if self.world.run_pump(key)? == Progress::More {
                    self.wake(key);
                    used = self.quantum;
                }
            }
        }
        if self.world.memory.has_retired() {
            let connections = &self.connections;
            let is_queued = |vfd| connections.values().any(|connection| connection.holds(vfd));
            self.world.close_retired(is_queued);
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests;
