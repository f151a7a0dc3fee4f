//! What a mouse brings with it: popups that grab it, and cursors that a client draws.
//!
//! sway 1.7 moves no popups and knows no cursor shapes; `newer_sway.rs` has these.

use anyhow::{Context, Result};
use wayland_client::protocol::wl_surface::WlSurface;
use wlproxy_tests::scenes::pattern;
use wlproxy_tests::{Desk, Display, Image, Rect, Seat, Way, compare, show};

/// A popup that grabs the mouse, and one on top of it. Both are dismissed by a click beside the window.
fn popups(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut seat = Seat::new(desk, display)?;
    let mut pictures = Vec::new();
    seat.input.press()?;
    seat.client().until("a press", |state| state.pressed == 1)?;
    let mut parent = seat.placed.window.xdg_surface.clone();
    let mut popups = Vec::new();
    for i in 0..2 {
        let serial = seat.client().state.serial;
        // The second lies partly beside the first, and beside the window.
        let place = Rect { x: 60 + 20 * i, y: 40 + 30 * i, width: 120, height: 100 + 60 * i };
        let popup = seat.client().popup(&parent, place);
        popup.popup.grab(&seat.seat, serial);
        seat.client().configured(&popup.surface)?;
        assert_eq!(seat.client().state.popup_place, Some(place));
        let buffer = seat.client().buffer(place.width, place.height);
        buffer.draw(|x, y| pattern(y * (2 + i), x));
        show(&popup.surface, &buffer);
        seat.placed.settle()?;
        pictures.push(desk.screenshot());
        parent = popup.xdg_surface.clone();
        popups.push(popup);
    }
    seat.input.release()?;
    seat.input.move_to(600, 500)?;
    seat.input.click()?;
    seat.client().until("the end of both popups", |state| state.popups_done == 2)?;
    popups.into_iter().rev().for_each(|popup| popup.destroy());
    seat.placed.settle()?;
    pictures.push(desk.screenshot());
    drop(seat);
    desk.sway().empty();
    Ok(pictures)
}

#[test]
fn popups_grab_the_mouse_and_are_dismissed() -> Result<()> {
    compare(Desk::new(Way::Through), popups, "popups")
}

/// A cursor of `size` with its hot spot in the middle.
fn cursor(seat: &mut Seat, surface: &WlSurface, size: i32) -> Result<()> {
    let serial = seat.client().state.pointer_entered.context("the mouse left")?;
    let buffer = seat.client().buffer(size, size);
    buffer.draw(|x, y| pattern(x * 9, y * size));
    seat.pointer.set_cursor(serial, Some(surface), size / 2, size / 2);
    show(surface, &buffer);
    seat.placed.settle()
}

/// Two cursors of a client's own, one moved without another word of the client, then none.
fn cursors(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut seat = Seat::new(desk, display)?;
    let surface = seat.client().surface();
    let mut pictures = vec![desk.screenshot()];
    for size in [16, 33] {
        cursor(&mut seat, &surface, size)?;
        pictures.push(desk.screenshot());
    }
    seat.input.move_to(200, 170)?;
    pictures.push(desk.screenshot());
    let serial = seat.client().state.pointer_entered.context("the mouse left")?;
    seat.pointer.set_cursor(serial, None, 0, 0);
    seat.placed.settle()?;
    pictures.push(desk.screenshot());
    drop(seat);
    desk.sway().empty();
    Ok(pictures)
}

#[test]
fn cursors_look_the_same() -> Result<()> {
    compare(Desk::new(Way::Through), cursors, "cursors")
}
