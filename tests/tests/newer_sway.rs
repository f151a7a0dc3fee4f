//! What the sways of newer Debians offer and that of Debian 12 doesn't: directly and through the path.

use anyhow::{Context, Result, ensure};
use wayland_protocols::wp::cursor_shape::v1::client::{
    wp_cursor_shape_device_v1::Shape, wp_cursor_shape_manager_v1::WpCursorShapeManagerV1,
};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wlproxy_tests::Effect::{Nothing, Picture};
use wlproxy_tests::Step::{Click, Key};
use wlproxy_tests::scenes::{self, SCENES, pattern, place};
use wlproxy_tests::{
    App, Client, Close, Desk, Display, Image, Kind, Plan, Rect, Seat, Suite, Toplevel, compare,
    show,
};

/// Each test on the sway of each suite.
macro_rules! on_each {
    ($($name:ident,)*) => {
        $(mod $name {
            use wlproxy_tests::Suite;

            #[test]
            fn trixie() {
                super::$name(Suite::Trixie).unwrap();
            }

            #[test]
            fn forky() {
                super::$name(Suite::Forky).unwrap();
            }
        })*
    };
}

on_each! {
    scenes_look_the_same,
    windows_are_sharp_at_fractional_scales,
    a_terminal_at_a_fractional_scale,
    popups_are_moved,
    cursors_have_shapes,
}

fn desk(suite: Suite) -> Desk {
    Desk::start(Plan { compositor: Kind::Newer(suite), ..Plan::default() })
}

fn scenes_look_the_same(suite: Suite) -> Result<()> {
    let desk = desk(suite);
    for &(name, scene) in SCENES {
        let expected = scenes::picture(&desk, &desk.direct(), name, scene)?;
        let picture = scenes::picture(&desk, &desk.through("work"), name, scene)?;
        picture.assert_equals(&expected, &format!("{suite:?}-{name}"));
    }
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}

/// The units of wp_fractional_scale_v1 in a scale of 1.
const UNITS: u32 = 120;

/// A window of 200 times 100 logical pixels, at other scales of its output: it draws each pixel of the screen.
fn fractional(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    const SIZE: (i32, i32) = (200, 100);
    const PLACE: i32 = 100;
    let mut sway = desk.sway();
    // Whole logical pixels at each scale, or a screenshot would be scaled.
    sway.command("output HEADLESS-1 mode 1200x600 scale 1");
    let mut scaled = None;
    let first = |client: &mut Client, window: &Toplevel| {
        let manager: WpFractionalScaleManagerV1 = client.bind(1)?;
        let scale = manager.get_fractional_scale(&window.surface, &client.handle(), ());
        scaled = Some((scale, client.viewport(&window.surface)?));
        window.show(&client.buffer(SIZE.0, SIZE.1));
        Ok(())
    };
    let mut placed = place(desk, display, "fractional", first, (PLACE.into(), PLACE.into()))?;
    let (scale, viewport) = scaled.context("the window was drawn")?;
    let mut pictures = Vec::new();
    for units in [180, 150, 300] {
        sway.command(&format!("output HEADLESS-1 scale {}", f64::from(units) / f64::from(UNITS)));
        let client = &mut placed.client;
        client.until("the scale", |state| state.preferred_scale == Some(units))?;
        // All of which are whole numbers here.
        let pixels = |logical: i32| logical * units as i32 / UNITS as i32;
        let (width, height) = (pixels(SIZE.0), pixels(SIZE.1));
        viewport.set_destination(SIZE.0, SIZE.1);
        let buffer = client.buffer(width, height);
        buffer.draw(pattern);
        show(&placed.window.surface, &buffer);
        placed.settle()?;
        let picture = desk.screenshot();
        // Pixel for pixel, or it would be no comparison.
        let at = pixels(PLACE) as usize;
        let shown = picture.crop(at, at, width as usize, height as usize);
        for (x, y) in [(0, 0), (1, 0), (0, 1), (width - 1, height - 1), (77, 55)] {
            let is = shown.pixel(x as usize, y as usize);
            ensure!(is == pattern(x, y) & 0xff_ffff, "at {units}: {x}, {y} is {is:06x}");
        }
        pictures.push(picture);
        // A part, told in logical pixels, whose edges are no pixels'.
        let part = Rect { x: 13, y: 7, width: 31, height: 17 };
        let scale = f64::from(units) / f64::from(UNITS);
        let inner = |from: i32, size: i32| {
            let (first, end) = (f64::from(from) * scale, f64::from(from + size) * scale);
            (first.ceil() as i32, (end.floor() - first.ceil()) as i32)
        };
        // Another one in between, with as little damage, so that the first can be used again and is right elsewhere.
        let between = placed.client.buffer(width, height);
        between.draw(pattern);
        placed.window.surface.damage(part.x, part.y, 1, 1);
        between.commit(&placed.window.surface);
        placed.client.released(&buffer)?;
        let ((x, width), (y, height)) = (inner(part.x, part.width), inner(part.y, part.height));
        buffer.draw_part(Rect { x, y, width, height }, |x, y| pattern(y, x));
        placed.window.surface.damage(part.x, part.y, part.width, part.height);
        buffer.commit(&placed.window.surface);
        placed.settle()?;
        pictures.push(desk.screenshot());
    }
    scale.destroy();
    drop((placed, viewport));
    sway.empty();
    Ok(pictures)
}

