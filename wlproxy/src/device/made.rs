//! Memory that was made for a VM. It counts as long as anything here has it: a vfd, or what is on its way to somebody. A guest
//! may close a vfd as soon as it has sent it.

use crate::counters::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All of it.
#[derive(Debug)]
pub(super) struct Made {
    bytes: AtomicU64,
    counters: Arc<Counters>,
}

impl Made {
    /// None yet.
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), counters })
    }

    /// Bytes that there are.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// So many more.
    pub(super) fn add(self: &Arc<Self>, bytes: u64) -> Arc<Piece> {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.counters.allocation_bytes.add(bytes);
        Arc::new(Piece { bytes, made: self.clone() })
    }
}

/// A piece of it, which counts until the last who has it drops this.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: u64,
    made: Arc<Made>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.made.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.made.counters.allocation_bytes.sub(self.bytes);
    }
}
