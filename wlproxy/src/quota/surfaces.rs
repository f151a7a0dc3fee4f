//! What surfaces hold of a client's: buffers, also those that it has destroyed, and damage.
//!
//! A compositor keeps the buffer of what a surface shows. A commit may have to wait: that of a synchronised subsurface for its
//! parent's, and one with fifo or commit-timing for its turn. So its buffer is held as long, and its damage adds up. That a
//! turn has come, only the compositor knows, and tells by the release of the buffer.

use super::{Quota, add, within};
use std::collections::{HashMap, VecDeque};
use wlproxy_protocol::wayland::Call;
use wlproxy_protocol::wayland::objects::Violation;

/// Most uses of one buffer of which a release may still come. Clients wait for one before they use a buffer again; of more
/// than so many the later ones tell nothing.
const MAX_USES: usize = 64;

/// One buffer, whatever becomes of its id.
type Buffer = u64;

/// Somebody's buffer or pool, as far as it counts.
#[derive(Debug, Default)]
struct Held {
    /// The client has it.
    alive: bool,
    /// How many states of surfaces have it.
    states: u32,
    /// Commits that are to show it, by surface and number, of which no release has come.
    uses: VecDeque<(u32, u64)>,
}

/// What a commit has changed.
#[derive(Debug)]
struct State {
    /// Which commit of the client it was.
    commit: u64,
    /// Another buffer, or none.
    buffer: Option<Option<Buffer>>,
    damage: u32,
}

#[derive(Debug, Default)]
struct Surface {
    /// Since the last commit.
    attached: Option<Option<Buffer>>,
    damage: u32,
    /// What it shows.
    current: Option<Buffer>,
    /// What waits to be shown, oldest first.
    waiting: VecDeque<State>,
    /// It is a subsurface of this one.
    parent: Option<u32>,
    synchronised: bool,
    children: Vec<u32>,
    /// Its commits wait for their turns.
    queues: bool,
}

impl Surface {
    fn waiting_damage(&self) -> u32 {
        self.waiting.iter().fold(0, |sum, state| sum.saturating_add(state.damage))
    }
}

/// How a surface's commits come to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// At once.
    Now,
    /// With a commit of another surface.
    WithParent,
    /// When the compositor says so.
    Later,
}

/// The surfaces of a client, and its buffers and pools.
#[derive(Debug, Default)]
pub(super) struct Surfaces {
    surfaces: HashMap<u32, Surface>,
    /// wl_subsurfaces, and which surface is one.
    subsurfaces: HashMap<u32, u32>,
    buffers: HashMap<u32, Buffer>,
    held: HashMap<Buffer, Held>,
    last: Buffer,
    commits: u64,
    /// wl_shm_pools, and buffers that the client has or a surface holds.
    count: u32,
}

impl Surfaces {
    /// wl_compositor.create_surface.
    pub(super) fn create(&mut self, id: u32) {
        self.surfaces.insert(id, Surface::default());
    }

    /// A wl_shm_pool or, if it has an `id` as one, a wl_buffer.
    pub(super) fn create_buffer(
        &mut self,
        call: &Call<'_>,
        id: Option<u32>,
        quota: &Quota,
    ) -> Result<(), Violation> {
        add(call, &mut self.count, quota.buffers, "buffers and pools", "buffers")?;
        if let Some(id) = id {
            self.last += 1;
            self.buffers.insert(id, self.last);
            self.held.insert(self.last, Held { alive: true, ..Held::default() });
        }
        Ok(())
    }

