//! Allocations that no client needs now, kept for the next one: mapping a new one into two VMs is expensive.

use crate::channel::{Allocation, Channel, Error, VfdId};
use crate::mapped::Mapped;
use crate::stats::Stats;
use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, OccupiedEntry};
use wlproxy_protocol::limits::PAGE_SIZE;

/// Most bytes that are kept: two frames of 4K, so that a resized window or the next one finds what it needs.
const MAX_IDLE: u64 = 64 * 1024 * 1024;

/// Most allocations that are kept: each is a mapping and one of the device's 2,047 ids.
const MAX_IDLE_COUNT: usize = 64;

/// Keeps allocations by size.
#[derive(Debug, Default)]
pub struct Recycler {
    idle: BTreeMap<u64, Vec<Mapped>>,
    idle_bytes: u64,
    idle_count: usize,
    /// vfds to close as soon as no message that names them waits to be sent.
    retired: Vec<VfdId>,
    /// vfds that came back and were named by a message in some queue when that was last looked at.
    queued: Vec<VfdId>,
    /// vfds that came back since then.
    fresh: Vec<VfdId>,
}

impl Recycler {
    /// Memory of at least `size` bytes: one that was kept, or a new one. Old content may stand in it, of clients of
    /// this VM only.
    pub fn take(
        &mut self,
        size: u64,
        channel: &mut dyn Channel,
        stats: &mut Stats,
    ) -> Result<Mapped, Error> {
        let size = size.next_multiple_of(PAGE_SIZE);
        if let Entry::Occupied(entry) = self.idle.entry(size) {
            let allocation = pop(entry);
            self.idle_bytes -= allocation.size();
            self.idle_count -= 1;
            return Ok(allocation);
        }
        let allocation = self.allocate(size, channel, stats)?;
        let size = allocation.size;
        Mapped::new(allocation, channel).map_err(|error| {
            tracing::warn!("can't map an allocation of {size} bytes: {error}");
            stats.allocations -= 1;
            stats.allocation_bytes -= size;
            Error::OutOfMemory
        })
    }

    /// New memory of at least `size` bytes: zeros.
    pub fn allocate(
        &mut self,
        size: u64,
        channel: &mut dyn Channel,
        stats: &mut Stats,
    ) -> Result<Allocation, Error> {
        let allocation = match channel.allocate(size) {
            Err(Error::OutOfMemory) if self.idle_bytes > 0 => {
                // What is kept counts against the quota too. What came back just now may be named by a message of the
                // same client's, whose connection then ends.
                self.trim(0, 0, stats);
                self.close_unqueued(channel);
                channel.allocate(size)?
            }
            result => result?,
        };
        stats.allocations += 1;
        stats.allocation_bytes += allocation.size;
        Ok(allocation)
    }

    /// Keeps an allocation that the compositor doesn't read any more.
    pub fn give(&mut self, allocation: Mapped, stats: &mut Stats) {
        self.fresh.push(allocation.vfd);
        self.idle_bytes += allocation.size();
        self.idle_count += 1;
        self.idle.entry(allocation.size()).or_default().push(allocation);
        self.trim(MAX_IDLE, MAX_IDLE_COUNT, stats);
    }

    /// Gives an allocation back to the host, with the next [`Recycler::close_retired`]. The compositor may go on reading
    /// it: it keeps what it has mapped.
    pub fn discard(&mut self, allocation: Mapped, stats: &mut Stats) {
        self.give_back(allocation.vfd, allocation.size(), stats);
    }

    /// The same for one that isn't mapped, of `size` bytes.
    pub fn give_back(&mut self, vfd: VfdId, size: u64, stats: &mut Stats) {
        stats.allocations -= 1;
        stats.allocation_bytes -= size;
        self.retire(vfd);
    }

    /// Closes any vfd with the next [`Recycler::close_retired`].
    pub(crate) fn retire(&mut self, vfd: VfdId) {
        self.retired.push(vfd);
        self.fresh.push(vfd);
    }

    /// Whether there are vfds to look for in queues.
    pub fn has_retired(&self) -> bool {
        !self.fresh.is_empty() || !self.queued.is_empty()
    }

    /// Closes what was given back, but for vfds that a message in some queue still names: it couldn't be sent any more.
    pub fn close_retired(&mut self, channel: &mut dyn Channel, is_queued: impl Fn(VfdId) -> bool) {
        self.queued.append(&mut self.fresh);
        self.queued.retain(|&vfd| is_queued(vfd));
        self.close_unqueued(channel);
    }

    fn close_unqueued(&mut self, channel: &mut dyn Channel) {
        self.retired.retain(|vfd| {
            let queued = self.queued.contains(vfd);
            if !queued {
                channel.close(*vfd);
            }
            queued
        });
    }

    /// Gives the largest ones back to the host until at most `bytes` and `count` are kept.
    fn trim(&mut self, bytes: u64, count: usize, stats: &mut Stats) {
        while (self.idle_bytes > bytes || self.idle_count > count)
            && let Some(largest) = self.idle.last_entry()
        {
            let allocation = pop(largest);
            self.idle_bytes -= allocation.size();
            self.idle_count -= 1;
            self.discard(allocation, stats);
        }
    }
}

/// Takes an allocation of one size; no size is kept without any.
fn pop(mut entry: OccupiedEntry<'_, u64, Vec<Mapped>>) -> Mapped {
    let allocation = entry.get_mut().pop().expect("there is one of each size that is kept");
    if entry.get().is_empty() {
        entry.remove();
    }
    allocation
}

#[cfg(test)]
mod tests;
