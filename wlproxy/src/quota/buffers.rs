//! A client's buffers and pools, also those that it has destroyed while a surface holds them.

use super::ids::ById;
use super::{Quota, add};
use std::collections::VecDeque;
use wlproxy_protocol::wayland::Call;
use wlproxy_protocol::wayland::objects::Violation;

/// Most uses of one buffer of which a release may still come. Clients wait for one before they use a buffer again; of more
/// than so many, none tells anything any more.
const MAX_USES: usize = 64;

/// One buffer, whatever becomes of its id.
pub(super) type Buffer = u64;

/// One wl_surface.attach: of which surface, and its number.
pub(super) type Attach = (u32, u64);

/// Somebody's buffer, as far as it counts.
#[derive(Debug, Default)]
struct Held {
    /// The client has it.
    alive: bool,
    /// How many states of surfaces have it.
    states: u32,
    /// Where it was attached, oldest first, and no release has come.
    uses: VecDeque<Attach>,
    /// Some of them were too many to know.
    silent: bool,
}

/// The buffers and pools of a client.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    ids: ById<u32, Buffer>,
    held: ById<Buffer, Held>,
    last: Buffer,
    /// wl_shm_pools, and buffers that the client has or a surface holds.
    count: u32,
}

impl Buffers {
    /// A wl_shm_pool or, if it has an `id` as one, a wl_buffer.
    pub(super) fn create(
        &mut self,
        call: &Call<'_>,
        id: Option<u32>,
        quota: &Quota,
    ) -> Result<(), Violation> {
        add(call, &mut self.count, quota.buffers, "buffers and pools", "buffers")?;
        if let Some(id) = id {
            self.last += 1;
            self.ids.insert(id, self.last);
            self.held.insert(self.last, Held { alive: true, ..Held::default() });
        }
        Ok(())
    }

    /// How many count.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// wl_shm_pool.destroy.
    pub(super) fn destroy_pool(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// wl_buffer.destroy.
    pub(super) fn destroy(&mut self, id: u32) {
        let Some(buffer) = self.ids.remove(&id) else { return };
        if let Some(held) = self.held.get_mut(&buffer) {
            held.alive = false;
        }
        self.look_at(buffer);
    }

    /// It is attached, and held until [`Buffers::let_go`]. `None` if there is none of this id, such as 0.
    pub(super) fn attach(&mut self, id: u32, by: Attach) -> Option<Buffer> {
        let buffer = *self.ids.get(&id)?;
        let held = self.held.get_mut(&buffer)?;
        held.states += 1;
        if held.uses.len() == MAX_USES {
            held.silent = true;
            held.uses.clear();
        }
        if !held.silent {
            held.uses.push_back(by);
        }
        Some(buffer)
    }

    pub(super) fn let_go(&mut self, buffer: Option<Buffer>) {
        let Some(buffer) = buffer else { return };
        if let Some(held) = self.held.get_mut(&buffer) {
            held.states = held.states.saturating_sub(1);
        }
        self.look_at(buffer);
    }

    /// wl_buffer.release: the use that has ended, if that is one of those which wait. Each ends with one release at most, and
    /// those which don't wait end first, as far as anybody can tell.
    pub(super) fn release(&mut self, id: u32, waits: impl Fn(Attach) -> bool) -> Option<Attach> {
        let uses = &mut self.held.get_mut(self.ids.get(&id)?)?.uses;
        match uses.iter().position(|&by| !waits(by)) {
            Some(other) => {
                uses.remove(other);
                None
            }
            None => uses.pop_front(),
        }
    }

    /// A buffer that nobody has any more counts no more.
    fn look_at(&mut self, buffer: Buffer) {
        if self.held.get(&buffer).is_some_and(|held| !held.alive && held.states == 0) {
            self.held.remove(&buffer);
            self.count = self.count.saturating_sub(1);
        }
    }
}
