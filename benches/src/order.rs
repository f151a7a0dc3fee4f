//! In which order the paths have their turns, so that none profits from whom it comes after.

/// The order of `count` lanes in a round: a balanced Latin square (E. J. Williams, "Experimental designs balanced for the
/// estimation of residual effects of treatments", 1949).
///
/// Over `count` rounds, or twice as many if `count` is odd, each lane has each place equally often, and comes after each
/// other equally often: what the one before leaves in caches harms all alike.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    // 0, 1, n-1, 2, n-2, ...: each two neighbours are another distance apart.
    let zigzag = |place: usize| if place % 2 == 1 { place.div_ceil(2) } else { count - place / 2 };
    let mut order: Vec<usize> = (0..count).map(|place| (zigzag(place) + round) % count).collect();
    if count % 2 == 1 && (round / count) % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn places_and_neighbours_are_balanced() {
        for count in 1..=12 {
            let rounds = if count % 2 == 0 { count } else { 2 * count };
            let (mut places, mut pairs) = (HashMap::new(), HashMap::new());
            for round in 0..rounds {
                let order = order(count, round);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..count), "{count}: {order:?} lacks one");
                for (place, &lane) in order.iter().enumerate() {
                    *places.entry((place, lane)).or_insert(0) += 1;
                }
                for pair in order.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_insert(0) += 1;
                }
            }
            assert_eq!(places.len(), count * count);
            assert!(places.values().all(|&times| times == rounds / count), "{count}: {places:?}");
            assert_eq!(pairs.len(), count * (count - 1));
            assert!(pairs.values().all(|&times| times == rounds / count), "{count}: {pairs:?}");
        }
    }
}
