//! Fair use of the receive buffers that a driver queues.
//!
//! A Linux driver keeps a received buffer until user space has drained that vfd, so unread vfds could hold them all.
//! Three rules, the strictest first:
//!
//! - A vfd that holds buffers gets another one only while more than half of the ring are free, and of that surplus at
//!   most as many as it leaves: one stuck vfd ends up with a quarter of the ring, the next with an eighth, and all
//!   together never with more than half of it.
//! - A pipe that holds none gets one while more than a quarter of the ring are free. So with 256 buffers it takes
//!   72 unread pipes until another one waits; `guest-agent` leaves at most 64 unread.
//! - A context that holds none gets any that is free. So it takes 64 unread contexts beside all those pipes until
//!   another one waits.
//!
//! Where none is free, those that wait have turns, and in the compositor VM so have client VMs (`virtio_wl/transfer.rs`): one VM
//! alone may have more contexts than there are buffers.
//!
//! A vfd that is read doesn't wait for others, below these bounds; it may be down to one message at a time.

use super::ring::Reply;
use std::collections::HashMap;
use wlproxy_protocol::virtio_wl::QUEUE_SIZE;

/// One part in so many of the ring is for vfds that hold no buffer. Half: the rest is still more than a frame's worth
/// of messages for one that is read.
const FIRST: usize = 2;

/// One part in so many is for contexts that hold none. Half of the above: a stuck paste must not stop a desktop.
const CONTEXTS: usize = 4;

/// Who is to get a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// A Wayland stream. Others may depend on it.
    Context,
    /// A pipe: it may wait.
    Pipe,
}

/// The free buffers, and who holds the others. Buffers are told apart by their guest address.
#[derive(Debug, Default)]
pub(super) struct InRing {
    /// The last one is taken first: what was used a moment ago is in the caches of both sides, and a ring is larger than
    /// those.
    free: Vec<Reply>,
    holders: HashMap<u64, u32>,
    held: HashMap<u32, usize>,
}

impl InRing {
    /// The driver queued a buffer.
    pub(super) fn add(&mut self, buffer: Reply) {
        if let Some(vfd) = self.holders.remove(&buffer.address()) {
            self.release(vfd);
        }
        self.free.push(buffer);
    }

    /// Whether none is free.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a buffer for a message to `vfd`, if it may have one.
    pub(super) fn take(&mut self, vfd: u32, taker: Taker) -> Option<Reply> {
        // As many as the driver was seen to have: rings may be shorter than they could be.
        let ring = (self.free.len() + self.holders.len()).min(usize::from(QUEUE_SIZE));
        let needed = match (self.held.get(&vfd), taker) {
            (Some(held), _) => ring / FIRST + held,
            (None, Taker::Pipe) => ring / CONTEXTS,
            (None, Taker::Context) => 0,
        };
        if self.free.len() <= needed {
            return None;
        }
        let buffer = self.free.pop()?;
        if self.holders.len() >= usize::from(QUEUE_SIZE) {
            // More than the ring has: this driver brings other buffers each time. Nothing can be known about it.
            self.holders.clear();
            self.held.clear();
        }
        if let Some(before) = self.holders.insert(buffer.address(), vfd) {
            self.release(before);
        }
        *self.held.entry(vfd).or_default() += 1;
        Some(buffer)
    }

    /// The vfd is closed: the driver gives back what it held, and its id may stand for another one.
    pub(super) fn forget(&mut self, vfd: u32) {
        if self.held.remove(&vfd).is_some() {
            self.holders.retain(|_, &mut holder| holder != vfd);
        }
    }

