//! How many commits wait in compositors that keep each of them: models of three, as their sources have it, for tests.

use std::collections::{BTreeMap, BTreeSet};

/// What a client does with surfaces and their wl_subsurfaces, both known by the surface.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Create(u32),
    Commit(u32),
    /// The first becomes a subsurface of the second. Neither has a wl_subsurface otherwise, nor are there circles.
    MakeSubsurface(u32, u32),
    Synchronise(u32, bool),
    DestroySubsurface(u32),
    Destroy(u32),
}

pub(super) trait Compositor {
    fn step(&mut self, step: Step);
    /// Commits that wait.
    fn waiting(&self) -> usize;
}

/// smithay 0.7, src/wayland/compositor: tree.rs, cache.rs, transaction.rs and handlers.rs.
#[derive(Default)]
pub(super) struct Smithay(BTreeMap<u32, OfSmithay>);

#[derive(Default)]
struct OfSmithay {
    /// Without it, its state lives on as long as its wl_subsurface does.
    alive: bool,
    has_subsurface: bool,
    parent: Option<u32>,
    synchronised: bool,
    children: BTreeSet<u32>,
    cached: BTreeSet<u32>,
    transaction: BTreeMap<u32, u32>,
    id: u32,
}

impl Smithay {
    fn of(&mut self, surface: u32) -> &mut OfSmithay {
        self.0.get_mut(&surface).expect("it is there")
    }

    fn is_synchronised(&self, surface: u32) -> bool {
        let of = &self.0[&surface];
        of.synchronised || of.parent.is_some_and(|parent| self.is_synchronised(parent))
    }

    fn merge(&mut self, from: u32, into: u32) {
        let from = self.of(from);
        from.id += 1;
        for (surface, id) in std::mem::take(&mut from.transaction) {
            let before = self.of(into).transaction.entry(surface).or_default();
            *before = id.max(*before);
        }
    }

    /// `commit_sync_surface_tree`
    fn commit_tree(&mut self, surface: u32, into: u32) {
        for child in self.of(surface).children.clone() {
            self.commit_tree(child, surface);
        }
        let of = self.of(surface);
        of.cached.insert(of.id);
        of.transaction.insert(surface, of.id);
        self.merge(surface, into);
    }

    fn commit(&mut self, surface: u32) {
        let is_synchronised = self.is_synchronised(surface);
        let of = self.of(surface);
        let id = of.id;
        of.cached.insert(id);
        for child in of.children.clone() {
            let of_child = self.of(child).synchronised;
            if !is_synchronised && of_child {
                self.commit_tree(child, surface);
            } else if is_synchronised || of_child {
                self.merge(child, surface);
            }
        }
        let of = self.of(surface);
        of.transaction.insert(surface, id);
        of.id += 1;
        if !is_synchronised {
            for (surface, id) in std::mem::take(&mut of.transaction) {
                self.of(surface).cached.retain(|&cached| cached > id);
            }
        }
    }

    fn unset_parent(&mut self, surface: u32) {
        if let Some(parent) = self.of(surface).parent.take() {
            self.of(parent).children.remove(&surface);
        }
    }
}

