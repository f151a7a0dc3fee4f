//! What a client's requests become.

use super::{Client, Memory};
use crate::connection::{End, Link};
use crate::shadow::{ClientError, Copied, PoolFile, Rect};
use crate::world::{Peer, World};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::wayland::objects::{IMPLEMENTATION, INVALID_METHOD};
use wlproxy_protocol::wayland::{Arg, Batch, Call, Message, Violation};

/// Opcodes of the requests that we make ourselves.
mod opcode {
    pub(super) const WL_SHM_CREATE_POOL: u16 = 0;
    pub(super) const WL_SHM_RELEASE: u16 = 1;
    pub(super) const WL_SHM_POOL_CREATE_BUFFER: u16 = 0;
    pub(super) const WL_SHM_POOL_DESTROY: u16 = 1;
}

/// `wp_viewport.set_destination` with this in both places unsets it; `set_source` with the same as wl_fixed.
const UNSET: i32 = -1;
const UNSET_FIXED: i32 = -256;

/// `wp_color_manager_v1.error.unsupported_feature`.
const UNSUPPORTED_FEATURE: u32 = 0;

impl Client {
    pub(super) fn request(
        &mut self,
        message: Message<'_>,
        fds: &mut VecDeque<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        let call = self.objects.request(message)?;
        let wanted = call.fds();
        if fds.len() < wanted {
            return Err(call.violation(INVALID_METHOD, "its file descriptor is missing").into());
        }
        let fds: Vec<OwnedFd> = fds.drain(..wanted).collect();
        world.stats.requests += 1;
        match call.interface.name {
            "wl_shm" | "wl_shm_pool" | "wl_buffer" => {
                return self.memory_request(&call, fds, link, world);
            }
            "wl_surface" => self.surface_request(&call, world)?,
            "wp_viewporter" | "wp_viewport" => self.viewport_request(&call),
            "wp_color_manager_v1" if call.desc.name == "create_icc_creator" => {
                let violation = call.violation(UNSUPPORTED_FEATURE, "ICC profiles don't cross yet");
                return Err(Violation { object: call.object(), ..violation }.into());
            }
            _ => self.refresh_buffers(&call, world)?,
        }
        forward(&call, fds, self.peer(), link, world)
    }

    /// Requests of wl_shm, its pools and the buffers.
    fn memory_request(
        &mut self,
        call: &Call<'_>,
        fds: Vec<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        match call.name() {
            ("wl_shm", "create_pool") => self.create_pool(call, fds, link, world),
            ("wl_shm", "release") if self.pools.values().any(|&shm| shm == call.object()) => {
                self.released.insert(call.object());
                Ok(())
            }
            ("wl_shm_pool", "create_buffer") => self.create_buffer(call, link, world),
            ("wl_shm_pool", "resize") => {
                let Some(Arg::Int(size)) = call.args().next() else {
                    return Err(mismatch(call).into());
                };
                let resized = self.shadows.resize_pool(call.object(), size, &mut Memory::of(world));
                match resized.map_err(|error| self.at(call, error))? {
                    true => forward(call, fds, self.peer(), link, world),
                    false => Ok(()),
                }
            }
            ("wl_shm_pool", "destroy") => {
                self.shadows.destroy_pool(call.object(), &mut Memory::of(world));
                forward(call, fds, self.peer(), link, world)?;
                if let Some(shm) = self.pools.remove(&call.object()) {
                    self.release_unused(shm, link);
                }
                Ok(())
            }
            ("wl_buffer", "destroy") => {
                self.shadows.destroy_buffer(call.object(), &mut Memory::of(world));
                forward(call, fds, self.peer(), link, world)
            }
            _ => forward(call, fds, self.peer(), link, world),
        }
    }

