//! An allocation as this process uses it.

use crate::channel::{Allocation, Channel, VfdId};
use crate::memory::Mapping;
use std::io;

/// An allocation that is mapped. It needs no fd any more, of which there would be hundreds per client.
///
/// Dropping it unmaps it; the vfd stays.
#[derive(Debug)]
pub struct Mapped {
    /// What to send it as.
    pub vfd: VfdId,
    /// All of it.
    pub mapping: Mapping,
}

impl Mapped {
    /// Maps an allocation. If it can't, the vfd is closed.
    pub fn new(allocation: Allocation, channel: &mut dyn Channel) -> io::Result<Self> {
        let vfd = allocation.vfd;
        match Mapping::new(&allocation.fd, allocation.size) {
            Ok(mapping) => Ok(Self { vfd, mapping }),
            Err(error) => {
                channel.close(vfd);
                Err(error)
            }
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.size() as u64
    }
}
