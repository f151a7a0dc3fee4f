//! `guest-agent serve`: brings clients of other VMs to the compositor of this one.

use crate::agent::Agent;
use crate::channel::{Arrived, Channel, Error, Event};
use crate::connection::{End, Link, Role};
use crate::listener::{ListenError, Listener};
use crate::world::{Peer, World};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use wlproxy_protocol::accept::{Record, Refusal};
use wlproxy_unix::Stream;

/// The accept side, in front of a compositor that listens on a socket.
pub struct Serve {
    agent: Agent,
    listener: Listener,
    compositor: PathBuf,
}

impl Serve {
    /// Opens a main context on `channel`; clients are taken to the socket `compositor`.
    pub fn new(mut channel: Box<dyn Channel>, compositor: PathBuf) -> Result<Self, Error> {
        let listener = Listener::new(&mut *channel)?;
        let agent = Agent::new(channel).map_err(|error| Error::Lost(error.to_string()))?;
        Ok(Self { agent, listener, compositor })
    }

    /// Becomes readable when [`Serve::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.agent.poll_fd()
    }

    /// The connections, and what they share.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Does what there is to do, without blocking.
    ///
    /// Fails with [`Error::Lost`] when the channel is; and when the main context ended, after which a new `Serve` may
    /// be made.
    pub fn dispatch(&mut self) -> Result<(), ListenError> {
        let mut others: Vec<Event> = Vec::new();
        self.agent.dispatch(&mut others)?;
        if !others.iter().any(|&event| self.listener.concerns(event)) {
            return Ok(());
        }
        let mut records = Vec::new();
        let listened = self.listener.dispatch(&mut *self.agent.world.channel, &mut records);
        for record in records {
            self.accept(&record)?;
        }
        listened
    }

    fn accept(&mut self, record: &Record) -> Result<(), Error> {
        let name = format!("{}:{}", record.vm, record.connection);
        let channel = &mut *self.agent.world.channel;
        let local = match wlproxy_unix::connect(&self.compositor).and_then(Stream::new) {
            Ok(local) => local,
            Err(error) => {
                let socket = self.compositor.display();
                tracing::warn!(
                    connection = name,
                    "no compositor takes clients on {socket} ({error}): client refused"
                );
                return self.listener.refuse(channel, record, Refusal::NoCompositor);
            }
        };
        match self.listener.accept(channel, record) {
            Ok((context, out)) => {
                let role = Box::new(Passage { vm: record.vm.clone() });
                tracing::info!(connection = name, "accepted");
                let link = Link { local, out };
                if let Err(error) = self.agent.connect(name.clone(), link, context, role) {
                    tracing::warn!(connection = name, "it can't be watched: {error}");
                }
            }
            Err(error @ Error::Lost(_)) => return Err(error),
            Err(error) => tracing::warn!(connection = name, "its stream can't be opened: {error}"),
        }
        Ok(())
    }
}

/// Carries a client's stream to a compositor and back: bytes as they are (the host has checked them), vfds as fds.
#[derive(Debug)]
pub struct Passage {
    /// Name of the client VM.
    pub vm: String,
}

impl Passage {
    /// The client VM: its clients have one account.
    fn peer(&self) -> Peer<'_> {
        Peer { vm: &self.vm, account: &self.vm }
    }
}

impl Role for Passage {
    fn take_local(
        &mut self,
        bytes: &[u8],
        fds: &mut VecDeque<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        for fd in fds.drain(..) {
            link.out.queue(&[], [world.carry_out(fd, self.peer())?]);
        }
        link.out.queue(bytes, []);
        Ok(())
    }

    fn take_remote(
        &mut self,
        bytes: &[u8],
        vfds: Vec<Arrived>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        let mut vfds = vfds.into_iter();
        let fds: Result<Vec<OwnedFd>, _> = vfds
            .by_ref()
            .map(|vfd| match vfd {
                Arrived::Allocation(allocation) => {
                    // The compositor keeps what it maps; this end of it isn't needed any more.
                    world.channel.close(allocation.vfd);
                    Ok(allocation.fd)
                }
                Arrived::Pipe(vfd, end) => world.carry_pipe_in(vfd, end, self.peer()),
            })
            .collect();
        // If one couldn't be carried, nobody will ask for those after it.
        vfds.for_each(|vfd| world.discard(&vfd));
        link.local.queue(bytes, fds?);
        Ok(())
    }

    /// A compositor isn't told anything: its client just leaves.
    fn farewell(&self, _end: &End) -> Vec<u8> {
        Vec::new()
    }

    fn close(self: Box<Self>, _world: &mut World) {}
}

/// Turns a lost channel into an error of the caller's kind.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests;
