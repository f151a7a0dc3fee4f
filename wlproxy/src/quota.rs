//! What one client may have at once. Pure: the relay asks at each request.
//!
//! A compositor does what clients ask for, as much as they ask for: each rectangle of a region costs it the more the more
//! there are, each wl_buffer an fd. So the host counts, and the client that asks for too much is told, and ended.

mod buffers;
mod census;
mod icons;
mod ids;
mod nesting;
mod regions;
mod surfaces;
mod types;
pub mod vm;

use crate::concern::{Concern, Count};
pub use census::Census;
use census::Member;
use icons::Icons;
use ids::{ById, Ids};
use nesting::Refusal;
use regions::Regions;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use surfaces::Surfaces;
use types::Types;
use wlproxy_protocol::wayland::objects::{MAX_OBJECTS, NO_MEMORY, Violation};
use wlproxy_protocol::wayland::{Arg, Call};

/// Most of each that one client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Objects of any kind. All clients of a VM have no more than 8 that have the most that may be, and some hundreds each.
    pub objects: u32,
    /// Globals that are bound, whichever they are.
    pub binds: u32,
    /// wl_surfaces.
    pub surfaces: u32,
    /// wl_surfaces that are subsurfaces of each other.
    pub nesting: u32,
    /// xdg_toplevels, and wl_shell_surfaces of any role.
    pub windows: u32,
    /// wl_buffers and wl_shm_pools together: each is an fd or a mapping of the compositor's. Those that were destroyed while
    /// a wl_surface shows them, or is to show them, are among them. So many again may be in the icons of windows. All
    /// clients of a VM have no more than 8,192, and some each.
    pub buffers: u32,
    /// wl_surface.commits that wait to be shown, of all surfaces together.
    pub commits: u32,
    /// Pixels that a wl_buffer is wide or high.
    pub buffer_side: u32,
    /// Rectangles that were added to a wl_region or taken out of it. All regions of a client, and what its objects and its
    /// commits that wait have taken over of them, may have 16 times as many.
    pub rectangles: u32,
    /// Rectangles that are the damage of a wl_surface until that is shown: by its next commit, or by its parent's. All
    /// surfaces of a client may have 16 times as many.
    pub damage: u32,
    /// MIME types of what is copied or dragged, of 128 bytes on average. All sources of a client may have 16 times as many.
    pub types: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            objects: MAX_OBJECTS as u32,
            // Each part of an application has a registry of its own, and binds some ten. When a client with 20,000 wl_seats
            // leaves, smithay 0.7 is busy for seconds, and that grows by the square.
            binds: 2_000,
            // Four for each window.
            surfaces: 2_000,
            // Toolkits have two or three. smithay 0.7 takes 1 ms for 100, and that grows by the square: 11 s for 1,500.
            nesting: 32,
            // Qubes' gui-daemon allows a VM as many.
            windows: 500,
            // Sway 1.10 holds an fd for each, and compositors that don't raise their limit may have 1,024. Firefox has
            // some dozens.
            buffers: 1_000,
            // A minute of commits at 60 Hz: a window that is hidden goes on without its parent no longer than that. Each costs
            // smithay 0.7 and wlroots some 0.5 KiB.
            commits: 4_096,
            // Qubes' gui-daemon allows windows of 16384x6144; no GPU of today has larger textures.
            buffer_side: 16_384,
            // 10,000 of them keep libwayland's and wlroots' compositors for 20 to 53 ms, and that grows by their square.
            rectangles: 4_096,
            // 50,000 that don't touch each other keep wlroots 0.15 for 1.1 s, and that grows by the square, too.
            damage: 4_096,
            // Each is an event to whoever gets the focus, and one that can't be told all is disconnected. LibreOffice has
            // some dozens.
            types: 250,
        }
    }
}

/// All regions of a client together have at most as many rectangles as so many full ones, all surfaces as much damage, and all
/// sources of selections as many types. By default the former are 65,536, of 16 bytes each: a MiB, and twice that where a surface's next state is beside the current one.
const FULL: u32 = 16;

/// `wl_subcompositor.error`: the surface can't be a subsurface, and the parent can't be one (wayland.xml).
const BAD_SURFACE: u32 = 0;
const BAD_PARENT: u32 = 1;

