//! Shadows: allocations that mirror the wl_buffers of clients that draw into memory of their own.
//!
//! A client's wl_shm pool is in its VM's RAM and stays there. Each of its wl_buffers has a *shadow*, which is what the
//! compositor gets. When a surface is committed, what is *stale* is copied from the pool, once, and nothing else:
//!
//! - Per shadow and surface there is a stale region. At first it is all of the shadow.
//! - A commit adds the surface's damage to the stale regions of all shadows that the surface has shown.
//! - Then the stale region of the shadow that the surface shows now is copied, and is empty.
//! - Another surface that shows the same shadow has got the same pixels by that, so there is nothing stale for it
//!   either. One that doesn't show it can't tell what was drawn in between, so all of it is stale there.
//! - All is stale again after a change of how pixels lie on the surface: another size, scale, transform, viewport or
//!   offset.
//!
//! A client that draws into a lent allocation (`lend.rs`) needs no shadows: the compositor gets that allocation as the
//! pool that it is. What would be stale is followed all the same, and nothing is copied. When the client is given a file of
//! its own instead, its wl_buffers have their shadows where they were, in the allocation, and all of them are stale.
//!
//! A surface shows a shadow until another commit takes it away, even if the client has destroyed wl_buffer and pool
//! meanwhile; so long it is not used for anything else.

mod arena;
mod format;
mod geometry;
mod pool;
mod region;
mod store;
mod surface;
#[cfg(test)]
mod tests;
mod view;

pub use format::bytes_per_pixel;
pub use region::Rect;

use crate::channel::{Error, VfdId};
use crate::lend::Lent;
use crate::mapped::Mapped;
use geometry::Geometry;
use pool::Pool;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use store::{Key, PoolId, Store};
use surface::Surface;
use wayland_client::protocol::{wl_display, wl_shm};

/// Most pools of one client that are mapped at a time. Clients with 5,000 were seen; a process has 65,530 mappings
/// (Linux, `vm.max_map_count`).
const MAX_POOLS: usize = 8192;

/// The object id of every connection's wl_display.
const DISPLAY: u32 = 1;

/// Where allocations come from, and where they go.
pub trait Memory {
    /// At least `size` bytes, a multiple of the page size. Fails when the host grants no more.
    fn allocate(&mut self, size: u64) -> Result<Mapped, Error>;

    /// Takes an allocation that nobody reads any more: it may be used again at once.
    fn reuse(&mut self, allocation: Mapped);

    /// Takes an allocation that the compositor may still read: it must not be used again.
    fn discard(&mut self, allocation: Mapped);

    /// Takes a lent allocation that one pool or shadow less uses.
    fn give_back(&mut self, lent: Rc<Lent>);
}

/// What a client has sent as the memory of its wl_shm pool.
#[derive(Debug)]
pub enum PoolFile {
    /// A file of its own.
    Own(OwnedFd),
    /// An allocation that it was lent.
    Lent(Rc<Lent>),
}

/// Where the compositor finds a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The allocation to make a wl_shm_pool of.
    pub vfd: VfdId,
    /// Size of that pool in bytes: all of the allocation.
    pub pool_size: i32,
    /// Where the wl_buffer begins in it, in bytes. Size, stride and format are the client's.
    pub offset: i32,
}

/// What a commit cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of pixels that were copied.
    pub copied: u64,
    /// Bytes of pixels that this commit's damage covers.
    pub damaged: u64,
    /// The compositor sees what the client has drawn: nothing had to be copied.
    pub seen: bool,
}

/// A protocol error: the client's connection ends with this wl_display.error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object {object}, error {code}: {reason}")]
pub struct ClientError {
    /// The object where it occurred.
    pub object: u32,
    /// A wl_shm.error, or for object 1 a wl_display.error.
    pub code: u32,
    /// What is wrong, in the words of libwayland where it has some.
    pub reason: String,
}

impl ClientError {
    fn shm(object: u32, code: wl_shm::Error, reason: impl Into<String>) -> Self {
        Self { object, code: code as u32, reason: reason.into() }
    }

    fn no_memory(reason: impl Into<String>) -> Self {
        Self { object: DISPLAY, code: wl_display::Error::NoMemory as u32, reason: reason.into() }
    }

    fn implementation(reason: impl Into<String>) -> Self {
        let code = wl_display::Error::Implementation as u32;
        Self { object: DISPLAY, code, reason: reason.into() }
    }

    fn invalid(object: u32) -> Self {
        let reason = format!("invalid object {object}");
        Self { object: DISPLAY, code: wl_display::Error::InvalidObject as u32, reason }
    }
}

/// The shadows of one client's connection. Object ids are the client's.
///
/// Give it back with [`Shadows::release_all`]: its allocations are only known here.
#[derive(Default)]
pub struct Shadows {
    pools: HashMap<u32, PoolId>,
    buffers: HashMap<u32, Key>,
    surfaces: HashMap<u32, Surface>,
    store: Store,
}

