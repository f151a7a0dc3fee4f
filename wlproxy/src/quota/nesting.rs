//! How deep a client's wl_surfaces are in each other.

use std::collections::HashMap;

/// Which wl_surface is whose subsurface.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// By wl_surface: what it is a subsurface of.
    parents: HashMap<u32, Parent>,
    /// By wl_surface: how many were in each other below it at most. Not less when those are gone.
    heights: HashMap<u32, u32>,
    /// By wl_subsurface: its wl_surface.
    surfaces: HashMap<u32, u32>,
}

#[derive(Debug)]
struct Parent {
    surface: u32,
    /// The wl_subsurface that says so.
    subsurface: u32,
}

impl Nesting {
    /// `surface` becomes a subsurface of `parent`. How deep the deepest below or above it is then, at most `most` + 1: nobody
    /// looks further. `None` if it is above itself, as far as that.
    pub(super) fn add(
        &mut self,
        subsurface: u32,
        surface: u32,
        parent: u32,
        most: u32,
    ) -> Option<u32> {
        self.surfaces.insert(subsurface, surface);
        self.parents.insert(surface, Parent { surface: parent, subsurface });
        let mut depth = self.heights.get(&surface).copied().unwrap_or(0);
        let mut next = Some(parent);
        while let Some(above) = next
            && depth <= most
        {
            if above == surface {
                return None;
            }
            depth += 1;
            let height = self.heights.entry(above).or_default();
            *height = depth.max(*height);
            next = self.parents.get(&above).map(|parent| parent.surface);
        }
        Some(depth)
    }

    /// A wl_subsurface is destroyed.
    pub(super) fn remove(&mut self, subsurface: u32) {
        let Some(surface) = self.surfaces.remove(&subsurface) else { return };
        // Its wl_surface may have gone before it, and another one have that id.
        if self.parents.get(&surface).is_some_and(|parent| parent.subsurface == subsurface) {
            self.parents.remove(&surface);
        }
    }

    /// A wl_surface is destroyed.
    pub(super) fn destroy(&mut self, surface: u32) {
        self.parents.remove(&surface);
        self.heights.remove(&surface);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                .filter_map(|(surface, parent)| nesting.add(100 + surface, surface, parent, 8))
                .collect();
            assert_eq!(depths, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{from_top}");
        }
    }

    #[test]
    fn two_chains_add_up_where_they_are_joined() {
        let mut nesting = Nesting::default();
        for (surface, parent) in chain(3, true) {
            nesting.add(100 + surface, surface, parent, 8);
            nesting.add(110 + surface, 10 + surface, 10 + parent, 8);
        }
        assert_eq!(nesting.add(200, 10, 3, 8), Some(7));
        assert_eq!(nesting.add(201, 20, 13, 8), Some(8));
        assert_eq!(nesting.add(202, 21, 20, 8), Some(9));
    }

    #[test]
    fn many_beside_each_other_are_not_deep() {
        let mut nesting = Nesting::default();
        for surface in 1..1000 {
            assert_eq!(nesting.add(1000 + surface, surface, 0, 8), Some(1));
        }
    }

    #[test]
    fn nothing_is_in_itself() {
        let mut nesting = Nesting::default();
        assert_eq!(nesting.add(10, 1, 2, 8), Some(1));
        assert_eq!(nesting.add(11, 2, 1, 8), None);
        assert_eq!(nesting.add(12, 3, 3, 8), None);
    }

    #[test]
    fn what_is_destroyed_is_in_nothing() {
        let mut nesting = Nesting::default();
        for (surface, parent) in chain(5, true) {
            nesting.add(100 + surface, surface, parent, 8);
        }
        nesting.remove(105);
        assert_eq!(nesting.add(105, 5, 6, 8), Some(1));
        nesting.destroy(4);
        assert_eq!(nesting.add(107, 7, 4, 8), Some(1));
        (0..8).for_each(|surface| nesting.destroy(surface));
        [101, 102, 103, 104, 105, 107].into_iter().for_each(|id| nesting.remove(id));
        assert!(nesting.parents.is_empty() && nesting.surfaces.is_empty());
    }

    #[test]
    fn an_id_that_is_used_again_is_another_surface() {
        let mut nesting = Nesting::default();
        nesting.add(100, 1, 0, 8);
        nesting.destroy(1);
        nesting.add(101, 1, 0, 8);
        nesting.remove(100);
        assert_eq!(nesting.add(102, 2, 1, 8), Some(2));
    }
}
