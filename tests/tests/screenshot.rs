//! What the screen shows: through the path, pixel for pixel, the same as directly.

use anyhow::Result;
use std::time::Instant;
use wayland_client::protocol::wl_shm::Format;
use wlproxy_tests::scenes::{self, Placed, SCENES, pattern, picture, place};
use wlproxy_tests::{Client, Desk, Display, Image, Kind, PATIENCE, Plan, Rect, Toplevel, Way};

/// Where all else is compared with: the same scene twice gives the same picture, different scenes don't, and a scene
/// whose pixels are known shows those.
#[test]
fn scenes_are_reproducible_and_distinct() {
    let desk = Desk::new(Way::Direct);
    let empty = desk.screenshot();
    let mut pictures = Vec::<(&str, Image)>::new();
    for &(name, scene) in SCENES {
        let first = picture(&desk, &desk.direct(), name, scene).unwrap();
        let second = picture(&desk, &desk.direct(), name, scene).unwrap();
        second.assert_equals(&first, name);
        assert!(first != empty, "{name} shows nothing");
        for (other, image) in &pictures {
            assert!(*image != first, "{name} and {other} look alike");
        }
        pictures.push((name, first));
    }
    desk.screenshot().assert_equals(&empty, "empty-again");
    let gradient = &pictures.iter().find(|(name, _)| *name == "gradient").unwrap().1;
    gradient.crop(100, 100, 200, 120).assert_equals(&drawn(200, 120, pattern), "gradient-drawn");
}

fn drawn(width: i32, height: i32, colour: impl Fn(i32, i32) -> u32) -> Image {
    let mut image = Image::new(width as usize, height as usize);
    for y in 0..height {
        for x in 0..width {
            image.set(x as usize, y as usize, colour(x, y) & 0xff_ffff);
        }
    }
    image
}

/// Each scene, directly and in the client VM.
fn compare(plan: Plan) {
    let desk = Desk::start(plan);
    for &(name, scene) in SCENES {
        let expected = picture(&desk, &desk.direct(), name, scene).unwrap();
        picture(&desk, &desk.through("work"), name, scene).unwrap().assert_equals(&expected, name);
    }
}

#[test]
fn scenes_look_the_same_through_the_path() {
    compare(Plan::default());
}

#[test]
fn scenes_look_the_same_with_all_workers_in_one_process() {
    compare(Plan { isolation: Some("none"), ..Plan::default() });
}

#[test]
fn scenes_look_the_same_on_a_compositor_on_the_host() {
    compare(Plan { compositor_vm: false, ..Plan::default() });
}

/// All scenes at once, in two VMs if `displays` are two.
fn crowd(desk: &Desk, displays: &[Display]) -> Result<Image> {
    let mut windows = Vec::new();
    for (i, &(name, scene)) in SCENES.iter().enumerate() {
        let at = ((i % 5 * 150) as i64, (i / 5 * 150) as i64);
        windows.push(place(desk, &displays[i % displays.len()], name, scene, at)?);
    }
    windows.iter_mut().try_for_each(Placed::settle)?;
    let image = desk.screenshot();
    drop(windows);
    desk.sway().empty();
    Ok(image)
}

#[test]
fn a_crowd_is_reproducible() {
    let desk = Desk::new(Way::Direct);
    let first = crowd(&desk, &[desk.direct()]).unwrap();
    crowd(&desk, &[desk.direct()]).unwrap().assert_equals(&first, "crowd");
}

#[test]
fn two_vms_together_look_the_same_as_no_vm() {
    let desk = Desk::start(Plan { vms: &["work", "untrusted"], ..Plan::default() });
    let expected = crowd(&desk, &[desk.direct()]).unwrap();
    let displays = [desk.through("work"), desk.through("untrusted")];
    crowd(&desk, &displays).unwrap().assert_equals(&expected, "crowd-of-two-vms");
}

