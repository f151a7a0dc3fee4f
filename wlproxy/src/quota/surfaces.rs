//! What surfaces hold of a client's: buffers, damage, and commits that wait with what is in them.
//!
//! A commit may have to wait: that of a synchronised subsurface for its parent's, and one with fifo or commit-timing for its
//! turn. Some compositors (libwayland's, weston, KWin, mutter) put those of one surface together; wlroots and smithay keep
//! each, with its buffer, its damage and regions. So each counts here, until it is sure that it is shown with all of them:
//!
//! - A commit of the parent shows what its synchronised subsurfaces had committed before. wlroots goes no further down if these
//!   had nothing, and leaves out those that are synchronised only as their parent is.
//! - A commit that needn't wait shows what waited before it.
//! - The release of a buffer, or a frame callback, tells that the commit was shown that it came with, and all before. Of a
//!   buffer that the client has destroyed it hears no release: then the next one of another tells, or a frame callback.
//!
//! What waits when its surface is destroyed stays as long as another object that was made of that: smithay's keep all of it.

use super::buffers::{Buffer, Buffers};
use super::ids::ById;
use super::nesting::{Nesting, Refusal};
use super::{FULL, Quota, within};
use std::collections::{BTreeMap, VecDeque};
use wlproxy_protocol::wayland::Call;
use wlproxy_protocol::wayland::objects::Violation;

/// A wl_surface.attach.
#[derive(Debug, Clone, Copy)]
struct Attached {
    number: u64,
    buffer: Option<Buffer>,
}

/// What a commit has changed.
#[derive(Debug)]
struct State {
    number: u64,
    attached: Option<Attached>,
    damage: u32,
    /// Of the regions that the surface has, and what was made of it: smithay has the former anew with each commit, and
    /// wlroots from 0.18 on those of pointer constraints that are set anew.
    rectangles: u32,
    /// A wl_callback that is done when it is shown.
    frame: Option<u32>,
}

#[derive(Debug, Default)]
struct Surface {
    /// Which of all that have its id it is.
    number: u64,
    /// Since the last commit.
    attached: Option<Attached>,
    damage: u32,
    frame: Option<u32>,
    /// What it shows.
    current: Option<Buffer>,
    /// Commits that wait to be shown, oldest first.
    waiting: VecDeque<State>,
    waiting_damage: u32,
    /// Subsurfaces that wait for its commits, by the first number at which one of its own shows something of them.
    children: BTreeMap<u64, u32>,
    /// Where it is among those itself.
    listed: Option<(u32, u64)>,
    /// Of the regions that it has, and what was made of it.
    rectangles: u32,
    /// Its commits wait for their turns.
    queues: bool,
    /// Objects that were made of it, and can be destroyed.
    made: u32,
}

/// A surface that was destroyed, of which commits waited.
#[derive(Debug)]
struct Gone {
    waiting: VecDeque<State>,
    made: u32,
}

/// The surfaces of a client, and its buffers and pools.
#[derive(Debug, Default)]
pub(super) struct Surfaces {
    surfaces: ById<u32, Surface>,
    /// By their numbers.
    gone: ById<u64, Gone>,
    /// By object: the wl_surface that it was made of, and its number.
    made: ById<u32, (u32, u64)>,
    /// By wl_callback: the surface and the commit that waits with it.
    frames: ById<u32, (u32, u64)>,
    nesting: Nesting,
    pub(super) buffers: Buffers,
    /// The last that was given: surfaces, attaches, commits and what puts subsurfaces in order have numbers, as they come.
    number: u64,
    /// Commits that wait, the rectangles of the regions in them, and of damage in them or to be committed.
    waiting: u32,
    rectangles: u64,
    damage: u64,
}

impl Surfaces {
    /// wl_compositor.create_surface.
    pub(super) fn create(&mut self, id: u32) {
        let number = self.next();
        self.surfaces.insert(id, Surface { number, ..Surface::default() });
    }

    /// wl_surface.attach. `buffer` is 0 for none.
    pub(super) fn attach(&mut self, surface: u32, buffer: u32) {
        let number = self.next();
        let Some(of) = self.surfaces.get_mut(&surface) else { return };
        let buffer = self.buffers.attach(buffer, (surface, number));
        let before = of.attached.replace(Attached { number, buffer });
        self.buffers.let_go(before.and_then(|before| before.buffer));
    }

