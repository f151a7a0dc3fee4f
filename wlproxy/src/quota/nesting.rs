//! Which of a client's wl_surfaces are subsurfaces of which, how deep, and whether they are synchronised.

use super::ids::{ById, Ids};
use std::collections::BTreeMap;

/// A wl_surface that is or was a subsurface, or has some.
#[derive(Debug, Default)]
struct Node {
    parent: Option<u32>,
    /// It waits for its parent's commits, of those after this one. If it has no parent any more it waits for ever, as far as
    /// anybody knows: smithay 0.7 goes on to wait when the wl_subsurface or the parent is gone, wlroots 0.15 when the parent is.
    synchronised: Option<u64>,
    /// Its wl_subsurface, as long as that is there.
    subsurface: Option<u32>,
    children: Ids,
    /// Of its children, how many there are in each other from each on down, and how often.
    heights: BTreeMap<u32, u32>,
}

impl Node {
    /// How many there are in each other below it.
    fn height(&self) -> u32 {
        self.heights.last_key_value().map_or(0, |(&height, _)| height)
    }
}

/// Why a surface can't be the subsurface of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It would be above itself.
    Circle,
    /// It has a wl_subsurface.
    Taken,
}

/// The trees of a client's surfaces.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// By wl_surface.
    nodes: ById<u32, Node>,
    /// By wl_subsurface: its wl_surface, as long as that is there.
    surfaces: ById<u32, u32>,
}

impl Nesting {
    /// `surface` becomes a subsurface of `parent`. How deep the deepest below or above it is then. With more than a client may
    /// have it is ended, so nothing here takes more steps than that. It is synchronised, since `now`.
    pub(super) fn add(
        &mut self,
        subsurface: u32,
        surface: u32,
        parent: u32,
        now: u64,
    ) -> Result<u32, Refusal> {
        let height = self.nodes.get(&surface).map_or(0, Node::height) + 1;
        let mut depth = height;
        let mut next = parent;
        while next != surface {
            match self.parent(next) {
                Some(above) => (next, depth) = (above, depth + 1),
                None => break,
            }
        }
        if next == surface {
            return Err(Refusal::Circle);
        }
        let node = self.nodes.entry(surface).or_default();
        if node.subsurface.is_some() {
            return Err(Refusal::Taken);
        }
        (node.parent, node.subsurface) = (Some(parent), Some(subsurface));
        node.synchronised = Some(now);
        self.surfaces.insert(subsurface, surface);
        self.nodes.entry(parent).or_default().children.insert(surface);
        self.change(parent, None, Some(height));
        Ok(depth)
    }

    /// A wl_subsurface is destroyed: of this surface, if that is there.
    pub(super) fn remove(&mut self, subsurface: u32) -> Option<u32> {
        let surface = self.surfaces.remove(&subsurface)?;
        self.unlink(surface);
        let node = self.nodes.get_mut(&surface)?;
        node.subsurface = None;
        node.synchronised.get_or_insert(0);
        Some(surface)
    }

    /// A wl_surface is destroyed. Who were its subsurfaces.
    pub(super) fn destroy(&mut self, surface: u32) -> Ids {
        self.unlink(surface);
        let Some(node) = self.nodes.remove(&surface) else { return Ids::default() };
        node.subsurface.map(|subsurface| self.surfaces.remove(&subsurface));
        for child in &node.children {
            if let Some(child) = self.nodes.get_mut(child) {
                // wlroots 0.15 goes on to keep what waits then, whichever way it has come to wait.
                child.parent = None;
                child.synchronised.get_or_insert(0);
            }
        }
        node.children
    }

    /// wl_subsurface.set_sync or set_desync: of this surface, if that is there, and its parent.
    pub(super) fn synchronise(
        &mut self,
        subsurface: u32,
        synchronised: bool,
        now: u64,
    ) -> Option<u32> {
        let &surface = self.surfaces.get(&subsurface)?;
        let node = self.nodes.get_mut(&surface).filter(|node| node.parent.is_some())?;
        node.synchronised = synchronised.then(|| node.synchronised.unwrap_or(now));
        Some(surface)
    }

