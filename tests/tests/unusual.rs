//! Clients that do what few do, and find everything as if directly connected.

use anyhow::{Result, ensure};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use wayland_client::protocol::wl_keyboard::KeymapFormat;
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_shm::Format;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use wlproxy_tests::scenes::{SCENES, place};
use wlproxy_tests::{Buffer, Client, Desk, Image, Plan, Pool, Toplevel, Way, keymap, memfd, show};

const MIB: i32 = 1 << 20;

/// A test of `$name` directly, and one through the path.
macro_rules! both_ways {
    ($($name:ident,)*) => {
        $(mod $name {
            use wlproxy_tests::{Desk, Way};

            #[test]
            fn direct() {
                super::$name(&mut Desk::new(Way::Direct), Way::Direct).unwrap();
            }

            #[test]
            fn through() {
                super::$name(&mut Desk::new(Way::Through), Way::Through).unwrap();
            }
        })*
    };
}

both_ways! {
    a_pool_that_grows,
    a_sparse_pool,
    many_fds_at_once,
    the_longest_request,
    a_keymap,
}

/// Here no agent turns what the compositor sends into something that crosses: the host does.
#[test]
fn a_keymap_of_a_compositor_on_the_host() {
    let mut desk = Desk::start(Plan { compositor_vm: false, ..Plan::default() });
    a_keymap(&mut desk, Way::Through).unwrap();
}

/// A square of one colour at the start of the window, for [`seen`].
const SQUARE: i32 = 64;

fn square(client: &Client, pool: &Pool, offset: i32, colour: u32) -> Buffer {
    let buffer =
        pool.buffer(&client.handle(), offset, SQUARE, SQUARE, SQUARE * 4, Format::Xrgb8888);
    buffer.draw(|_, _| colour);
    buffer
}

/// The square is on the screen at 100, 100.
fn seen(desk: &Desk, colour: u32, name: &str) {
    let side = SQUARE as usize;
    let mut expected = Image::new(side, side);
    (0..side * side).for_each(|i| expected.set(i % side, i / side, colour));
    desk.screenshot().crop(100, 100, side, side).assert_equals(&expected, name);
}

/// From 1 to 64 MiB, with a buffer at the very end of each size, and the one before still shown while it grows.
fn a_pool_that_grows(desk: &mut Desk, _: Way) -> Result<()> {
    let mut pool = None;
    let scene = |client: &mut Client, window: &Toplevel| {
        let pool = pool.insert(client.pool(memfd(MIB as u64), MIB));
        window.show(&square(client, pool, 0, 0xff0000));
        Ok(())
    };
    let mut placed = place(desk, &desk.display(), "growing", scene, (100, 100))?;
    let pool = pool.expect("the scene was drawn");
    let mut last: Option<Buffer> = None;
    for step in 0..=6 {
        let size = MIB << step;
        pool.resize(size);
        let colour = 0x10_2030 * (step as u32 + 1);
        let buffer = square(&placed.client, &pool, size - SQUARE * SQUARE * 4, colour);
        placed.window.show(&buffer);
        placed.settle()?;
        // Not before it is replaced: libwayland doesn't let a pool grow whose destroyed buffer is still shown.
        if let Some(last) = last.replace(buffer) {
            last.buffer.destroy();
        }
        seen(desk, colour, &format!("growing-{step}"));
    }
    // The pool goes, the last buffer stays.
    pool.pool.destroy();
    placed.settle()?;
    seen(desk, 0x10_2030 * 7, "growing-gone");
    Ok(())
}

/// 512 MiB of which only two buffers exist; nobody fills the rest, neither here nor anywhere.
fn a_sparse_pool(desk: &mut Desk, way: Way) -> Result<()> {
    let mut file = None;
    let scene = |client: &mut Client, window: &Toplevel| {
        let pool = client.pool(memfd(512 * MIB as u64), 512 * MIB);
        window.show(&square(client, &pool, 511 * MIB, 0x00ff00));
        client.roundtrip()?;
        window.show(&square(client, &pool, 256 * MIB, 0x0000ff));
        file = Some(pool.file);
        Ok(())
    };
    let placed = place(desk, &desk.display(), "sparse", scene, (100, 100))?;
    seen(desk, 0x0000ff, "sparse");
    let used = file.expect("the scene was drawn").metadata()?.blocks() * 512;
    ensure!(used < MIB as u64, "the pool has become {used} bytes");
    if way == Way::Through {
        let allocated = desk.status("work", "allocation_bytes");
        ensure!(
            allocated < 16 * MIB as u64,
            "{allocated} bytes of allocations for two small buffers"
        );
    }
    drop(placed);
    Ok(())
}

