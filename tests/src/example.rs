//! The compositors of `examples/`, which link the shim: how they are built, and the pictures that they take of their
//! screens.
//!
//! All have the same command line, `PROGRAM --socket PATH --channel CHANNEL --size WIDTHxHEIGHT --picture FILE`. At SIGUSR1
//! they write the picture, and then a line `window X Y WIDTH HEIGHT VM TITLE` for each window, bottom to top, and a line
//! `picture FILE`.

use crate::{Image, Process, until};
use nix::sys::signal::Signal;
use std::path::Path;

/// Pixels of a VM's colour on each side of what a window shows.
pub const BORDER: usize = 4;

/// Pixels of it above that and its border, with the VM's name.
pub const TITLE_BAR: usize = 32;

/// The colour of windows of local clients, as 0xRRGGBB.
const LOCAL: u32 = 0x80_8080;

/// Who a local client's window is of, in a line of the compositor.
const NO_VM: &str = "-";

/// Which compositor of `examples/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Example {
    /// `examples/smithay`, in Rust.
    Smithay,
    /// `examples/libwayland`, in C.
    Libwayland,
    /// `examples/wlroots`, in C.
    Wlroots,
}

/// What one of them shows.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its screen.
    pub screen: Image,
    /// Its windows, bottom to top.
    pub windows: Vec<Shown>,
}

/// A window on its screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where what the client draws begins, in pixels from the left.
    pub x: usize,
    /// The same from the top.
    pub y: usize,
    /// Pixels of what the client draws.
    pub width: usize,
    /// The same from top to bottom.
    pub height: usize,
    /// The client's VM, unless it is local.
    pub vm: Option<String>,
    /// What the client calls it.
    pub title: String,
}

impl Picture {
    /// Has the compositor `process` write one to `file`, which is here at `reach`, and reads it.
    ///
    /// # Panics
    /// If it doesn't in time, or says something else than it has to.
    pub fn take(process: &Process, file: &Path, reach: &Path) -> Self {
        let before = process.log().len();
        process.signal(Signal::SIGUSR1);
        until("a picture", || {
            let said = process.log();
            Self::told(said.get(before..).expect("a log grows"), file, reach)
        })
    }

    /// The picture that `said` tells of, if that has a line `picture FILE`. That file is at `reach`.
    ///
    /// # Panics
    /// If a line isn't as it has to be, or there is no such file.
    fn told(said: &str, file: &Path, reach: &Path) -> Option<Self> {
        let end = format!("picture {}", file.display());
        // A line is there when its end is.
        let lines: Vec<_> =
            said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        let windows = lines.iter().take(lines.iter().position(|line| *line == end)?);
        let windows = windows
            .filter(|line| line.starts_with("window "))
            .map(|line| Shown::told(line).unwrap_or_else(|| panic!("not a window: {line}")))
            .collect();
        let png = std::fs::read(reach);
        let png = png.unwrap_or_else(|error| panic!("{}: {error}", reach.display()));
        Some(Self { screen: Image::from_png(&png).expect("a PNG"), windows })
    }

    /// The only window whose client is of `vm`.
    ///
    /// # Panics
    /// If there is none, or another one.
    #[track_caller]
    pub fn of(&self, vm: Option<&str>) -> &Shown {
        let found: Vec<_> = self.windows.iter().filter(|shown| shown.vm.as_deref() == vm).collect();
        assert_eq!(found.len(), 1, "windows of {vm:?}: {found:?}");
        found[0]
    }

    /// What the client of a window draws.
    pub fn content(&self, shown: &Shown) -> Image {
        self.screen.crop(shown.x, shown.y, shown.width, shown.height)
    }

    /// The bar above a window.
    pub fn title_bar(&self, shown: &Shown) -> Image {
        let (left, top) = (shown.x - BORDER, shown.y - BORDER - TITLE_BAR);
        self.screen.crop(left, top, shown.width + 2 * BORDER, TITLE_BAR)
    }