    fn release(&mut self, vfd: u32) {
        if let Some(count) = self.held.get_mut(&vfd) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&vfd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::ring::reply_for_tests as buffer;
    use proptest::prelude::*;

    fn ring(buffers: u64) -> InRing {
        let mut ring = InRing::default();
        for n in 0..buffers {
            ring.add(buffer(4096 * (n + 1)));
        }
        ring
    }

    fn stuck(ring: &mut InRing, vfd: u32, taker: Taker) -> usize {
        std::iter::from_fn(|| ring.take(vfd, taker)).count()
    }

    #[test]
    fn stuck_vfds_never_use_the_ring_up() {
        let mut ring = ring(256);
        assert_eq!(stuck(&mut ring, 1, Taker::Pipe), 64);
        assert_eq!(stuck(&mut ring, 2, Taker::Context), 32);
        for vfd in 3..=64 {
            assert!(stuck(&mut ring, vfd, Taker::Pipe) > 0, "pipe {vfd} gets nothing");
        }
        assert!(stuck(&mut ring, 65, Taker::Pipe) > 0, "another VM's pipe gets nothing");
    }

    #[test]
    fn pipes_leave_something_to_contexts() {
        let mut ring = ring(256);
        let pipes = (1..1000).take_while(|&vfd| stuck(&mut ring, vfd, Taker::Pipe) > 0).count();
        assert_eq!(pipes, 72);
        for vfd in 1000..1064 {
            assert!(stuck(&mut ring, vfd, Taker::Context) > 0, "context {vfd} gets nothing");
        }
        assert_eq!(stuck(&mut ring, 1064, Taker::Context), 0);
    }

    #[test]
    fn a_short_ring_is_shared_alike() {
        let mut ring = ring(64);
        assert_eq!(stuck(&mut ring, 1, Taker::Pipe), 16);
        let pipes = (2..1000).take_while(|&vfd| stuck(&mut ring, vfd, Taker::Pipe) > 0).count();
        assert_eq!((pipes, stuck(&mut ring, 1000, Taker::Context)), (21, 1));
    }

    #[test]
    fn a_vfd_that_is_read_never_waits() {
        let mut ring = ring(256);
        for vfd in 1..=64 {
            stuck(&mut ring, vfd, Taker::Pipe);
        }
        for _ in 0..1000 {
            let taken = ring.take(100, Taker::Pipe).expect("a buffer");
            ring.add(taken);
        }
    }

    #[test]
    fn what_comes_back_may_be_used_again() {
        let mut ring = ring(8);
        let taken: Vec<_> = std::iter::from_fn(|| ring.take(1, Taker::Context)).collect();
        assert_eq!(taken.len(), 2);
        for buffer in taken {
            ring.add(buffer);
        }
        assert_eq!(stuck(&mut ring, 1, Taker::Context), 2);
    }

    #[test]
    fn what_was_used_last_is_used_next() {
        let mut ring = ring(8);
        let first = ring.take(1, Taker::Context).unwrap();
        let address = first.address();
        ring.add(first);
        assert_eq!(ring.take(1, Taker::Context).unwrap().address(), address);
    }

    #[test]
    fn a_closed_vfd_owes_nothing() {
        let mut ring = ring(1);
        stuck(&mut ring, 1, Taker::Context);
        ring.forget(1);
        ring.add(buffer(8192));
        assert!(ring.take(1, Taker::Context).is_some());
    }

    proptest! {
        #[test]
        fn counts_agree_whatever_the_driver_brings(steps in prop::collection::vec((0..4u8, 0..600u64, 0..5u32), 0..600)) {
            let mut ring = InRing::default();
            for (step, address, vfd) in steps {
                match step {
                    0 | 1 => ring.add(buffer(address)),
                    2 => drop(ring.take(vfd, [Taker::Context, Taker::Pipe][vfd as usize % 2])),
                    _ => ring.forget(vfd),
                }
                let mut count = HashMap::new();
                for &holder in ring.holders.values() {
                    *count.entry(holder).or_insert(0) += 1;
                }
                prop_assert_eq!(&count, &ring.held);
                prop_assert!(ring.holders.len() <= 256);
            }
        }
    }
}