impl Shadows {
    /// wl_shm.create_pool. Returns the allocation that the compositor is to have as that pool, if it can have it.
    pub fn create_pool(
        &mut self,
        shm: u32,
        id: u32,
        file: PoolFile,
        size: i32,
    ) -> Result<Option<VfdId>, ClientError> {
        let invalid = || {
            ClientError::shm(shm, wl_shm::Error::InvalidStride, format!("invalid size ({size})"))
        };
        let size = pool_size(size).ok_or_else(invalid)?;
        if self.pools.contains_key(&id) {
            return Err(ClientError::invalid(id));
        }
        if self.store.pool_count() >= MAX_POOLS {
            return Err(ClientError::no_memory(format!(
                "more than {MAX_POOLS} wl_shm pools at a time"
            )));
        }
        let failed = |error| {
            ClientError::shm(shm, wl_shm::Error::InvalidFd, format!("failed mmap: {error}"))
        };
        let pool = match file {
            PoolFile::Own(fd) => Pool::of_file(fd, size),
            PoolFile::Lent(lent) => Pool::of_lent(&lent, size),
        };
        let pool = pool.map_err(failed)?;
        let seen = pool.seen().map(|lent| lent.vfd());
        self.pools.insert(id, self.store.add_pool(pool));
        Ok(seen)
    }

    /// wl_shm_pool.resize. Whether the compositor has the client's pool, and is to be told.
    pub fn resize_pool(
        &mut self,
        id: u32,
        size: i32,
        memory: &mut dyn Memory,
    ) -> Result<bool, ClientError> {
        let pool = self.pools.get(&id).and_then(|&pool| self.store.pool(pool, memory));
        let pool = pool.ok_or_else(|| ClientError::invalid(id))?;
        let shrinking = || ClientError::shm(id, wl_shm::Error::InvalidFd, "shrinking pool invalid");
        let size =
            pool_size(size).filter(|size| size.get() >= pool.size()).ok_or_else(shrinking)?;
        let failed = |error| {
            ClientError::shm(id, wl_shm::Error::InvalidFd, format!("failed mremap: {error}"))
        };
        pool.grow(size).map_err(failed)?;
        Ok(pool.seen().is_some())
    }

    /// wl_shm_pool.destroy. Its wl_buffers live on.
    pub fn destroy_pool(&mut self, id: u32, memory: &mut dyn Memory) {
        if let Some(pool) = self.pools.remove(&id) {
            self.store.unname_pool(pool, memory);
        }
    }

