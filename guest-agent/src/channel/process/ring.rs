//! The driver's side of a split virtqueue (virtio 1.3, 2.7).
//!
//! The device writes the used ring and reads the rest, at any moment. Nothing that it could have changed is read
//! back: free descriptors, chains and their sizes are kept here.

use super::ram::Ram;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use wlproxy_protocol::limits::PAGE_SIZE;

/// Size of a descriptor, in bytes.
const DESCRIPTOR: usize = 16;
/// Size of an element of the used ring, in bytes.
const USED_ELEMENT: usize = 8;
/// Offset of the index in the available and the used ring, in bytes.
const INDEX: usize = 2;
/// Offset of the first element in the available and the used ring, in bytes.
const ELEMENTS: usize = 4;

/// The device broke the rules of the ring, which can't be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// More was used than was available.
    #[error("the device used {0} chains where {1} were in flight")]
    Index(u16, u16),
    /// No such chain is in flight.
    #[error("the device used chain {0}, which it didn't have")]
    Chain(u32),
    /// It can't have written that much.
    #[error("the device wrote {0} bytes into {1}")]
    Length(u32, u32),
}

/// A piece of memory that a chain lends to the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Offset in RAM, in bytes.
    pub(super) offset: usize,
    /// Length in bytes.
    pub(super) len: u32,
}

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    /// What [`Ring::add`] was given.
    pub(super) token: u16,
    /// How many bytes the device wrote, at most what was lent for writing.
    pub(super) written: u32,
}

/// Where the parts of a ring stand: offsets in RAM, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The descriptor table.
    pub(super) descriptors: usize,
    /// The available ring.
    pub(super) available: usize,
    /// The used ring.
    pub(super) used: usize,
    /// The first byte after it.
    pub(super) end: usize,
}

impl Layout {
    /// A ring of `size` descriptors that begins at `start`, each part on pages of its own.
    pub(super) const fn new(start: usize, size: u16) -> Self {
        const PAGE: usize = PAGE_SIZE as usize;
        let size = size as usize;
        let available = start + (DESCRIPTOR * size).next_multiple_of(PAGE);
        // Two more bytes behind the elements: used_event and avail_event.
        let used = available + (ELEMENTS + 2 * size + 2).next_multiple_of(PAGE);
        let end = used + (ELEMENTS + USED_ELEMENT * size + 2).next_multiple_of(PAGE);
        Self { descriptors: start, available, used, end }
    }
}

/// A chain in flight.
#[derive(Debug, Clone, Copy)]
struct Chain {
    token: u16,
    descriptors: u16,
    writable: u32,
}

/// The driver's side of one queue.
#[derive(Debug)]
pub(super) struct Ring {
    ram: Arc<Ram>,
    layout: Layout,
    size: u16,
    event_idx: bool,
    free: Vec<u16>,
    /// Which descriptor follows, within a chain in flight.
    next: Vec<u16>,
    /// Chains in flight, by their first descriptor.
    chains: Vec<Option<Chain>>,
    in_flight: u16,
    /// The available ring's index.
    available: u16,
    /// What it was when [`Ring::needs_kick`] was last asked.
    kicked: u16,
    /// The used ring's index, as far as taken.
    used: u16,
}

impl Ring {
    /// An empty ring of `size` descriptors, a power of two. Clears its memory: the device must not run.
    pub(super) fn new(ram: Arc<Ram>, layout: Layout, size: u16, event_idx: bool) -> Self {
        assert!(size.is_power_of_two(), "a split ring's size is a power of two");
        ram.write(layout.descriptors, &vec![0; layout.end - layout.descriptors]);
        Self {
            ram,
            layout,
            size,
            event_idx,
            free: (0..size).rev().collect(),
            next: vec![0; usize::from(size)],
            chains: vec![None; usize::from(size)],
            in_flight: 0,
            available: 0,
            kicked: 0,
            used: 0,
        }
    }

