//! A window under the mouse, and pictures of what the mouse brings with it.

use crate::scenes::{Placed, pattern, place};
use crate::{Client, Desk, Display, Image, Input, Toplevel};
use anyhow::Result;
use wayland_client::protocol::wl_pointer::WlPointer;
use wayland_client::protocol::wl_seat::WlSeat;

/// A window under the mouse, and the seat that the mouse belongs to.
#[derive(Debug)]
pub struct Seat {
    /// The hand.
    pub input: Input,
    /// The seat.
    pub seat: WlSeat,
    /// The mouse as the client has it.
    pub pointer: WlPointer,
    /// The window, of 300 times 200 logical pixels.
    pub placed: Placed,
}

impl Seat {
    /// Opens the window on `display`, and moves the mouse over it.
    pub fn new(desk: &Desk, display: &Display) -> Result<Self> {
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

    /// The connection of the window.
    pub fn client(&mut self) -> &mut Client {
        &mut self.placed.client
    }
}

/// A scenario that takes pictures.
pub type Scenario = fn(&Desk, &Display) -> Result<Vec<Image>>;

/// Lets `scenario` happen in the client VM "work", directly, and in "work" again. Its pictures have to be distinct, and
/// the same both ways.
pub fn compare(mut desk: Desk, scenario: Scenario, name: &str) -> Result<()> {
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
