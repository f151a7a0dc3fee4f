//! Windows that stand still, one for each way in which pixels get from a buffer to the screen.

use crate::client::show;
use crate::{Client, Desk, Display, Image, Pool, Toplevel, memfd};
use anyhow::Result;
use wayland_client::protocol::wl_output::Transform;
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::wl_surface::WlSurface;

/// A scene: what its window shows, drawn by hand.
pub type Scene = fn(&mut Client, &Toplevel) -> Result<()>;

/// All scenes with their names.
pub const SCENES: &[(&str, Scene)] = &[
    ("solid", solid),
    ("gradient", gradient),
    ("translucent", translucent),
    ("odd", odd),
    ("rgb565", rgb565),
    ("scaled", scaled),
    ("turned", turned),
    ("flipped", flipped),
    ("cropped", cropped),
    ("stretched", stretched),
    ("family", family),
    ("twins", twins),
    ("orphan", orphan),
    ("again", again),
];

/// A colour for each place, such that neighbours differ.
pub fn pattern(x: i32, y: i32) -> u32 {
    let (x, y) = (x as u32, y as u32);
    0xff00_0000 | ((x * 7 % 256) << 16) | ((y * 5 % 256) << 8) | ((x * 3 + y * 11) % 256)
}

fn solid(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(64, 48);
    buffer.draw(|_, _| 0xff_c0_40_20);
    window.show(&buffer);
    Ok(())
}

fn gradient(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(200, 120);
    buffer.draw(pattern);
    window.show(&buffer);
    Ok(())
}

/// Premultiplied alpha, with the background shining through.
fn translucent(client: &mut Client, window: &Toplevel) -> Result<()> {
    let pool = client.pool(memfd(80 * 60 * 4), 80 * 60 * 4);
    let buffer = pool.buffer(&client.handle(), 0, 80, 60, 80 * 4, Format::Argb8888);
    buffer.draw(|x, y| {
        let alpha = (x * 3) as u32;
        (alpha << 24) | ((alpha / 2) << 16) | (alpha * y as u32 / 60)
    });
    window.show(&buffer);
    Ok(())
}

/// A width of an odd number, rows with padding, at an offset that is no page's start.
fn odd(client: &mut Client, window: &Toplevel) -> Result<()> {
    const STRIDE: i32 = 33 * 4 + 20;
    const OFFSET: i32 = 4096 + 12;
    const SIZE: i32 = OFFSET + 31 * STRIDE;
    let pool = client.pool(memfd(SIZE as u64), SIZE);
    let buffer = pool.buffer(&client.handle(), OFFSET, 33, 31, STRIDE, Format::Xrgb8888);
    buffer.draw(pattern);
    window.show(&buffer);
    Ok(())
}

/// Two bytes per pixel.
fn rgb565(client: &mut Client, window: &Toplevel) -> Result<()> {
    const STRIDE: i32 = 68;
    let pool = client.pool(memfd(29 * 68), 29 * STRIDE);
    let buffer = pool.buffer(&client.handle(), 0, 33, 29, STRIDE, Format::Rgb565);
    let pixels: Vec<u8> = (0..29 * 34u16).flat_map(|i| i.wrapping_mul(67).to_le_bytes()).collect();
    buffer.write(0, &pixels);
    window.show(&buffer);
    Ok(())
}

fn scaled(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(120, 80);
    buffer.draw(|x, y| pattern(x / 8, y / 8));
    window.surface.set_buffer_scale(2);
    window.show(&buffer);
    Ok(())
}

fn turned(client: &mut Client, window: &Toplevel) -> Result<()> {
    with_transform(client, window, Transform::_90)
}

fn flipped(client: &mut Client, window: &Toplevel) -> Result<()> {
    with_transform(client, window, Transform::Flipped270)
}

fn with_transform(client: &mut Client, window: &Toplevel, transform: Transform) -> Result<()> {
    let buffer = client.buffer(70, 50);
    buffer.draw(pattern);
    window.surface.set_buffer_transform(transform);
    window.show(&buffer);
    Ok(())
}

