//! The role of a client's connection: shadows for its buffers, files for what the compositor sends.

use crate::channel::{Arrived, Channel, Error};
use crate::connection::{End, Link, Role};
use crate::lend::{Lender, Lent};
use crate::mapped::Mapped;
use crate::recycler::Recycler;
use crate::shadow::{self, Shadows};
use crate::stats::Stats;
use crate::turns::Account;
use crate::world::{Peer, World};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::objects::{Event, IMPLEMENTATION, NO_MEMORY};
use wlproxy_protocol::wayland::wire;
use wlproxy_protocol::wayland::{
    Arg, Call, Inbox, Message, Objects, Violation, WL_DISPLAY, WL_DISPLAY_DELETE_ID,
};

mod requests;

/// Once so many bytes of pixels were copied, other connections get their turn: two milliseconds or so. A wl_buffer may
/// come on top, which is copied whole.
const COPY_BURST: u64 = 16 * 1024 * 1024;

/// The VM on the other side of all connections: the host alone knows its name.
const COMPOSITOR_VM: &str = "";

/// `wp_color_manager_v1.feature.icc_v2_v4`.
const ICC_V2_V4: u32 = 0;

/// The translation of one client's stream.
///
/// Object ids pass through unchanged. A client's wl_shm_pool becomes, at first, a pool over one page that nothing is
/// ever drawn in. For each wl_buffer it is destroyed and made again, under the same id, over the shadow's memory; the
/// compositor's `delete_id` for that is swallowed. A pool that is a lent allocation goes on as it is.
#[derive(Default)]
pub(crate) struct Client {
    /// As the log has it.
    name: Account,
    objects: Objects,
    requests: Inbox<OwnedFd>,
    /// Requests wait though they are whole, since others are to have their turn.
    has_more: bool,
    events: Inbox<Arrived>,
    shadows: Shadows,
    /// Pools and the wl_shm that they were made with.
    pools: HashMap<u32, u32>,
    /// Each wl_shm that the client has released, and the compositor not yet.
    released: HashSet<u32>,
    /// Viewports and their surfaces.
    viewports: HashMap<u32, u32>,
    /// How many `delete_id` of a pool's id are ours.
    swallow: HashMap<u32, u32>,
}

impl Role for Client {
    fn account(&self) -> &Account {
        &self.name
    }

    fn take_local(
        &mut self,
        bytes: &[u8],
        fds: &mut VecDeque<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        if !self.requests.push(bytes, fds.drain(..)) {
            return Err(Violation::stuffed().into());
        }
        // The inbox is taken out while its messages are borrowed from it.
        let mut inbox = std::mem::take(&mut self.requests);
        let before = world.stats.copied_bytes;
        let result = loop {
            self.has_more = world.stats.copied_bytes - before >= COPY_BURST;
            if self.has_more {
                break Ok(());
            }
            match inbox.next(MAX_REQUEST) {
                Ok(Some((message, fds))) => {
                    if let Err(end) = self.request(message, fds, link, world) {
                        break Err(end);
                    }
                }
                Ok(None) => break Ok(()),
                Err((object, error)) => break Err(Violation::unreadable(object, error).into()),
            }
        };
        self.requests = inbox;
        result
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn take_remote(
        &mut self,
        bytes: &[u8],
        vfds: Vec<Arrived>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        if !self.events.push(bytes, vfds) {
            return Err(Violation::stuffed().into());
        }
        let mut inbox = std::mem::take(&mut self.events);
        let result = loop {
            match inbox.next(MAX_EVENT) {
                Ok(Some((message, vfds))) => {
                    if let Err(end) = self.event(message, vfds, link, world) {
                        break Err(end);
                    }
                }
                Ok(None) => break Ok(()),
                Err((object, error)) => break Err(Violation::unreadable(object, error).into()),
            }
        };
        self.events = inbox;
        result
    }

    fn farewell(&self, end: &End) -> Vec<u8> {
        match end {
            End::Violation(violation) => violation.to_event(),
            End::Channel(Error::OutOfMemory) => {
                Violation::of_display(NO_MEMORY, end.to_string()).to_event()
            }
            _ => Violation::of_display(IMPLEMENTATION, end.to_string()).to_event(),
        }
    }

    fn close(mut self: Box<Self>, world: &mut World) {
        self.events.drain_fds().for_each(|vfd| world.discard(&vfd));
        self.requests.drain_fds().for_each(|fd| world.arrived_unused(fd));
        self.shadows.release_all(&mut Memory::of(world));
        world.sweep_lent();
    }
}

impl Client {
    /// A client that has said nothing yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The other side, on this client's account.
    fn peer(&self) -> Peer<'_> {
        Peer { vm: COMPOSITOR_VM, account: &self.name }
    }

