//! Free room in the window: pages, first fit, neighbours joined.

use std::collections::BTreeMap;

/// Free ranges of an address space that starts at 0. Everything is in bytes; the caller keeps to whole pages.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Start and length of each; no two touch.
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    /// `start..end` is free.
    pub(super) fn new(start: u64, end: u64) -> Self {
        let free = (start < end).then(|| (start, end - start)).into_iter().collect();
        Self { free }
    }

    /// Takes `length` bytes, at least one, from the first range that has them.
    pub(super) fn take(&mut self, length: u64) -> Option<u64> {
        let (&start, &room) = self.free.iter().find(|&(_, &room)| room >= length)?;
        self.free.remove(&start);
        if room > length {
            self.free.insert(start + length, room - length);
        }
        Some(start)
    }

    /// Gives a range back that [`Ranges::take`] returned.
    pub(super) fn give(&mut self, start: u64, length: u64) {
        let (mut start, mut length) = (start, length);
        if let Some((&before, &room)) = self.free.range(..start).next_back()
            && before + room == start
        {
            self.free.remove(&before);
            (start, length) = (before, length + room);
        }
        if let Some(room) = self.free.remove(&(start + length)) {
            length += room;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64),
        Give(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![(1..40u64).prop_map(Step::Take), any::<usize>().prop_map(Step::Give)],
            0..200,
        )
    }

    proptest! {
        #[test]
        fn what_is_taken_never_overlaps_and_all_comes_back(steps in steps()) {
            const PAGES: usize = 256;
            let mut ranges = Ranges::new(0, PAGES as u64);
            let mut used = [false; PAGES];
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(length) => {
                        let fits = used
                            .split(|&u| u)
                            .any(|free| free.len() as u64 >= length);
                        let start = ranges.take(length);
                        prop_assert_eq!(start.is_some(), fits);
                        if let Some(start) = start {
                            for page in &mut used[start as usize..(start + length) as usize] {
                                prop_assert!(!*page);
                                *page = true;
                            }
                            taken.push((start, length));
                        }
                    }
                    Step::Give(pick) if !taken.is_empty() => {
                        let (start, length) = taken.swap_remove(pick % taken.len());
                        ranges.give(start, length);
                        used[start as usize..(start + length) as usize].fill(false);
                    }
                    Step::Give(_) => {}
                }
            }
            for (start, length) in taken {
                ranges.give(start, length);
            }
            prop_assert_eq!(ranges.take(PAGES as u64), Some(0));
        }
    }
}
