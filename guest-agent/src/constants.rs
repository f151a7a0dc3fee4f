//! Content that never changes: keymaps, format tables. One allocation, or one file, per content.

use crate::channel::VfdId;
use crate::channel::{Allocation, Channel};
use crate::memory;
use crate::stats::Stats;
use crate::world::CarryError;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Most contents that are kept, per direction. Layouts are changed by people; a desktop has a few.
const MAX_CONTENTS: usize = 64;

/// Keeps contents that were carried, by content.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    files: HashMap<Vec<u8>, OwnedFd>,
    allocations: HashMap<Vec<u8>, Allocation>,
}

impl Constants {
    /// A sealed, read-only file with the first `size` bytes of an allocation. All who ask for it share it.
    pub(crate) fn file_of(
        &mut self,
        allocation: &OwnedFd,
        size: u64,
    ) -> Result<OwnedFd, CarryError> {
        let content = memory::read_allocation(allocation.as_fd(), size)?;
        if let Some(file) = self.files.get(&content) {
            return Ok(file.try_clone()?);
        }
        let file = wlproxy_unix::memory::constant("wlproxy-constant", &content)?;
        if self.files.len() >= MAX_CONTENTS {
            self.files.clear();
        }
        let shared = file.try_clone()?;
        self.files.insert(content, file);
        Ok(shared)
    }

    /// An allocation with the content of a file of `size` bytes.
    ///
    /// Reads the file, rather than mapping it: nobody can take its pages away meanwhile.
    pub(crate) fn allocation_of(
        &mut self,
        file: &OwnedFd,
        size: u64,
        channel: &mut dyn Channel,
        stats: &mut Stats,
    ) -> Result<VfdId, CarryError> {
        let mut content = vec![0; size as usize];
        File::from(file.try_clone()?).read_exact_at(&mut content, 0)?;
        if let Some(allocation) = self.allocations.get(&content) {
            return Ok(allocation.vfd);
        }
        let allocation = channel.allocate(size)?;
        memory::Mapping::new(&allocation.fd, allocation.size)?.write(0, &content);
        if self.allocations.len() >= MAX_CONTENTS {
            for (_, old) in self.allocations.drain() {
                stats.allocations -= 1;
                stats.allocation_bytes -= old.size;
                channel.close(old.vfd);
            }
        }
        stats.allocations += 1;
        stats.allocation_bytes += allocation.size;
        let vfd = allocation.vfd;
        self.allocations.insert(content, allocation);
        Ok(vfd)
    }
}
