//! A keyboard and a mouse for a compositor that has neither.

use crate::compositor::{HEIGHT, WIDTH};
use crate::{Client, Display, State, memfd};
use anyhow::Result;
use std::io::Write;
use std::os::fd::AsFd;
use wayland_client::delegate_noop;
use wayland_client::protocol::wl_pointer::ButtonState;
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

/// The left button (Linux, `BTN_LEFT`).
const LEFT: u32 = 0x110;

/// `wl_keyboard.keymap_format`.
const XKB_V1: u32 = 1;

/// The smallest keymap that libxkbcommon takes: nobody types here.
const KEYMAP: &[u8] = b"xkb_keymap { xkb_keycodes { minimum = 8; maximum = 255; <A> = 38; }; \
    xkb_types { type \"ONE_LEVEL\" { modifiers = none; level_name[Level1] = \"Any\"; }; }; \
    xkb_compatibility { }; xkb_symbols { key <A> { [ a ] }; }; };\0";

/// The hands of somebody who sits in front of the compositor.
#[derive(Debug)]
pub struct Hands {
    client: Client,
    pointer: ZwlrVirtualPointerV1,
    /// Its being there gives the seat a keyboard.
    _keyboard: ZwpVirtualKeyboardV1,
    time: u32,
}

impl Hands {
    /// Plugs both in.
    pub fn new(display: &Display) -> Result<Self> {
        let mut client = Client::connect(display)?;
        let handle = client.handle();
        let seat: WlSeat = client.bind(7)?;
        let keyboards: ZwpVirtualKeyboardManagerV1 = client.bind(1)?;
        let keyboard = keyboards.create_virtual_keyboard(&seat, &handle, ());
        let mut keymap = memfd(0);
        keymap.write_all(KEYMAP)?;
        keyboard.keymap(XKB_V1, keymap.as_fd(), KEYMAP.len() as u32);
        let pointers: ZwlrVirtualPointerManagerV1 = client.bind(1)?;
        let pointer = pointers.create_virtual_pointer(Some(&seat), &handle, ());
        client.roundtrip()?;
        Ok(Self { client, pointer, _keyboard: keyboard, time: 0 })
    }

    /// Moves the pointer to a place on the screen, in pixels.
    pub fn move_to(&mut self, x: u32, y: u32) -> Result<()> {
        let time = self.time();
        self.pointer.motion_absolute(time, x, y, WIDTH, HEIGHT);
        self.frame()
    }

    /// Presses the left button.
    pub fn press(&mut self) -> Result<()> {
        self.button(ButtonState::Pressed)
    }

    /// Lets it go.
    pub fn release(&mut self) -> Result<()> {
        self.button(ButtonState::Released)
    }

    fn button(&mut self, state: ButtonState) -> Result<()> {
        let time = self.time();
        self.pointer.button(time, LEFT, state);
        self.frame()
    }

    fn frame(&mut self) -> Result<()> {
        self.pointer.frame();
        self.client.roundtrip()
    }

    fn time(&mut self) -> u32 {
        self.time += 1;
        self.time
    }
}

delegate_noop!(State: ignore ZwlrVirtualPointerManagerV1);
delegate_noop!(State: ignore ZwlrVirtualPointerV1);
