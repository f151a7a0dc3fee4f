//! Where shadows are: large ones in allocations of their own, small ones side by side. Those of a pool that is a lent
//! allocation are where the client has drawn them.

use super::{Memory, Placement};
use crate::channel::{Error, VfdId};
use crate::lend::Lent;
use crate::mapped::Mapped;
use crate::memory::{Mapping, Truncated};
use std::collections::BTreeMap;
use std::rc::Rc;
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};

/// Largest shadow that shares an allocation, in bytes: cursors and icons, of which toolkits make dozens. A page of
/// its own for each would be little, but each mapping of an allocation costs milliseconds in a VM.
const MAX_SHARED: usize = 64 * 1024;

/// Size of an allocation that shadows share, in bytes.
const CHUNK: usize = 1024 * 1024;

/// Alignment of shadows in a chunk, in bytes: a cache line, and more than any pixel needs.
const ALIGN: usize = 64;

/// Most allocations that one client has at a time: a quarter of the 2,047 ids that all clients of a VM share (virtio_wl,
/// driver ids). Desktop clients have dozens, large ones hundreds.
pub(super) const MAX_BLOCKS: usize = 512;

/// Why there is no place for a shadow.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("{0}")]
    Refused(#[from] Error),
    #[error("more than {MAX_BLOCKS} allocations at a time")]
    TooMany,
    #[error("{0} bytes are more than one allocation holds")]
    TooLarge(u64),
}

/// An allocation for shadows.
struct Block {
    memory: Mapped,
    /// Size as the argument of wl_shm.create_pool.
    pool_size: i32,
}

impl Block {
    fn new(size: usize, memory: &mut dyn Memory) -> Result<Self, NoPlace> {
        let size = (size as u64).next_multiple_of(PAGE_SIZE);
        if size > MAX_ALLOCATION {
            return Err(NoPlace::TooLarge(size));
        }
        let allocation = memory.allocate(size)?;
        let got = allocation.size();
        match i32::try_from(got) {
            Ok(pool_size) if got >= size => Ok(Self { memory: allocation, pool_size }),
            _ => {
                memory.reuse(allocation);
                Err(NoPlace::TooLarge(got))
            }
        }
    }

    /// `read`: the compositor may still read it.
    fn give_back(self, read: bool, memory: &mut dyn Memory) {
        match read {
            true => memory.discard(self.memory),
            false => memory.reuse(self.memory),
        }
    }
}

/// Where one shadow is.
pub(super) struct Place(Kind);

enum Kind {
    Own(Block),
    Shared {
        chunk: VfdId,
        offset: usize,
        len: usize,
    },
    /// In the allocation that was the pool when the wl_buffer was made.
    Seen {
        lent: Rc<Lent>,
        offset: usize,
        /// Made when the client draws somewhere else, and pixels have to be copied here.
        mapping: Option<Mapping>,
    },
}

impl Place {
    /// Where the client has drawn: nothing has to be copied as long as it draws there.
    pub(super) fn seen(lent: Rc<Lent>, offset: usize) -> Self {
        Self(Kind::Seen { lent, offset, mapping: None })
    }
}

/// An allocation that shadows share.
struct Chunk {
    block: Block,
    /// Free ranges, by where they begin; no two of them touch.
    free: BTreeMap<usize, usize>,
    /// Bytes of places that were given back while the compositor might read them. They are not used again.
    retired: usize,
}

impl Chunk {
    /// Takes the first free range that is long enough.
    fn take(&mut self, len: usize) -> Option<usize> {
        let (&offset, &room) = self.free.iter().find(|&(_, &room)| room >= len)?;
        self.free.remove(&offset);
        if room > len {
            self.free.insert(offset + len, room - len);
        }
        Some(offset)
    }

    fn put(&mut self, offset: usize, mut len: usize) {
        len += self.free.remove(&(offset + len)).unwrap_or(0);
        match self.free.range_mut(..offset).next_back() {
            Some((&before, room)) if before + *room == offset => *room += len,
            _ => drop(self.free.insert(offset, len)),
        }
    }

