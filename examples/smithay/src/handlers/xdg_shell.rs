//! Windows and popups.

use crate::state::State;
use smithay::desktop::{PopupKind, find_popup_root_surface, get_popup_toplevel_coords};
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::utils::Serial;
use smithay::wayland::shell::xdg::decoration::XdgDecorationHandler;
use smithay::wayland::shell::xdg::{
    PopupSurface, PositionerState, ToplevelSurface, XdgShellHandler, XdgShellState,
};
use smithay::{delegate_xdg_decoration, delegate_xdg_shell};

impl XdgShellHandler for State {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.xdg_shell
    }

    fn new_toplevel(&mut self, surface: ToplevelSurface) {
        self.windows.add(surface);
    }

    fn toplevel_destroyed(&mut self, surface: ToplevelSurface) {
        self.windows.remove(&surface);
        self.focus_newest();
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        self.constrain(&surface, positioner);
        if let Err(error) = self.popups.track_popup(PopupKind::Xdg(surface)) {
            tracing::warn!("a popup isn't shown: {error}");
        }
    }

    fn reposition_request(
        &mut self,
        surface: PopupSurface,
        positioner: PositionerState,
        token: u32,
    ) {
        self.constrain(&surface, positioner);
        surface.send_repositioned(token);
    }

    /// There is no input that a popup could take.
    fn grab(&mut self, _surface: PopupSurface, _seat: WlSeat, _serial: Serial) {}
}

impl State {
    /// Moves a popup to where the screen has room for it.
    fn constrain(&self, popup: &PopupSurface, positioner: PositionerState) {
        let kind = PopupKind::Xdg(popup.clone());
        let window = find_popup_root_surface(&kind).ok();
        let place = window.and_then(|window| self.windows.place_of(&window));
        let geometry = match place {
            Some(place) => {
                let mut screen = self.windows.screen();
                screen.loc -= place.loc + get_popup_toplevel_coords(&kind);
                positioner.get_unconstrained_geometry(screen)
            }
            None => positioner.get_geometry(),
        };
        // All was asked before: the pending state is locked meanwhile.
        popup.with_pending_state(|state| {
            state.positioner = positioner;
            state.geometry = geometry;
        });
    }
}

/// Decorations are always the compositor's: a client that drew its own would draw them into the border.
impl XdgDecorationHandler for State {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        toplevel.with_pending_state(|state| state.decoration_mode = Some(Mode::ServerSide));
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, _mode: Mode) {
        toplevel.send_pending_configure();
    }

    fn unset_mode(&mut self, toplevel: ToplevelSurface) {
        toplevel.send_pending_configure();
    }
}

delegate_xdg_shell!(State);
delegate_xdg_decoration!(State);