    /// Makes a chain of parts available: first those that the device reads, then those that it writes.
    /// `false` if there is no room now.
    pub(super) fn add(&mut self, token: u16, readable: &[Part], writable: &[Part]) -> bool {
        let count = readable.len() + writable.len();
        assert!((1..=usize::from(self.size)).contains(&count), "a chain has parts, and fits");
        let Some(rest) = self.free.len().checked_sub(count) else {
            return false;
        };
        let taken: Vec<u16> = self.free.drain(rest..).rev().collect();
        for (i, part) in readable.iter().chain(writable).enumerate() {
            let write = if i < readable.len() { 0 } else { VRING_DESC_F_WRITE as u16 };
            let (next, more) = match taken.get(i + 1) {
                Some(&next) => (next, VRING_DESC_F_NEXT as u16),
                None => (0, 0),
            };
            self.next[usize::from(taken[i])] = next;
            self.describe(taken[i], part, write | more, next);
        }
        let head = taken[0];
        let writable = writable.iter().map(|part| part.len).sum();
        self.chains[usize::from(head)] = Some(Chain { token, descriptors: count as u16, writable });
        self.in_flight += 1;
        self.publish(head);
        true
    }

    fn describe(&self, index: u16, part: &Part, flags: u16, next: u16) {
        let mut bytes = [0; DESCRIPTOR];
        bytes[..8].copy_from_slice(&Ram::address(part.offset).to_le_bytes());
        bytes[8..12].copy_from_slice(&part.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.ram.write(self.layout.descriptors + DESCRIPTOR * usize::from(index), &bytes);
    }

    fn publish(&mut self, head: u16) {
        let slot = usize::from(self.available % self.size);
        let element = self.layout.available + ELEMENTS + 2 * slot;
        self.ram.store(element, head.to_le(), Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        // Release: who sees the index sees the element, the descriptors and the buffers.
        let index = self.layout.available + INDEX;
        self.ram.store(index, self.available.to_le(), Ordering::Release);
    }

    /// Whether the device wants to be told of what was added since this was last asked.
    pub(super) fn needs_kick(&mut self) -> bool {
        let (old, new) = (self.kicked, self.available);
        if old == new {
            return false;
        }
        self.kicked = new;
        // Our index must be out before the device's wish is read, or both sides could go to sleep.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let elements = USED_ELEMENT * usize::from(self.size);
            let event = self.load_u16(self.layout.used + ELEMENTS + elements, Ordering::Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags = self.load_u16(self.layout.used, Ordering::Relaxed);
            flags & VRING_USED_F_NO_NOTIFY as u16 == 0
        }
    }

    /// Takes one chain that the device is done with. Whether it tells of the next one, [`Ring::want_calls`] says.
    pub(super) fn pop(&mut self) -> Result<Option<Used>, Broken> {
        let ready = self.ready();
        if ready == 0 {
            return Ok(None);
        }
        if ready > self.in_flight {
            return Err(Broken::Index(ready, self.in_flight));
        }
        let slot = usize::from(self.used % self.size);
        let mut element = [0; USED_ELEMENT];
        self.ram.read(self.layout.used + ELEMENTS + USED_ELEMENT * slot, &mut element);
        let [a, b, c, d, len @ ..] = element;
        let (id, written) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(len));
        let chain =
            self.chains.get_mut(id as usize).and_then(Option::take).ok_or(Broken::Chain(id))?;
        if written > chain.writable {
            return Err(Broken::Length(written, chain.writable));
        }
        self.release(id as u16, chain.descriptors);
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { token: chain.token, written }))
    }

    /// Asks the device to tell when it is done with the next chain. `true` if it is done with some already.
    ///
    /// It tells once: who goes on waiting asks again. A device that knows no EVENT_IDX always tells.
    pub(super) fn want_calls(&self) -> bool {
        if self.event_idx && self.ready() == 0 {
            let elements = 2 * usize::from(self.size);
            let used_event = self.layout.available + ELEMENTS + elements;
            self.ram.store(used_event, self.used.to_le(), Ordering::Relaxed);
            // Our wish must be out before the index is read again, as in needs_kick.
            fence(Ordering::SeqCst);
        }
        self.ready() > 0
    }

    /// How many chains the device says to be done with.
    fn ready(&self) -> u16 {
        // Acquire: who sees the index sees the elements and what the device wrote.
        self.load_u16(self.layout.used + INDEX, Ordering::Acquire).wrapping_sub(self.used)
    }

    fn release(&mut self, head: u16, descriptors: u16) {
        let mut index = head;
        for _ in 0..descriptors {
            self.free.push(index);
            index = self.next[usize::from(index)];
        }
        self.in_flight -= 1;
    }

    fn load_u16(&self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.ram.load(offset, order))
    }
}

#[cfg(test)]
mod tests;
