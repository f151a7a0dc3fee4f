//! `guest-agent run`: a Wayland socket for the applications of a client VM.

mod activation;
mod client;
mod socket;

use crate::agent::Agent;
use crate::channel::{Channel, Error};
use crate::connection::Link;
use crate::outbox::Outbox;
use client::Client;
use nix::sys::epoll::EpollTimeout;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use wlproxy_unix::Stream;

pub use socket::{Socket, SocketError};

/// Brings clients of this VM to the host.
pub struct Run {
    agent: Agent,
    clients: u64,
}

impl Run {
    /// Brings clients to the host over `channel`. `clients` is how many there were before, on an earlier channel.
    pub fn new(channel: Box<dyn Channel>, clients: u64) -> io::Result<Self> {
        Ok(Self { agent: Agent::new(channel)?, clients })
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

    /// Does what there is to do, without blocking. Fails only with [`Error::Lost`].
    pub fn dispatch(&mut self) -> Result<(), Error> {
        self.wait(EpollTimeout::ZERO)
    }

    /// Lets [`Run::wait`] also return when this fd is readable; [`Agent::outer_is_ready`] tells.
    pub fn wait_for(&mut self, outer: impl AsFd) -> io::Result<()> {
        self.agent.wait_for(outer)
    }

    /// As [`Run::dispatch`], but waits first, up to `timeout`, until there is something to do.
    pub fn wait(&mut self, timeout: EpollTimeout) -> Result<(), Error> {
        self.agent.wait(&mut Vec::new(), timeout)?;
        self.agent.take_strange();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::Fake;

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
