//! Fair use of the receive buffers that a driver queues.
//!
//! A Linux driver keeps a received buffer until user space has drained that vfd, so one unread vfd could hold them
//! all. Here a vfd gets another buffer only while it holds fewer than are free: one stuck vfd ends up with half of
//! them, k stuck ones with k/(k+1), and there is always one for the next.

use super::ring::Reply;
use std::collections::{HashMap, VecDeque};
use wlproxy_protocol::virtio_wl::QUEUE_SIZE;

/// The free buffers, and who holds the others. Buffers are told apart by their guest address.
#[derive(Debug, Default)]
pub(super) struct InRing {
    free: VecDeque<Reply>,
    holders: HashMap<u64, u32>,
    held: HashMap<u32, usize>,
}

impl InRing {
    /// The driver queued a buffer.
    pub(super) fn add(&mut self, buffer: Reply) {
        if let Some(vfd) = self.holders.remove(&buffer.address()) {
            self.release(vfd);
        }
        self.free.push_back(buffer);
    }

    /// Takes a buffer for a message to `vfd`, if it may have one.
    pub(super) fn take(&mut self, vfd: u32) -> Option<Reply> {
        if self.held.get(&vfd).copied().unwrap_or(0) >= self.free.len() {
            return None;
        }
        let buffer = self.free.pop_front()?;
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

    fn stuck(ring: &mut InRing, vfd: u32) -> usize {
        std::iter::from_fn(|| ring.take(vfd)).count()
    }

    #[test]
    fn stuck_vfds_never_use_the_ring_up() {
        let mut ring = ring(256);
        assert_eq!(stuck(&mut ring, 1), 128);
        assert_eq!(stuck(&mut ring, 2), 64);
        for vfd in 3..8 {
            assert!(stuck(&mut ring, vfd) > 0, "vfd {vfd} gets nothing");
        }
    }

    #[test]
    fn a_vfd_that_is_read_never_waits() {
        let mut ring = ring(256);
        stuck(&mut ring, 1);
        for _ in 0..1000 {
            let taken = ring.take(2).expect("a buffer");
            ring.add(taken);
        }
    }

    #[test]
    fn what_comes_back_may_be_used_again() {
        let mut ring = ring(4);
        let taken: Vec<_> = std::iter::from_fn(|| ring.take(1)).collect();
        assert_eq!(taken.len(), 2);
        for buffer in taken {
            ring.add(buffer);
        }
        assert_eq!(stuck(&mut ring, 1), 2);
    }

    #[test]
    fn a_closed_vfd_owes_nothing() {
        let mut ring = ring(4);
        stuck(&mut ring, 1);
        ring.forget(1);
        assert!(ring.take(1).is_some());
    }

    proptest! {
        #[test]
        fn counts_agree_whatever_the_driver_brings(steps in prop::collection::vec((0..4u8, 0..600u64, 0..5u32), 0..600)) {
            let mut ring = InRing::default();
            for (step, address, vfd) in steps {
                match step {
                    0 | 1 => ring.add(buffer(address)),
                    2 => drop(ring.take(vfd)),
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