fn cropped(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(100, 100);
    buffer.draw(pattern);
    let viewport = client.viewport(&window.surface)?;
    viewport.set_source(10.0, 20.0, 60.0, 40.0);
    window.show(&buffer);
    Ok(())
}

fn stretched(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(40, 30);
    buffer.draw(pattern);
    let viewport = client.viewport(&window.surface)?;
    viewport.set_source(4.5, 2.25, 30.0, 20.0);
    viewport.set_destination(90, 80);
    window.show(&buffer);
    Ok(())
}

/// A window with a subsurface above and one below it.
fn family(client: &mut Client, window: &Toplevel) -> Result<()> {
    for (i, (x, y)) in [(20, 10), (-15, 30)].into_iter().enumerate() {
        let (child, role) = child(client, window, x, y);
        if i == 1 {
            role.place_below(&window.surface);
        }
        let buffer = client.buffer(40, 25);
        buffer.draw(|x, y| pattern(y + 100 * i as i32, x));
        show(&child, &buffer);
    }
    gradient(client, window)
}

/// One buffer on two surfaces.
fn twins(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(50, 40);
    buffer.draw(pattern);
    let (child, _) = child(client, window, 25, 20);
    show(&child, &buffer);
    window.show(&buffer);
    Ok(())
}

/// Pool and file are gone before the buffer is shown, and the buffer when it has been.
fn orphan(client: &mut Client, window: &Toplevel) -> Result<()> {
    let buffer = client.buffer(48, 48);
    buffer.draw(pattern);
    client.roundtrip()?;
    window.show(&buffer);
    client.roundtrip()?;
    drop(buffer);
    Ok(())
}

/// The same place in the same pool, made anew for each frame with other contents.
fn again(client: &mut Client, window: &Toplevel) -> Result<()> {
    let pool: Pool = client.pool(memfd(60 * 40 * 4), 60 * 40 * 4);
    for i in 0..4 {
        let buffer = pool.buffer(&client.handle(), 0, 60, 40, 60 * 4, Format::Xrgb8888);
        buffer.draw(|x, y| pattern(x + 31 * i, y));
        window.show(&buffer);
        client.roundtrip()?;
        buffer.buffer.destroy();
    }
    Ok(())
}

fn child(
    client: &Client,
    window: &Toplevel,
    x: i32,
    y: i32,
) -> (WlSurface, wayland_client::protocol::wl_subsurface::WlSubsurface) {
    let surface = client.surface();
    let role = client.subcompositor.get_subsurface(&surface, &window.surface, &client.handle(), ());
    role.set_position(x, y);
    (surface, role)
}

/// A window on a desk with sway, at a place of our choice.
#[derive(Debug)]
pub struct Placed {
    /// Its connection.
    pub client: Client,
    /// The window.
    pub window: Toplevel,
    /// sway's number of it.
    pub id: u64,
}

/// Opens a window on `display`, lets `scene` draw it, and moves it to `x`, `y`.
pub fn place(
    desk: &Desk,
    display: &Display,
    title: &str,
    scene: impl FnOnce(&mut Client, &Toplevel) -> Result<()>,
    (x, y): (i64, i64),
) -> Result<Placed> {
    let mut client = Client::connect(display)?;
    let window = client.toplevel(title)?;
    scene(&mut client, &window)?;
    client.roundtrip()?;
    let mut sway = desk.sway();
    let id = sway.window(title).id;
    sway.place(id, x, y);
    if desk.configures_the_placed() {
        client.until("a size", |state| state.wanted != (0, 0))?;
    }
    let mut placed = Placed { client, window, id };
    placed.settle()?;
    Ok(placed)
}

impl Placed {
    /// Answers what sway has asked for by then, and waits until sway has seen the answer: now the screen is as it stays.
    pub fn settle(&mut self) -> Result<()> {
        self.client.roundtrip()?;
        self.client.roundtrip()
    }
}

/// A screenshot with the one window `scene`.
pub fn picture(desk: &Desk, display: &Display, name: &str, scene: Scene) -> Result<Image> {
    let placed = place(desk, display, name, scene, (100, 100))?;
    let image = desk.screenshot();
    drop(placed);
    desk.sway().empty();
    Ok(image)
}
