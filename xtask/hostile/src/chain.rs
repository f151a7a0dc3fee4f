//! How a command stands in a virtqueue: as it should, or not at all.

use crate::command::Places;
use crate::random::Random;

/// Flags of a [`Descriptor`] (virtio specification 1.3, section 2.7.5).
pub mod descriptor_flags {
    /// Another one follows.
    pub const NEXT: u16 = 1;
    /// The device writes.
    pub const WRITE: u16 = 2;
    /// It is a table of others.
    pub const INDIRECT: u16 = 4;
}
use descriptor_flags::{INDIRECT, NEXT, WRITE};

/// An entry of a descriptor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// [`descriptor_flags`].
    pub flags: u16,
    /// The one that follows.
    pub next: u16,
}

impl Descriptor {
    /// Size in a table, in bytes.
    pub const SIZE: usize = 16;

    /// As it stands there.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// How a command is put into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The message in so many parts, then room for so many bytes of an answer.
    Parts(usize, u32),
    /// The same, in a table of its own.
    Table(usize, u32),
    /// These descriptors instead, of which the first is the chain's.
    Garbage(Vec<Descriptor>),
    /// One descriptor: a table of these, which is so many bytes long.
    GarbageTable(Vec<Descriptor>, u32),
    /// No command, but this head of a chain.
    Head(u16),
    /// No command, but so many chains more than there are.
    Jump(u16),
}

/// Most room for an answer that is asked for: a `DisplayInfo` has 408 bytes.
const ROOM: u32 = 512;

/// A shape, mostly as it should be. The command's chain is in `count` descriptors, from `first` on.
pub fn shape(random: &mut Random, places: &Places, first: u16, count: u16) -> Shape {
    let parts = 1 + random.index(usize::from(count) - 1);
    match random.below(64) {
        0 => Shape::Parts(parts, random.below(30) as u32),
        1..4 => Shape::Table(parts, ROOM),
        4 | 5 => Shape::Garbage(garbage(random, places, first, count)),
        6 => {
            let table = garbage(random, places, 0, count);
            let length = if random.one_in(2) {
                (table.len() * Descriptor::SIZE) as u32
            } else {
                // No more than is there: what follows it isn't made for that.
                random.below((table.len() * Descriptor::SIZE) as u64 + 1) as u32
            };
            Shape::GarbageTable(table, length)
        }
        7 if random.one_in(4) => Shape::Head(random.bits() as u16),
        7 if random.one_in(4) => Shape::Jump(random.bits() as u16),
        8..16 => Shape::Parts(parts, ROOM),
        _ => Shape::Parts(1, ROOM),
    }
}

fn garbage(random: &mut Random, places: &Places, first: u16, count: u16) -> Vec<Descriptor> {
    (0..count)
        .map(|_| {
            let flags = match random.below(8) {
                0 => random.bits() as u16,
                1..4 => NEXT,
                4 | 5 => NEXT | WRITE,
                6 => WRITE,
                _ => INDIRECT,
            };
            // A table of the device's own words would have it write anywhere.
            let indirect = flags & INDIRECT != 0;
            let (address, length) =
                if indirect { places.nowhere(random) } else { places.place(random) };
            let near = first + random.below(count.into()) as u16;
            let next = if random.one_in(8) { random.bits() as u16 } else { near };
            Descriptor { address, length, flags, next }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_told_to_write_nowhere_but_in_the_arena() {
        let places = Places {
            arena: 0x10_0000..0x14_0000,
            elsewhere: vec![1 << 40..1 << 41, 1 << 52..1 << 53],
        };
        let mut random = Random::new(3);
        let mut shapes = [0; 6];
        for _ in 0..100_000 {
            let shape = shape(&mut random, &places, 8, 4);
            let descriptors = match shape {
                Shape::Parts(parts, _) | Shape::Table(parts, _) => {
                    assert!((1..4).contains(&parts), "there is one for the answer");
                    shapes[usize::from(matches!(shape, Shape::Table(..)))] += 1;
                    continue;
                }
                Shape::Garbage(descriptors) => {
                    shapes[2] += 1;
                    descriptors
                }
                Shape::GarbageTable(descriptors, length) => {
                    shapes[3] += 1;
                    assert!(length as usize <= descriptors.len() * Descriptor::SIZE);
                    descriptors
                }
                Shape::Head(_) => {
                    shapes[4] += 1;
                    continue;
                }
                Shape::Jump(_) => {
                    shapes[5] += 1;
                    continue;
                }
            };
            for Descriptor { address, length, flags, .. } in descriptors {
                let end = address.saturating_add(length.into());
                let inside = places.arena.contains(&address) && end <= places.arena.end;
                let table = flags & INDIRECT != 0;
                assert!(address >= 1 << 40 || inside && !table, "{address:#x}, {length}, {flags}");
            }
        }
        assert!(shapes.iter().all(|&count| count > 100), "{shapes:?}");
    }
}