fn windows_are_sharp_at_fractional_scales(suite: Suite) -> Result<()> {
    compare(desk(suite), fractional, &format!("{suite:?}-fractional"))
}

/// For a terminal: shows each key and what the mouse does as characters, until the terminal goes.
const ECHO: &str =
    r"trap 'exit 0' HUP TERM; stty -echo -icanon; printf '\033[?25l\033[?1000h\033[?1006h'; cat -v";

const KEY_A: u32 = 30;

/// foot of the same suite, with a mouse whose shape it asks for.
fn a_terminal_at_a_fractional_scale(suite: Suite) -> Result<()> {
    let desk = desk(suite);
    desk.sway().command("output HEADLESS-1 scale 1.5");
    App {
        name: "foot",
        suite: Some(suite),
        command: &[
            "foot",
            "--config=/dev/null",
            "--font=DejaVu Sans Mono:size=12",
            "--window-size-pixels=450x300",
            "sh",
            "-c",
            ECHO,
        ],
        environment: &[],
        files: &[],
        window: "foot",
        steps: &[Key(KEY_A, Picture), Click(100, 50, Picture), Key(KEY_A, Nothing)],
        says: &["preferred_scale(180)", ".set_destination(", ".set_shape("],
        close: Close::Window,
    }
    .live_twice_on(desk)
}

/// A popup that is placed anew twice, once with another size.
fn moved_popup(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut seat = Seat::new(desk, display)?;
    let parent = seat.placed.window.xdg_surface.clone();
    let places = [(20, 30, 120, 80), (150, 60, 120, 80), (40, 90, 200, 150)];
    let mut places = (1..).zip(places.map(|(x, y, width, height)| Rect { x, y, width, height }));
    let draw = |client: &Client, place: Rect| {
        let buffer = client.buffer(place.width, place.height);
        buffer.draw(|x, y| pattern(y, x));
        buffer
    };
    let (_, first) = places.next().context("there is one")?;
    let popup = seat.client().popup(&parent, first);
    seat.client().configured(&popup.surface)?;
    show(&popup.surface, &draw(seat.client(), first));
    seat.placed.settle()?;
    let mut pictures = vec![desk.screenshot()];
    for (token, place) in places {
        seat.client().move_popup(&popup, place, token);
        seat.client().until("the popup's move", |state| {
            state.popups_moved.last() == Some(&token) && state.popup_place == Some(place)
        })?;
        show(&popup.surface, &draw(seat.client(), place));
        seat.placed.settle()?;
        let picture = desk.screenshot();
        // The window is at 100, 100.
        let corner = picture.pixel((101 + place.x) as usize, (102 + place.y) as usize);
        ensure!(corner == pattern(2, 1) & 0xff_ffff, "the popup isn't at {place:?}");
        pictures.push(picture);
    }
    popup.destroy();
    seat.placed.settle()?;
    drop(seat);
    desk.sway().empty();
    Ok(pictures)
}

fn popups_are_moved(suite: Suite) -> Result<()> {
    compare(desk(suite), moved_popup, &format!("{suite:?}-popups"))
}

/// Shapes of which the compositor knows the picture.
fn shapes(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut seat = Seat::new(desk, display)?;
    let manager: WpCursorShapeManagerV1 = seat.client().bind(1)?;
    let handle = seat.client().handle();
    let device = manager.get_pointer(&seat.pointer, &handle, ());
    let mut pictures = Vec::new();
    for shape in [Shape::Text, Shape::Crosshair, Shape::Grabbing, Shape::Default] {
        let serial = seat.client().state.pointer_entered.context("the mouse left")?;
        device.set_shape(serial, shape);
        seat.placed.settle()?;
        pictures.push(desk.screenshot_with_mouse());
    }
    // A shape stays as the mouse moves on.
    seat.input.move_to(200, 170)?;
    pictures.push(desk.screenshot_with_mouse());
    device.destroy();
    manager.destroy();
    drop(seat);
    desk.sway().empty();
    Ok(pictures)
}

fn cursors_have_shapes(suite: Suite) -> Result<()> {
    compare(desk(suite), shapes, &format!("{suite:?}-shapes"))
}