    fn is_unused(&self) -> bool {
        self.free.values().sum::<usize>() + self.retired == CHUNK
    }

    fn give_back(self, memory: &mut dyn Memory) {
        self.block.give_back(self.retired > 0, memory);
    }
}

/// The allocations of one client's shadows.
#[derive(Default)]
pub(super) struct Arena {
    /// Those that small shadows share.
    chunks: BTreeMap<VfdId, Chunk>,
    /// How many shadows have one of their own.
    own: usize,
}

impl Arena {
    /// Finds a place for a shadow of `size` bytes, more than 0.
    pub(super) fn place(&mut self, size: usize, memory: &mut dyn Memory) -> Result<Place, NoPlace> {
        if size > MAX_SHARED {
            let block = self.block(size, memory)?;
            self.own += 1;
            return Ok(Place(Kind::Own(block)));
        }
        let len = size.next_multiple_of(ALIGN);
        let taken =
            self.chunks.iter_mut().find_map(|(&chunk, free)| Some((chunk, free.take(len)?)));
        let (chunk, offset) = match taken {
            Some(taken) => taken,
            None => {
                let block = self.block(CHUNK, memory)?;
                let chunk = block.memory.vfd;
                self.chunks.insert(
                    chunk,
                    Chunk { block, free: BTreeMap::from([(len, CHUNK - len)]), retired: 0 },
                );
                (chunk, 0)
            }
        };
        Ok(Place(Kind::Shared { chunk, offset, len }))
    }

    fn block(&self, size: usize, memory: &mut dyn Memory) -> Result<Block, NoPlace> {
        if self.own + self.chunks.len() >= MAX_BLOCKS {
            return Err(NoPlace::TooMany);
        }
        Block::new(size, memory)
    }

    /// Gives a place back. `read`: the compositor may still read it. One unused chunk is kept.
    pub(super) fn free(&mut self, place: Place, read: bool, memory: &mut dyn Memory) {
        let (chunk, offset, len) = match place.0 {
            Kind::Own(block) => {
                self.own -= 1;
                return block.give_back(read, memory);
            }
            Kind::Shared { chunk, offset, len } => (chunk, offset, len),
            Kind::Seen { lent, .. } => return memory.give_back(lent),
        };
        let several = self.chunks.len() > 1;
        let Some(shared) = self.chunks.get_mut(&chunk) else { return };
        match read {
            true => shared.retired += len,
            false => shared.put(offset, len),
        }
        if shared.is_unused() && (several || shared.retired > 0) {
            self.chunks.remove(&chunk).into_iter().for_each(|chunk| chunk.give_back(memory));
        }
    }

    /// Gives all chunks back, whatever is in them.
    pub(super) fn release(self, memory: &mut dyn Memory) {
        self.chunks.into_values().for_each(|chunk| chunk.give_back(memory));
    }

    fn chunk(&mut self, chunk: VfdId) -> &mut Block {
        let chunk = self.chunks.get_mut(&chunk).expect("a chunk stays while a place is in it");
        &mut chunk.block
    }