    /// wl_surface.damage or damage_buffer.
    pub(super) fn damage(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let Some(surface) = self.surfaces.get_mut(&call.object()) else { return Ok(()) };
        let damage = surface.damage.saturating_add(1);
        let sum = surface.waiting_damage.saturating_add(damage);
        within(call, sum, quota.damage, "rectangles of damage", "damage")?;
        surface.damage = damage;
        self.damage += 1;
        let (sum, most) = (self.damage.try_into().unwrap_or(u32::MAX), quota.damage);
        let most = most.saturating_mul(FULL);
        within(call, sum, most, "rectangles of damage of all its surfaces", "damage")
    }

    /// wl_surface.frame.
    pub(super) fn frame(&mut self, surface: u32, callback: u32) {
        if let Some(surface) = self.surfaces.get_mut(&surface) {
            // All of one commit are done together.
            surface.frame = Some(callback);
        }
    }

    /// wl_surface.commit.
    pub(super) fn commit(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let (id, number) = (call.object(), self.next());
        let Some(surface) = self.surfaces.get_mut(&id) else { return Ok(()) };
        let state = State {
            number,
            attached: surface.attached.take(),
            damage: std::mem::take(&mut surface.damage),
            rectangles: surface.rectangles,
            frame: surface.frame.take(),
        };
        let waits = surface.queues || self.nesting.is_synchronised(id);
        if let Some(frame) = state.frame
            && waits
        {
            self.frames.insert(frame, (id, number));
        }
        surface.waiting_damage = surface.waiting_damage.saturating_add(state.damage);
        self.waiting += 1;
        self.rectangles += u64::from(state.rectangles);
        surface.waiting.push_back(state);
        if waits {
            self.list(id);
            return within(call, self.waiting, quota.commits, "commits that wait", "commits");
        }
        self.show(id, number);
        Ok(())
    }

    /// Commits that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Rectangles of the regions in commits that wait.
    pub(super) fn rectangles(&self) -> u64 {
        self.rectangles
    }

    /// wl_surface.destroy.
    pub(super) fn destroy(&mut self, id: u32) {
        let Some(surface) = self.surfaces.remove(&id) else { return };
        self.buffers.let_go(surface.attached.and_then(|attached| attached.buffer));
        self.buffers.let_go(surface.current);
        self.damage -= u64::from(surface.damage);
        surface.waiting.iter().filter_map(|state| state.frame).for_each(|frame| {
            self.frames.remove(&frame);
        });
        if let Some((parent, first)) = surface.listed
            && let Some(parent) = self.surfaces.get_mut(&parent)
        {
            parent.children.remove(&first);
        }
        for child in self.nesting.destroy(id) {
            self.list(child);
        }
        let (waiting, made) = (surface.waiting, surface.made);
        if made > 0 && !waiting.is_empty() {
            self.gone.insert(surface.number, Gone { waiting, made });
        } else {
            waiting.into_iter().for_each(|state| self.drop_state(state));
        }
    }

    /// An object is made of a surface, and can be destroyed.
    pub(super) fn make(&mut self, object: u32, surface: u32) {
        self.unmake(object);
        if let Some(of) = self.surfaces.get_mut(&surface) {
            of.made += 1;
            self.made.insert(object, (surface, of.number));
        }
    }

    /// An object that is a surface, or may have been made of one, has regions of so many rectangles instead of `before`.
    pub(super) fn hand_over(&mut self, object: u32, before: u32, rectangles: u32) {
        let (id, number) = match self.made.get(&object) {
            Some(&(id, number)) => (id, Some(number)),
            None => (object, None),
        };
        if let Some(surface) = self.surfaces.get_mut(&id)
            && number.is_none_or(|number| number == surface.number)
        {
            surface.rectangles = surface.rectangles.saturating_sub(before);
            surface.rectangles = surface.rectangles.saturating_add(rectangles);
        }
    }

    /// An object is destroyed, which may have been made of a surface.
    pub(super) fn unmake(&mut self, object: u32) {
        let Some((surface, number)) = self.made.remove(&object) else { return };
        if let Some(surface) = self.surfaces.get_mut(&surface).filter(|of| of.number == number) {
            surface.made -= 1;
        } else if let Some(gone) = self.gone.get_mut(&number) {
            gone.made -= 1;
            if gone.made == 0
                && let Some(gone) = self.gone.remove(&number)
            {
                gone.waiting.into_iter().for_each(|state| self.drop_state(state));
            }
        }
    }

    /// wl_subcompositor.get_subsurface. How deep they are in each other then.
    pub(super) fn make_subsurface(
        &mut self,
        id: u32,
        surface: u32,
        parent: u32,
    ) -> Result<u32, Refusal> {
        let now = self.next();
        let depth = self.nesting.add(id, surface, parent, now)?;
        self.list(surface);
        Ok(depth)
    }

