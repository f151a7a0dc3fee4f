//! A client that draws all the time, and has to show what it drew last.

use super::Place;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use wlproxy_tests::scenes::{Placed, place};
use wlproxy_tests::{Buffer, Desk, until};

/// Its window.
const WIDTH: i32 = 120;
const HEIGHT: i32 = 100;

/// How it ends.
type End = Result<(Placed, u32)>;

/// Such a client, in a thread of its own.
pub(crate) struct Painter {
    pub(crate) place: Place,
    at: (i64, i64),
    stop: Arc<AtomicBool>,
    thread: JoinHandle<End>,
}

impl Painter {
    /// Opens a window, and draws from then on.
    pub(crate) fn start(desk: &Desk, whereabouts: Place, at: (i64, i64)) -> Self {
        let mut buffers = Vec::new();
        let placed = place(
            desk,
            &whereabouts.display(desk),
            whereabouts.name(),
            |client, window| {
                buffers.extend([0, 1].map(|_| client.buffer(WIDTH, HEIGHT)));
                window.show(&buffers[0]);
                Ok(())
            },
            at,
        )
        .expect("nothing is wrong yet");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || paint(placed, &buffers, &stop)
        });
        Self { place: whereabouts, at, stop, thread }
    }

    /// Ends. Whoever `lives` shows what it drew last, and then has its window still.
    pub(crate) fn finish(self, desk: &Desk, lives: bool, faults: &[String]) {
        self.stop.store(true, Ordering::Relaxed);
        let name = self.place.name();
        let end =
            self.thread.join().unwrap_or_else(|_| panic!("{name} waits for ever: {faults:?}"));
        match end {
            Ok((placed, colour)) if lives => {
                let (x, y) = (self.at.0 as usize, self.at.1 as usize);
                until(&format!("what {name} drew last, {colour:06x}, after {faults:?}"), || {
                    let shown = desk.screenshot().crop(x, y, WIDTH as usize, HEIGHT as usize);
                    (shown.colours() == 1 && shown.pixel(0, 0) == colour).then_some(())
                });
                drop(placed);
            }
            Err(error) if lives => panic!("{name} ended, after {faults:?}: {error:#}"),
            // Its end is noticed when it says something, or here.
            _ => {}
        }
    }
}

/// One colour after the other, until it is told to stop.
fn paint(mut placed: Placed, buffers: &[Buffer], stop: &AtomicBool) -> End {
    let mut colour = 0;
    for n in 0_u32.. {
        // The first is what it shows already.
        let buffer = &buffers[(n as usize + 1) % buffers.len()];
        placed.client.released(buffer)?;
        colour = n.wrapping_mul(0x01_0907) & 0xff_ffff;
        buffer.draw(|_, _| colour);
        placed.window.show(buffer);
        placed.client.roundtrip()?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((placed, colour))
}