/// What one client has.
#[derive(Debug, Default)]
pub struct Spent {
    /// What it has as one of its VM's clients.
    member: Member,
    /// What was bound.
    bound: Ids,
    surfaces: u32,
    windows: u32,
    /// Windows of wl_shell among them, by wl_surface.
    shell_surfaces: ById<u32, u32>,
    regions: Regions,
    /// Buffers, pools and damage, and commits that wait.
    held: Surfaces,
    types: Types,
    icons: Icons,
}

impl Spent {
    /// Nothing yet, of a client that counts in `census` with others.
    pub(crate) fn among(census: Arc<Census>) -> Self {
        Self { member: Member::new(census), ..Self::default() }
    }

    /// A request of the client, which was checked. `objects` are all that it has, with those that this makes.
    ///
    /// # Errors
    /// If it would have more than `quota` then.
    pub(crate) fn request(
        &mut self,
        call: &Call<'_>,
        concern: Concern,
        objects: usize,
        quota: &Quota,
    ) -> Result<(), Violation> {
        within(call, objects.try_into().unwrap_or(u32::MAX), quota.objects, "objects", "objects")?;
        crowded(call, self.member.set_objects(objects), "objects", "objects")?;
        // Some may be gone meanwhile.
        self.count_buffers(call)?;
        self.names_others(call, concern, quota)?;
        if call.desc.is_destructor {
            self.bound.remove(&call.object());
            let rectangles = self.regions.destroy(call.object());
            if rectangles > 0 {
                self.held.hand_over(call.object(), rectangles, 0);
            }
            self.held.unmake(call.object());
            self.icons.destroy(call.object());
        }
        let Some(count) = concern.count else { return Ok(()) };
        match count {
            Count::Bind => {
                self.bound.extend(call.args().find_map(new_id));
                let bound = self.bound.len().try_into().unwrap_or(u32::MAX);
                within(call, bound, quota.binds, "globals that are bound", "binds")?;
            }
            Count::Damage => {
                self.held.damage(call, quota)?;
            }
            Count::Rectangle => {
                self.regions.add(call, quota)?;
                self.regions.check(call, self.held.rectangles(), quota)?;
            }
            Count::Attach => {
                let buffer = call.args().find_map(object).unwrap_or(0);
                self.held.attach(call.object(), buffer);
            }
            Count::Frame => {
                call.args().find_map(new_id).into_iter().for_each(|id| {
                    self.held.frame(call.object(), id);
                });
            }
            Count::Commit => {
                self.held.commit(call, quota)?;
                self.regions.check(call, self.held.rectangles(), quota)?;
            }
            Count::CreateSurface => {
                add(call, &mut self.surfaces, quota.surfaces, "surfaces", "surfaces")?;
                call.args().find_map(new_id).into_iter().for_each(|id| self.held.create(id));
            }
            Count::DestroySurface => {
                self.surfaces = self.surfaces.saturating_sub(1);
                let windows = self.shell_surfaces.remove(&call.object()).unwrap_or(0);
                self.windows = self.windows.saturating_sub(windows);
                self.held.destroy(call.object());
            }
            Count::MakeSubsurface => {
                // id, surface, parent
                if let [Arg::NewId(id), Arg::Object(surface), Arg::Object(parent)] =
                    call.args().collect::<Vec<_>>()[..]
                {
                    let depth = self.held.make_subsurface(id, surface, parent);
                    let depth = depth.map_err(|refusal| {
                        let (code, reason) = match refusal {
                            Refusal::Circle => (BAD_PARENT, "the surface would be above itself"),
                            Refusal::Taken => (BAD_SURFACE, "the surface is a subsurface"),
                        };
                        Violation { object: call.object(), ..call.violation(code, reason) }
                    })?;
                    within(call, depth, quota.nesting, "subsurfaces in each other", "nesting")?;
                }
            }
            Count::DestroySubsurface => self.held.destroy_subsurface(call.object()),
            Count::Synchronise => self.held.synchronise(call.object(), true),
            Count::Desynchronise => self.held.synchronise(call.object(), false),
            Count::Queue => {
                call.args().find_map(object).into_iter().for_each(|id| self.held.queue(id));
            }
            Count::Window => {
                add(call, &mut self.windows, quota.windows, "windows", "windows")?;
            }
            Count::ShellWindow => {
                add(call, &mut self.windows, quota.windows, "windows", "windows")?;
                // Nothing destroys it but the end of its wl_surface, so there may be several of one.
                if let Some(surface) = call.args().find_map(object) {
                    *self.shell_surfaces.entry(surface).or_default() += 1;
                }
            }
            Count::DestroyWindow => self.windows = self.windows.saturating_sub(1),
            Count::PoolBuffer => {
                // id, offset, width, height, stride, format
                for side in call.args().skip(2).take(2) {
                    let Arg::Int(side) = side else { continue };
                    // A negative one is an error that the compositor tells.
                    let side = u32::try_from(side).unwrap_or(0);
                    within(call, side, quota.buffer_side, "pixels wide or high", "buffer_side")?;
                }
                self.held.buffers.create(call, call.args().find_map(new_id), quota)?;
                self.count_buffers(call)?;
            }
            Count::OtherBuffer => {
                self.held.buffers.create(call, call.args().find_map(new_id), quota)?;
                self.count_buffers(call)?;
            }
            Count::CreatePool => {
                self.held.buffers.create(call, None, quota)?;
                self.count_buffers(call)?;
            }
            Count::DestroyPool => self.held.buffers.destroy_pool(),
            Count::DestroyBuffer => self.held.buffers.destroy(call.object()),
            Count::OfferType => self.types.offer(call, quota)?,
            Count::DestroySource => self.types.destroy(call.object()),
            Count::IconBuffer => self.icons.add(call, quota)?,
            Count::SetIcon => {
                // toplevel, icon
                if let [Arg::Object(toplevel), Arg::Object(icon)] =
                    call.args().collect::<Vec<_>>()[..]
                {
                    self.icons.set(call, toplevel, icon, quota)?;
                }
            }
            // Events.
            Count::Release | Count::Done => {}
        }
        Ok(())
    }