/// Twelve frames of a client that draws two buffers in turn and damages only what it changes, each with another window
/// moved across it.
fn film(desk: &Desk, display: &Display) -> Result<Vec<Image>> {
    let mut buffers = Vec::new();
    let drawing = |client: &mut Client, window: &Toplevel| {
        buffers.extend((0..2).map(|_| client.buffer(300, 200)));
        buffers.iter().for_each(|buffer| buffer.draw(pattern));
        window.show(&buffers[1]);
        Ok(())
    };
    let mut actor = place(desk, display, "actor", drawing, (100, 100))?;
    let mut curtain = place(desk, display, "curtain", scenes::SCENES[0].1, (90, 90))?;
    let mut sway = desk.sway();
    let mut images = Vec::new();
    let mut last = None;
    for i in 0..12 {
        let buffer = &buffers[i as usize % 2];
        actor.client.released(buffer)?;
        let part = Rect { x: 23 * i, y: 15 * i, width: 20 + i, height: 31 };
        // A client keeps its own buffers whole: it also draws what it drew into the other one.
        for part in last.into_iter().chain([part]) {
            buffer.draw_part(part, |x, y| pattern(y, x) ^ (0x11 * part.x as u32));
        }
        actor.window.surface.damage_buffer(part.x, part.y, part.width, part.height);
        buffer.commit(&actor.window.surface);
        last = Some(part);
        sway.place(curtain.id, 90 + 25 * i64::from(i), 90 + 17 * i64::from(i));
        curtain.settle()?;
        actor.settle()?;
        images.push(desk.screenshot());
    }
    drop((actor, curtain));
    sway.empty();
    Ok(images)
}

#[test]
fn a_film_is_reproducible() {
    let desk = Desk::new(Way::Direct);
    let first = film(&desk, &desk.direct()).unwrap();
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "nothing moves");
    assert_same(&film(&desk, &desk.direct()).unwrap(), &first);
}

#[test]
fn two_buffers_in_turn_with_a_window_moved_across_look_the_same() {
    let desk = Desk::new(Way::Through);
    let expected = film(&desk, &desk.direct()).unwrap();
    assert_same(&film(&desk, &desk.through("work")).unwrap(), &expected);
}

#[track_caller]
fn assert_same(film: &[Image], expected: &[Image]) {
    assert_eq!(film.len(), expected.len());
    for (i, (image, expected)) in film.iter().zip(expected).enumerate() {
        image.assert_equals(expected, &format!("film-{i}"));
    }
}

/// The background of the last character in the terminal: 18, 52, 86.
const LAST: u32 = 0x123456;

/// A terminal with a text, and nothing that blinks. The title comes after the text.
fn terminal(desk: &mut Desk, display: &Display, expected: Option<&Image>) -> Image {
    let script = r"printf '\033[?25lThe quick brown fox\n\033[1;31mjumps\033[0m over the dog.\033[48;2;18;52;86m \033[0m\033]2;written\033\\'; exec sleep infinity";
    let options =
        ["--config=/dev/null", "--font=DejaVu Sans Mono:size=12", "--window-size-pixels=400x200"];
    desk.app(display, "foot", &[&options[..], &["sh", "-c", script]].concat());
    let mut sway = desk.sway();
    let id = sway.window("written").id;
    sway.place(id, 50, 60);
    // foot draws when it likes: wait for the picture that is expected, or for one of the whole text that stays.
    let deadline = Instant::now() + PATIENCE;
    let mut image = desk.screenshot();
    let mut equal = 0;
    let stays = |image: &Image, equal| expected.map_or(equal >= 5, |expected| image == expected);
    while Instant::now() < deadline && !stays(&image, equal) {
        let next = desk.screenshot();
        equal = if next == image && next.shows(LAST) { equal + 1 } else { 0 };
        image = next;
    }
    if expected.is_none() {
        assert!(image.shows(LAST) && image.colours() > 20, "no text is seen");
    }
    desk.close();
    sway.empty();
    image
}

#[test]
fn a_terminal_is_reproducible() {
    let mut desk = Desk::new(Way::Direct);
    let display = desk.direct();
    let first = terminal(&mut desk, &display, None);
    terminal(&mut desk, &display, Some(&first)).assert_equals(&first, "terminal");
}

#[test]
fn an_unmodified_terminal_looks_the_same() {
    let mut desk = Desk::new(Way::Through);
    let (direct, through) = (desk.direct(), desk.through("work"));
    let expected = terminal(&mut desk, &direct, None);
    terminal(&mut desk, &through, Some(&expected)).assert_equals(&expected, "terminal");
}

/// libweston, too, finds nothing wrong with any scene; it tells by not ending the connection.
fn accepted_by_weston(plan: Plan) {
    let desk = Desk::start(Plan { compositor: Kind::Weston, ..plan });
    for (name, scene) in SCENES {
        let mut client = Client::connect(&desk.display()).unwrap();
        let window = client.toplevel(name).unwrap();
        // It has no 16-bit format.
        if *name == "rgb565" && !client.state.formats.contains(&Format::Rgb565) {
            continue;
        }
        scene(&mut client, &window).unwrap();
        client.roundtrip().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[test]
fn weston_accepts_the_scenes_directly() {
    accepted_by_weston(Plan { vms: &[], ..Plan::default() });
}

#[test]
fn weston_accepts_the_scenes() {
    accepted_by_weston(Plan::default());
}
