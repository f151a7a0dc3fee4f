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
use crate::world::{CHANNEL, REST_END, World};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Events that one `epoll_wait` takes at most.
const EVENTS: usize = 64;

/// Rounds in one [`Agent::dispatch`], each one step of all who have something to do: then the loop that it is called
/// from gets its turn. See [`Agent::set_rounds`].
const ROUNDS: usize = 16;

/// The key of [`Agent::wait_for`]: no other is so large.
const OUTER: u64 = u64::MAX;

/// See the module's text.
pub struct Agent {
    /// What the connections share.
    pub world: World,
    connections: HashMap<u64, Connection>,
    contexts: HashMap<VfdId, u64>,
    /// Keys that have something to do, each at most once.
    ready: VecDeque<u64>,
    /// Readable while `ready` isn't empty between two dispatches.
    again: EventFd,
    again_key: u64,
    /// Keys of [`World::watch`] that are nobody's here and were ready.
    strange: Vec<u64>,
    /// Whether what is watched as [`OUTER`] is ready.
    outer: bool,
    rounds: usize,
}

impl Agent {
    /// An agent on top of `channel`, without connections.
    pub fn new(channel: Box<dyn Channel>) -> io::Result<Self> {
        let mut world = World::new(channel)?;
        let again = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let again_key = world.watch(&again)?;
        Ok(Self {
            world,
            connections: HashMap::new(),
            contexts: HashMap::new(),
            ready: VecDeque::new(),
            again,
            again_key,
            strange: Vec::new(),
            outer: false,
            rounds: ROUNDS,
        })
    }

    /// Lets one [`Agent::dispatch`] have so many rounds, each one step of all who have something to do. Where the loop that
    /// it is called from has other things to do, it is to be 1.
    pub fn set_rounds(&mut self, rounds: usize) {
        self.rounds = rounds;
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
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                self.step(key)?;
            }
            if self.ready.is_empty() && self.world.fresh.is_empty() {
                // If there is more already, the epoll set tells.
                return Ok(());
            }
        }
        self.call_again().map_err(|error| Error::Lost(error.to_string()))
    }

    fn call_again(&self) -> io::Result<()> {
        self.again.write(1)?;
        Ok(())
    }

    fn wake(&mut self, key: u64) {
        if !self.ready.contains(&key) {
            self.ready.push_back(key);
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
                    key if key == self.again_key => drop(self.again.read()),
                    key => {
                        if let Some(connection) = self.connections.get_mut(&key) {
                            connection.local_is_ready(event.events());
                        }
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
                Some(key) => self.wake(key),
                None => others.push(event),
            }
        }
        Ok(())
    }

    fn step(&mut self, key: u64) -> Result<(), Error> {
        match self.connections.get_mut(&key) {
            Some(connection) => {
                let context = connection.context();
                let step = connection.step(&mut self.world)?;
                // Once it is closed, its id may be used again.
                if let Some(closed) = context.filter(|_| connection.context().is_none()) {
                    self.contexts.remove(&closed);
                }
                match step {
                    Step::Wait => {}
                    Step::More => self.wake(key),
                    Step::End => {
                        let connection = self.connections.remove(&key).expect("it was there");
                        connection.close(&mut self.world);
                        self.world.stats.connections_now -= 1;
                    }
                }
            }
            None if self.world.lender.knows(key) => {
                if self.world.run_borrower(key)? == lend::Progress::More {
                    self.wake(key);
                }
            }
            None if !self.world.is_pump(key) => {
                // Somebody else's, or of something that ended meanwhile.
                self.strange.push(key);
            }
            None => {
                if self.world.run_pump(key)? == Progress::More {
                    self.wake(key);
                }
            }
        }
        if self.world.memory.has_retired() {
            let connections = &self.connections;
            let is_queued = |vfd| connections.values().any(|connection| connection.holds(vfd));
            self.world.close_retired(is_queued);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
