//! Allocations that no client needs now, kept for the next one: mapping a new one into two VMs is expensive.

use crate::channel::{Allocation, Channel, Error};
use crate::stats::Stats;
use std::collections::BTreeMap;
use wlproxy_protocol::limits::PAGE_SIZE;

/// Most bytes that are kept: two frames of 4K, so that a resized window or the next one finds what it needs.
const MAX_IDLE: u64 = 64 * 1024 * 1024;

/// Keeps allocations by size.
#[derive(Debug, Default)]
pub struct Recycler {
    idle: BTreeMap<u64, Vec<Allocation>>,
    idle_bytes: u64,
}

impl Recycler {
    /// Memory of at least `size` bytes: one that was kept, or a new one. Old content may stand in it, of clients of
    /// this VM only.
    pub fn take(
        &mut self,
        size: u64,
        channel: &mut dyn Channel,
        stats: &mut Stats,
    ) -> Result<Allocation, Error> {
        let size = size.next_multiple_of(PAGE_SIZE);
        if let Some(allocation) = self.idle.get_mut(&size).and_then(Vec::pop) {
            self.idle_bytes -= allocation.size;
            return Ok(allocation);
        }
        let allocation = match channel.allocate(size) {
            Err(Error::OutOfMemory) if self.idle_bytes > 0 => {
                // What is kept counts against the quota too.
                self.trim(0, channel, stats);
                channel.allocate(size)?
            }
            result => result?,
        };
        stats.allocations += 1;
        stats.allocation_bytes += allocation.size;
        Ok(allocation)
    }

    /// Keeps an allocation that the compositor doesn't read any more.
    pub fn give(&mut self, allocation: Allocation, channel: &mut dyn Channel, stats: &mut Stats) {
        self.idle_bytes += allocation.size;
        self.idle.entry(allocation.size).or_default().push(allocation);
        self.trim(MAX_IDLE, channel, stats);
    }

    /// Gives an allocation back to the host. The compositor may go on reading it: it keeps what it has mapped.
    pub fn discard(
        &mut self,
        allocation: Allocation,
        channel: &mut dyn Channel,
        stats: &mut Stats,
    ) {
        stats.allocations -= 1;
        stats.allocation_bytes -= allocation.size;
        channel.close(allocation.vfd);
    }

    /// Gives the largest ones back to the host until at most `limit` bytes are kept.
    fn trim(&mut self, limit: u64, channel: &mut dyn Channel, stats: &mut Stats) {
        while self.idle_bytes > limit
            && let Some(mut largest) = self.idle.last_entry()
        {
            match largest.get_mut().pop() {
                Some(allocation) => {
                    self.idle_bytes -= allocation.size;
                    self.discard(allocation, channel, stats);
                }
                None => drop(largest.remove()),
            }
        }
    }
}