    /// Keeps the client's pool here; the compositor gets one of a page, so that the id is taken. If the pool is a lent
    /// allocation, the compositor gets that.
    fn create_pool(
        &mut self,
        call: &Call<'_>,
        fds: Vec<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        let mut args = call.args();
        let (Some(Arg::NewId(pool)), Some(Arg::Fd), Some(Arg::Int(size)), Some(fd)) =
            (args.next(), args.next(), args.next(), fds.into_iter().next())
        else {
            return Err(mismatch(call).into());
        };
        let file = match world.lender.arrived(&fd) {
            Some(lent) => PoolFile::Lent(lent),
            None => PoolFile::Own(fd),
        };
        let seen = self
            .shadows
            .create_pool(call.object(), pool, file, size)
            .map_err(|error| self.at(call, error))?;
        // Nothing of an allocation stays with a pool whose client draws into a file of its own by now.
        world.sweep_lent();
        self.pools.insert(pool, call.object());
        if let Some(allocation) = seen {
            link.out.queue(call.message.bytes, [allocation]);
            return Ok(());
        }
        let placeholder = world.placeholder()?;
        let mut out = Batch::<()>::default();
        let args = [Arg::NewId(pool), Arg::Fd, Arg::Int(PAGE_SIZE as i32)];
        out.push(call.object(), opcode::WL_SHM_CREATE_POOL, &args);
        link.out.queue(&out.bytes, [placeholder]);
        Ok(())
    }

    /// Makes the client's pool anew over the memory of the buffer's shadow, and the buffer in it; or just the buffer, if
    /// the compositor has the client's pool.
    fn create_buffer(
        &mut self,
        call: &Call<'_>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        let pool = call.object();
        let mut args = call.args();
        let (
            Some(Arg::NewId(buffer)),
            Some(Arg::Int(offset)),
            Some(Arg::Int(width)),
            Some(Arg::Int(height)),
            Some(Arg::Int(stride)),
            Some(Arg::Uint(format)),
        ) = (args.next(), args.next(), args.next(), args.next(), args.next(), args.next())
        else {
            return Err(mismatch(call).into());
        };
        let Some(&shm) = self.pools.get(&pool) else { return Err(mismatch(call).into()) };
        let placement = self
            .shadows
            .create_buffer(
                pool,
                buffer,
                offset,
                width,
                height,
                stride,
                format,
                &mut Memory::of(world),
            )
            .map_err(|error| self.at(call, error))?;
        let Some(placement) = placement else {
            return forward(call, Vec::new(), self.peer(), link, world);
        };
        let mut out = Batch::<()>::default();
        out.push(pool, opcode::WL_SHM_POOL_DESTROY, &[]);
        let args = [Arg::NewId(pool), Arg::Fd, Arg::Int(placement.pool_size)];
        out.push(shm, opcode::WL_SHM_CREATE_POOL, &args);
        let args = [
            Arg::NewId(buffer),
            Arg::Int(placement.offset),
            Arg::Int(width),
            Arg::Int(height),
            Arg::Int(stride),
            Arg::Uint(format),
        ];
        out.push(pool, opcode::WL_SHM_POOL_CREATE_BUFFER, &args);
        link.out.queue(&out.bytes, [placement.vfd]);
        *self.swallow.entry(pool).or_default() += 1;
        Ok(())
    }

    /// Releases a wl_shm that the client has released, as soon as none of its pools is left.
    fn release_unused(&mut self, shm: u32, link: &mut Link) {
        if self.released.contains(&shm) && self.pools.values().all(|&of| of != shm) {
            self.released.remove(&shm);
            let mut out = Batch::<()>::default();
            out.push(shm, opcode::WL_SHM_RELEASE, &[]);
            link.out.queue(&out.bytes, []);
        }
    }

    fn surface_request(&mut self, call: &Call<'_>, world: &mut World) -> Result<(), End> {
        let surface = call.object();
        let mut args = call.args();
        match (call.desc.name, args.next(), args.next(), args.next(), args.next()) {
            ("attach", Some(Arg::Object(buffer)), Some(Arg::Int(dx)), Some(Arg::Int(dy)), _) => {
                let buffer = (buffer != 0).then_some(buffer);
                self.shadows.attach(surface, buffer, dx, dy, &mut Memory::of(world));
            }
            ("offset", Some(Arg::Int(dx)), Some(Arg::Int(dy)), ..) => {
                self.shadows.offset(surface, dx, dy)
            }
            (
                "damage",
                Some(Arg::Int(x)),
                Some(Arg::Int(y)),
                Some(Arg::Int(width)),
                Some(Arg::Int(height)),
            ) => {
                self.shadows.damage(surface, Rect::new(x, y, width, height));
            }
            (
                "damage_buffer",
                Some(Arg::Int(x)),
                Some(Arg::Int(y)),
                Some(Arg::Int(width)),
                Some(Arg::Int(height)),
            ) => self.shadows.damage_buffer(surface, Rect::new(x, y, width, height)),
            ("set_buffer_scale", Some(Arg::Int(scale)), ..) => {
                self.shadows.set_scale(surface, scale)
            }
            ("set_buffer_transform", Some(Arg::Int(transform)), ..) => {
                self.shadows.set_transform(surface, transform.cast_unsigned());
            }
            ("commit", ..) => {
                let copied = self.shadows.commit(surface, &mut Memory::of(world));
                count(copied.map_err(|error| self.at(call, error))?, world);
                world.stats.frames += 1;
            }
            ("destroy", ..) => {
                self.shadows.destroy_surface(surface, &mut Memory::of(world));
                self.viewports.retain(|_, &mut of| of != surface);
            }
            _ => {}
        }
        Ok(())
    }

