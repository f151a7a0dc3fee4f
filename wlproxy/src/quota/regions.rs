//! Rectangles: of regions, and of what other objects have taken over of them.

use super::{add, within};
use crate::quota::Quota;
use std::collections::{BTreeMap, HashMap};
use wlproxy_protocol::wayland::objects::Violation;
use wlproxy_protocol::wayland::{Arg, Call, Interface};

/// All regions of a client together have at most as many rectangles as so many full ones. By default these are 65,536, of 16
/// bytes each: a MiB, and twice that where a surface's next state is beside the current one.
const FULL: u32 = 16;

/// What a request does with a region that it names, the object keeps: a surface's opaque region, for one.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// By wl_region: those that have any.
    of_region: HashMap<u32, u32>,
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
        self.check(call, quota)
    }

    /// A request that may hand a region over.
    pub(super) fn take(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let is_region = |of: &&'static Interface| of.name == "wl_region";
        if !call.desc.arg_interfaces.iter().any(is_region) {
            return Ok(());
        }
        let mut interfaces = call.desc.arg_interfaces.iter();
        let mut made = None;
        let mut region = None;
        for arg in call.args() {
            match arg {
                Arg::NewId(id) => made = Some(id),
                Arg::Object(id) if interfaces.next().is_some_and(is_region) => {
                    region = Some(id);
                }
                _ => {}
            }
        }
        let Some(region) = region else { return Ok(()) };
        let holder = (made.unwrap_or(call.object()), call.message.opcode);
        let rectangles = self.of_region.get(&region).copied().unwrap_or(0);
        let before = self.taken.remove(&holder).unwrap_or(0);
        if rectangles > 0 {
            self.taken.insert(holder, rectangles);
        }
        self.sum = self.sum - u64::from(before) + u64::from(rectangles);
        self.check(call, quota)
    }

    /// An object is destroyed, with what it has.
    pub(super) fn destroy(&mut self, object: u32) {
        self.sum -= u64::from(self.of_region.remove(&object).unwrap_or(0));
        while let Some((&holder, &rectangles)) =
            self.taken.range((object, 0)..=(object, u16::MAX)).next()
        {
            self.taken.remove(&holder);
            self.sum -= u64::from(rectangles);
        }
    }

    fn check(&self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        let most = quota.rectangles.saturating_mul(FULL);
        let sum = self.sum.try_into().unwrap_or(u32::MAX);
        within(call, sum, most, "rectangles in all its regions", "rectangles")
    }
}