    /// Whose commits a surface waits for, and of those after which: not if it is synchronised only as its parent is.
    pub(super) fn waits_for(&self, surface: u32) -> Option<(u32, u64)> {
        let node = self.nodes.get(&surface)?;
        node.parent.zip(node.synchronised)
    }

    /// Whether a surface is synchronised by itself, or by what it is a subsurface of.
    pub(super) fn is_synchronised(&self, surface: u32) -> bool {
        let mut next = Some(surface);
        while let Some(node) = next.and_then(|surface| self.nodes.get(&surface)) {
            if node.synchronised.is_some() {
                return true;
            }
            next = node.parent;
        }
        false
    }

    fn parent(&self, surface: u32) -> Option<u32> {
        self.nodes.get(&surface)?.parent
    }

    /// A surface is no subsurface any more.
    fn unlink(&mut self, surface: u32) {
        let Some(node) = self.nodes.get_mut(&surface) else { return };
        let height = node.height() + 1;
        let Some(parent) = node.parent.take() else { return };
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children.remove(&surface);
        }
        self.change(parent, Some(height), None);
    }

    /// The height of a child of this surface changes, and so may those of all above.
    fn change(&mut self, surface: u32, before: Option<u32>, after: Option<u32>) {
        let mut next = Some((surface, before, after));
        while let Some((surface, before, after)) = next.take() {
            let Some(node) = self.nodes.get_mut(&surface) else { return };
            let was = node.height();
            if let Some(before) = before
                && let Some(count) = node.heights.get_mut(&before)
            {
                *count -= 1;
                if *count == 0 {
                    node.heights.remove(&before);
                }
            }
            if let Some(after) = after {
                *node.heights.entry(after).or_default() += 1;
            }
            let is = node.height();
            if let Some(parent) = node.parent
                && was != is
            {
                next = Some((parent, Some(was + 1), Some(is + 1)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Links of a chain of so many surfaces, top first or bottom first.
    fn chain(length: u32, from_top: bool) -> Vec<(u32, u32)> {
        let mut links: Vec<_> = (0..length).map(|n| (n + 1, n)).collect();
        if !from_top {
            links.reverse();
        }
        links
    }

    #[test]
    fn a_chain_is_as_deep_whichever_way_it_grows() {
        for from_top in [true, false] {
            let mut nesting = Nesting::default();
            let depths: Vec<_> = chain(9, from_top)
                .into_iter()
                .filter_map(|(surface, parent)| nesting.add(100 + surface, surface, parent, 7).ok())
                .collect();
            assert_eq!(depths, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{from_top}");
        }
    }

    #[test]
    fn two_chains_add_up_where_they_are_joined() {
        let mut nesting = Nesting::default();
        for (surface, parent) in chain(3, true) {
            nesting.add(100 + surface, surface, parent, 7).unwrap();
            nesting.add(110 + surface, 10 + surface, 10 + parent, 7).unwrap();
        }
        assert_eq!(nesting.add(200, 10, 3, 7), Ok(7));
        assert_eq!(nesting.add(201, 20, 13, 7), Ok(8));
        assert_eq!(nesting.add(202, 21, 20, 7), Ok(9));
    }

    #[test]
    fn many_beside_each_other_are_not_deep() {
        let mut nesting = Nesting::default();
        for surface in 1..1000 {
            assert_eq!(nesting.add(1000 + surface, surface, 0, 7), Ok(1));
        }
    }

    #[test]
    fn nothing_is_in_itself_or_in_two() {
        let mut nesting = Nesting::default();
        assert_eq!(nesting.add(10, 1, 2, 7), Ok(1));
        assert_eq!(nesting.add(11, 2, 1, 7), Err(Refusal::Circle));
        assert_eq!(nesting.add(12, 3, 3, 7), Err(Refusal::Circle));
        assert_eq!(nesting.add(13, 1, 4, 7), Err(Refusal::Taken));
        // Its wl_subsurface is there without it, too.
        nesting.destroy(2);
        assert_eq!(nesting.add(13, 1, 4, 7), Err(Refusal::Taken));
        nesting.remove(10);
        assert_eq!(nesting.add(13, 1, 4, 7), Ok(1));
    }

    #[test]
    fn what_is_destroyed_is_in_nothing() {
        let mut nesting = Nesting::default();
        for (surface, parent) in chain(5, true) {
            nesting.add(100 + surface, surface, parent, 7).unwrap();
        }
        nesting.remove(105);
        assert_eq!(nesting.add(105, 5, 6, 7), Ok(1));
        assert_eq!(nesting.destroy(4), Ids::default());
        assert_eq!(nesting.add(107, 7, 4, 7), Ok(1));
        // What was in it is not in a new one of that id, which may be in that.
        assert_eq!(nesting.destroy(2), Ids::from_iter([3]));
        assert_eq!(nesting.add(108, 2, 3, 7), Ok(1));
        assert_eq!(nesting.add(109, 9, 2, 7), Ok(2));
        // The heights of what is above have shrunk with it.
        assert_eq!(nesting.add(110, 0, 20, 7), Ok(2));
    }

    #[test]
    fn a_wl_subsurface_is_of_the_surface_that_it_was_made_of() {
        let mut nesting = Nesting::default();
        nesting.add(10, 1, 0, 7).unwrap();
        nesting.destroy(1);
        nesting.add(11, 1, 0, 7).unwrap();
        assert_eq!((nesting.synchronise(10, false, 9), nesting.remove(10)), (None, None));
        assert_eq!(nesting.waits_for(1), Some((0, 7)));
        assert_eq!(nesting.synchronise(11, false, 9), Some(1));
        assert_eq!(nesting.waits_for(1), None);
        nesting.synchronise(11, true, 9);
        nesting.synchronise(11, true, 10);
        assert_eq!(nesting.waits_for(1), Some((0, 9)));
    }

    #[test]
    fn who_has_no_parent_any_more_stays_synchronised() {
        let mut nesting = Nesting::default();
        nesting.add(10, 1, 0, 7).unwrap();
        nesting.add(11, 2, 1, 7).unwrap();
        for subsurface in [10, 11] {
            nesting.synchronise(subsurface, false, 9);
        }
        assert!(!nesting.is_synchronised(2));
        nesting.destroy(0);
        assert!(nesting.is_synchronised(1) && nesting.is_synchronised(2));
        assert_eq!((nesting.waits_for(1), nesting.waits_for(2)), (None, None));
        // Its wl_subsurface does nothing any more.
        assert_eq!(nesting.synchronise(10, false, 9), None);
        assert!(nesting.is_synchronised(2));
        nesting.remove(11);
        nesting.add(12, 2, 3, 7).unwrap();
        nesting.synchronise(12, false, 9);
        assert!(!nesting.is_synchronised(2));
        nesting.remove(12);
        assert!(nesting.is_synchronised(2));
    }

    proptest! {
        /// The height that each has is that of the tree below it.
        #[test]
        fn heights_are_those_of_the_tree(steps in prop::collection::vec((0..3u8, 0..12u32, 0..12u32), 0..80)) {
            let mut nesting = Nesting::default();
            for (number, (what, surface, parent)) in (100..).zip(steps) {
                match what {
                    0 => _ = nesting.add(number, surface, parent, 7),
                    1 => _ = nesting.destroy(surface),
                    _ => {
                        let of = nesting.nodes.get(&surface).and_then(|node| node.subsurface);
                        of.map(|subsurface| nesting.remove(subsurface));
                    }
                }
                for (&surface, node) in &nesting.nodes {
                    prop_assert_eq!(node.height(), below(&nesting, surface));
                    let total: u32 = node.heights.values().sum();
                    prop_assert_eq!(total as usize, node.children.len());
                }
            }
        }
    }

    fn below(nesting: &Nesting, surface: u32) -> u32 {
        let children = nesting.nodes.get(&surface).into_iter().flat_map(|node| &node.children);
        children.map(|&child| below(nesting, child) + 1).max().unwrap_or(0)
    }
}
