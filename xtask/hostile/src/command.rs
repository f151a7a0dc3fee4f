//! Commands of the control queue.

use crate::context::{Names, context_command};
use crate::random::Random;
use bytemuck::{bytes_of, cast_slice};
use std::ops::Range;
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::virtio_gpu::{
    CAPSET_CROSS_DOMAIN, CreateBlob, CtxCreate, GetCapset, GetCapsetInfo, Header, MapBlob,
    MemEntry, OfResource, Submit, blob_mem, flags, message,
};

/// Contexts are called 1 to this, mostly.
pub const CONTEXTS: u32 = 4;

/// Resources are called 1 to this, mostly: the first half of them could be rings, the others memory of the host.
pub const RESOURCES: u32 = 16;

/// Where a command may say that memory of the guest is.
#[derive(Debug, Clone)]
pub struct Places {
    /// Memory that the device may write into. Whose this is doesn't mind.
    pub arena: Range<u64>,
    /// Where no memory of the guest's is, or none that the device should take for it.
    pub elsewhere: Vec<Range<u64>>,
}

impl Places {
    /// An address that the device may be told, and a length there. What follows the arena belongs to somebody who minds.
    pub(crate) fn place(&self, random: &mut Random) -> (u64, u32) {
        let pages = (self.arena.end - self.arena.start) / PAGE_SIZE;
        let page = self.arena.start + PAGE_SIZE * random.below(pages);
        match random.below(16) {
            0 => {
                let address = page + random.below(PAGE_SIZE);
                let room = (self.arena.end - address).min(PAGE_SIZE);
                (address, 1 + random.below(room) as u32)
            }
            1 => self.nowhere(random),
            2 => (page, 0),
            _ => (page, PAGE_SIZE as u32),
        }
    }

    /// An address where nothing is, and any length.
    pub(crate) fn nowhere(&self, random: &mut Random) -> (u64, u32) {
        let range = &self.elsewhere[random.index(self.elsewhere.len())];
        (range.start + random.below(range.end - range.start), random.number())
    }
}

/// What is known of, for commands whose payload is nobody's business.
const OTHERS: &[u32] = &[
    message::GET_DISPLAY_INFO,
    message::RESOURCE_CREATE_2D,
    message::SET_SCANOUT,
    message::RESOURCE_FLUSH,
    message::TRANSFER_TO_HOST_2D,
    message::RESOURCE_ATTACH_BACKING,
    message::RESOURCE_DETACH_BACKING,
    message::RESOURCE_ASSIGN_UUID,
    message::SET_SCANOUT_BLOB,
    message::CTX_ATTACH_RESOURCE,
    message::CTX_DETACH_RESOURCE,
    message::RESOURCE_CREATE_3D,
    message::TRANSFER_TO_HOST_3D,
    message::TRANSFER_FROM_HOST_3D,
    message::UPDATE_CURSOR,
    message::MOVE_CURSOR,
];