    /// wl_shm_pool.destroy.
    pub(super) fn destroy_pool(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// wl_buffer.destroy.
    pub(super) fn destroy_buffer(&mut self, id: u32) {
        let Some(buffer) = self.buffers.remove(&id) else { return };
        if let Some(held) = self.held.get_mut(&buffer) {
            held.alive = false;
        }
        self.look_at(buffer);
    }

    /// wl_surface.attach. `buffer` is 0 for none.
    pub(super) fn attach(&mut self, surface: u32, buffer: u32) {
        let buffer = self.buffers.get(&buffer).copied();
        let Some(of) = self.surfaces.get_mut(&surface) else { return };
        let before = of.attached.replace(buffer);
        self.hold(buffer);
        self.let_go(before.flatten());
    }

    /// wl_surface.damage or damage_buffer.
    pub(super) fn damage(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let Some(surface) = self.surfaces.get_mut(&call.object()) else { return Ok(()) };
        let damage = surface.damage.saturating_add(1);
        let sum = surface.waiting_damage().saturating_add(damage);
        within(call, sum, quota.damage, "rectangles of damage", "damage")?;
        surface.damage = damage;
        Ok(())
    }

    /// wl_surface.commit.
    pub(super) fn commit(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let id = call.object();
        let turn = self.turn(id);
        let Some(surface) = self.surfaces.get_mut(&id) else { return Ok(()) };
        self.commits += 1;
        let state = State {
            commit: self.commits,
            buffer: surface.attached.take(),
            damage: std::mem::take(&mut surface.damage),
        };
        if let Some(Some(buffer)) = state.buffer
            && let Some(held) = self.held.get_mut(&buffer)
            && held.uses.len() < MAX_USES
        {
            held.uses.push_back((id, state.commit));
        }
        match turn {
            Turn::Now => {
                surface.waiting.push_back(state);
                self.show(id, u64::MAX);
                self.show_children(id);
            }
            // Together they are one state of the surface.
            Turn::WithParent => {
                let before = match surface.waiting.back_mut() {
                    Some(last) => {
                        last.commit = state.commit;
                        last.damage = last.damage.saturating_add(state.damage);
                        match state.buffer {
                            Some(buffer) => last.buffer.replace(buffer).flatten(),
                            None => None,
                        }
                    }
                    None => {
                        surface.waiting.push_back(state);
                        None
                    }
                };
                self.let_go(before);
            }
            // One that changes nothing of this needs no place.
            Turn::Later if state.buffer.is_none() && state.damage == 0 => {}
            Turn::Later => {
                surface.waiting.push_back(state);
                let waiting = surface.waiting.len().try_into().unwrap_or(u32::MAX);
                within(call, waiting, quota.buffers, "commits that wait", "buffers")?;
            }
        }
        Ok(())
    }

    /// wl_surface.destroy.
    pub(super) fn destroy(&mut self, id: u32) {
        let Some(surface) = self.surfaces.remove(&id) else { return };
        self.let_go(surface.attached.flatten());
        self.let_go(surface.current);
        surface.waiting.into_iter().for_each(|state| self.let_go(state.buffer.flatten()));
        for child in surface.children {
            if let Some(child) = self.surfaces.get_mut(&child) {
                child.parent = None;
            }
        }
        if let Some(parent) = surface.parent.and_then(|parent| self.surfaces.get_mut(&parent)) {
            parent.children.retain(|&child| child != id);
        }
    }

    /// wl_subcompositor.get_subsurface.
    pub(super) fn make_subsurface(&mut self, id: u32, surface: u32, parent: u32) {
        self.orphan(surface);
        self.subsurfaces.insert(id, surface);
        let Some(child) = self.surfaces.get_mut(&surface) else { return };
        (child.parent, child.synchronised) = (Some(parent), true);
        if let Some(parent) = self.surfaces.get_mut(&parent) {
            parent.children.push(surface);
        }
    }

    /// wl_subsurface.set_sync or set_desync. What waits goes on to wait for the next commit.
    pub(super) fn synchronise(&mut self, id: u32, synchronised: bool) {
        let surface = self.subsurfaces.get(&id).and_then(|surface| self.surfaces.get_mut(surface));
        if let Some(surface) = surface {
            surface.synchronised = synchronised;
        }
    }

    /// wl_subsurface.destroy.
    pub(super) fn destroy_subsurface(&mut self, id: u32) {
        if let Some(surface) = self.subsurfaces.remove(&id) {
            self.orphan(surface);
        }
    }

    /// wp_fifo_manager_v1.get_fifo, or wp_commit_timing_manager_v1.get_timer: from now on its commits may wait.
    pub(super) fn queue(&mut self, surface: u32) {
        if let Some(surface) = self.surfaces.get_mut(&surface) {
            surface.queues = true;
        }
    }

    /// wl_buffer.release: the oldest commit that showed it has had its turn, and so have those before.
    pub(super) fn release(&mut self, id: u32) {
        let held = self.buffers.get(&id).and_then(|buffer| self.held.get_mut(buffer));
        if let Some((surface, commit)) = held.and_then(|held| held.uses.pop_front()) {
            self.show(surface, commit);
            self.show_children(surface);
        }
    }

    /// How the commits of a surface come to be shown: of it and what it is a subsurface of, the slowest.
    fn turn(&self, id: u32) -> Turn {
        let mut turn = Turn::Now;
        let mut next = Some(id);
        // There are no circles: Nesting has seen to that.
        while let Some(surface) = next.and_then(|id| self.surfaces.get(&id)) {
            if surface.synchronised && surface.parent.is_some() {
                turn = Turn::WithParent;
            }
            if surface.queues && (turn == Turn::WithParent || next == Some(id)) {
                return Turn::Later;
            }
            next = surface.parent;
        }
        turn
    }

    /// Commits of a surface up to this one are shown.
    fn show(&mut self, id: u32, commit: u64) {
        while let Some(surface) = self.surfaces.get_mut(&id)
            && surface.waiting.front().is_some_and(|state| state.commit <= commit)
            && let Some(state) = surface.waiting.pop_front()
        {
            if let Some(buffer) = state.buffer {
                let before = std::mem::replace(&mut surface.current, buffer);
                self.let_go(before);
            }
        }
    }

    /// What waits for a commit of this surface is shown.
    fn show_children(&mut self, id: u32) {
        let mut next = vec![id];
        while let Some(surface) = next.pop().and_then(|id| self.surfaces.get(&id)) {
            for child in surface.children.clone() {
                // Of those that queue, the release of their own buffers tells.
                if self.turn(child) != Turn::Later {
                    self.show(child, u64::MAX);
                    next.push(child);
                }
            }
        }
    }

    /// A surface is no subsurface any more.
    fn orphan(&mut self, id: u32) {
        let parent = self.surfaces.get_mut(&id).and_then(|surface| surface.parent.take());
        if let Some(parent) = parent.and_then(|parent| self.surfaces.get_mut(&parent)) {
            parent.children.retain(|&child| child != id);
        }
    }

    fn hold(&mut self, buffer: Option<Buffer>) {
        if let Some(held) = buffer.and_then(|buffer| self.held.get_mut(&buffer)) {
            held.states += 1;
        }
    }

    fn let_go(&mut self, buffer: Option<Buffer>) {
        let Some(buffer) = buffer else { return };
        if let Some(held) = self.held.get_mut(&buffer) {
            held.states = held.states.saturating_sub(1);
        }
        self.look_at(buffer);
    }

    /// A buffer that nobody has any more counts no more.
    fn look_at(&mut self, buffer: Buffer) {
        if self.held.get(&buffer).is_some_and(|held| !held.alive && held.states == 0) {
            self.held.remove(&buffer);
            self.count = self.count.saturating_sub(1);
        }
    }
}
