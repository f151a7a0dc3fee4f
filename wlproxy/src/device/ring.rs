//! One virtqueue, seen from the device: takes descriptor chains apart and gives them back.
//!
//! Everything in a ring is the guest's word. A chain that is wrong is answered as far as it can be, and nothing here
//! fails: the worst that a guest gets is a chain that comes back empty.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vhost_user_backend::{VringMutex, VringT};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

/// A VM's memory, as its frontend announces it.
pub(super) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// A virtqueue, as the vhost-user crate hands it out.
pub(super) type Vring = VringMutex<Memory>;

/// Counts how often the rings were stopped. What was begun in one run must not go on in the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs(Arc<AtomicU64>);

impl Runs {
    /// The present run.
    pub(super) fn current(&self) -> Run {
        Run { runs: self.0.clone(), mine: self.0.load(Ordering::SeqCst) }
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One run of the rings, from their start to their stop.
#[derive(Debug, Clone)]
pub(super) struct Run {
    runs: Arc<AtomicU64>,
    mine: u64,
}

impl Run {
    /// Whether the rings were stopped since.
    pub(super) fn is_over(&self) -> bool {
        self.runs.load(Ordering::SeqCst) != self.mine
    }
}

/// Where the device may write in one chain, in order. Must be given back with [`Ring::complete`].
#[derive(Debug)]
pub(super) struct Reply {
    head: u16,
    segments: Vec<(GuestAddress, u32)>,
}

impl Reply {
    /// Bytes that fit in, as far as anyone wanted to know.
    pub(super) fn capacity(&self) -> usize {
        self.segments.iter().map(|&(_, length)| length as usize).sum()
    }

    /// The guest address of the first writable byte: names a receive buffer. 0 if there is none.
    pub(super) fn address(&self) -> u64 {
        self.segments.first().map_or(0, |(address, _)| address.0)
    }
}

/// A descriptor chain: what the driver said, and where to answer.
#[derive(Debug)]
pub(super) struct Chain {
    /// The readable part. `None` if it is too long, or isn't in the guest's memory.
    pub(super) message: Option<Vec<u8>>,
    /// The writable part.
    pub(super) reply: Reply,
}

/// A virtqueue in one run.
pub(super) struct Ring {
    vring: Vring,
    memory: Memory,
    run: Run,
    /// Chains that were taken and not given back.
    outstanding: usize,
    /// Chains were given back since the driver was last told.
    used: bool,
    /// One of them tells of something that the driver may not expect.
    insists: bool,
}

impl Ring {
    /// The device's side of `vring`.
    pub(super) fn new(vring: Vring, memory: Memory, run: Run) -> Self {
        Self { vring, memory, run, outstanding: 0, used: false, insists: false }
    }

    /// How many descriptors it has.
    pub(super) fn size(&self) -> usize {
        usize::from(self.vring.get_ref().get_queue().size())
    }

    /// Takes the next chain: up to `readable` bytes of its message, `writable` bytes of room for an answer.
    ///
    /// `None` if there is none, if the ring doesn't run, or if the driver has more chains out than a ring can hold.
    pub(super) fn pop(&mut self, readable: usize, writable: usize) -> Option<Chain> {
        let memory = self.memory.memory();
        let chain = {
            let mut state = self.vring.get_mut();
            let full = self.outstanding >= usize::from(state.get_queue().size());
            if full || !state.is_enabled() || !self.runs(state.get_queue()) {
                return None;
            }
            state.get_queue_mut().pop_descriptor_chain(memory.clone())?
        };
        self.outstanding += 1;
        let mut reply = Reply { head: chain.head_index(), segments: Vec::new() };
        let (mut message, mut room) = (Some(Vec::new()), 0);
        for descriptor in chain {
            let (address, length) = (descriptor.addr(), descriptor.len());
            if !descriptor.is_write_only() {
                message = message
                    .and_then(|bytes| append(memory.deref(), bytes, address, length, readable));
            } else if room < writable && length > 0 {
                reply.segments.push((address, length));
                room += length as usize;
            }
        }
        Some(Chain { message, reply })
    }

    /// Gives a chain back with as much of `bytes` as fits.
    pub(super) fn complete(&mut self, reply: Reply, bytes: &[u8]) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let memory = self.memory.memory();
        // Under this lock the ring can't be stopped: whoever stops it takes the same lock first.
        let mut state = self.vring.get_mut();
        if !self.runs(state.get_queue()) {
            return;
        }
        let mut rest = bytes;
        for (address, length) in reply.segments {
            let (now, later) = rest.split_at(rest.len().min(length as usize));
            if memory.write_slice(now, address).is_err() {
                break;
            }
            rest = later;
        }
        let written = (bytes.len() - rest.len()) as u32;
        // Fails if the head or the ring isn't where the guest said: then nobody can be answered.
        self.used |= state.add_used(reply.head, written).is_ok();
    }

    /// Asks the driver for a kick when it adds chains. `true` if some came in the meantime.
    pub(super) fn want_kicks(&mut self) -> bool {
        let mut state = self.vring.get_mut();
        self.runs(state.get_queue()) && state.enable_notification().unwrap_or(false)
    }

    /// Asks the driver not to kick.
    pub(super) fn refuse_kicks(&mut self) {
        let mut state = self.vring.get_mut();
        if self.runs(state.get_queue()) {
            let _ = state.disable_notification();
        }
    }

    /// The next [`Ring::signal`] tells the driver whether it wants to know or not.
    pub(super) fn insist(&mut self) {
        self.insists = true;
    }

    /// Tells the driver of all chains that were given back, if it wants to know.
    pub(super) fn signal(&mut self) {
        if !std::mem::take(&mut self.used) {
            return;
        }
        let insists = std::mem::take(&mut self.insists);
        let mut state = self.vring.get_mut();
        if self.runs(state.get_queue()) && (state.needs_notification().unwrap_or(true) || insists) {
            let _ = state.signal_used_queue();
        }
    }

    /// To be asked under the vring's lock: the queue is marked before the run ends, under the same lock.
    fn runs(&self, queue: &virtio_queue::Queue) -> bool {
        queue.ready() && !self.run.is_over()
    }
}

/// Appends guest memory to `bytes`, copied once. `None` if it would be more than `limit`, or isn't there.
fn append(
    memory: &GuestMemoryMmap,
    mut bytes: Vec<u8>,
    address: GuestAddress,
    length: u32,
    limit: usize,
) -> Option<Vec<u8>> {
    let start = bytes.len();
    let end = start.checked_add(length as usize).filter(|&end| end <= limit)?;
    bytes.resize(end, 0);
    memory.read_slice(&mut bytes[start..], address).ok()?;
    Some(bytes)
}

/// A receive buffer that isn't in any ring.
#[cfg(test)]
pub(super) fn reply_for_tests(address: u64) -> Reply {
    Reply { head: 0, segments: vec![(GuestAddress(address), 4096)] }
}