    /// wl_shm_pool.create_buffer. Returns what the compositor is to be asked for instead; `None` if it has the client's
    /// pool.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn create_buffer(
        &mut self,
        pool: u32,
        id: u32,
        offset: i32,
        width: i32,
        height: i32,
        stride: i32,
        format: u32,
        memory: &mut dyn Memory,
    ) -> Result<Option<Placement>, ClientError> {
        let known = self.pools.get(&pool).and_then(|&id| {
            let pool = self.store.pool(id, memory)?;
            Some((id, pool.size(), pool.seen().is_some()))
        });
        let (pool_id, size, seen) = known.ok_or_else(|| ClientError::invalid(pool))?;
        if self.buffers.contains_key(&id) {
            return Err(ClientError::invalid(id));
        }
        let geometry = Geometry::new([offset, width, height, stride], format, size)
            .map_err(|(code, reason)| ClientError::shm(pool, code, reason))?;
        let key = Key { pool: pool_id, geometry };
        let placement = self.store.use_or_make(key, memory).map_err(|error| {
            ClientError::no_memory(format!("no memory for a wl_buffer: {error}"))
        })?;
        self.buffers.insert(id, key);
        Ok((!seen).then_some(placement))
    }

    /// wl_buffer.destroy. Ids that aren't ours are ignored.
    pub fn destroy_buffer(&mut self, id: u32, memory: &mut dyn Memory) {
        if let Some(key) = self.buffers.remove(&id) {
            self.store.remove_user(key, memory);
        }
    }

    /// wl_buffer.release, an event: the compositor doesn't read it any more.
    pub fn released(&mut self, id: u32) {
        if let Some(&key) = self.buffers.get(&id) {
            self.store.released(key);
        }
    }

    /// Whether a wl_buffer has a shadow. Others exist: of single pixels, of dmabufs.
    pub fn is_buffer(&self, id: u32) -> bool {
        self.buffers.contains_key(&id)
    }

    /// wl_surface.attach, of a wl_buffer of ours, another, or none. `dx` and `dy` are 0 for a wl_surface that has
    /// the offset request.
    pub fn attach(
        &mut self,
        surface: u32,
        buffer: Option<u32>,
        dx: i32,
        dy: i32,
        memory: &mut dyn Memory,
    ) {
        let content = buffer.and_then(|id| self.buffers.get(&id).copied());
        content.into_iter().for_each(|key| self.store.add_user(key));
        let surface = self.surface(surface);
        surface.offset(dx, dy);
        if let Some(Some(before)) = surface.attached.replace(content) {
            self.store.remove_user(before, memory);
        }
    }

    /// wl_surface.offset.
    pub fn offset(&mut self, surface: u32, dx: i32, dy: i32) {
        self.surface(surface).offset(dx, dy);
    }

    /// wl_surface.damage, in surface coordinates.
    pub fn damage(&mut self, surface: u32, rect: Rect) {
        self.surface(surface).damage(rect);
    }

    /// wl_surface.damage_buffer, in pixels.
    pub fn damage_buffer(&mut self, surface: u32, rect: Rect) {
        self.surface(surface).damage_buffer(rect);
    }

    /// wl_surface.set_buffer_scale.
    pub fn set_scale(&mut self, surface: u32, scale: i32) {
        self.surface(surface).view.scale = scale;
    }

    /// wl_surface.set_buffer_transform, a wl_output.transform.
    pub fn set_transform(&mut self, surface: u32, transform: u32) {
        self.surface(surface).view.transform = transform;
    }

    /// wp_viewport.set_source: x, y, width, height as wl_fixed; `None` to unset it (four times -1, or the wp_viewport
    /// is destroyed).
    pub fn set_viewport_source(&mut self, surface: u32, source: Option<[i32; 4]>) {
        self.surface(surface).view.source = source;
    }

    /// wp_viewport.set_destination: width and height; `None` to unset it (twice -1, or the wp_viewport is destroyed).
    pub fn set_viewport_destination(&mut self, surface: u32, destination: Option<(i32, i32)>) {
        self.surface(surface).view.destination = destination;
    }

    /// wl_surface.commit: when it returns, the compositor may read what the surface shows.
    pub fn commit(&mut self, surface: u32, memory: &mut dyn Memory) -> Result<Copied, ClientError> {
        let id = surface;
        let surface = self.surfaces.entry(id).or_default();
        let change = surface.commit();
        let content = surface.content;
        if change.remapped {
            surface.retain_tracked(|key| {
                self.store.forget(key, id);
                false
            });
        } else {
            surface.retain_tracked(|key| self.store.add_stale(key, id, &change.damage));
        }
        let mut result = Ok(Copied::default());
        if let Some(key) = content {
            surface.track(key).into_iter().for_each(|key| self.store.forget(key, id));
            let damaged = key.geometry.pixel_bytes(change.damage.area());
            result = self.copy(key, Some(id), memory).map(|copied| Copied { damaged, ..copied });
        }
        if let Some(before) = change.replaced {
            content.into_iter().for_each(|key| {
                self.store.show(key);
                self.store.remove_user(key, memory);
            });
            before.into_iter().for_each(|key| self.store.hide(key, memory));
        }
        result
    }

    /// wl_surface.destroy.
    pub fn destroy_surface(&mut self, surface: u32, memory: &mut dyn Memory) {
        let Some(mut gone) = self.surfaces.remove(&surface) else { return };
        gone.retain_tracked(|key| {
            self.store.forget(key, surface);
            false
        });
        gone.attached.flatten().into_iter().for_each(|key| self.store.remove_user(key, memory));
        gone.content.into_iter().for_each(|key| self.store.hide(key, memory));
    }

    /// Another request than attach names this wl_buffer: copies all of it, now.
    pub fn refresh(&mut self, buffer: u32, memory: &mut dyn Memory) -> Result<Copied, ClientError> {
        match self.buffers.get(&buffer) {
            Some(&key) => {
                self.store.read(key);
                self.copy(key, None, memory)
            }
            None => Ok(Copied::default()),
        }
    }

    /// The connection is over: gives all memory back.
    pub fn release_all(self, memory: &mut dyn Memory) {
        self.store.release(memory);
    }

    fn surface(&mut self, id: u32) -> &mut Surface {
        self.surfaces.entry(id).or_default()
    }

    fn copy(
        &mut self,
        key: Key,
        surface: Option<u32>,
        memory: &mut dyn Memory,
    ) -> Result<Copied, ClientError> {
        let Self { surfaces, store, buffers, .. } = self;
        let shows = |id| surfaces.get(&id).is_some_and(|surface| surface.content == Some(key));
        let copied = store.copy(key, surface, shows, memory);
        let copied = copied.map_err(|_| {
            let buffer = buffers.iter().find_map(|(&id, &of)| (of == key).then_some(id));
            let reason = "error accessing SHM buffer";
            match buffer {
                Some(buffer) => ClientError::shm(buffer, wl_shm::Error::InvalidFd, reason),
                None => ClientError::implementation(reason),
            }
        })?;
        Ok(Copied { copied: copied.bytes, damaged: 0, seen: copied.seen })
    }
}

/// A pool's size as the client gave it, if it can be one.
fn pool_size(size: i32) -> Option<NonZeroUsize> {
    usize::try_from(size).ok().and_then(NonZeroUsize::new)
}
