//! What a wl_surface shows, and what its client has asked for since the last commit.

use super::region::{Rect, Region};
use super::store::Key;
use super::view::View;
use std::collections::VecDeque;

/// Most shadows of a surface whose stale regions are followed. Clients draw into two to four wl_buffers in turn; one
/// that comes back after more than these is copied whole.
const MAX_TRACKED: usize = 16;

/// A wl_surface. What requests change waits for the commit.
#[derive(Debug, Default)]
pub(super) struct Surface {
    /// The shadow that it shows since the last commit; `None` also for a wl_buffer that isn't ours.
    pub(super) content: Option<Key>,
    /// The view and the size of the wl_buffer at the last commit.
    shown: (View, Option<(i32, i32)>),
    /// As it will be.
    pub(super) view: View,
    /// What was attached.
    pub(super) attached: Option<Option<Key>>,
    /// Whether an attach or an offset moved the surface.
    moved: bool,
    /// In surface coordinates.
    damage: Region,
    /// In pixels.
    buffer_damage: Region,
    /// The shadows whose stale region this surface's damage adds to, latest use last.
    tracked: VecDeque<Key>,
}

/// What a commit changed.
#[derive(Debug)]
pub(super) struct Change {
    /// There was an attach, and the surface showed this before.
    pub(super) replaced: Option<Option<Key>>,
    /// Surface coordinates lead to other pixels than before, so damage says nothing about earlier wl_buffers.
    pub(super) remapped: bool,
    /// In pixels of the wl_buffer that it shows now, and within that.
    pub(super) damage: Region,
}

impl Surface {
    pub(super) fn offset(&mut self, dx: i32, dy: i32) {
        self.moved |= (dx, dy) != (0, 0);
    }

    pub(super) fn damage(&mut self, rect: Rect) {
        self.damage.add(rect);
    }

    pub(super) fn damage_buffer(&mut self, rect: Rect) {
        self.buffer_damage.add(rect);
    }

    /// Makes the pending state the current one.
    pub(super) fn commit(&mut self) -> Change {
        let replaced =
            self.attached.take().map(|content| std::mem::replace(&mut self.content, content));
        let size = self.content.map(|key| key.geometry.size());
        let shows = (self.view, size);
        let remapped = std::mem::take(&mut self.moved) | (self.shown != shows);
        self.shown = shows;
        let posted = std::mem::take(&mut self.damage);
        let mut damage = std::mem::take(&mut self.buffer_damage);
        let size = size.unwrap_or_default();
        damage.clip(Rect::of_size(size));
        posted
            .iter()
            .filter_map(|rect| self.view.to_buffer(rect, size))
            .for_each(|rect| damage.add(rect));
        Change { replaced, remapped, damage }
    }

    /// Follows the stale region of a shadow. Returns one that isn't followed any more.
    pub(super) fn track(&mut self, key: Key) -> Option<Key> {
        self.tracked.retain(|&tracked| tracked != key);
        self.tracked.push_back(key);
        if self.tracked.len() > MAX_TRACKED { self.tracked.pop_front() } else { None }
    }

    /// Keeps only the shadows that `keep` says.
    pub(super) fn retain_tracked(&mut self, mut keep: impl FnMut(Key) -> bool) {
        self.tracked.retain(|&key| keep(key));
    }
}