    /// Fails the test unless a window has a border of its VM's colour, all around.
    #[track_caller]
    pub fn assert_framed(&self, shown: &Shown) {
        let expected = colour(shown.vm.as_deref());
        let (left, top) = (shown.x - BORDER, shown.y - BORDER);
        let (right, bottom) = (shown.x + shown.width, shown.y + shown.height);
        let (width, height) = (shown.width + 2 * BORDER, shown.height + 2 * BORDER);
        for (side, x, y, width, height) in [
            ("upper", left, top, width, BORDER),
            ("lower", left, bottom, width, BORDER),
            ("left", left, top, BORDER, height),
            ("right", right, top, BORDER, height),
        ] {
            let border = self.screen.crop(x, y, width, height);
            let is = border.pixel(0, 0);
            assert!(
                border.colours() == 1 && is == expected,
                "the {side} border of {shown:?} has {} colours, {is:06x} first, not {expected:06x}",
                border.colours()
            );
        }
    }
}

impl Shown {
    fn told(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("window ")?.splitn(6, ' ');
        let mut number = || words.next()?.parse().ok();
        let (x, y, width, height) = (number()?, number()?, number()?, number()?);
        let vm = Some(words.next()?.to_owned()).filter(|vm| vm != NO_VM);
        Some(Self { x, y, width, height, vm, title: words.next().unwrap_or_default().to_owned() })
    }
}

/// The colour of windows of a VM, or of local ones, as 0xRRGGBB.
///
/// Its hue in degrees is the name's FNV-1a hash of 32 bits, modulo 360. Of red, green and blue the largest is 208 and the
/// smallest 64.
pub fn colour(vm: Option<&str>) -> u32 {
    let Some(vm) = vm else { return LOCAL };
    let hash = vm
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let (hue, most, least) = (hash % 360, 208, 64);
    let part = |degrees| least + (most - least) * degrees / 60;
    let (rising, falling) = (part(hue % 60), part(60 - hue % 60));
    let (red, green, blue) = match hue / 60 {
        0 => (most, rising, least),
        1 => (falling, most, least),
        2 => (least, most, rising),
        3 => (least, falling, most),
        4 => (rising, least, most),
        _ => (most, least, falling),
    };
    red << 16 | green << 8 | blue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_follows_from_the_name() {
        assert_eq!(colour(None), 0x80_8080);
        // The hashes are 0x5b98d260, 0x3c0e3839, 0xe40c292c: 264, 97 and 340 degrees.
        let colours = ["work", "untrusted", "a"].map(|vm| colour(Some(vm)));
        assert_eq!(colours, [0x79_40d0, 0x77_d040, 0xd0_4070]);
    }

    #[test]
    fn a_picture_is_there_when_all_of_its_lines_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Image::new(9, 7).save(file.path());
        let said = format!(
            "hello\nwindow 1 2 3 4 work a b\nwindow 5 6 1 1 - \npicture {}\nwindow",
            file.path().display()
        );
        let picture = Picture::told(&said, file.path(), file.path()).unwrap();
        assert_eq!(picture.screen, Image::new(9, 7));
        let shown = |place: [usize; 4], vm: Option<&str>, title: &str| {
            let [x, y, width, height] = place;
            Shown { x, y, width, height, vm: vm.map(str::to_owned), title: title.to_owned() }
        };
        let expected = [shown([1, 2, 3, 4], Some("work"), "a b"), shown([5, 6, 1, 1], None, "")];
        assert_eq!(picture.windows, expected);
        assert_eq!(picture.of(Some("work")), &expected[0]);
        let unfinished = said.strip_suffix("\nwindow").unwrap();
        assert!(Picture::told(unfinished, file.path(), file.path()).is_none());
        assert_eq!(Shown::told("window 1 2 3 work"), None);
    }

    #[test]
    fn a_frame_is_seen_and_a_gap_in_it_too() {
        let shown = Shown { x: 4, y: 36, width: 2, height: 1, vm: None, title: String::new() };
        let mut screen = Image::new(10, 41);
        let frame = |screen: &mut Image, skipped: Option<(usize, usize)>| {
            for (x, y) in (0..10).flat_map(|x| (0..41).map(move |y| (x, y))) {
                screen.set(x, y, if Some((x, y)) == skipped { 0 } else { LOCAL });
            }
        };
        frame(&mut screen, None);
        Picture { screen: screen.clone(), windows: Vec::new() }.assert_framed(&shown);
        for gap in [(0, 32), (9, 32), (0, 40), (9, 40), (3, 36), (6, 36), (4, 35), (5, 37)] {
            frame(&mut screen, Some(gap));
            let picture = Picture { screen: screen.clone(), windows: Vec::new() };
            let seen = std::panic::catch_unwind(|| picture.assert_framed(&shown));
            assert!(seen.is_err(), "{gap:?}");
        }
    }
}
