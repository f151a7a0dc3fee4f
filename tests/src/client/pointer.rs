//! The mouse as a client hears of it.

use super::State;
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::{Connection, Dispatch, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::wp::cursor_shape::v1::client::{
    wp_cursor_shape_device_v1::WpCursorShapeDeviceV1,
    wp_cursor_shape_manager_v1::WpCursorShapeManagerV1,
};

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

delegate_noop!(State: ignore WpCursorShapeManagerV1);
delegate_noop!(State: ignore WpCursorShapeDeviceV1);
