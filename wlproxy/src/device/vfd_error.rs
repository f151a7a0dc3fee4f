//! Why there is no vfd.

use super::window::MapError;
use std::io;

/// Why a vfd was not made or can't be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum VfdError {
    /// No vfd has this id.
    #[error("no vfd has this id")]
    Unknown,
    /// It can't be sent.
    #[error("a context can't be sent, nor can a pipe twice")]
    NotSendable,
    /// The VM has as many as it may have.
    #[error("the VM has {0} vfds already: its quota `vfds`")]
    TooMany(usize),
    /// It would have more memory than it may have.
    #[error("the VM would have more than {0} MiB of memory: its quota `memory_mib`")]
    Memory(u64),
    /// The VM has many, and too many of them came over one context.
    #[error(
        "the VM has {vfds} vfds, and {brought} of those that came over this context are not closed"
    )]
    Hog {
        /// How many the VM has.
        vfds: usize,
        /// How many came over the context.
        brought: usize,
    },
    /// Its client's VM has much of what is there for all.
    #[error(
        "clients of its VM have {contexts} contexts, {vfds} vfds and {mib} MiB of the compositor VM's window: the rest is \
         for other VMs"
    )]
    Share {
        /// How many of them there are.
        contexts: u64,
        /// How many vfds came from there.
        vfds: u64,
        /// How much memory.
        mib: u64,
    },
    /// That is no size for an allocation.
    #[error("an allocation can't have this size")]
    Size,
    /// It is nothing that crosses between VMs.
    #[error("it is {0}")]
    Kind(&'static str),
    /// It would be copied.
    #[error("a file of more than {0} bytes is not copied")]
    TooLong(u64),
    /// It is not in the window.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The worker is out of memory or fds.
    #[error(transparent)]
    Io(#[from] io::Error),
}