    fn viewport_request(&mut self, call: &Call<'_>) {
        let mut args = call.args();
        let args = (args.next(), args.next(), args.next(), args.next());
        if let ("get_viewport", (Some(Arg::NewId(viewport)), Some(Arg::Object(surface)), ..)) =
            (call.desc.name, args)
        {
            self.viewports.insert(viewport, surface);
            return;
        }
        let Some(&surface) = self.viewports.get(&call.object()) else { return };
        match (call.desc.name, args) {
            (
                "set_source",
                (
                    Some(Arg::Fixed(x)),
                    Some(Arg::Fixed(y)),
                    Some(Arg::Fixed(width)),
                    Some(Arg::Fixed(height)),
                ),
            ) => {
                let source = [x, y, width, height];
                let set = source != [UNSET_FIXED; 4];
                self.shadows.set_viewport_source(surface, set.then_some(source));
            }
            ("set_destination", (Some(Arg::Int(width)), Some(Arg::Int(height)), ..)) => {
                let set = (width, height) != (UNSET, UNSET);
                self.shadows.set_viewport_destination(surface, set.then_some((width, height)));
            }
            ("destroy", _) => {
                self.shadows.set_viewport_source(surface, None);
                self.shadows.set_viewport_destination(surface, None);
                self.viewports.remove(&call.object());
            }
            _ => {}
        }
    }

    /// Any other request that names a buffer (an icon, a cursor of some new protocol) may have it read at once.
    fn refresh_buffers(&mut self, call: &Call<'_>, world: &mut World) -> Result<(), End> {
        if call.desc.arg_interfaces.iter().all(|interface| interface.name != "wl_buffer") {
            return Ok(());
        }
        for arg in call.args() {
            if let Arg::Object(buffer) = arg
                && self.shadows.is_buffer(buffer)
            {
                let copied = self.shadows.refresh(buffer, &mut Memory::of(world));
                count(copied.map_err(|error| self.at(call, error))?, world);
            }
        }
        Ok(())
    }

    /// A client's mistake with its memory: an error of the object where it occurred, as in libwayland, if the client has
    /// that still.
    fn at(&self, call: &Call<'_>, error: ClientError) -> Violation {
        let known = self.objects.interface(error.object).is_some();
        let object = if known { error.object } else { call.object() };
        Violation { object, ..call.violation(error.code, error.reason) }
    }
}

fn count(copied: Copied, world: &mut World) {
    world.stats.copied_bytes += copied.copied;
    world.stats.damaged_bytes += copied.damaged;
    world.stats.seen_frames += u64::from(copied.seen && copied.damaged > 0);
}

/// Passes a request on as it is, with its fds as vfds.
fn forward(
    call: &Call<'_>,
    fds: Vec<OwnedFd>,
    peer: Peer<'_>,
    link: &mut Link,
    world: &mut World,
) -> Result<(), End> {
    // In every selection's protocol this is how an offer is asked for.
    let is_target = call.name().1 == "receive";
    for fd in fds {
        let vfd = match is_target {
            true => world.carry_target(fd, peer)?,
            false => world.carry_out(fd, peer)?,
        };
        link.out.queue(&[], [vfd]);
    }
    link.out.queue(call.message.bytes, []);
    Ok(())
}

/// The tables and this file disagree about a request.
fn mismatch(call: &Call<'_>) -> Violation {
    call.violation(
        IMPLEMENTATION,
        "its arguments are not those that this version of the agent knows",
    )
}