/// A command, right or wrong.
pub fn command(random: &mut Random, places: &Places) -> Vec<u8> {
    let mut bytes = match random.below(40) {
        0..18 => submit(random),
        18..24 => create_blob(random, places),
        24..27 => bytes_of(&CtxCreate {
            header: header(random, message::CTX_CREATE),
            name_length: random.number(),
            context_init: if random.one_in(6) { random.number() } else { CAPSET_CROSS_DOMAIN },
            name: [random.bits() as u8; 64],
        })
        .to_vec(),
        27 => bytes_of(&header(random, message::CTX_DESTROY)).to_vec(),
        28..31 => bytes_of(&MapBlob {
            header: header(random, message::RESOURCE_MAP_BLOB),
            resource: memory(random),
            padding: random.number(),
            offset: offset(random),
        })
        .to_vec(),
        31 => of_resource(random, message::RESOURCE_UNMAP_BLOB, memory),
        32 => of_resource(random, message::RESOURCE_UNREF, ring),
        33 | 34 => of_resource(random, message::RESOURCE_UNREF, memory),
        35 => bytes_of(&GetCapsetInfo {
            header: header(random, message::GET_CAPSET_INFO),
            index: random.number(),
            padding: 0,
        })
        .to_vec(),
        36 => bytes_of(&GetCapset {
            header: header(random, message::GET_CAPSET),
            id: random.number(),
            version: random.number(),
        })
        .to_vec(),
        37 | 38 => {
            let kind = random.pick(OTHERS);
            let length = random.index(100);
            [bytes_of(&header(random, kind)), &random.bytes(length)].concat()
        }
        _ => {
            let kind = random.number();
            let length = random.index(100);
            [bytes_of(&header(random, kind)), &random.bytes(length)].concat()
        }
    };
    match random.below(32) {
        0 => bytes.truncate(random.index(bytes.len() + 1)),
        1 => {
            let more = random.index(2000);
            bytes.extend(random.bytes(more));
        }
        // A bit of an address would make it one of the guest's that minds.
        2 if !bytes.starts_with(&message::RESOURCE_CREATE_BLOB.to_le_bytes()) => {
            let at = random.index(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    bytes
}

fn header(random: &mut Random, kind: u32) -> Header {
    let flags = match random.below(8) {
        0..3 => 0,
        3 => flags::FENCE,
        4..7 => flags::FENCE | flags::RING,
        _ => random.number(),
    };
    Header {
        kind,
        flags,
        fence: random.long_number(),
        context: if random.one_in(16) {
            random.number()
        } else {
            1 + random.index(CONTEXTS as usize) as u32
        },
        ring: if random.one_in(16) { random.bits() as u8 } else { random.below(4) as u8 },
        padding: [0; 3],
    }
}

fn ring(random: &mut Random) -> u32 {
    1 + random.below(u64::from(RESOURCES / 2)) as u32
}

fn memory(random: &mut Random) -> u32 {
    if random.one_in(16) { random.number() } else { ring(random) + RESOURCES / 2 }
}

fn of_resource(random: &mut Random, kind: u32, which: fn(&mut Random) -> u32) -> Vec<u8> {
    let header = header(random, kind);
    bytes_of(&OfResource { header, resource: which(random), padding: random.number() }).to_vec()
}

fn offset(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.long_number(),
        1 => random.below(64 << 20),
        _ => PAGE_SIZE * random.below(64),
    }
}

fn create_blob(random: &mut Random, places: &Places) -> Vec<u8> {
    let of_guest = random.one_in(2);
    let pieces = if !of_guest {
        0
    } else if random.one_in(16) {
        random.index(4200)
    } else {
        1 + random.index(3)
    };
    let entries: Vec<MemEntry> = (0..pieces)
        .map(|_| places.place(random))
        .map(|(address, length)| MemEntry { address, length, padding: 0 })
        .collect();
    // As wlproxy_protocol::cross_domain has it: a bit, and the size in pages.
    let pages = if random.one_in(8) { random.below(1 << 20) } else { 1 + random.below(64) };
    let image = 0x2000_0000 | pages;
    let blob = CreateBlob {
        header: header(random, message::RESOURCE_CREATE_BLOB),
        resource: if of_guest { ring(random) } else { memory(random) },
        memory: match random.below(16) {
            0 => random.number(),
            _ if of_guest => blob_mem::GUEST,
            _ => blob_mem::HOST3D,
        },
        flags: random.number(),
        entries: if random.one_in(16) { random.number() } else { pieces as u32 },
        blob_id: if random.one_in(8) { random.long_number() } else { image },
        size: match random.below(8) {
            0 => random.long_number(),
            _ if of_guest => entries.iter().map(|entry| u64::from(entry.length)).sum(),
            _ => PAGE_SIZE * pages,
        },
    };
    [bytes_of(&blob), cast_slice(&entries)].concat()
}

fn submit(random: &mut Random) -> Vec<u8> {
    let rings: Vec<u32> = (1..=RESOURCES / 2).collect();
    let memory: Vec<u32> = (RESOURCES / 2 + 1..=RESOURCES).collect();
    let command = context_command(random, Names { rings: &rings, memory: &memory });
    let submit = Submit {
        header: header(random, message::SUBMIT_3D),
        size: if random.one_in(16) { random.number() } else { command.len() as u32 },
        padding: random.number(),
    };
    [bytes_of(&submit), &command].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_next_to_the_arena() {
        let places = Places {
            arena: 0x10_0000..0x14_0000,
            elsewhere: vec![1 << 40..1 << 41, 1 << 52..1 << 53],
        };
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let (address, length) = places.place(&mut random);
            let end = address.saturating_add(length.into());
            assert!(
                address >= 1 << 40 || places.arena.contains(&address) && end <= places.arena.end
            );
        }
    }

    #[test]
    fn no_blob_is_made_of_memory_next_to_the_arena() {
        let places = Places {
            arena: 0x10_0000..0x14_0000,
            elsewhere: vec![1 << 40..1 << 41, 1 << 52..1 << 53],
        };
        let mut random = Random::new(2);
        for _ in 0..100_000 {
            let bytes = command(&mut random, &places);
            let Some((blob, entries)) = CreateBlob::entries(&bytes) else { continue };
            if blob.header.kind != message::RESOURCE_CREATE_BLOB || blob.memory != blob_mem::GUEST {
                continue;
            }
            for MemEntry { address, length, .. } in entries {
                let end = address.saturating_add(length.into());
                let inside = places.arena.contains(&address) && end <= places.arena.end;
                assert!(inside || address >= 1 << 40 || length == 0, "{address:#x}, {length}");
            }
        }
    }
}
