//! What clients draw looks the same wherever they are, and around it stands whose they are.

use super::still::{EVENTDEMO, FOOT, GTK3};
use super::{desk, no_windows, place, window};
use wlproxy_tests::{Example, Image, colour, until};

pub(crate) fn windows_look_as_those_of_local_clients(example: Example) {
    let mut desk = desk(example);
    for client in [&FOOT, &GTK3, &EVENTDEMO] {
        let mut expected = None;
        for vm in [None, Some("work"), Some("untrusted")] {
            client.start(&mut desk, vm);
            let (picture, content) = client.settled(&desk, vm, expected.as_ref());
            assert!(content.colours() > 2, "{} draws nothing", client.name);
            picture.assert_framed(picture.of(vm));
            desk.close();
            no_windows(&desk);
            expected.get_or_insert(content);
        }
    }
}

/// All at once.
pub(crate) fn each_vm_has_a_colour_and_a_name(example: Example) {
    let mut desk = desk(example);
    let places = [None, Some("work"), Some("untrusted")];
    let mut pictures = Vec::new();
    for vm in places {
        FOOT.start(&mut desk, vm);
        pictures.push(FOOT.settled(&desk, vm, None).0);
    }
    let picture = pictures.pop().expect("three");
    picture.screen.save(&desk.folder().join("screen.png"));
    let names = places.map(|vm| {
        let shown = picture.of(vm);
        picture.assert_framed(shown);
        let bar = picture.title_bar(shown);
        let ink = |at| bar.pixel(at % bar.width, at / bar.width) != colour(vm);
        (0..bar.width * bar.height).map(ink).collect::<Vec<_>>()
    });
    for (i, name) in names.iter().enumerate() {
        assert!(name.contains(&true), "nothing stands above the window of {:?}", places[i]);
        assert!(!names[..i].contains(name), "{:?} has another's name", places[i]);
    }
}

/// What weston-simple-shm draws at some time, which is told by a pixel of it.
fn simple_shm(image: &Image) -> Image {
    const PADDING: i64 = 20;
    const FACTOR: u32 = 0x8_0401;
    let (width, height) = (image.width as i64, image.height as i64);
    let (half_width, half_height) =
        (PADDING + (width - 2 * PADDING) / 2, PADDING + (height - 2 * PADDING) / 2);
    let outer = half_width.min(half_height) - 8;
    let inner = outer - 32;
    // In the upper left corner, a pixel is its x and a sixteenth of the time, multiplied. An odd factor can be undone.
    let inverse =
        (0..5).fold(1u32, |x, _| x.wrapping_mul(2u32.wrapping_sub(FACTOR.wrapping_mul(x))));
    let corner = PADDING + 8;
    let sixteenth = image
        .pixel(corner as usize, PADDING as usize)
        .wrapping_mul(inverse)
        .wrapping_sub(corner as u32);
    let sixteenth = sixteenth & 0xff_ffff;
    let mut drawn = Image::new(image.width, image.height);
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        let is_inside =
            (PADDING..width - PADDING).contains(&x) && (PADDING..height - PADDING).contains(&y);
        let distance = (x - half_width).pow(2) + (y - half_height).pow(2);
        let value = if distance < inner * inner {
            (distance / 32) as u32 + sixteenth / 4
        } else if distance < outer * outer {
            y as u32 + sixteenth / 2
        } else {
            x as u32 + sixteenth
        };
        let value = value.wrapping_mul(FACTOR) & 0xff_ffff;
        drawn.set(x as usize, y as usize, if is_inside { value } else { 0xff_ffff });
    }
    drawn
}

/// weston-simple-shm draws all the time: each picture of it is one that it has drawn, and not of two of these.
pub(crate) fn what_moves_arrives_whole(example: Example) {
    let mut desk = desk(example);
    for vm in [None, Some("work"), Some("untrusted")] {
        let display = place(&desk, vm);
        desk.app(&display, "weston-simple-shm", &[]);
        let mut seen: Vec<Image> = Vec::new();
        until("pictures that change", || {
            let picture = desk.picture();
            let shown = window(&picture, vm)?;
            let content = picture.content(shown);
            content.assert_equals(&simple_shm(&content), &format!("simple-shm-{vm:?}"));
            picture.assert_framed(shown);
            if seen.last() != Some(&content) {
                seen.push(content);
            }
            (seen.len() >= 5).then_some(())
        });
        desk.kill_apps();
        no_windows(&desk);
    }
}
