//! Popups.

use super::{Client, State};
use crate::Rect;
use anyhow::Result;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_protocols::xdg::shell::client::{
    xdg_popup::{self, XdgPopup},
    xdg_positioner::{Anchor, Gravity, XdgPositioner},
    xdg_surface::XdgSurface,
};

/// A popup. Its configures are acknowledged as a toplevel's are.
#[derive(Debug)]
pub struct Popup {
    /// Its surface.
    pub surface: WlSurface,
    /// Its role's first half.
    pub xdg_surface: XdgSurface,
    /// Its role's second half.
    pub popup: XdgPopup,
}

impl Client {
    /// A new popup of `parent`, at a place relative to it, whose role is all its own; ready for [`Client::configured`].
    pub fn popup(&self, parent: &XdgSurface, place: Rect) -> Popup {
        let (handle, positioner) = (self.handle(), self.positioner(place));
        let surface = self.surface();
        let xdg_surface = self.wm_base.get_xdg_surface(&surface, &handle, surface.clone());
        let popup = xdg_surface.get_popup(Some(parent), &positioner, &handle, ());
        positioner.destroy();
        Popup { surface, xdg_surface, popup }
    }

    /// Asks for another place of a popup, which needs version 3 of xdg_wm_base. The answer has `token`.
    pub fn move_popup(&self, popup: &Popup, place: Rect, token: u32) {
        let positioner = self.positioner(place);
        popup.popup.reposition(&positioner, token);
        positioner.destroy();
    }

    fn positioner(&self, place: Rect) -> XdgPositioner {
        let positioner = self.wm_base.create_positioner(&self.handle(), ());
        positioner.set_size(place.width, place.height);
        positioner.set_anchor_rect(place.x, place.y, 1, 1);
        positioner.set_anchor(Anchor::TopLeft);
        positioner.set_gravity(Gravity::BottomRight);
        positioner
    }

    /// Commits a surface without a buffer and waits for its first configure.
    pub fn configured(&mut self, surface: &WlSurface) -> Result<()> {
        surface.commit();
        let before = self.state.configures;
        self.until("the first configure", |state| state.configures > before)
    }
}

impl Popup {
    /// Takes it away.
    pub fn destroy(self) {
        self.popup.destroy();
        self.xdg_surface.destroy();
        self.surface.destroy();
    }
}

impl Dispatch<XdgPopup, ()> for State {
    fn event(
        state: &mut Self,
        _: &XdgPopup,
        event: xdg_popup::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_popup::Event::Configure { x, y, width, height } => {
                state.popup_place = Some(Rect { x, y, width, height });
            }
            xdg_popup::Event::Repositioned { token } => state.popups_moved.push(token),
            xdg_popup::Event::PopupDone => state.popups_done += 1,
            _ => {}
        }
    }
}

delegate_noop!(State: ignore XdgPositioner);
