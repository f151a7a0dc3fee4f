//! What wlproxy and a worker say to each other: one JSON document per packet, and at most one fd with it.
//!
//! A worker faces its VM, so wlproxy takes nothing from it on trust: a message that isn't exactly as below ends that
//! worker. Which VM a request comes from follows from the socket, never from what stands in it.

mod token;

use crate::counters::Snapshot;
use crate::device::opener::{OpenError, Opened, Role, Target};
use crate::packet::{Packet, PacketError, PacketSocket};
use crate::policy::Policy;
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tracing::warn;
use wlproxy_protocol::accept::Token;

/// Most opens that one worker may have outstanding. Their answers fit into the socket's buffer (about 750 bytes each of
/// Linux's default of 208 KiB), so wlproxy never waits for a worker: one whose buffer is full is broken.
pub const MAX_OUTSTANDING: usize = 128;

/// Most traces that one worker may be asked for before it has taken them: they don't fill its socket.
pub const MAX_TRACE_ORDERS: usize = 16;

/// Most policies that one worker may be sent before it has taken them: they don't fill its socket either.
pub const MAX_POLICY_ORDERS: usize = 4;

/// A worker to wlproxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A stream is wanted; the answer bears the same ticket.
    Open {
        /// Chosen by the worker.
        ticket: u64,
        /// Which stream.
        #[serde(with = "TargetFormat")]
        target: Target,
    },
    /// What the worker counts now.
    Stats(Box<Snapshot>),
    /// The VM's frontend came, or went.
    Connected(bool),
    /// One [`Order::Trace`] was taken.
    TraceTaken,
    /// One [`Order::Policy`] was taken.
    PolicyTaken,
}

/// wlproxy to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// The stream for this ticket comes with the packet.
    Opened {
        /// The request's.
        ticket: u64,
        /// What the stream is.
        #[serde(with = "RoleFormat")]
        role: Role,
    },
    /// There is no stream for this ticket.
    Refused {
        /// The request's.
        ticket: u64,
        /// Why.
        #[serde(with = "OpenErrorFormat")]
        error: OpenError,
    },
    /// What clients may do over links that are opened by later orders. It comes before the first of them.
    Policy(Policy),
    /// Whoever is at the other end of the stream that comes with the packet wants to read what passes over this
    /// connection.
    Trace {
        /// Its number.
        connection: u64,
    },
    /// End now.
    Shutdown,
}

/// How a [`Target`] looks.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Target", rename_all = "snake_case", deny_unknown_fields)]
enum TargetFormat {
    Default,
    Accepted(#[serde(with = "token")] Token),
    Channel(u32),
}

/// How a [`Role`] looks.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "snake_case", deny_unknown_fields)]
enum RoleFormat {
    Link {
        connection: u64,
    },
    Main,
    Accepted {
        connection: u64,
        vm: u32,
        #[serde(with = "token")]
        token: Token,
    },
}

/// How an [`OpenError`] looks.
#[derive(Serialize, Deserialize)]
#[serde(remote = "OpenError", rename_all = "snake_case", deny_unknown_fields)]
enum OpenErrorFormat {
    Unknown,
    Limit,
    Failed,
}

/// Why a peer's message is no message.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Not even a packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Not one of the messages above.
    #[error("a message that is none: {0}")]
    Json(#[from] serde_json::Error),
}

/// What [`Control::receive`] found.
#[derive(Debug)]
pub enum Received<T> {
    /// A message, and the fd that came with it.
    Message(T, Option<OwnedFd>),
    /// A message whose fd was lost: this process has no room for it.
    Lost(T),
    /// Nothing now.
    WouldBlock,
    /// The peer is gone.
    Eof,
}

/// One end of a control socket: sends `O`, receives `I`. Never blocks.
#[derive(Debug)]
pub struct Control<O, I> {
    socket: PacketSocket,
    messages: PhantomData<fn(O) -> I>,
}

/// wlproxy's end.
pub type HostControl = Control<Order, Request>;
/// A worker's end.
pub type WorkerControl = Control<Request, Order>;

/// Makes a connected pair.
pub fn pair() -> io::Result<(HostControl, WorkerControl)> {
    let (host, worker) = PacketSocket::pair()?;
    Ok((host.into(), worker.into()))
}

impl<O: Serialize, I: DeserializeOwned> Control<O, I> {
    /// Sends a message with at most one fd, or fails: also with [`io::ErrorKind::WouldBlock`], and nothing was sent.
    pub fn send(&self, message: &O, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(message)?, fd)
    }

    /// Takes a message.
    pub fn receive(&self) -> Result<Received<I>, ControlError> {
        Ok(match self.socket.receive()? {
            Packet::Data(bytes, fd) => Received::Message(serde_json::from_slice(&bytes)?, fd),
            Packet::Lost(bytes) => Received::Lost(serde_json::from_slice(&bytes)?),
            Packet::WouldBlock => Received::WouldBlock,
            Packet::Eof => Received::Eof,
        })
    }

    /// Makes both ends see the end, whoever still holds them.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }
}

impl HostControl {
    /// Answers an open. `Err`: the worker doesn't read its answers, is gone, or can't even be told that there is none.
    ///
    /// A stream that can't be handed out for a shortage of this host's is refused: that isn't this worker's doing, since
    /// fds in flight are counted for all workers together. `vm` is the worker's, for the log.
    pub fn answer(
        &self,
        vm: &str,
        ticket: u64,
        result: Result<Opened, OpenError>,
    ) -> io::Result<()> {
        let error = match result {
            Err(error) => error,
            Ok(Opened { stream, role }) => {
                match self.send(&Order::Opened { ticket, role }, Some(stream.as_fd())) {
                    Err(error) if is_shortage(&error) => {
                        warn!(vm, %error, "a stream can't be handed out");
                        OpenError::Failed
                    }
                    sent => return sent,
                }
            }
        };
        self.send(&Order::Refused { ticket, error }, None)
    }
}

/// Whether sending failed for want of something that passes, on this host and not at the peer.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM))
}

impl<O, I> From<PacketSocket> for Control<O, I> {
    fn from(socket: PacketSocket) -> Self {
        Self { socket, messages: PhantomData }
    }
}

impl<O, I> From<Control<O, I>> for OwnedFd {
    fn from(control: Control<O, I>) -> Self {
        control.socket.into()
    }
}

impl<O, I> AsFd for Control<O, I> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
