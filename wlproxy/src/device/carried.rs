//! An fd on its way over a context.

use super::made::Piece;
use super::toll::{Toll, Transfer};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What is known of it.
#[derive(Debug)]
enum What {
    /// Nothing: it is somebody else's.
    Foreign,
    /// It is memory of the guest's, which counts for that VM if it was made for it.
    Memory { _piece: Option<Arc<Piece>> },
    /// It is one end of a pipe, of which the host has the other.
    Pipe(Toll),
}

/// An fd that goes from a guest to others, or to it.
#[derive(Debug)]
pub(super) struct Carried {
    fd: OwnedFd,
    what: What,
}

impl Carried {
    /// Somebody else's.
    pub(super) fn foreign(fd: OwnedFd) -> Self {
        Self { fd, what: What::Foreign }
    }

    /// A guest's memory.
    pub(super) fn memory(fd: OwnedFd, piece: Option<Arc<Piece>>) -> Self {
        Self { fd, what: What::Memory { _piece: piece } }
    }

    /// The far end of a guest's pipe.
    pub(super) fn pipe(fd: OwnedFd, toll: Toll) -> Self {
        Self { fd, what: What::Pipe(toll) }
    }

    /// It is passed on. What it carries begins or has begun; only memory goes on to count.
    pub(super) fn pass(self) -> Self {
        match self.what {
            What::Pipe(_) => Self::foreign(self.fd),
            What::Foreign | What::Memory { .. } => self,
        }
    }

    /// Alone: the guest has it as it is, and its bytes don't pass here.
    pub(super) fn hand_over(self) -> OwnedFd {
        let (fd, toll) = self.into_parts();
        toll.go_elsewhere("the VM has a pipe of its own for it");
        fd
    }

    /// With what a pipe that is made of it carries.
    pub(super) fn into_parts(self) -> (OwnedFd, Toll) {
        match self.what {
            What::Pipe(toll) => (self.fd, toll),
            What::Foreign | What::Memory { .. } => (self.fd, Toll::default()),
        }
    }

    /// It goes to somebody who writes a selection into it, for the guest.
    pub(super) fn leave(&mut self, transfer: Transfer) -> io::Result<()> {
        match &self.what {
            What::Pipe(toll) => toll.begin(transfer),
            What::Foreign => transfer.go_elsewhere("the VM has a pipe of its own for it"),
            What::Memory { .. } => {
                // Nobody could count it there. Whoever writes finds that nobody reads.
                let (_, nowhere) = pipe2(OFlag::O_CLOEXEC)?;
                self.fd = nowhere;
                transfer.go_elsewhere("it was asked for in memory rather than in a pipe");
            }
        }
        Ok(())
    }

    /// It comes for the guest, which is to write a selection into it.
    pub(super) fn arrive(&mut self, transfer: Transfer) {
        let toll = Toll::default();
        toll.begin(transfer);
        self.what = What::Pipe(toll);
    }
}

impl AsFd for Carried {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
