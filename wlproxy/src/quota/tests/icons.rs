//! How many buffers the icons of windows may have.

use super::*;

/// xdg_toplevel_icon_manager_v1 of [`with_icons`].
const MANAGER: u32 = SHELL + 1;
/// xdg_toplevel_icon_manager_v1.create_icon, set_icon; xdg_toplevel_icon_v1.destroy, add_buffer
const CREATE_ICON: u16 = 1;
const SET_ICON: u16 = 2;
const ICON_DESTROY: u16 = 0;
const ADD_BUFFER: u16 = 2;

/// A client that may have 4 buffers, with one, and the wl_buffer.
fn with_icons() -> (Client, u32) {
    let mut client = Client::new(Quota { objects: 1000, surfaces: 100, windows: 100, ..SMALL });
    client.bind(c"xdg_toplevel_icon_manager_v1", MANAGER);
    client.last = MANAGER;
    let pool = client.pool().unwrap();
    let buffer = client.buffer(pool, 32, 32).unwrap();
    (client, buffer)
}

impl Client {
    fn icon(&mut self) -> u32 {
        self.make(MANAGER, CREATE_ICON, &[]).unwrap()
    }

    fn add_to_icon(&mut self, icon: u32, buffer: u32, scale: i32) -> Result<(), Violation> {
        self.say(icon, ADD_BUFFER, &[Arg::Object(buffer), Arg::Int(scale)])
    }

    fn set_icon(&mut self, window: u32, icon: u32) -> Result<(), Violation> {
        self.say(MANAGER, SET_ICON, &[window, icon].map(Arg::Object))
    }
}

/// One buffer is enough for any number of scales.
#[test]
fn an_icon_has_so_many_buffers() {
    let (mut client, buffer) = with_icons();
    let icon = client.icon();
    (1..=4).for_each(|scale| client.add_to_icon(icon, buffer, scale).unwrap());
    client.say(icon, ICON_DESTROY, &[]).unwrap();
    let icons = [client.icon(), client.icon()];
    (1..=4).for_each(|scale| client.add_to_icon(icons[scale as usize % 2], buffer, scale).unwrap());
    let violation = client.add_to_icon(icons[0], buffer, 5).unwrap_err();
    check(violation, "xdg_toplevel_icon_v1@", &["4 buffers of icons", "`buffers`"]);
}

/// Also when the icon is destroyed, until it has another or is gone itself.
#[test]
fn a_window_keeps_those_of_its_icon() {
    let (mut client, buffer) = with_icons();
    let window = client.window().unwrap();
    for _ in 0..10 {
        let icon = client.icon();
        (1..=2).for_each(|scale| client.add_to_icon(icon, buffer, scale).unwrap());
        client.set_icon(window, icon).unwrap();
        client.say(icon, ICON_DESTROY, &[]).unwrap();
    }
    client.set_icon(window, 0).unwrap();
    let icon = client.icon();
    client.add_to_icon(icon, buffer, 1).unwrap();
    // xdg_toplevel.destroy
    client.set_icon(window, icon).unwrap();
    client.say(window, 0, &[]).unwrap();
    let windows: Vec<_> = (0..4).map(|_| client.window().unwrap()).collect();
    for &window in &windows[..3] {
        client.set_icon(window, icon).unwrap();
    }
    let violation = client.set_icon(windows[3], icon).unwrap_err();
    check(violation, "xdg_toplevel_icon_manager_v1@8.set_icon", &["4 buffers of icons"]);
}
