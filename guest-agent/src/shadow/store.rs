//! The pools of a client, and their shadows.

use super::arena::{Arena, NoPlace, Place};
use super::geometry::Geometry;
use super::pool::Pool;
use super::region::{Rect, Region};
use super::{Memory, Placement};
use crate::memory::Truncated;
use std::collections::HashMap;

/// Most shadows that a pool keeps for wl_buffers that come back. A client that re-creates its wl_buffers for every
/// frame has two to four.
const MAX_IDLE: usize = 4;

/// Names a pool of this client for ever; its object id is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolId(u64);

/// Names a shadow: wl_buffers that are equal in this have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) pool: PoolId,
    pub(super) geometry: Geometry,
}

/// What [`Store::copy`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Copy {
    /// Bytes of pixels that were copied.
    pub(super) bytes: u64,
    /// The compositor sees what the client has drawn, without a copy.
    pub(super) seen: bool,
}

struct Shadow {
    place: Place,
    /// wl_buffers and attaches that wait for their commit: who may want a copy.
    users: usize,
    /// Surfaces that show it, perhaps after its wl_buffer is gone. The compositor may read it at any time.
    shown: usize,
    /// The compositor got it, and hasn't released it since.
    read: bool,
    /// Its stale region by surface, as far as that is known. Where it isn't, all of it is stale.
    stale: HashMap<u32, Region>,
}

impl Shadow {
    /// One that nobody uses yet.
    fn new(place: Place) -> Self {
        Self { place, users: 0, shown: 0, read: false, stale: HashMap::new() }
    }
}

/// Pools and shadows of one client.
#[derive(Default)]
pub(super) struct Store {
    pools: HashMap<PoolId, Pool>,
    shadows: HashMap<Key, Shadow>,
    arena: Arena,
    pools_made: u64,
}

