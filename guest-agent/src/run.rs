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
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
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
    /// Is due when the reporter is. A wait that ends then would have to be told so each time, and to set a clock costs more
    /// than all else that a message does.
    report: TimerFd,
    /// What the agent knows it by.
    report_key: u64,
    /// Whether it is set.
    is_set: bool,
}

impl Run {
    /// Brings clients to the host over `channel`. `clients` is how many there were before, on an earlier channel.
    pub fn new(channel: Box<dyn Channel>, clients: u64) -> io::Result<Self> {
        let mut agent = Agent::new(channel)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let report = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let report_key = agent.world.watch(&report)?;
        let reporter = Reporter::default();
        Ok(Self { agent, clients, reporter, report, report_key, is_set: false })
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
                let role = Box::new(Client::new(&name));
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
        self.set_timer()?;
        let mut others = Vec::new();
        self.agent.wait(&mut others, timeout)?;
        // Reading it fails unless it is due.
        if self.agent.take_strange().contains(&self.report_key) && self.report.wait().is_ok() {
            self.is_set = false;
        }
        let Self { agent, reporter, .. } = self;
        others.into_iter().try_for_each(|event| reporter.event(event, &mut agent.world))?;
        reporter.turn(&mut agent.world, Instant::now)
    }

    /// Sees to it that something happens when the host is to get numbers that nothing else would bring there.
    fn set_timer(&mut self) -> Result<(), Error> {
        if self.is_set {
            return Ok(());
        }
        if let Some(due) = self.reporter.due(&self.agent.world.stats) {
            // No time at all would never be over.
            let left = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let end = Expiration::OneShot(TimeSpec::from_duration(left));
            let set = self.report.set(end, TimerSetTimeFlags::empty());
            set.map_err(|errno| Error::Lost(errno.to_string()))?;
            self.is_set = true;
        }
        Ok(())
    }

    /// Tells the host the last numbers, since no others will follow. Fails only with [`Error::Lost`].
    pub fn report(&mut self) -> Result<(), Error> {
        self.reporter.tell(&mut self.agent.world, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::Fake;

    #[test]
    fn the_last_numbers_are_told_though_nothing_else_happens() {
        let fake = Fake::new();
        fake.state.borrow_mut().takes_reports = true;
        let mut run = Run::new(Box::new(fake.clone()), 0).unwrap();
        let told = || fake.state.borrow().sent.len();
        // What the agent is woken for at its start.
        run.dispatch().unwrap();
        run.agent.world.stats.frames = 1;
        run.dispatch().unwrap();
        assert_eq!(told(), 1);
        run.agent.world.stats.frames = 2;
        let patience = EpollTimeout::from(20_000u16);
        while told() == 1 {
            let before = Instant::now();
            run.wait(patience).unwrap();
            assert!(before.elapsed() < Duration::from_secs(20), "nobody is woken for it");
        }
        assert!(!run.is_set);
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