    /// Tells how many buffers and pools it has.
    fn count_buffers(&mut self, call: &Call<'_>) -> Result<(), Violation> {
        let most = self.member.set_buffers(self.held.buffers.count());
        crowded(call, most, "buffers and pools", "buffers")
    }

    /// A request may hand a region over, or make something of a surface.
    fn names_others(
        &mut self,
        call: &Call<'_>,
        concern: Concern,
        quota: &Quota,
    ) -> Result<(), Violation> {
        let named = |place: u8| call.args().filter_map(object).nth(place.into());
        let made = || call.args().find_map(new_id);
        if let Some(surface) = concern.surface.and_then(named)
            && let Some(made) = made()
        {
            self.held.make(made, surface);
        }
        if let Some(region) = concern.region.and_then(named) {
            let holder = made().unwrap_or(call.object());
            let (before, rectangles) = self.regions.take(holder, call.message.opcode, region);
            self.held.hand_over(holder, before, rectangles);
            self.regions.check(call, self.held.rectangles(), quota)?;
        }
        Ok(())
    }

    /// An event of the compositor, which was checked. `newest`: it is of the newest object of this id.
    pub(crate) fn event(&mut self, call: &Call<'_>, concern: Concern, newest: bool) {
        match concern.count {
            Some(Count::Release) if newest => self.held.release(call.object()),
            Some(Count::Done) if newest => self.held.done(call.object()),
            _ => {}
        }
    }
}

/// The object that an argument is, if it is one.
fn object(arg: Arg<'_>) -> Option<u32> {
    match arg {
        Arg::Object(id) => Some(id),
        _ => None,
    }
}

/// The object that an argument makes, if it makes one.
fn new_id(arg: Arg<'_>) -> Option<u32> {
    match arg {
        Arg::NewId(id) => Some(id),
        _ => None,
    }
}

fn add(call: &Call<'_>, has: &mut u32, most: u32, what: &str, key: &str) -> Result<(), Violation> {
    within(call, *has + 1, most, what, key)?;
    *has += 1;
    Ok(())
}

/// An error if all clients of the VM have the `most` that they may, and this one has many.
fn crowded(call: &Call<'_>, most: Option<usize>, what: &str, key: &str) -> Result<(), Violation> {
    let Some(most) = most else { return Ok(()) };
    let reason = format!(
        "more than {most} {what} of all clients of this VM, of which this one has many: the quota `{key}`"
    );
    Err(call.violation(NO_MEMORY, reason))
}

fn within(call: &Call<'_>, has: u32, most: u32, what: &str, key: &str) -> Result<(), Violation> {
    if has > most {
        let reason = format!("more than {most} {what}: the quota `{key}` of this VM's clients");
        return Err(call.violation(NO_MEMORY, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
