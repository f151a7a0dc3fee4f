//! Content that never changes: keymaps, format tables. One allocation, or one file, per content.

use crate::carry::CarryError;
use crate::channel::{Allocation, Channel, VfdId};
use crate::mapped::Mapped;
use crate::memory;
use crate::recycler::Recycler;
use crate::stats::Stats;
use std::collections::HashMap;
use std::hash::Hash;
use std::os::fd::OwnedFd;

/// Most contents that are kept, per direction. Layouts are changed by people; a desktop has a few.
const MAX_CONTENTS: usize = 64;

/// Most bytes of them that are kept, per direction: two of the largest that are carried at all.
const MAX_BYTES: u64 = 2 * MAX_CONSTANT;

/// Largest content that is copied for a peer (keymaps and format tables have some 60 KB), in bytes.
pub(crate) const MAX_CONSTANT: u64 = 16 * 1024 * 1024;

/// Keeps contents that were carried, by content.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    files: Cache<Vec<u8>, OwnedFd>,
    /// By peer too: a VM may write into what it gets, and no other VM must see that.
    allocations: Cache<(String, Vec<u8>), Mapped>,
}

impl Constants {
    /// A sealed, read-only file with the first `size` bytes of an allocation, which has so many. All who ask for it share
    /// it.
    pub(crate) fn file_of(
        &mut self,
        allocation: &Allocation,
        size: u64,
    ) -> Result<OwnedFd, CarryError> {
        let content = memory::read_allocation(&allocation.fd, allocation.size, size as usize)?;
        if let Some(file) = self.files.kept.get(&content) {
            return Ok(file.try_clone()?);
        }
        let file = wlproxy_unix::memory::constant("wlproxy-constant", &content)?;
        let shared = file.try_clone()?;
        self.files.keep(content, size, file);
        Ok(shared)
    }

    /// An allocation that begins with `content`, for `peer`.
    pub(crate) fn allocation_of(
        &mut self,
        content: Vec<u8>,
        peer: &str,
        channel: &mut dyn Channel,
        memory: &mut Recycler,
        stats: &mut Stats,
    ) -> Result<VfdId, CarryError> {
        let key = (peer.to_owned(), content);
        if let Some(allocation) = self.allocations.kept.get(&key) {
            return Ok(allocation.vfd);
        }
        let allocation = channel.allocate((key.1.len() as u64).max(1))?;
        let mut allocation = Mapped::new(allocation, channel)?;
        allocation.mapping.write(0, &key.1);
        stats.allocations += 1;
        stats.allocation_bytes += allocation.size();
        let (vfd, size) = (allocation.vfd, allocation.size());
        for old in self.allocations.keep(key, size, allocation) {
            memory.discard(old, stats);
        }
        Ok(vfd)
    }
}

/// Values by content, within bounds.
#[derive(Debug)]
struct Cache<K, V> {
    kept: HashMap<K, V>,
    bytes: u64,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { kept: HashMap::new(), bytes: 0 }
    }
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// Keeps a value of `bytes` bytes. If that is too much, all others go, and are returned.
    fn keep(&mut self, key: K, bytes: u64, value: V) -> Vec<V> {
        let mut gone = Vec::new();
        if self.kept.len() >= MAX_CONTENTS || self.bytes + bytes > MAX_BYTES {
            gone.extend(self.kept.drain().map(|(_, old)| old));
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.kept.insert(key, value);
        gone
    }
}

#[cfg(test)]
mod tests;
