//! A client's window: two buffers in one pool, drawn in and shown in turn.

use crate::cell::{Cell, Content, Damage};
use crate::libwayland::Client;
use crate::pixels::{Layout, PIXEL, Pool, Rect};
use anyhow::{Context, Result};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};
use wlproxy_tests::Flood;

/// Edge of what changes with [`Damage::Small`], in pixels.
const SMALL: usize = 64;

/// By how many bytes the noise of two frames is apart at most: less than a buffer, so that little of it is made, and
/// never the same twice in a row.
const NOISE_SHIFTS: usize = 4096;

/// How many buffers: the compositor has one, and the client draws in the other.
pub(crate) const BUFFERS: usize = 2;

/// What is drawn into a buffer.
#[derive(Debug)]
pub(crate) struct Painter {
    content: Content,
    noise: Vec<u8>,
    frame: usize,
}

impl Painter {
    /// For buffers of `cell`.
    pub(crate) fn new(cell: &Cell) -> Self {
        let size = match cell.content {
            Content::Flat => 0,
            Content::Noise => cell.size.bytes() as usize + NOISE_SHIFTS * PIXEL,
        };
        Self { content: cell.content, noise: Flood::new(1).take(size), frame: 0 }
    }

    /// From now on something else is drawn.
    pub(crate) fn next(&mut self) {
        self.frame += 1;
    }

    /// Draws what belongs to this frame.
    pub(crate) fn draw(&self, pool: &mut Pool, layout: Layout, rect: Rect) {
        match self.content {
            Content::Flat => pool.fill(layout, rect, self.frame as u8),
            Content::Noise => {
                // Any stride that is prime to the number of shifts visits them all.
                let shift = (self.frame * 37) % NOISE_SHIFTS * PIXEL;
                pool.fill_from(layout, rect, &self.noise[shift..]);
            }
        }
    }
}

/// How the buffers of a cell lie in the pool.
pub(crate) fn layouts(cell: &Cell) -> [Layout; BUFFERS] {
    let (width, height) = (cell.size.width as usize, cell.size.height as usize);
    let stride = width * PIXEL;
    std::array::from_fn(|at| Layout { offset: at * stride * height, stride, width, height })
}

/// A window on the compositor.
#[derive(Debug)]
pub(crate) struct Window {
    client: Client,
    damage: Damage,
    pool: Pool,
    layouts: [Layout; BUFFERS],
    painter: Painter,
    /// Which buffer is shown.
    shown: usize,
    /// What the frame before changed: the other buffer doesn't have it yet.
    before: Option<Rect>,
    /// Where the next small damage is.
    at: usize,
}

impl Window {
    /// Connects and shows a first frame, in each buffer the same: what isn't damaged afterwards is to stay as it is.
    pub(crate) fn open(socket: &Path, cell: &Cell) -> Result<Self> {
        let layouts = layouts(cell);
        let size = cell.size.bytes() as usize * BUFFERS;
        let (pool, file) = Pool::new(NonZeroUsize::new(size).context("a window has pixels")?)
            .context("no pool")?;
        let client = Client::connect(socket, &file, size, &layouts)?;
        let (damage, painter) = (cell.damage, Painter::new(cell));
        let mut window =
            Self { client, damage, pool, layouts, painter, shown: 0, before: None, at: 0 };
        window.painter.next();
        for _ in 0..BUFFERS {
            let whole = window.layouts[0].whole();
            window.turn()?;
            window.painter.draw(&mut window.pool, window.layouts[window.shown], whole);
            window.client.commit(Some((window.shown, whole)));
            window.client.roundtrip()?;
        }
        Ok(window)
    }

    /// Draws a frame, commits it, and waits until it was processed; how long that took after drawing.
    pub(crate) fn frame(&mut self) -> Result<Duration> {
        let damage = self.next_damage();
        if let Some(damage) = damage {
            self.turn()?;
            let layout = self.layouts[self.shown];
            if self.damage == Damage::Small
                && let Some(before) = self.before
            {
                self.painter.draw(&mut self.pool, layout, before);
            }
            self.painter.next();
            self.painter.draw(&mut self.pool, layout, damage);
            self.before = Some(damage);
        }
        let begin = Instant::now();
        self.client.commit(damage.map(|damage| (self.shown, damage)));
        self.client.roundtrip()?;
        Ok(begin.elapsed())
    }

    /// What the next frame changes.
    fn next_damage(&mut self) -> Option<Rect> {
        let layout = self.layouts[0];
        match self.damage {
            Damage::None => None,
            Damage::Full => Some(layout.whole()),
            Damage::Small => {
                self.at += 1;
                let (columns, rows) = (layout.width / SMALL, layout.height / SMALL);
                let (x, y) = (self.at % columns * SMALL, self.at / columns % rows * SMALL);
                Some(Rect { x, y, width: SMALL, height: SMALL })
            }
        }
    }

    /// A number that tells what is shown.
    pub(crate) fn checksum(&self) -> u64 {
        self.pool.checksum(self.layouts[self.shown])
    }

    /// The buffer that isn't shown is the next one.
    fn turn(&mut self) -> Result<()> {
        self.shown = (self.shown + 1) % BUFFERS;
        self.client.wait_for(self.shown)
    }
}
