//! `guest-agent run`: a Wayland socket for the applications of a client VM.

mod activation;
mod client;
mod reporter;
mod socket;

use crate::agent::Agent;
use crate::channel::{Channel, Error};
use crate::connection::Link;
use crate::outbox::Outbox;
use client::Client;
use nix::sys::epoll::EpollTimeout;
use reporter::Reporter;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use wlproxy_unix::Stream;

pub use socket::{Socket, SocketError};

/// Brings clients of this VM to the host.
pub struct Run {
    agent: Agent,
    clients: u64,
    reporter: Reporter,
}

impl Run {
    /// Brings clients to the host over `channel`. `clients` is how many there were before, on an earlier channel.
    pub fn new(channel: Box<dyn Channel>, clients: u64) -> io::Result<Self> {
        Ok(Self { agent: Agent::new(channel)?, clients, reporter: Reporter::default() })
    }

    /// Becomes readable when [`Run::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.agent.poll_fd()
    }

    /// The connections, and what they share.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Takes a client that connected, out of `client`. It stays there if the host takes no more for now, or if the
    /// channel is lost; if the host refuses it, it is disconnected, with a warning.
    ///
    /// Fails only with [`Error::Lost`].
    pub fn accept(&mut self, client: &mut Option<UnixStream>) -> Result<(), Error> {
        let name = format!("client {}", self.clients + 1);
        let context = match self.agent.world.channel.connect() {
            Ok(context) => context,
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(Error::OutOfMemory) => return Ok(()),
            Err(error) => {
                tracing::warn!(connection = name, "the host doesn't take it: {error}");
                *client = None;
                return Ok(());
            }
        };
        let Some(client) = client.take() else {
            self.agent.world.channel.close(context);
            return Ok(());
        };
        self.clients += 1;
        tracing::debug!(connection = name, "connected");
        let connected = match Stream::new(client) {
            Ok(local) => {
                let link = Link { local, out: Outbox::default() };
                let role = Box::new(Client::new(name.clone()));
                self.agent.connect(name.clone(), link, context, role)
            }
            Err(error) => {
                self.agent.world.channel.close(context);
                Err(error)
            }
        };
        if let Err(error) = connected {
            tracing::warn!(connection = name, "it can't be watched: {error}");
        }
        Ok(())
    }

    /// Lends allocations to an application that has connected to the [`LendSocket`](crate::lend::LendSocket).
    pub fn lend_to(&mut self, socket: OwnedFd) {
        if let Err(error) = self.agent.world.lend_to(socket) {
            tracing::warn!("an application that borrows can't be watched: {error}");
        }
    }

    /// Does what there is to do, without blocking, and tells the host what has changed in the numbers, four times a
    /// second at most. Fails only with [`Error::Lost`].
    pub fn dispatch(&mut self) -> Result<(), Error> {
        self.wait(EpollTimeout::ZERO)
    }

    /// Lets [`Run::wait`] also return when this fd is readable; [`Agent::outer_is_ready`] tells.
    pub fn wait_for(&mut self, outer: impl AsFd) -> io::Result<()> {
        self.agent.wait_for(outer)
    }

    /// As [`Run::dispatch`], but waits first, up to `timeout`, until there is something to do.
    pub fn wait(&mut self, timeout: EpollTimeout) -> Result<(), Error> {
        let timeout = match self.report_due() {
            Some(due) => earlier(timeout, due.saturating_duration_since(Instant::now())),
            None => timeout,
        };
        let mut others = Vec::new();
        self.agent.wait(&mut others, timeout)?;
        self.agent.take_strange();
        let Self { agent, reporter, .. } = self;
        others.into_iter().try_for_each(|event| reporter.event(event, &mut agent.world))?;
        reporter.turn(&mut agent.world, Instant::now)
    }

    /// When to call [`Run::dispatch`] though nothing may happen until then: the host hasn't got the last numbers. Who
    /// has no timer does without it, and the host gets them with those after them.
    pub fn report_due(&self) -> Option<Instant> {
        self.reporter.due(&self.agent.world.stats)
    }

    /// Tells the host the last numbers, since no others will follow. Fails only with [`Error::Lost`].
    pub fn report(&mut self) -> Result<(), Error> {
        self.reporter.tell(&mut self.agent.world, Instant::now())
    }
}

/// The shorter of both, in whole milliseconds: rounded down, the last one would be spent in waits of no time at all.
fn earlier(timeout: EpollTimeout, other: Duration) -> EpollTimeout {
    let other = EpollTimeout::try_from(other.as_nanos().div_ceil(1_000_000));
    let other = other.unwrap_or(EpollTimeout::MAX);
    if timeout.is_none() { other } else { timeout.min(other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::Fake;

    #[test]
    fn a_wait_is_as_long_as_the_shorter() {
        let millis = |n: u16| EpollTimeout::from(n);
        let other = Duration::from_micros(1500);
        for (timeout, expected) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            assert_eq!(earlier(millis(timeout), other), millis(expected));
        }
        assert_eq!(earlier(EpollTimeout::NONE, other), millis(2));
        assert_eq!(earlier(EpollTimeout::NONE, Duration::MAX), EpollTimeout::MAX);
    }

    #[test]
    fn who_is_not_taken_may_be_later_unless_the_host_refuses() {
        let fake = Fake::new();
        let mut run = Run::new(Box::new(fake.clone()), 0).unwrap();
        let mut client = Some(UnixStream::pair().unwrap().0);
        fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
        run.accept(&mut client).unwrap();
        assert!(client.is_some());
        fake.lose();
        assert!(matches!(run.accept(&mut client), Err(Error::Lost(_))) && client.is_some());
        let fake = Fake::new();
        let mut run = Run::new(Box::new(fake.clone()), 0).unwrap();
        run.accept(&mut client).unwrap();
        assert!(client.is_none() && run.agent().connections() == 1);
        client = Some(UnixStream::pair().unwrap().0);
        fake.state.borrow_mut().refusals.push_back(Error::Refused("no".into()));
        run.accept(&mut client).unwrap();
        assert!(client.is_none() && run.agent().connections() == 1);
    }
}
