//! The seat: what the mouse and a finger do.

use crate::compositor::State;
use smithay::backend::input::{ButtonState, TouchSlot};
use smithay::desktop::WindowSurfaceType;
use smithay::input::pointer::{self, RelativeMotionEvent};
use smithay::input::touch;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, SERIAL_COUNTER};

/// There is one finger.
const FINGER: Option<u32> = Some(0);

impl State {
    /// Milliseconds since the start.
    fn time(&self) -> u32 {
        self.started.elapsed().as_millis().try_into().unwrap_or(u32::MAX)
    }

    /// The surface there, and where that is.
    fn under(&self, at: Point<f64, Logical>) -> Option<(WlSurface, Point<f64, Logical>)> {
        let (window, origin) = self.windows.element_under(at)?;
        let within = at - origin.to_f64();
        let (surface, offset) = window.surface_under(within, WindowSurfaceType::ALL)?;
        Some((surface, (offset + origin).to_f64()))
    }

    /// The window there comes to the front and gets the keyboard.
    fn focus_at(&mut self, at: Point<f64, Logical>) {
        let window = self.windows.element_under(at).map(|(window, _)| window.clone());
        if let Some(window) = &window {
            self.windows.raise_element(window, true);
        }
        let surface = window.as_ref().and_then(|window| window.toplevel());
        self.focus(surface.map(|toplevel| toplevel.wl_surface().clone()));
    }

    pub(crate) fn focus(&mut self, surface: Option<WlSurface>) {
        let keyboard = self.seat.get_keyboard().expect("the seat has one");
        keyboard.set_focus(self, surface, SERIAL_COUNTER.next_serial());
    }

    pub(crate) fn point_to(&mut self, at: Point<f64, Logical>) {
        let pointer = self.seat.get_pointer().expect("the seat has one");
        let (serial, time) = (SERIAL_COUNTER.next_serial(), self.time());
        let under = self.under(at);
        pointer.motion(self, under, &pointer::MotionEvent { location: at, serial, time });
        pointer.frame(self);
    }

    pub(crate) fn point_by(&mut self, distance: Point<f64, Logical>) {
        let pointer = self.seat.get_pointer().expect("the seat has one");
        let at = pointer.current_location() + distance;
        let under = self.under(at);
        let utime = self.started.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        let (delta, delta_unaccel) = (distance, distance);
        let event = RelativeMotionEvent { delta, delta_unaccel, utime };
        pointer.relative_motion(self, under, &event);
        self.point_to(at);
    }

    pub(crate) fn button(&mut self, button: u32, pressed: bool) {
        let pointer = self.seat.get_pointer().expect("the seat has one");
        if pressed && !pointer.is_grabbed() {
            self.focus_at(pointer.current_location());
        }
        let state = if pressed { ButtonState::Pressed } else { ButtonState::Released };
        let (serial, time) = (SERIAL_COUNTER.next_serial(), self.time());
        pointer.button(self, &pointer::ButtonEvent { button, state, serial, time });
        pointer.frame(self);
    }

    pub(crate) fn touch_down(&mut self, at: Point<f64, Logical>) {
        let touch = self.seat.get_touch().expect("the seat has one");
        let (serial, time, slot) = (SERIAL_COUNTER.next_serial(), self.time(), finger());
        let under = self.under(at);
        touch.down(self, under, &touch::DownEvent { slot, location: at, serial, time });
        touch.frame(self);
    }

    pub(crate) fn touch_to(&mut self, at: Point<f64, Logical>) {
        let touch = self.seat.get_touch().expect("the seat has one");
        let (time, slot) = (self.time(), finger());
        let under = self.under(at);
        touch.motion(self, under, &touch::MotionEvent { slot, location: at, time });
        touch.frame(self);
    }

    pub(crate) fn touch_up(&mut self) {
        let touch = self.seat.get_touch().expect("the seat has one");
        let (serial, time, slot) = (SERIAL_COUNTER.next_serial(), self.time(), finger());
        touch.up(self, &touch::UpEvent { slot, serial, time });
        touch.frame(self);
    }
}

fn finger() -> TouchSlot {
    FINGER.into()
}
