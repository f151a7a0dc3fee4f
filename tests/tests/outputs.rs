//! Two outputs of different scale, one of which is unplugged and plugged again while clients run.
//!
//! sway 1.7 tells clients whole scales only: where an output's is none, they draw at the next, and the compositor scales
//! down. `newer_sway.rs` has others.

use anyhow::Result;
use wayland_client::protocol::wl_surface::WlSurface;
use wlproxy_tests::Effect::{Nothing, Picture};
use wlproxy_tests::Step::{Key, Plug, Sway, Unplug};
use wlproxy_tests::scenes::{pattern, place};
use wlproxy_tests::{App, Client, Close, Desk, Display, Image, Kind, Plan, Toplevel, show};

const KEY_A: u32 = 30;

/// A second output on the right of the first, where a logical pixel is four.
fn desk() -> Desk {
    let mut desk = Desk::start(Plan { compositor: Kind::Nested, ..Plan::default() });
    desk.plug();
    // Whatever is made at the first time, for outputs that come and go.
    desk.screenshot();
    desk.unplug();
    desk.plug();
    desk.sway().command("focus output WL-1");
    desk.screenshot();
    desk.take_baseline();
    desk
}

/// Draws the same window at a scale.
fn draw(client: &Client, surface: &WlSurface, scale: i32) {
    let buffer = client.buffer(200 * scale, 100 * scale);
    buffer.draw(|x, y| pattern(x * 2 / scale, y * 2 / scale));
    surface.set_buffer_scale(scale);
    show(surface, &buffer);
}

/// A window on one output, on both, on the other, which goes and comes again.
fn travel(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut sway = desk.sway();
    let scene = |client: &mut Client, window: &Toplevel| {
        client.bind_outputs();
        client.until("two outputs", |state| state.outputs().len() == 2)?;
        client.until("their scales", |state| state.outputs().iter().all(|output| output.0 > 0))?;
        draw(client, &window.surface, 1);
        Ok(())
    };
    let mut placed = place(desk, display, "traveller", scene, (100, 100))?;
    let (client, window) = (&mut placed.client, &placed.window);
    let mut pictures = Vec::new();
    let mut look = |client: &mut Client, expected: &[(i32, bool)], scale| -> Result<()> {
        client.until(&format!("{expected:?}"), |state| state.outputs() == expected)?;
        draw(client, &window.surface, scale);
        client.roundtrip()?;
        client.roundtrip()?;
        pictures.push(desk.screenshot());
        Ok(())
    };
    look(client, &[(1, true), (2, false)], 1)?;
    sway.place(placed.id, 700, 100);
    look(client, &[(1, true), (2, true)], 2)?;
    sway.place(placed.id, 900, 100);
    look(client, &[(1, false), (2, true)], 2)?;
    desk.unplug();
    client.until("the end of an output", |state| {
        state.globals.iter().filter(|global| global.1 == "wl_output").count() == 1
    })?;
    client.bind_outputs();
    // Its workspace moves to the other output, but needn't be the one that is seen.
    sway.command(&format!("[con_id={}] focus", placed.id));
    sway.place(placed.id, 150, 100);
    look(client, &[(1, true)], 1)?;
    desk.plug();
    client.until("its coming again", |state| {
        state.globals.iter().filter(|global| global.1 == "wl_output").count() == 2
    })?;
    client.bind_outputs();
    sway.place(placed.id, 900, 150);
    look(client, &[(1, false), (2, true)], 2)?;
    drop(placed);
    sway.empty();
    Ok(pictures)
}

#[test]
fn a_window_travels_between_outputs_of_different_scale() -> Result<()> {
    let desk = desk();
    let expected = travel(&desk, &desk.direct())?;
    for (i, picture) in expected.iter().enumerate() {
        assert!(!expected[..i].contains(picture), "picture {i} was there before");
    }
    let pictures = travel(&desk, &desk.through("work"))?;
    assert_eq!(pictures.len(), expected.len());
    for (i, (picture, expected)) in pictures.iter().zip(&expected).enumerate() {
        picture.assert_equals(expected, &format!("travel-{i}"));
    }
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}

/// A terminal draws its text anew for each output that it comes to.
#[test]
fn a_terminal_lives_on_when_its_output_is_unplugged() -> Result<()> {
    App {
        name: "foot",
        suite: None,
        command: &[
            "foot",
            "--config=/dev/null",
            "--font=DejaVu Sans Mono:size=12",
            "--window-size-pixels=300x200",
            "sh",
            "-c",
            r"trap 'exit 0' HUP TERM; stty -echo -icanon; printf '\033[?25l'; cat -v",
        ],
        environment: &[],
        files: &[],
        window: "foot",
        steps: &[
            Key(KEY_A, Picture),
            Sway("[app_id=foot] move absolute position 850 50", Picture),
            Key(KEY_A, Picture),
            // Its workspace moves to the other output, but needn't be the one that is seen.
            Unplug(Nothing),
            Sway("[app_id=foot] focus", Nothing),
            Sway("[app_id=foot] move absolute position 30 40", Picture),
            Key(KEY_A, Picture),
            Plug(Nothing),
            Sway("[app_id=foot] move absolute position 850 50", Picture),
            Key(KEY_A, Picture),
        ],
        says: &[],
        close: Close::Window,
    }
    .live_twice_on(desk())
}