impl Store {
    /// Pools that are still mapped.
    pub(super) fn pool_count(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn add_pool(&mut self, pool: Pool) -> PoolId {
        self.pools_made += 1;
        let id = PoolId(self.pools_made);
        self.pools.insert(id, pool);
        id
    }

    /// A pool as its client draws into it now.
    pub(super) fn pool(&mut self, id: PoolId, memory: &mut dyn Memory) -> Option<&mut Pool> {
        let pool = self.pools.get_mut(&id)?;
        if let Some(lent) = pool.follow() {
            memory.give_back(lent);
            let shadows = self.shadows.iter_mut().filter(|(key, _)| key.pool == id);
            shadows.for_each(|(_, shadow)| shadow.stale.clear());
        }
        Some(pool)
    }

    /// The client has destroyed the wl_shm_pool. Its wl_buffers keep the pool.
    pub(super) fn unname_pool(&mut self, id: PoolId, memory: &mut dyn Memory) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.named = false;
            self.settle_pool(id, memory);
        }
    }

    /// Makes a shadow, or finds the one that there is, for one more user.
    pub(super) fn use_or_make(
        &mut self,
        key: Key,
        memory: &mut dyn Memory,
    ) -> Result<Placement, NoPlace> {
        if !self.shadows.contains_key(&key) {
            let place = match self.pools.get(&key.pool).and_then(Pool::seen) {
                Some(lent) => Place::seen(lent.clone(), key.geometry.offset()),
                None => self.place(key.geometry.bytes(), memory)?,
            };
            self.shadows.insert(key, Shadow::new(place));
        }
        if let Some(pool) = self.pools.get_mut(&key.pool) {
            pool.users += 1;
            pool.idle.retain(|&idle| idle != key.geometry);
        }
        let shadow = self.shadows.get_mut(&key).expect("it is there now");
        shadow.users += 1;
        Ok(self.arena.placement(&mut shadow.place))
    }

    /// Finds a place. If the client has too many, shadows that only wait for their wl_buffer to come back make room.
    fn place(&mut self, size: usize, memory: &mut dyn Memory) -> Result<Place, NoPlace> {
        loop {
            match self.arena.place(size, memory) {
                Err(NoPlace::TooMany) if self.free_idle(memory) => {}
                placed => return placed,
            }
        }
    }

    /// Frees one shadow that nobody uses or shows. `false` if there is none.
    fn free_idle(&mut self, memory: &mut dyn Memory) -> bool {
        let mut pools = self.pools.iter_mut();
        let idle = pools.find_map(|(&pool, of)| Some((pool, of.idle.pop_front()?)));
        if let Some((pool, geometry)) = idle {
            self.free(Key { pool, geometry }, memory);
        }
        idle.is_some()
    }

    /// One more user of a shadow that has one.
    pub(super) fn add_user(&mut self, key: Key) {
        if let (Some(shadow), Some(pool)) =
            (self.shadows.get_mut(&key), self.pools.get_mut(&key.pool))
        {
            shadow.users += 1;
            pool.users += 1;
        }
    }

    /// One user less.
    pub(super) fn remove_user(&mut self, key: Key, memory: &mut dyn Memory) {
        if let (Some(shadow), Some(pool)) =
            (self.shadows.get_mut(&key), self.pools.get_mut(&key.pool))
        {
            shadow.users -= 1;
            pool.users -= 1;
            self.settle(key, memory);
            self.settle_pool(key.pool, memory);
        }
    }

    /// One more surface shows a shadow.
    pub(super) fn show(&mut self, key: Key) {
        if let Some(shadow) = self.shadows.get_mut(&key) {
            shadow.shown += 1;
            shadow.read = true;
        }
    }

    /// The compositor may read a shadow from now on.
    pub(super) fn read(&mut self, key: Key) {
        if let Some(shadow) = self.shadows.get_mut(&key) {
            shadow.read = true;
        }
    }

    /// The compositor released a wl_buffer of this shadow. If there are more of them, it may still read those.
    pub(super) fn released(&mut self, key: Key) {
        if let Some(shadow) = self.shadows.get_mut(&key).filter(|shadow| shadow.users == 1) {
            shadow.read = false;
        }
    }

    /// One surface less shows it.
    pub(super) fn hide(&mut self, key: Key, memory: &mut dyn Memory) {
        if let Some(shadow) = self.shadows.get_mut(&key) {
            shadow.shown -= 1;
            self.settle(key, memory);
        }
    }

    /// A shadow that nobody uses or shows waits for its wl_buffer to come back, or goes with its pool.
    fn settle(&mut self, key: Key, memory: &mut dyn Memory) {
        let unused =
            self.shadows.get(&key).is_some_and(|shadow| shadow.users == 0 && shadow.shown == 0);
        let surplus = match self.pools.get_mut(&key.pool) {
            _ if !unused => None,
            None => Some(key.geometry),
            Some(pool) => {
                pool.idle.push_back(key.geometry);
                if pool.idle.len() > MAX_IDLE { pool.idle.pop_front() } else { None }
            }
        };
        if let Some(geometry) = surplus {
            self.free(Key { geometry, ..key }, memory);
        }
    }

    /// A pool that nobody can use any more goes.
    fn settle_pool(&mut self, id: PoolId, memory: &mut dyn Memory) {
        if self.pools.get(&id).is_some_and(|pool| !pool.named && pool.users == 0) {
            let Some(mut pool) = self.pools.remove(&id) else { return };
            let idle = pool.idle.drain(..);
            idle.for_each(|geometry| self.free(Key { pool: id, geometry }, memory));
            pool.into_lent().into_iter().for_each(|lent| memory.give_back(lent));
        }
    }

    fn free(&mut self, key: Key, memory: &mut dyn Memory) {
        if let Some(shadow) = self.shadows.remove(&key) {
            self.arena.free(shadow.place, shadow.read, memory);
        }
    }

    /// Adds damage of a surface to what is stale. `false` if nothing is known about the two any more.
    pub(super) fn add_stale(&mut self, key: Key, surface: u32, damage: &Region) -> bool {
        let stale = self.shadows.get_mut(&key).and_then(|shadow| shadow.stale.get_mut(&surface));
        stale.map(|stale| stale.add_all(damage)).is_some()
    }

    /// From now on nothing is known about the two.
    pub(super) fn forget(&mut self, key: Key, surface: u32) {
        if let Some(shadow) = self.shadows.get_mut(&key) {
            shadow.stale.remove(&surface);
        }
    }

    /// Copies what is stale for a surface, or everything if there is none.
    ///
    /// What other surfaces know of this shadow holds only if they show it: `shows` tells. A client whose wl_buffers
    /// are all gone wants nothing to be read any more.
    pub(super) fn copy(
        &mut self,
        key: Key,
        surface: Option<u32>,
        shows: impl Fn(u32) -> bool,
        memory: &mut dyn Memory,
    ) -> Result<Copy, Truncated> {
        self.pool(key.pool, memory);
        let (shadow, pool) = match (self.shadows.get_mut(&key), self.pools.get_mut(&key.pool)) {
            (Some(shadow), Some(pool)) if shadow.users > 0 => (shadow, pool),
            _ => return Ok(Copy::default()),
        };
        let geometry = key.geometry;
        let all = Rect::of_size(geometry.size());
        let mut stale = surface
            .and_then(|id| shadow.stale.remove(&id))
            .unwrap_or_else(|| Region::from_rect(all));
        stale.clip(all);
        let seen = pool.seen().is_some();
        if !seen {
            let (mapping, base) = self.arena.mapping(&mut shadow.place)?;
            for rect in stale.iter() {
                let (rows, start) = geometry.rows(rect);
                pool.copy(rows, mapping, base + start)?;
            }
        }
        shadow.stale.retain(|&other, region| {
            region.clear();
            shows(other)
        });
        shadow.stale.extend(surface.map(|id| (id, Region::default())));
        let bytes = if seen { 0 } else { geometry.pixel_bytes(stale.area()) };
        Ok(Copy { bytes, seen })
    }

    /// Gives all memory back.
    pub(super) fn release(mut self, memory: &mut dyn Memory) {
        let lent = self.pools.into_values().filter_map(Pool::into_lent);
        lent.for_each(|lent| memory.give_back(lent));
        let arena = &mut self.arena;
        self.shadows.into_values().for_each(|shadow| arena.free(shadow.place, shadow.read, memory));
        self.arena.release(memory);
    }
}