impl Compositor for Smithay {
    fn step(&mut self, step: Step) {
        match step {
            Step::Create(surface) => {
                _ = self.0.insert(surface, OfSmithay { alive: true, ..OfSmithay::default() });
            }
            Step::Commit(surface) => self.commit(surface),
            Step::MakeSubsurface(surface, parent) => {
                let of = self.of(surface);
                (of.parent, of.has_subsurface, of.synchronised) = (Some(parent), true, true);
                self.of(parent).children.insert(surface);
            }
            Step::Synchronise(surface, synchronised) => {
                self.of(surface).synchronised = synchronised;
            }
            Step::DestroySubsurface(surface) => {
                self.unset_parent(surface);
                let of = self.of(surface);
                (of.has_subsurface, of.synchronised) = (false, true);
            }
            Step::Destroy(surface) => {
                self.unset_parent(surface);
                let of = self.of(surface);
                of.alive = false;
                for child in std::mem::take(&mut of.children) {
                    self.of(child).parent = None;
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        let there = self.0.values().filter(|of| of.alive || of.has_subsurface);
        there.map(|of| of.cached.len()).sum()
    }
}

/// wlroots: 0.15 (types/wlr_surface.c), or 0.16 to 0.19 (types/wlr_compositor.c, types/wlr_subcompositor.c).
pub(super) struct Wlroots {
    surfaces: BTreeMap<u32, OfWlroots>,
    is_old: bool,
}

#[derive(Default)]
struct OfWlroots {
    subsurface: Option<Subsurface>,
    children: BTreeSet<u32>,
    /// Whether each that waits is locked.
    cached: BTreeMap<u32, bool>,
    sequence: u32,
}

struct Subsurface {
    parent: Option<u32>,
    synchronised: bool,
    /// What it has locked: `has_cache` and `cached_seq`.
    locked: Option<u32>,
}

impl Wlroots {
    pub(super) fn new(is_old: bool) -> Self {
        Self { surfaces: BTreeMap::new(), is_old }
    }

    fn of(&mut self, surface: u32) -> &mut OfWlroots {
        self.surfaces.get_mut(&surface).expect("it is there")
    }

    fn is_synchronised(&self, surface: u32) -> bool {
        self.surfaces[&surface].subsurface.as_ref().is_some_and(|of| {
            of.synchronised || of.parent.is_some_and(|parent| self.is_synchronised(parent))
        })
    }

    fn commit(&mut self, surface: u32) {
        let is_synchronised = self.is_synchronised(surface);
        let is_old = self.is_old;
        let of = self.of(surface);
        let sequence = of.sequence;
        let mut lock = false;
        let mut unlock = false;
        if let Some(subsurface) = &mut of.subsurface {
            lock = is_synchronised && subsurface.locked.is_none();
            unlock = !is_synchronised && !is_old && subsurface.locked.is_some();
            if lock {
                subsurface.locked = Some(sequence);
            }
        }
        if unlock {
            self.unlock(surface);
        }
        let of = self.of(surface);
        of.sequence += 1;
        if lock || !of.cached.is_empty() {
            of.cached.insert(sequence, lock);
        } else {
            self.apply(surface);
        }
        if is_old {
            for child in self.of(surface).children.clone() {
                self.parent_commit(child, false);
            }
        }
    }

    /// `surface_commit_state`
    fn apply(&mut self, surface: u32) {
        if !self.is_old {
            for child in self.of(surface).children.clone() {
                if self.of(child).subsurface.as_ref().is_some_and(|of| of.synchronised) {
                    self.unlock(child);
                }
            }
        }
    }

    /// `subsurface_parent_commit` of 0.15
    fn parent_commit(&mut self, surface: u32, synchronised: bool) {
        let of = self.of(surface).subsurface.as_ref();
        if synchronised || of.is_some_and(|of| of.synchronised) {
            self.unlock(surface);
            for child in self.of(surface).children.clone() {
                self.parent_commit(child, true);
            }
        }
    }

    /// `wlr_surface_unlock_cached`
    fn unlock(&mut self, surface: u32) {
        let of = self.of(surface);
        let locked = of.subsurface.as_mut().and_then(|of| of.locked.take());
        if let Some(locked) = locked {
            of.cached.insert(locked, false);
            while let Some(first) = self.of(surface).cached.first_entry()
                && !first.get()
            {
                first.remove();
                self.apply(surface);
            }
        }
    }

    fn destroy_subsurface(&mut self, surface: u32) {
        self.unlock(surface);
        if let Some(parent) = self.of(surface).subsurface.take().and_then(|of| of.parent) {
            self.of(parent).children.remove(&surface);
        }
    }
}

impl Compositor for Wlroots {
    fn step(&mut self, step: Step) {
        match step {
            Step::Create(surface) => _ = self.surfaces.insert(surface, OfWlroots::default()),
            Step::Commit(surface) => self.commit(surface),
            Step::MakeSubsurface(surface, parent) => {
                let (parent, children) = (Some(parent), &mut self.of(parent).children);
                children.insert(surface);
                let subsurface = Subsurface { parent, synchronised: true, locked: None };
                self.of(surface).subsurface = Some(subsurface);
            }
            Step::Synchronise(surface, synchronised) => {
                // One of which the parent is gone does nothing, but in 0.15.
                let Some(of) = &mut self.of(surface).subsurface else { return };
                let was = std::mem::replace(&mut of.synchronised, synchronised);
                if was && !synchronised && !self.is_synchronised(surface) {
                    match self.is_old {
                        true => self.parent_commit(surface, true),
                        false => self.unlock(surface),
                    }
                }
            }
            Step::DestroySubsurface(surface) => {
                if self.surfaces.contains_key(&surface) {
                    self.destroy_subsurface(surface);
                }
            }
            Step::Destroy(surface) => {
                self.destroy_subsurface(surface);
                for child in self.of(surface).children.clone() {
                    match (self.is_old, &mut self.of(child).subsurface) {
                        (true, Some(of)) => of.parent = None,
                        _ => self.destroy_subsurface(child),
                    }
                }
                self.surfaces.remove(&surface);
            }
        }
    }

    fn waiting(&self) -> usize {
        self.surfaces.values().map(|of| of.cached.len()).sum()
    }
}