/// 28 pools are made by one sendmsg with 28 fds; each has its own colour.
fn many_fds_at_once(desk: &mut Desk, _: Way) -> Result<()> {
    const COUNT: i32 = 28;
    const SIDE: i32 = 16;
    const BYTES: i32 = SIDE * SIDE * 4;
    let colour = |i: i32| 0x08_0503 * (i as u32 + 1);
    let scene = |client: &mut Client, window: &Toplevel| {
        client.flush()?;
        let pools: Vec<_> = (0..COUNT).map(|_| client.pool(memfd(BYTES as u64), BYTES)).collect();
        client.flush()?;
        for (i, pool) in (0..).zip(pools) {
            let surface = client.surface();
            let role = client.subcompositor.get_subsurface(
                &surface,
                &window.surface,
                &client.handle(),
                (),
            );
            role.set_position(i * SIDE, 0);
            let buffer = pool.buffer(&client.handle(), 0, SIDE, SIDE, SIDE * 4, Format::Xrgb8888);
            buffer.draw(|_, _| colour(i));
            show(&surface, &buffer);
        }
        window.show(&client.buffer(COUNT * SIDE, SIDE));
        Ok(())
    };
    let placed = place(desk, &desk.display(), "many", scene, (100, 100))?;
    let (width, side) = ((COUNT * SIDE) as usize, SIDE as usize);
    let mut expected = Image::new(width, side);
    (0..width * side)
        .for_each(|i| expected.set(i % width, i / width, colour((i % width / side) as i32)));
    desk.screenshot().crop(100, 100, width, side).assert_equals(&expected, "many-fds");
    drop(placed);
    Ok(())
}

/// Most characters of a client's own that the host leaves in a title (`wlproxy::policy::MAX_NAME`).
const MAX_NAME: usize = 256;

/// A request of exactly 4,096 bytes: header 8, length 4, 4,083 characters and a NUL.
fn the_longest_request(desk: &mut Desk, way: Way) -> Result<()> {
    let mut placed = place(desk, &desk.display(), "short", SCENES[0].1, (100, 100))?;
    for round in 0..8 {
        let title: String =
            (0..4083).map(|i| char::from(b'a' + ((i + round) % 23) as u8)).collect();
        placed.window.toplevel.set_title(title.clone());
        placed.client.roundtrip()?;
        // The host shortens titles, and has read all of them.
        let left = if way == Way::Through { MAX_NAME } else { title.len() };
        desk.sway().window(&title[..left]);
    }
    Ok(())
}

/// A keyboard without a key: what sway needs to have a keymap to tell.
fn give_keyboard(client: &mut Client, seat: &WlSeat) -> Result<()> {
    const KEYMAP: &[u8] = b"xkb_keymap {
        xkb_keycodes { include \"evdev+aliases(qwerty)\" };
        xkb_types { include \"complete\" };
        xkb_compat { include \"complete\" };
        xkb_symbols { include \"pc+de+inet(evdev)\" };
    };\0";
    let manager: ZwpVirtualKeyboardManagerV1 = client.bind(1)?;
    let keyboard = manager.create_virtual_keyboard(seat, &client.handle(), ());
    let file = wlproxy_unix::memory::constant("keymap", KEYMAP)?;
    keyboard.keymap(KeymapFormat::XkbV1.into(), file.as_fd(), KEYMAP.len() as u32);
    client.until("a keyboard", |state| state.keyboard)
}

fn a_keymap(desk: &mut Desk, _: Way) -> Result<()> {
    same_keymaps(desk)?;
    // Both VMs keep a keymap for all who come later.
    desk.take_baseline();
    same_keymaps(desk)
}

/// At all versions what it is directly.
fn same_keymaps(desk: &Desk) -> Result<()> {
    let mut typist = Client::connect(&desk.direct())?;
    let seat: WlSeat = typist.bind(7)?;
    give_keyboard(&mut typist, &seat)?;
    let expected = keymap(&desk.direct(), 7)?;
    ensure!(expected.starts_with(b"xkb_keymap") && expected.ends_with(b"\0"), "not a keymap");
    for version in [7, 5, 7] {
        ensure!(
            keymap(&desk.display(), version)? == expected,
            "another keymap at version {version}"
        );
    }
    Ok(())
}
