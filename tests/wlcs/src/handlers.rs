//! What clients request.

use crate::compositor::{OfClient, State};
use smithay::backend::renderer::utils::{on_commit_buffer_handler, with_renderer_surface_state};
use smithay::desktop::{
    PopupKeyboardGrab, PopupKind, PopupPointerGrab, Window, find_popup_root_surface,
};
use smithay::input::pointer::Focus;
use smithay::input::{Seat, SeatHandler, SeatState};
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Resource};
use smithay::utils::Serial;
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::compositor::{
    CompositorClientState, CompositorHandler, CompositorState, get_parent, is_sync_subsurface,
};
use smithay::wayland::output::OutputHandler;
use smithay::wayland::selection::SelectionHandler;
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, ServerDndGrabHandler,
    set_data_device_focus,
};
use smithay::wayland::selection::primary_selection::{
    PrimarySelectionHandler, PrimarySelectionState, set_primary_focus,
};
use smithay::wayland::shell::xdg::{
    PopupSurface, PositionerState, ToplevelSurface, XdgShellHandler, XdgShellState,
};
use smithay::wayland::shm::{ShmHandler, ShmState};
use smithay::{
    delegate_compositor, delegate_data_device, delegate_output, delegate_primary_selection,
    delegate_relative_pointer, delegate_seat, delegate_shm, delegate_viewporter,
    delegate_xdg_shell,
};

impl CompositorHandler for State {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        &client.get_data::<OfClient>().expect("each client has it").compositor
    }

    fn commit(&mut self, surface: &WlSurface) {
        on_commit_buffer_handler::<Self>(surface);
        self.popups.commit(surface);
        if is_sync_subsurface(surface) {
            return;
        }
        let mut root = surface.clone();
        while let Some(parent) = get_parent(&root) {
            root = parent;
        }
        self.show(&root);
        if let Some(PopupKind::Xdg(popup)) = self.popups.find_popup(surface)
            && !popup.is_initial_configure_sent()
        {
            // It may be gone, or wrong: then its client is told.
            let _ = popup.send_configure();
        }
    }
}

impl State {
    /// What a window shows has changed.
    fn show(&mut self, root: &WlSurface) {
        let is_it = |toplevel: &&ToplevelSurface| toplevel.wl_surface() == root;
        let Some(toplevel) = self.xdg_shell.toplevel_surfaces().iter().find(is_it).cloned() else {
            return;
        };
        let window = self.windows.elements().find(|window| window.toplevel() == Some(&toplevel));
        let window = window.cloned();
        let shows = with_renderer_surface_state(root, |state| state.buffer().is_some());
        match (window, shows == Some(true)) {
            (None, false) if !toplevel.is_initial_configure_sent() => {
                toplevel.send_configure();
            }
            (None, false) => {}
            (None, true) => {
                let window = Window::new_wayland_window(toplevel);
                window.on_commit();
                self.windows.map_element(window, (0, 0), true);
                self.focus(Some(root.clone()));
            }
            (Some(window), true) => window.on_commit(),
            (Some(window), false) => {
                self.windows.unmap_elem(&window);
                toplevel.reset_initial_configure_sent();
            }
        }
        // Another surface may be under the mouse now.
        self.point_by((0.0, 0.0).into());
    }
}

impl XdgShellHandler for State {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.xdg_shell
    }

    /// It is shown when it has something to show.
    fn new_toplevel(&mut self, _surface: ToplevelSurface) {}

    fn toplevel_destroyed(&mut self, surface: ToplevelSurface) {
        let window = self.windows.elements().find(|window| window.toplevel() == Some(&surface));
        let window = window.cloned();
        if let Some(window) = window {
            self.windows.unmap_elem(&window);
        }
        self.point_by((0.0, 0.0).into());
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        surface.with_pending_state(|state| state.geometry = positioner.get_geometry());
        let _ = self.popups.track_popup(PopupKind::Xdg(surface));
    }

    fn reposition_request(
        &mut self,
        surface: PopupSurface,
        positioner: PositionerState,
        token: u32,
    ) {
        surface.with_pending_state(|state| {
            state.geometry = positioner.get_geometry();
            state.positioner = positioner;
        });
        surface.send_repositioned(token);
    }

    fn grab(&mut self, surface: PopupSurface, _seat: WlSeat, serial: Serial) {
        let kind = PopupKind::Xdg(surface);
        let Ok(root) = find_popup_root_surface(&kind) else { return };
        let seat = self.seat.clone();
        let Ok(grab) = self.popups.grab_popup::<Self>(root, kind, &seat, serial) else { return };
        if let Some(keyboard) = seat.get_keyboard() {
            keyboard.set_focus(self, grab.current_grab(), serial);
            keyboard.set_grab(self, PopupKeyboardGrab::new(&grab), serial);
        }
        if let Some(pointer) = seat.get_pointer() {
            pointer.set_grab(self, PopupPointerGrab::new(&grab), serial, Focus::Keep);
        }
    }
}

impl SeatHandler for State {
    type KeyboardFocus = WlSurface;
    type PointerFocus = WlSurface;
    type TouchFocus = WlSurface;

    fn seat_state(&mut self) -> &mut SeatState<Self> {
        &mut self.seat_state
    }

    fn focus_changed(&mut self, seat: &Seat<Self>, focused: Option<&WlSurface>) {
        let client = focused.and_then(Resource::client);
        set_data_device_focus(&self.display, seat, client.clone());
        set_primary_focus(&self.display, seat, client);
    }
}

impl BufferHandler for State {
    fn buffer_destroyed(&mut self, _buffer: &WlBuffer) {}
}

impl ShmHandler for State {
    fn shm_state(&self) -> &ShmState {
        &self.shm
    }
}

impl SelectionHandler for State {
    type SelectionUserData = ();
}

impl DataDeviceHandler for State {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.data_device
    }
}

impl PrimarySelectionHandler for State {
    fn primary_selection_state(&self) -> &PrimarySelectionState {
        &self.primary_selection
    }
}

impl OutputHandler for State {}
impl ClientDndGrabHandler for State {}
impl ServerDndGrabHandler for State {}

delegate_compositor!(State);
delegate_shm!(State);
delegate_output!(State);
delegate_seat!(State);
delegate_data_device!(State);
delegate_primary_selection!(State);
delegate_relative_pointer!(State);
delegate_viewporter!(State);
delegate_xdg_shell!(State);
