//! What a device asks of the worker that it runs in: connected streams.

use super::poller::Waker;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use wlproxy_protocol::accept::Token;

/// Which stream a guest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The default one: for a client VM a link to the compositor, for the compositor VM its main context.
    Default,
    /// The one that a record announced.
    Accepted(Token),
    /// The same, where the record announced a channel type.
    Channel(u32),
}

/// A connected stream, and what the device has to do with it.
#[derive(Debug)]
pub struct Opened {
    /// The host's end.
    pub stream: UnixStream,
    /// What it is.
    pub role: Role,
}

/// What a context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A client VM's link: everything passes through a [`crate::relay::Relay`].
    Link {
        /// Number of the connection, for the log.
        connection: u64,
    },
    /// The compositor VM's main context: plain bytes.
    Main,
    /// The compositor VM's end of a link: plain Wayland, after the token.
    Accepted {
        /// Number of the connection, for the log.
        connection: u64,
        /// Number of the client's VM: clients of one share what they may have.
        vm: u32,
        /// What the guest has to send first.
        token: Token,
    },
}

impl Role {
    /// Number of the VM whose client's requests come over it, if any do.
    pub(super) fn client_vm(self) -> Option<u32> {
        match self {
            Self::Accepted { vm, .. } => Some(vm),
            Self::Link { .. } | Self::Main => None,
        }
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// What was named stands for nothing: a wrong, old or used token or channel type, or one that this VM may not open.
    #[error("the name or channel type is not valid, or not any more")]
    Unknown,
    /// The VM has as many connections as it may have, or they come too fast.
    #[error("the VM is at its limit of connections")]
    Limit,
    /// The worker can't reach wlproxy, or wlproxy can't reach the compositor.
    #[error("no stream could be made")]
    Failed,
}

/// Takes the answer to one [`Opener::open`], from any thread, at any time. Doesn't block.
pub type Answer = Box<dyn FnOnce(Result<Opened, OpenError>) + Send>;

/// Opens streams for a device.
pub trait Opener: Send + Sync {
    /// Asks for a stream. Returns at once; `answer` is called exactly once, unless the worker ends.
    fn open(&self, target: Target, answer: Answer);
}

/// Answers of an [`Opener`], on their way to the vring worker.
pub(super) struct Answers {
    list: Mutex<Vec<(u32, Result<Opened, OpenError>)>>,
    waker: Waker,
}

impl Answers {
    /// None yet.
    pub(super) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), waker })
    }

    /// Takes the answer to one request of the device's, which calls it `id`.
    pub(super) fn answer(self: &Arc<Self>, id: u32) -> Answer {
        let answers = Arc::downgrade(self);
        Box::new(move |result| {
            // If the device was reset, the stream closes here.
            if let Some(answers) = answers.upgrade() {
                answers.list.lock().unwrap_or_else(PoisonError::into_inner).push((id, result));
                answers.waker.wake();
            }
        })
    }

    /// What was answered since the last time.
    pub(super) fn take(&self) -> Vec<(u32, Result<Opened, OpenError>)> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
