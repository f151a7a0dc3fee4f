//! Resources: what a driver names by a number of its own.
//!
//! They are a VM's, not a context's: what one context may do with a resource, another may too, and none needs to attach
//! it. A VM is one party to us.

use super::Refusal;
use crate::device::ring::Memory;
use crate::device::vfds::Vfds;
use std::collections::HashMap;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::virtio_gpu::{MemEntry, message};

/// Most resources of one device. More than a guest's programs have buffers; each costs some hundred bytes here.
const MAX_RESOURCES: usize = 16 * 1024;

/// As much of guest memory as the host ever writes to at once, in bytes: rings are that, and users of today have one
/// page each.
const MAX_RING: usize = 64 * 1024;

/// What a resource is.
#[derive(Debug)]
pub(super) enum Resource {
    /// Something to be shown on a scanout. Nothing is.
    Blank,
    /// Memory of the guest.
    Guest(Ring),
    /// An allocation, by its vfd, and where in the window it is.
    Host(u32, Option<u64>),
}

/// The start of a piece of guest memory.
#[derive(Debug)]
pub(super) struct Ring(Vec<(GuestAddress, usize)>);

impl Ring {
    /// Memory as a driver lists it. `None` if it isn't in the guest's.
    fn new(memory: &Memory, entries: &[MemEntry]) -> Option<Self> {
        let memory = memory.memory();
        let mut pieces = Vec::new();
        let mut room = MAX_RING;
        for entry in entries {
            let (address, length) = (GuestAddress(entry.address), entry.length as usize);
            if length == 0 || !memory.check_range(address, length) {
                return None;
            }
            // The rest is never used, but has to be right all the same.
            if room > 0 && pieces.len() < MAX_RING / PAGE_SIZE as usize {
                pieces.push((address, length.min(room)));
                room -= length.min(room);
            }
        }
        Some(Self(pieces))
    }

    /// Bytes that can be written.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|&(_, length)| length).sum()
    }

    /// Writes to its start. `false` if not all fits in, or the memory is gone.
    fn write(&self, memory: &Memory, bytes: &[u8]) -> bool {
        let memory = memory.memory();
        let mut rest = bytes;
        for &(address, length) in &self.0 {
            let (now, later) = rest.split_at(rest.len().min(length));
            if memory.write_slice(now, address).is_err() {
                return false;
            }
            rest = later;
        }
        rest.is_empty()
    }
}

/// All of a device.
pub(super) struct Resources {
    memory: Memory,
    table: HashMap<u32, Resource>,
}

impl Resources {
    /// None yet. `memory` is the guest's.
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, table: HashMap::new() }
    }

    /// Whether a new one may have this id.
    pub(super) fn check_new(&self, id: u32) -> Result<(), Refusal> {
        match id {
            0 => Err(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID)),
            id if self.table.contains_key(&id) => {
                Err(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID))
            }
            _ if self.table.len() >= MAX_RESOURCES => Err(Refusal(message::RESP_ERR_OUT_OF_MEMORY)),
            _ => Ok(()),
        }
    }

    /// A new one, checked before.
    pub(super) fn insert(&mut self, id: u32, resource: Resource) {
        self.table.insert(id, resource);
    }

    /// Memory of the guest.
    pub(super) fn guest(&self, entries: &[MemEntry]) -> Result<Resource, Refusal> {
        let ring = Ring::new(&self.memory, entries);
        ring.map(Resource::Guest).ok_or(Refusal(message::RESP_ERR_INVALID_PARAMETER))
    }

    /// The resource of this id.
    pub(super) fn get(&self, id: u32) -> Result<&Resource, Refusal> {
        self.table.get(&id).ok_or(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID))
    }

    /// The allocation that it is, as a vfd.
    pub(super) fn host(&self, id: u32) -> Result<u32, Refusal> {
        match self.get(id)? {
            Resource::Host(vfd, _) => Ok(*vfd),
            Resource::Blank | Resource::Guest(_) => {
                Err(Refusal(message::RESP_ERR_INVALID_PARAMETER))
            }
        }
    }

    /// Bytes that can be written to guest memory.
    pub(super) fn ring_size(&self, id: u32) -> Result<usize, Refusal> {
        match self.get(id)? {
            Resource::Guest(ring) => Ok(ring.len()),
            Resource::Blank | Resource::Host(..) => {
                Err(Refusal(message::RESP_ERR_INVALID_PARAMETER))
            }
        }
    }

    /// Writes to guest memory. `false` if it isn't there, any more.
    pub(super) fn write(&self, id: u32, bytes: &[u8]) -> bool {
        matches!(self.table.get(&id), Some(Resource::Guest(ring)) if ring.write(&self.memory, bytes))
    }

    /// Maps an allocation, whole, where the driver wants it. Blocks.
    pub(super) fn map(&mut self, vfds: &mut Vfds, id: u32, offset: u64) -> Result<(), Refusal> {
        match self.table.get_mut(&id) {
            Some(Resource::Host(vfd, place @ None)) => {
                vfds.place(*vfd, offset)?;
                *place = Some(offset);
                Ok(())
            }
            Some(_) => Err(Refusal(message::RESP_ERR_INVALID_PARAMETER)),
            None => Err(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID)),
        }
    }

    /// Undoes that.
    pub(super) fn unmap(&mut self, vfds: &mut Vfds, id: u32) -> Result<(), Refusal> {
        match self.table.get_mut(&id) {
            Some(Resource::Host(_, place)) => {
                let offset = place.take().ok_or(Refusal(message::RESP_ERR_INVALID_PARAMETER))?;
                vfds.window.displace(offset);
                Ok(())
            }
            Some(_) => Err(Refusal(message::RESP_ERR_INVALID_PARAMETER)),
            None => Err(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID)),
        }
    }

    /// The driver is done with it.
    pub(super) fn remove(&mut self, vfds: &mut Vfds, id: u32) -> Result<(), Refusal> {
        let resource =
            self.table.remove(&id).ok_or(Refusal(message::RESP_ERR_INVALID_RESOURCE_ID))?;
        if let Resource::Host(vfd, place) = resource {
            if let Some(offset) = place {
                vfds.window.displace(offset);
            }
            vfds.remove(vfd);
        }
        Ok(())
    }
}
