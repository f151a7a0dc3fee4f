//! `guest-agent run`: a Wayland socket for the applications of a client VM.

mod activation;
mod client;
mod socket;

use crate::agent::Agent;
use crate::channel::{Channel, Error};
use crate::connection::Link;
use crate::outbox::Outbox;
use client::Client;
use std::io;
use std::os::fd::BorrowedFd;
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

    /// Takes a client that connected. Returns it if the host takes no more for now; if the host refuses it, it is
    /// disconnected, with a warning.
    ///
    /// Fails only with [`Error::Lost`].
    pub fn accept(&mut self, client: UnixStream) -> Result<Option<UnixStream>, Error> {
        let name = format!("client {}", self.clients + 1);
        let context = match self.agent.world.channel.connect() {
            Ok(context) => context,
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(Error::OutOfMemory) => return Ok(Some(client)),
            Err(error) => {
                tracing::warn!(connection = name, "the host doesn't take it: {error}");
                return Ok(None);
            }
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
        Ok(None)
    }

    /// Does what there is to do, without blocking. Fails only with [`Error::Lost`].
    pub fn dispatch(&mut self) -> Result<(), Error> {
        self.agent.dispatch(&mut Vec::new())
    }
}
