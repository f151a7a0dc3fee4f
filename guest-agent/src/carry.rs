//! Why fds and vfds don't get across.

use crate::channel::Error;
use nix::errno::Errno;
use std::io;

/// Why an fd or a vfd could not be carried over.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The channel refused.
    #[error(transparent)]
    Channel(#[from] Error),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The fd is nothing that can cross.
    #[error("only pipes and files can cross between VMs, not {0}")]
    Kind(&'static str),
    /// A bound is reached.
    #[error("more than {0}")]
    Limit(&'static str),
}

impl From<Errno> for CarryError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}