    fn event(
        &mut self,
        message: Message<'_>,
        vfds: &mut VecDeque<Arrived>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        if self.swallows(message) {
            return Ok(());
        }
        let call = match self.objects.event(message)? {
            Event::Pass(call) => call,
            Event::Hide(_) => return Ok(()),
            Event::Replace(_, bytes) => {
                link.local.queue(&bytes, []);
                world.stats.events += 1;
                return Ok(());
            }
        };
        let wanted = call.fds();
        if vfds.len() < wanted {
            return Err(call
                .violation(IMPLEMENTATION, "the compositor's file descriptor is missing")
                .into());
        }
        let arrived: Vec<Arrived> = vfds.drain(..wanted).collect();
        match call.name() {
            ("wl_shm", "format") if !is_drawable(&call) => return Ok(()),
            ("wp_color_manager_v1", "supported_feature") if is_icc(&call) => return Ok(()),
            ("wl_buffer", "release") => self.shadows.released(call.object()),
            _ => {}
        }
        let mut arrived = arrived.into_iter();
        let fds: Result<Vec<OwnedFd>, End> =
            arrived.by_ref().map(|vfd| carry_in(&call, vfd, self.peer(), world)).collect();
        // If one couldn't be carried, nobody will ask for those after it.
        arrived.for_each(|vfd| world.discard(&vfd));
        link.local.queue(message.bytes, fds?);
        world.stats.events += 1;
        Ok(())
    }

    /// Whether this is the `delete_id` of a pool that we destroyed, not the client.
    fn swallows(&mut self, message: Message<'_>) -> bool {
        if (message.object, message.opcode) != (WL_DISPLAY, WL_DISPLAY_DELETE_ID) {
            return false;
        }
        let Some(id) = message.bytes.get(wire::HEADER..wire::HEADER + 4) else { return false };
        let id = u32::from_ne_bytes(id.try_into().expect("four bytes"));
        let Some(left) = self.swallow.get_mut(&id) else { return false };
        *left -= 1;
        if *left == 0 {
            self.swallow.remove(&id);
        }
        true
    }
}

/// What arrived, as the client can use it: memory becomes a file of its own that it may map in any way.
fn carry_in(
    call: &Call<'_>,
    arrived: Arrived,
    peer: Peer<'_>,
    world: &mut World,
) -> Result<OwnedFd, End> {
    match arrived {
        Arrived::Pipe(vfd, end) => Ok(world.carry_pipe_in(vfd, end, peer)?),
        Arrived::Allocation(allocation) => {
            let size = content_size(call).unwrap_or(allocation.size);
            let file = world.constant_file(&allocation, size);
            world.channel.close(allocation.vfd);
            Ok(file?)
        }
    }
}

/// The size of the content that travels with an event: wherever a file travels, its size is the number after it
/// (`wl_keyboard.keymap`, `zwp_linux_dmabuf_feedback_v1.format_table`, and the like).
fn content_size(call: &Call<'_>) -> Option<u64> {
    let mut after = call.args().skip_while(|arg| !matches!(arg, Arg::Fd)).skip(1);
    match after.next() {
        Some(Arg::Uint(size)) => Some(u64::from(size)),
        _ => None,
    }
}

/// Whether a format that the compositor offers is one that shadows can copy.
fn is_drawable(call: &Call<'_>) -> bool {
    matches!(call.args().next(), Some(Arg::Uint(format)) if shadow::bytes_per_pixel(format).is_some())
}

/// Whether the compositor offers to take an ICC profile, which is a file that it reads: memory of another VM can only be
/// mapped.
fn is_icc(call: &Call<'_>) -> bool {
    matches!(call.args().next(), Some(Arg::Uint(ICC_V2_V4)))
}

/// Memory for shadows: the channel's, with what was kept for reuse.
struct Memory<'a> {
    recycler: &'a mut Recycler,
    channel: &'a mut dyn Channel,
    stats: &'a mut Stats,
    lender: &'a mut Lender,
}

impl<'a> Memory<'a> {
    fn of(world: &'a mut World) -> Self {
        let World { memory, channel, stats, lender, .. } = world;
        Self { recycler: memory, channel: &mut **channel, stats, lender }
    }
}

impl shadow::Memory for Memory<'_> {
    fn allocate(&mut self, size: u64) -> Result<Mapped, Error> {
        self.recycler.take(size, self.channel, self.stats)
    }

    fn reuse(&mut self, allocation: Mapped) {
        self.recycler.give(allocation, self.stats);
    }

    fn discard(&mut self, allocation: Mapped) {
        self.recycler.discard(allocation, self.stats);
    }

    fn give_back(&mut self, lent: Rc<Lent>) {
        drop(lent);
        self.lender.sweep(self.recycler, self.stats);
    }
}

#[cfg(test)]
mod tests;
