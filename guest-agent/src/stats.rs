//! What an agent counts. Written as JSON with `--stats`, and read by the demo and the tests.

use serde::{Deserialize, Serialize};

/// Numbers since the agent started, unless they say "now".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections now.
    pub connections_now: u64,
    /// Requests that clients sent.
    pub requests: u64,
    /// Events that clients got.
    pub events: u64,
    /// `wl_surface.commit` requests.
    pub frames: u64,
    /// Clients that were disconnected for a protocol violation.
    pub violations: u64,
    /// Bytes of buffers that clients declared as damaged.
    pub damaged_bytes: u64,
    /// Bytes of buffers that were copied into shadows.
    pub copied_bytes: u64,
    /// Frames of which nothing had to be copied, since the compositor sees what the client draws into.
    pub seen_frames: u64,
    /// Allocations that applications have parted from since they need a file of their own.
    pub demotions: u64,
    /// Allocations now, in use, lent or kept for reuse.
    pub allocations: u64,
    /// Their size now, in bytes.
    pub allocation_bytes: u64,
    /// Allocations that are lent to applications now.
    pub lent: u64,
    /// Pipes that are being pumped now.
    pub pipes: u64,
}

impl Stats {
    /// These numbers when their channel is gone: nothing is "now".
    pub fn over(self) -> Stats {
        Stats { connections_now: 0, allocations: 0, allocation_bytes: 0, lent: 0, pipes: 0, ..self }
    }

    /// These numbers of channels that are gone, and those of the one that is there. What tells of "now" is the latter's.
    pub fn plus(&self, now: &Stats) -> Stats {
        Stats {
            connections: self.connections + now.connections,
            requests: self.requests + now.requests,
            events: self.events + now.events,
            frames: self.frames + now.frames,
            violations: self.violations + now.violations,
            damaged_bytes: self.damaged_bytes + now.damaged_bytes,
            copied_bytes: self.copied_bytes + now.copied_bytes,
            seen_frames: self.seen_frames + now.seen_frames,
            demotions: self.demotions + now.demotions,
            ..now.clone()
        }
    }
}
