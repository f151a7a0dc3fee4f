//! What a client may say of places and sizes, and what it can't reach by that.

use super::{desk, no_windows};
use anyhow::Result;
use wlproxy_tests::{BORDER, Client, Desk, Example, Raw, Rect, Shown, Toplevel, show};

/// Red, green and blue, opaque.
const RED: u32 = 0xffc0_2010;
const GREEN: u32 = 0xff20_c010;
const BLUE: u32 = 0xff10_20c0;

/// A window of 200x100 pixels in one colour.
fn plain(client: &mut Client, title: &str) -> Result<Toplevel> {
    let window = client.toplevel(title)?;
    let buffer = client.buffer(200, 100);
    buffer.draw(|_, _| RED);
    window.show(&buffer);
    client.roundtrip()?;
    Ok(window)
}

/// A client may put a subsurface anywhere, and draw more than its window's geometry: the border is the compositor's. A
/// popup has one, too.
pub(crate) fn nothing_is_drawn_on_a_border(example: Example) {
    let desk = desk(example);
    let draw = || -> Result<()> {
        let mut client = Client::connect(&desk.through("work"))?;
        let window = plain(&mut client, "plain")?;
        let (surface, handle) = (client.surface(), client.handle());
        let subsurface =
            client.subcompositor.get_subsurface(&surface, &window.surface, &handle, ());
        subsurface.set_position(150, -50);
        let buffer = client.buffer(100, 200);
        buffer.draw(|_, _| GREEN);
        show(&surface, &buffer);
        window.xdg_surface.set_window_geometry(10, 10, 180, 80);
        window.surface.commit();
        client.roundtrip()?;
        let picture = desk.picture();
        let shown = picture.of(Some("work"));
        assert_eq!((shown.width, shown.height, &*shown.title), (180, 80, "[work] plain"));
        picture.assert_framed(shown);
        let content = picture.content(shown);
        let seen = [(0, 0), (139, 79), (140, 0), (179, 79)].map(|(x, y)| content.pixel(x, y));
        assert_eq!(seen.map(|rgb| 0xff00_0000 | rgb), [RED, RED, GREEN, GREEN]);
        // Where nothing else is.
        let (x, y) = (shown.x + shown.width + BORDER, shown.y + shown.height + BORDER);
        let nothing = picture.screen.pixel(picture.screen.width - 1, picture.screen.height - 1);
        assert_eq!(
            [picture.screen.pixel(x, y - 10), picture.screen.pixel(x - 10, y)],
            [nothing; 2]
        );

        // It covers the lower right corner of the window, and what is beside.
        let place = Rect { x: 160, y: 60, width: 50, height: 40 };
        let popup = client.popup(&window.xdg_surface, place);
        client.configured(&popup.surface)?;
        let buffer = client.buffer(50, 40);
        buffer.draw(|_, _| BLUE);
        show(&popup.surface, &buffer);
        client.roundtrip()?;
        let picture = desk.picture();
        let shown = picture.of(Some("work"));
        let menu =
            Shown { x: shown.x + 160, y: shown.y + 60, width: 50, height: 40, ..shown.clone() };
        let content = picture.content(&menu);
        assert_eq!((content.colours(), 0xff00_0000 | content.pixel(0, 0)), (1, BLUE));
        picture.assert_framed(&menu);
        Ok(())
    };
    draw().expect("a client that is served");
    no_windows(&desk);
}

/// A client takes away what its window shows, and shows something again: the others move up, and make room.
pub(crate) fn a_window_goes_and_comes_again(example: Example) {
    let desk = desk(example);
    let act = || -> Result<()> {
        let mut client = Client::connect(&desk.through("work"))?;
        let first = plain(&mut client, "first")?;
        let _second = plain(&mut client, "second")?;
        let titles = |desk: &Desk| {
            let windows = desk.picture().windows;
            windows.into_iter().map(|shown| (shown.title, shown.x)).collect::<Vec<_>>()
        };
        let expected = |titles: [&str; 2]| {
            [(format!("[work] {}", titles[0]), 40), (format!("[work] {}", titles[1]), 280)]
        };
        assert_eq!(titles(&desk), expected(["first", "second"]));
        first.surface.attach(None, 0, 0);
        first.surface.commit();
        client.roundtrip()?;
        assert_eq!(titles(&desk), expected(["second", ""])[..1]);
        // It is as it was before its first commit, so it has no title, either.
        first.toplevel.set_title("first".into());
        client.configured(&first.surface)?;
        let buffer = client.buffer(200, 100);
        first.show(&buffer);
        client.roundtrip()?;
        assert_eq!(titles(&desk), expected(["second", "first"]));
        Ok(())
    };
    act().expect("a client that is served");
    no_windows(&desk);
}

/// Sizes and places at the ends of what a number can say, from a VM: at worst its client is disconnected.
pub(crate) fn absurd_places_harm_nobody(example: Example) {
    const ENDS: [(i32, i32); 5] = [
        (i32::MIN, i32::MIN),
        (i32::MIN, i32::MAX),
        (i32::MAX, i32::MIN),
        (i32::MAX, i32::MAX),
        (-1, 1),
    ];
    let desk = desk(example);
    let mut bystander = Raw::connect(&desk.direct());
    let mut absurd = |what: &str, act: &dyn Fn(&mut Client, &Toplevel) -> Result<()>| {
        let mut client = Client::connect(&desk.through("untrusted")).expect("it is served");
        let window = plain(&mut client, what).expect("it is served");
        // An error is as good as any other answer.
        let _ = act(&mut client, &window).and_then(|()| client.roundtrip());
        bystander.sync();
        desk.picture();
        drop((window, client));
        no_windows(&desk);
    };
    for (x, y) in ENDS {
        absurd("geometry", &|_, window| {
            window.xdg_surface.set_window_geometry(x, x, y, y);
            window.surface.commit();
            Ok(())
        });
        absurd("subsurface", &|client, window| {
            let (surface, handle) = (client.surface(), client.handle());
            let subsurface =
                client.subcompositor.get_subsurface(&surface, &window.surface, &handle, ());
            subsurface.set_position(x, y);
            show(&surface, &client.buffer(100, 100));
            window.surface.commit();
            Ok(())
        });
        absurd("popup", &|client, window| {
            let place = Rect { x, y: x, width: y, height: y };
            let popup = client.popup(&window.xdg_surface, place);
            client.configured(&popup.surface)?;
            show(&popup.surface, &client.buffer(100, 100));
            Ok(())
        });
    }
}
