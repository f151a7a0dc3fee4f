//! What client VMs have of the compositor VM's contexts, of its vfds and of its window. These are for all of them, and there is
//! no more when they are used up: so who has much leaves something to the others.

use super::vfd_error::VfdError;
use std::collections::HashMap;

/// Number of a client VM, as wlproxy counts them.
pub(super) type Vm = u32;

/// A VM leaves as much as it has, but need not leave more than one part in so many of all. So one VM alone has three quarters
/// at most, the next one an eighth, another one a sixteenth: however many are greedy, there is something for one more.
const SPARE: u64 = 4;

/// How much somebody has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Contexts: each is a client.
    pub(super) contexts: u64,
    /// vfds that came over them.
    pub(super) vfds: u64,
    /// Bytes of memory, which are for the window.
    pub(super) bytes: u64,
}

/// None of it.
pub(super) const NOTHING: Amount = Amount { contexts: 0, vfds: 0, bytes: 0 };

/// What each VM has.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Vm, Amount>);

impl Shares {
    /// Whether `vm` may have `more`, if there is `all`, and all VMs and the compositor VM itself have `used` of that.
    pub(super) fn check(
        &self,
        vm: Vm,
        more: Amount,
        used: Amount,
        all: Amount,
    ) -> Result<(), VfdError> {
        let has = self.0.get(&vm).copied().unwrap_or_default();
        let fits = is_fair(has.contexts, more.contexts, used.contexts, all.contexts)
            && is_fair(has.vfds, more.vfds, used.vfds, all.vfds)
            && is_fair(has.bytes, more.bytes, used.bytes, all.bytes);
        let Amount { contexts, vfds, bytes } = has;
        if fits { Ok(()) } else { Err(VfdError::Share { contexts, vfds, mib: bytes >> 20 }) }
    }

    /// It has so much more.
    pub(super) fn add(&mut self, vm: Vm, more: Amount) {
        let has = self.0.entry(vm).or_default();
        has.contexts += more.contexts;
        has.vfds += more.vfds;
        has.bytes = has.bytes.saturating_add(more.bytes);
    }

    /// It has so much less.
    pub(super) fn sub(&mut self, vm: Vm, less: Amount) {
        let Some(has) = self.0.get_mut(&vm) else { return };
        has.contexts = has.contexts.saturating_sub(less.contexts);
        has.vfds = has.vfds.saturating_sub(less.vfds);
        has.bytes = has.bytes.saturating_sub(less.bytes);
        if *has == Amount::default() {
            self.0.remove(&vm);
        }
    }
}

/// Whether who has `has` may have `more` of `all`, of which `used` is used.
fn is_fair(has: u64, more: u64, used: u64, all: u64) -> bool {
    let left = all.checked_sub(used).and_then(|free| free.checked_sub(more));
    more == 0 || left.is_some_and(|left| left >= has.saturating_add(more).min(all / SPARE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// VMs that take as much as they can, one after the other.
    fn taken(all: u64, vms: u32, each: u64) -> Vec<u64> {
        let mut used = 0;
        let take = |_| {
            let mut has = 0;
            while is_fair(has, each, used, all) {
                (has, used) = (has + each, used + each);
            }
            has
        };
        (0..vms).map(take).collect()
    }

    #[test]
    fn each_leaves_something_to_the_next() {
        assert_eq!(taken(4096, 5, 1), [3072, 512, 256, 128, 64]);
        assert_eq!(taken(8 << 30, 2, 1 << 30), [6 << 30, 1 << 30]);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut shares = Shares::default();
        let amount = |vfds, bytes| Amount { vfds, bytes, ..Amount::default() };
        let (one, all, used) = (amount(1, 4096), amount(8, 1 << 20), amount(6, 6 * 4096));
        (0..6).for_each(|_| shares.add(1, one));
        assert!(shares.check(1, one, used, all).is_err());
        assert!(shares.check(2, one, used, all).is_ok());
        shares.sub(1, one);
        assert!(shares.check(1, one, Amount { vfds: 5, ..used }, all).is_ok());
        (0..5).for_each(|_| shares.sub(1, one));
        assert!(shares.0.is_empty());
    }

    proptest! {
        /// Whoever has nothing gets something, as long as a quarter is more than others were: and nobody gets more than there is.
        #[test]
        fn nobody_takes_it_all(all in 64..100_000u64, vms in 1..5u32) {
            let taken = taken(all, vms, 1);
            prop_assert!(taken.iter().all(|&has| has > 0), "{taken:?}");
            prop_assert!(taken.iter().sum::<u64>() < all);
        }
    }
}