    /// wl_subsurface.set_sync or set_desync. What waits goes on to wait for the next commit.
    pub(super) fn synchronise(&mut self, id: u32, synchronised: bool) {
        let now = self.next();
        if let Some(surface) = self.nesting.synchronise(id, synchronised, now) {
            self.list(surface);
        }
    }

    /// wl_subsurface.destroy.
    pub(super) fn destroy_subsurface(&mut self, id: u32) {
        if let Some(surface) = self.nesting.remove(id) {
            self.list(surface);
        }
    }

    /// wp_fifo_manager_v1.get_fifo, or wp_commit_timing_manager_v1.get_timer: from now on its commits may wait.
    pub(super) fn queue(&mut self, id: u32) {
        if let Some(surface) = self.surfaces.get_mut(&id) {
            surface.queues = true;
            self.list(id);
        }
    }

    /// wl_buffer.release.
    pub(super) fn release(&mut self, id: u32) {
        let waits = |(surface, attach)| waiting(&self.surfaces, surface, attach).is_some();
        if let Some((surface, attach)) = self.buffers.release(id, waits)
            && let Some(number) = waiting(&self.surfaces, surface, attach)
        {
            self.show(surface, number);
        }
    }

    /// wl_callback.done.
    pub(super) fn done(&mut self, callback: u32) {
        if let Some((surface, number)) = self.frames.remove(&callback) {
            self.show(surface, number);
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Commits of a surface up to this one are shown, and with the last of them what waited for it. No step is in vain: each
    /// surface that is come to shows something.
    fn show(&mut self, id: u32, number: u64) {
        let mut below = Vec::new();
        let mut next = Some((id, number));
        while let Some((id, number)) = next {
            if let Some(last) = self.take_waiting(id, number)
                && let Some(surface) = self.surfaces.get_mut(&id)
            {
                while let Some(child) = surface.children.first_entry()
                    && *child.key() <= last
                {
                    below.push((child.remove(), last));
                }
            }
            next = below.pop();
        }
    }

    /// The same of the surface alone. The last of these commits, if there are any.
    fn take_waiting(&mut self, id: u32, number: u64) -> Option<u64> {
        let mut last = None;
        while let Some(surface) = self.surfaces.get_mut(&id)
            && surface.waiting.front().is_some_and(|state| state.number <= number)
            && let Some(mut state) = surface.waiting.pop_front()
        {
            last = Some(state.number);
            surface.waiting_damage = surface.waiting_damage.saturating_sub(state.damage);
            if let Some(attached) = &mut state.attached {
                std::mem::swap(&mut surface.current, &mut attached.buffer);
            }
            self.drop_state(state);
        }
        if last.is_some() {
            self.list(id);
        }
        last
    }

    /// Nobody has a commit any more.
    fn drop_state(&mut self, state: State) {
        self.waiting -= 1;
        self.rectangles -= u64::from(state.rectangles);
        self.damage -= u64::from(state.damage);
        if let Some(frame) = state.frame
            && self.frames.get(&frame).is_some_and(|&(_, number)| number == state.number)
        {
            self.frames.remove(&frame);
        }
        self.buffers.let_go(state.attached.and_then(|attached| attached.buffer));
    }

    /// Puts a surface among those that wait for its parent, if it does and something of it waits. What queues may wait longer:
    /// only the compositor tells.
    fn list(&mut self, id: u32) {
        let Some(surface) = self.surfaces.get_mut(&id) else { return };
        let first = surface.waiting.front().filter(|_| !surface.queues).map(|state| state.number);
        let place = first.and_then(|first| {
            // Its commits before that have been shown in some compositor, maybe, without it.
            let (parent, since) = self.nesting.waits_for(id)?;
            Some((parent, first.max(since)))
        });
        let before = std::mem::replace(&mut surface.listed, place);
        if before == place {
            return;
        }
        if let Some((parent, first)) = before
            && let Some(parent) = self.surfaces.get_mut(&parent)
        {
            parent.children.remove(&first);
        }
        if let Some((parent, first)) = place
            && let Some(parent) = self.surfaces.get_mut(&parent)
        {
            parent.children.insert(first, id);
        }
    }
}

/// The commit that waits with this attach.
fn waiting(surfaces: &ById<u32, Surface>, surface: u32, attach: u64) -> Option<u64> {
    let waiting = &surfaces.get(&surface)?.waiting;
    let state = waiting.get(waiting.partition_point(|state| state.number < attach))?;
    state.attached.is_some_and(|attached| attached.number == attach).then_some(state.number)
}
