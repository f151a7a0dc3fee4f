//! What a mouse brings with it: popups that grab it, and cursors that a client draws.
//!
//! sway 1.7 has neither version 3 of xdg_wm_base, so no popup is moved here, nor cursor shapes.

use anyhow::{Context, Result};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wlproxy_tests::scenes::{Placed, pattern, place};
use wlproxy_tests::{Client, Desk, Display, Image, Input, Rect, Toplevel, Way, show};

/// A window under the mouse, and the seat that the mouse belongs to.
struct Seat {
    input: Input,
    seat: WlSeat,
    pointer: wayland_client::protocol::wl_pointer::WlPointer,
    placed: Placed,
}

impl Seat {
    fn new(desk: &Desk, display: &Display) -> Result<Self> {
        let mut input = Input::new(&desk.direct())?;
        input.move_to(700, 500)?;
        let draw = |client: &mut Client, window: &Toplevel| {
            let buffer = client.buffer(300, 200);
            buffer.draw(pattern);
            window.show(&buffer);
            Ok(())
        };
        let placed = place(desk, display, "window", draw, (100, 100))?;
        let seat: WlSeat = placed.client.bind(7)?;
        let pointer = seat.get_pointer(&placed.client.handle(), ());
        placed.client.flush()?;
        let mut this = Self { input, seat, pointer, placed };
        this.placed.settle()?;
        this.input.move_to(150, 150)?;
        this.client().until("the mouse", |state| state.pointer_entered.is_some())?;
        Ok(this)
    }

    fn client(&mut self) -> &mut Client {
        &mut self.placed.client
    }
}

/// A scenario that takes pictures.
type Scenario = fn(&Desk, &Display) -> Result<Vec<Image>>;

/// Its pictures have to be distinct, and the same both ways.
fn compare(scenario: Scenario, name: &str) -> Result<()> {
    let mut desk = Desk::new(Way::Through);
    // The keymap stays in each VM.
    scenario(&desk, &desk.through("work"))?;
    desk.take_baseline();
    let expected = scenario(&desk, &desk.direct())?;
    for (i, picture) in expected.iter().enumerate() {
        assert!(!expected[..i].contains(picture), "{name}: picture {i} was there before");
    }
    let pictures = scenario(&desk, &desk.through("work"))?;
    assert_eq!(pictures.len(), expected.len());
    for (i, (picture, expected)) in pictures.iter().zip(&expected).enumerate() {
        picture.assert_equals(expected, &format!("{name}-{i}"));
    }
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}

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
    compare(popups, "popups")
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
    compare(cursors, "cursors")
}
