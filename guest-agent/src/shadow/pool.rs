//! A client's wl_shm pool: what is in it, and who uses it.

use super::geometry::Geometry;
use crate::lend::Lent;
use crate::memory::{ClientPool, Mapping, Rows, Truncated};
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A pool that is a client's, or whose wl_buffers still are.
pub(super) struct Pool {
    content: Content,
    size: NonZeroUsize,
    /// Whether the client still has the wl_shm_pool.
    pub(super) named: bool,
    /// Users of all its shadows.
    pub(super) users: usize,
    /// Shadows that nobody uses or shows, oldest first.
    pub(super) idle: VecDeque<Geometry>,
}

enum Content {
    /// A file of the client's.
    File(ClientPool),
    /// All of a lent allocation: the compositor sees what the client draws, and nothing is copied.
    Seen(Rc<Lent>),
    /// A part of a lent allocation.
    Part(Rc<Lent>, ClientPool),
    /// A file that couldn't be mapped.
    Gone,
}

impl Pool {
    /// A pool over a client's file.
    pub(super) fn of_file(fd: OwnedFd, size: NonZeroUsize) -> io::Result<Self> {
        Ok(Self::new(Content::File(ClientPool::new(fd, size)?), size))
    }

    /// A pool over an allocation that was lent to a client, or over what the client draws into instead.
    pub(super) fn of_lent(lent: &Rc<Lent>, size: NonZeroUsize) -> io::Result<Self> {
        let content = if lent.is_demoted() {
            Content::File(lent.pool(size)?)
        } else if lent.is_all(size) {
            Content::Seen(lent.clone())
        } else {
            Content::Part(lent.clone(), lent.pool(size)?)
        };
        Ok(Self::new(content, size))
    }

    fn new(content: Content, size: NonZeroUsize) -> Self {
        Self { content, size, named: true, users: 0, idle: VecDeque::new() }
    }

    /// Size in bytes, as the client said.
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// The allocation that the client draws into and the compositor sees, if that is so.
    pub(super) fn seen(&self) -> Option<&Rc<Lent>> {
        match &self.content {
            Content::Seen(lent) => Some(lent),
            _ => None,
        }
    }

    /// If the client has got a file of its own meanwhile, that is the pool from now on, and all that was copied before is
    /// stale. Returns the allocation that it was.
    pub(super) fn follow(&mut self) -> Option<Rc<Lent>> {
        let lent = self.lent().filter(|lent| lent.is_demoted())?;
        let content = match lent.pool(self.size) {
            Ok(pool) => Content::File(pool),
            Err(error) => {
                tracing::warn!("can't map the file of a pool: {error}");
                Content::Gone
            }
        };
        std::mem::replace(&mut self.content, content).into_lent()
    }

    fn lent(&self) -> Option<&Rc<Lent>> {
        match &self.content {
            Content::Seen(lent) | Content::Part(lent, _) => Some(lent),
            Content::File(_) | Content::Gone => None,
        }
    }

    /// The end of it. Returns the allocation that it was.
    pub(super) fn into_lent(self) -> Option<Rc<Lent>> {
        self.content.into_lent()
    }

    /// wl_shm_pool.resize, to at least what it was.
    pub(super) fn grow(&mut self, size: NonZeroUsize) -> io::Result<()> {
        match &mut self.content {
            Content::File(pool) | Content::Part(_, pool) => pool.grow(size)?,
            // A file that the client has grown isn't an allocation any more; what it hasn't can't be mapped.
            Content::Seen(lent) if lent.is_all(size) => {}
            Content::Seen(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Content::Gone => {}
        }
        self.size = size;
        Ok(())
    }

    /// Copies `rows` to `offset` of an allocation, unless the compositor sees them anyway.
    pub(super) fn copy(
        &mut self,
        rows: Rows,
        to: &mut Mapping,
        offset: usize,
    ) -> Result<(), Truncated> {
        match &mut self.content {
            Content::File(pool) | Content::Part(_, pool) => pool.copy(rows, to, offset),
            Content::Seen(_) => Ok(()),
            Content::Gone => Err(Truncated),
        }
    }
}

impl Content {
    fn into_lent(self) -> Option<Rc<Lent>> {
        match self {
            Self::Seen(lent) | Self::Part(lent, _) => Some(lent),
            Self::File(_) | Self::Gone => None,
        }
    }
}
