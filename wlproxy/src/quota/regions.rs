//! Rectangles: of regions, and of what other objects have taken over of them.

use super::ids::ById;
use super::{FULL, add, within};
use crate::quota::Quota;
use std::collections::BTreeMap;
use wlproxy_protocol::wayland::Call;
use wlproxy_protocol::wayland::objects::Violation;

/// What a request does with a region that it names, the object keeps: a surface's opaque region, for one.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// By wl_region: those that have any.
    of_region: ById<u32, u32>,
    /// By the object that has taken a region over, and by which request.
    taken: BTreeMap<(u32, u16), u32>,
    sum: u64,
}

impl Regions {
    /// wl_region.add or subtract.
    pub(super) fn add(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let of_region = self.of_region.entry(call.object()).or_default();
        add(call, of_region, quota.rectangles, "rectangles", "rectangles")?;
        self.sum += 1;
        Ok(())
    }

    /// A request of this opcode hands a region over to `holder`. How many rectangles that had of it, and has now.
    pub(super) fn take(&mut self, holder: u32, opcode: u16, region: u32) -> (u32, u32) {
        let rectangles = self.of_region.get(&region).copied().unwrap_or(0);
        let before = self.taken.remove(&(holder, opcode)).unwrap_or(0);
        if rectangles > 0 {
            self.taken.insert((holder, opcode), rectangles);
        }
        self.sum = self.sum - u64::from(before) + u64::from(rectangles);
        (before, rectangles)
    }

    /// An object is destroyed, with what it has. How many rectangles it had taken over.
    pub(super) fn destroy(&mut self, object: u32) -> u32 {
        self.sum -= u64::from(self.of_region.remove(&object).unwrap_or(0));
        let mut sum = 0;
        while let Some((&holder, &rectangles)) =
            self.taken.range((object, 0)..=(object, u16::MAX)).next()
        {
            self.taken.remove(&holder);
            self.sum -= u64::from(rectangles);
            sum += rectangles;
        }
        sum
    }

    /// That they are no more than they may be, with those of commits that are `waiting`.
    pub(super) fn check(
        &self,
        call: &Call<'_>,
        waiting: u64,
        quota: &Quota,
    ) -> Result<(), Violation> {
        let most = quota.rectangles.saturating_mul(FULL);
        let sum = (self.sum + waiting).try_into().unwrap_or(u32::MAX);
        within(call, sum, most, "rectangles in all its regions", "rectangles")
    }
}
