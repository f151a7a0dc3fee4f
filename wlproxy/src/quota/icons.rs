//! Buffers of windows' icons. wlroots 0.19 and smithay 0.7 keep each that is added to an icon, also when it is destroyed, and
//! look for it among all that were added before.

use super::ids::ById;
use super::{Quota, within};
use wlproxy_protocol::wayland::Call;
use wlproxy_protocol::wayland::objects::Violation;

/// The buffers of a client's icons: those that it still makes, and those that windows have.
#[derive(Debug, Default)]
pub(super) struct Icons {
    /// By xdg_toplevel_icon_v1, and by xdg_toplevel: those that have any.
    buffers: ById<u32, u32>,
    sum: u32,
}

impl Icons {
    /// xdg_toplevel_icon_v1.add_buffer.
    pub(super) fn add(&mut self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        *self.buffers.entry(call.object()).or_default() += 1;
        self.sum = self.sum.saturating_add(1);
        self.check(call, quota)
    }

    /// xdg_toplevel_icon_manager_v1.set_icon. `icon` is 0 for none.
    pub(super) fn set(
        &mut self,
        call: &Call<'_>,
        toplevel: u32,
        icon: u32,
        quota: &Quota,
    ) -> Result<(), Violation> {
        self.destroy(toplevel);
        if let Some(&buffers) = self.buffers.get(&icon) {
            self.buffers.insert(toplevel, buffers);
            self.sum = self.sum.saturating_add(buffers);
        }
        self.check(call, quota)
    }

    /// An object is destroyed, which may have some.
    pub(super) fn destroy(&mut self, object: u32) {
        self.sum = self.sum.saturating_sub(self.buffers.remove(&object).unwrap_or(0));
    }

    fn check(&self, call: &Call<'_>, quota: &Quota) -> Result<(), Violation> {
        within(call, self.sum, quota.buffers, "buffers of icons", "buffers")
    }
}
