//! A keyboard and a mouse that a test plays, as a client that is local to the compositor.

use crate::compositor::{HEIGHT, WIDTH};
use crate::{Client, Display};
use anyhow::Result;
use std::os::fd::AsFd;
use std::time::Instant;
use wayland_client::protocol::wl_keyboard::KeymapFormat;
use wayland_client::protocol::wl_pointer::{Axis, AxisSource, ButtonState};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::{
    zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1,
    zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1,
};
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

/// What the keys mean: the compositor reads the rest from xkb-data, which every compositor needs.
const KEYMAP: &[u8] = b"xkb_keymap {
    xkb_keycodes { include \"evdev+aliases(qwerty)\" };
    xkb_types { include \"complete\" };
    xkb_compat { include \"complete\" };
    xkb_symbols { include \"pc+us+inet(evdev)\" };
};\0";

/// The left and the right button, of linux/input-event-codes.h.
const BTN_LEFT: u32 = 0x110;
const BTN_RIGHT: u32 = 0x111;

/// Motions before the compositor is waited for. What it makes of them for a window, with frames 1.4 KiB, fits into the
/// 4 KiB that it keeps for a client.
const MOTIONS_AT_ONCE: u32 = 50;

/// How far a wheel turns at each click of its, in the units of wl_pointer.axis: what libinput reports for usual ones.
const NOTCH: f64 = 15.0;

/// Both devices. They are gone when it is dropped.
#[derive(Debug)]
pub struct Input {
    client: Client,
    keyboard: ZwpVirtualKeyboardV1,
    pointer: ZwlrVirtualPointerV1,
    begin: Instant,
}

impl Input {
    /// Gives the compositor's seat a keyboard and a mouse, and waits until it has them.
    pub fn new(display: &Display) -> Result<Self> {
        let mut client = Client::connect(display)?;
        let seat: WlSeat = client.bind(7)?;
        let manager: ZwpVirtualKeyboardManagerV1 = client.bind(1)?;
        let keyboard = manager.create_virtual_keyboard(&seat, &client.handle(), ());
        let file = wlproxy_unix::memory::constant("keymap", KEYMAP)?;
        keyboard.keymap(KeymapFormat::XkbV1.into(), file.as_fd(), KEYMAP.len() as u32);
        let manager: ZwlrVirtualPointerManagerV1 = client.bind(1)?;
        let pointer = manager.create_virtual_pointer(Some(&seat), &client.handle(), ());
        client.until("a keyboard and a mouse", |state| state.keyboard && state.pointer)?;
        Ok(Self { client, keyboard, pointer, begin: Instant::now() })
    }

    /// Presses a key and releases it; `code` is of linux/input-event-codes.h.
    pub fn key(&mut self, code: u32) -> Result<()> {
        for state in [1, 0] {
            self.keyboard.key(self.now(), code, state);
        }
        self.client.roundtrip()
    }

    /// Moves the mouse to a place on the first output, in logical pixels.
    pub fn move_to(&mut self, x: i64, y: i64) -> Result<()> {
        let inside = |at: i64, size: u32| (at.max(0) as u32).min(size - 1);
        let (x, y) = (inside(x, WIDTH), inside(y, HEIGHT));
        self.pointer.motion_absolute(self.now(), x, y, WIDTH, HEIGHT);
        self.pointer.frame();
        self.client.roundtrip()
    }

    /// Moves the mouse so many times, to and fro between two places, as fast as the compositor takes it.
    pub fn sweep(&mut self, times: u32, from: (u32, u32), to: (u32, u32)) -> Result<()> {
        for number in 0..times {
            let (x, y) = if number % 2 == 0 { from } else { to };
            self.pointer.motion_absolute(self.now(), x, y, WIDTH, HEIGHT);
            self.pointer.frame();
            if number % MOTIONS_AT_ONCE == 0 {
                self.client.roundtrip()?;
            }
        }
        self.client.roundtrip()
    }

    /// Pushes the mouse so many times, by these two distances in turn, as fast as the compositor takes it.
    pub fn push(&mut self, times: u32, by: [(f64, f64); 2]) -> Result<()> {
        for number in 0..times {
            let (dx, dy) = by[number as usize % 2];
            self.pointer.motion(self.now(), dx, dy);
            self.pointer.frame();
            if number % MOTIONS_AT_ONCE == 0 {
                self.client.roundtrip()?;
            }
        }
        self.client.roundtrip()
    }

    /// Presses the left button and releases it, wherever the mouse is.
    pub fn click(&mut self) -> Result<()> {
        for state in [ButtonState::Pressed, ButtonState::Released] {
            self.button(BTN_LEFT, state)?;
        }
        Ok(())
    }

    /// The same with the right button.
    pub fn right_click(&mut self) -> Result<()> {
        for state in [ButtonState::Pressed, ButtonState::Released] {
            self.button(BTN_RIGHT, state)?;
        }
        Ok(())
    }

    /// Presses the left button.
    pub fn press(&mut self) -> Result<()> {
        self.button(BTN_LEFT, ButtonState::Pressed)
    }

    /// Releases it.
    pub fn release(&mut self) -> Result<()> {
        self.button(BTN_LEFT, ButtonState::Released)
    }

    /// Presses a button, or releases it.
    fn button(&mut self, button: u32, state: ButtonState) -> Result<()> {
        self.pointer.button(self.now(), button, state);
        self.pointer.frame();
        self.client.roundtrip()
    }

    /// Turns the wheel towards the user by so many clicks of it.
    pub fn scroll(&mut self, notches: u32) -> Result<()> {
        for _ in 0..notches {
            self.pointer.axis_source(AxisSource::Wheel);
            self.pointer.axis_discrete(self.now(), Axis::VerticalScroll, NOTCH, 1);
            self.pointer.frame();
        }
        self.client.roundtrip()
    }

    /// Milliseconds, as events tell them.
    fn now(&self) -> u32 {
        self.begin.elapsed().as_millis() as u32
    }
}
