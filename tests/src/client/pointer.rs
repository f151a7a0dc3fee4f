//! The mouse as a client hears of it.

use super::{Client, State};
use anyhow::Result;
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::wp::cursor_shape::v1::client::{
    wp_cursor_shape_device_v1::WpCursorShapeDeviceV1,
    wp_cursor_shape_manager_v1::WpCursorShapeManagerV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::{
    zwp_locked_pointer_v1::{self, ZwpLockedPointerV1},
    zwp_pointer_constraints_v1::{Lifetime, ZwpPointerConstraintsV1},
};
use wayland_protocols::wp::relative_pointer::zv1::client::{
    zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1,
    zwp_relative_pointer_v1::{self, ZwpRelativePointerV1},
};

/// The mouse as a client hears of it that has locked it in place.
#[derive(Debug, Default)]
pub struct Lock {
    /// Whether it is locked now.
    pub is_held: bool,
    /// How often it has told of a distance.
    pub moves: usize,
    /// The sum of these, and of those before they were accelerated.
    pub sums: [f64; 4],
}

impl Client {
    /// Locks the mouse in place, which is over this surface, and waits until it is.
    pub fn lock(&mut self, pointer: &WlPointer, surface: &WlSurface) -> Result<()> {
        let relatives: ZwpRelativePointerManagerV1 = self.bind(1)?;
        relatives.get_relative_pointer(pointer, &self.handle(), ());
        let constraints: ZwpPointerConstraintsV1 = self.bind(1)?;
        let handle = self.handle();
        constraints.lock_pointer(surface, pointer, None, Lifetime::Persistent, &handle, ());
        self.until("the mouse to be locked", |state| state.lock.is_held)
    }
}

impl Dispatch<ZwpLockedPointerV1, ()> for State {
    fn event(
        state: &mut Self,
        _: &ZwpLockedPointerV1,
        event: zwp_locked_pointer_v1::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.lock.is_held = matches!(event, zwp_locked_pointer_v1::Event::Locked);
    }
}

impl Dispatch<ZwpRelativePointerV1, ()> for State {
    fn event(
        state: &mut Self,
        _: &ZwpRelativePointerV1,
        event: zwp_relative_pointer_v1::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let zwp_relative_pointer_v1::Event::RelativeMotion {
            dx, dy, dx_unaccel, dy_unaccel, ..
        } = event
        else {
            return;
        };
        state.lock.moves += 1;
        let distances = [dx, dy, dx_unaccel, dy_unaccel];
        state.lock.sums.iter_mut().zip(distances).for_each(|(sum, distance)| *sum += distance);
    }
}

impl Dispatch<WlPointer, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlPointer,
        event: wl_pointer::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_pointer::Event::Enter { serial, .. } => state.pointer_entered = Some(serial),
            wl_pointer::Event::Leave { .. } => state.pointer_entered = None,
            wl_pointer::Event::Motion { surface_x, surface_y, .. } => {
                state.motions += 1;
                state.mouse = Some((surface_x, surface_y));
            }
            wl_pointer::Event::Button { serial, state: WEnum::Value(button), .. } => {
                state.serial = serial;
                match button {
                    wl_pointer::ButtonState::Pressed => {
                        state.pressed += 1;
                        state.presses += 1;
                    }
                    _ => state.pressed -= 1,
                }
            }
            _ => {}
        }
    }
}

delegate_noop!(State: ignore ZwpPointerConstraintsV1);
delegate_noop!(State: ignore ZwpRelativePointerManagerV1);
delegate_noop!(State: ignore WpCursorShapeManagerV1);
delegate_noop!(State: ignore WpCursorShapeDeviceV1);