    /// The memory of a place, and where it begins there.
    pub(super) fn mapping<'a>(
        &'a mut self,
        place: &'a mut Place,
    ) -> Result<(&'a mut Mapping, usize), Truncated> {
        match &mut place.0 {
            Kind::Own(block) => Ok((&mut block.memory.mapping, 0)),
            &mut Kind::Shared { chunk, offset, .. } => {
                Ok((&mut self.chunk(chunk).memory.mapping, offset))
            }
            Kind::Seen { lent, offset, mapping } => {
                let mapping = match mapping.take() {
                    Some(made) => mapping.insert(made),
                    None => mapping.insert(lent.map().map_err(|error| {
                        tracing::warn!("can't map an allocation: {error}");
                        Truncated
                    })?),
                };
                Ok((mapping, *offset))
            }
        }
    }

    /// What to tell the compositor about a place.
    pub(super) fn placement(&mut self, place: &mut Place) -> Placement {
        let (block, offset) = match &mut place.0 {
            Kind::Own(block) => (&*block, 0),
            &mut Kind::Shared { chunk, offset, .. } => (&*self.chunk(chunk), offset),
            Kind::Seen { lent, offset, .. } => {
                // What is lent is as large as an allocation may be at most, which is an `i32`.
                let pool_size = lent.size() as i32;
                return Placement { vfd: lent.vfd(), pool_size, offset: *offset as i32 };
            }
        };
        // The end of the place fits `pool_size`, which is an `i32`.
        Placement { vfd: block.memory.vfd, pool_size: block.pool_size, offset: offset as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadow::tests::Host;

    fn shared(arena: &mut Arena, size: usize, host: &mut Host) -> (Place, Placement) {
        let mut place = arena.place(size, host).unwrap();
        let placement = arena.placement(&mut place);
        (place, placement)
    }

    #[test]
    fn small_ones_share_and_large_ones_do_not() {
        let (mut arena, mut host) = (Arena::default(), Host::default());
        let (a, at_a) = shared(&mut arena, 100, &mut host);
        let (_b, at_b) = shared(&mut arena, MAX_SHARED, &mut host);
        let (c, at_c) = shared(&mut arena, MAX_SHARED + 1, &mut host);
        assert_eq!((at_a.offset, at_b.offset, at_c.offset), (0, 128, 0));
        assert_eq!((at_a.pool_size, at_b.vfd, at_c.pool_size), (1 << 20, at_a.vfd, 65536 + 4096));
        assert_ne!(at_c.vfd, at_a.vfd);
        arena.free(c, false, &mut host);
        assert_eq!(host.held(), 1);
        arena.free(a, false, &mut host);
        arena.release(&mut host);
        assert_eq!(host.held(), 0);
    }

    #[test]
    fn freed_places_are_used_again_whatever_the_order() {
        let (mut arena, mut host) = (Arena::default(), Host::default());
        let order: Vec<usize> = (0..16).map(|i| i * 7 % 16).collect();
        for _ in 0..10 {
            let mut places: Vec<_> =
                (0..16).map(|_| Some(arena.place(MAX_SHARED, &mut host).unwrap())).collect();
            assert_eq!(host.held(), 1);
            order.iter().for_each(|&i| arena.free(places[i].take().unwrap(), false, &mut host));
        }
        assert!(arena.chunks.values().all(Chunk::is_unused));
    }

    #[test]
    fn what_the_compositor_may_read_is_not_used_again() {
        let (mut arena, mut host) = (Arena::default(), Host::default());
        let (a, at_a) = shared(&mut arena, MAX_SHARED, &mut host);
        arena.free(a, true, &mut host);
        assert_eq!(host.held(), 0, "a chunk in which nothing is used but something is read goes");
        let (a, _) = shared(&mut arena, MAX_SHARED, &mut host);
        let (b, at_b) = shared(&mut arena, MAX_SHARED, &mut host);
        arena.free(a, true, &mut host);
        let (c, at_c) = shared(&mut arena, MAX_SHARED, &mut host);
        assert_eq!(at_c.vfd, at_b.vfd);
        assert!(at_c.offset > at_b.offset && at_b.offset > at_a.offset);
        arena.free(b, false, &mut host);
        arena.free(c, false, &mut host);
        assert_eq!((host.held(), host.discarded), (0, 2));
    }

    #[test]
    fn one_unused_chunk_is_kept() {
        let (mut arena, mut host) = (Arena::default(), Host::default());
        let places: Vec<_> = (0..40).map(|_| arena.place(MAX_SHARED, &mut host).unwrap()).collect();
        assert_eq!(host.held(), 3);
        places.into_iter().for_each(|place| arena.free(place, false, &mut host));
        assert_eq!(host.held(), 1);
    }

    #[test]
    fn what_the_host_refuses_is_an_error() {
        let (mut arena, mut host) = (Arena::default(), Host::granting(1));
        assert!(arena.place(1 << 20, &mut host).is_ok());
        assert!(matches!(arena.place(5, &mut host), Err(NoPlace::Refused(Error::OutOfMemory))));
        assert!(matches!(arena.place(i32::MAX as usize, &mut host), Err(NoPlace::TooLarge(_))));
    }
}
