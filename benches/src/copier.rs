//! No window and no path: what the machine needs to copy the pixels of a frame once, by memcpy(3).

use crate::cell::{Cell, Damage};
use crate::pixels::{Layout, Pool};
use crate::talk::Copyist;
use crate::window::{BUFFERS, Painter, layouts};
use anyhow::{Context, Result, ensure};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Draws frames, and has them copied.
#[derive(Debug)]
pub(crate) struct Copier {
    pools: Arc<Mutex<Pools>>,
    painter: Painter,
    other: Option<Other>,
}

/// Where frames are drawn, and where they are copied to: two each, in turn, as many as a window and its shadows are.
#[derive(Debug)]
struct Pools {
    from: Pool,
    to: Pool,
    layouts: [Layout; BUFFERS],
    /// Which one is next.
    turn: usize,
}

/// The thread that copies, if it isn't the one that draws.
#[derive(Debug)]
struct Other {
    ask: Sender<()>,
    done: Receiver<Duration>,
}

impl Copier {
    /// For frames of `cell`.
    pub(crate) fn new(cell: &Cell, copyist: Copyist) -> Result<Self> {
        ensure!(cell.damage == Damage::Full, "only whole frames are copied");
        let size = NonZeroUsize::new(cell.size.bytes() as usize * BUFFERS);
        let size = size.context("a frame has pixels")?;
        let pool = || Pool::new(size).map(|(pool, _)| pool).context("no pool");
        let (from, to, layouts) = (pool()?, pool()?, layouts(cell));
        let pools = Arc::new(Mutex::new(Pools { from, to, layouts, turn: 0 }));
        let other = (copyist == Copyist::Other).then(|| Other::start(pools.clone()));
        let mut copier = Self { pools, painter: Painter::new(cell), other };
        // Every page is there before anything is measured.
        for _ in 0..BUFFERS {
            copier.frame()?;
        }
        Ok(copier)
    }

    /// Draws a frame and has it copied; how long the copy took, once it had begun.
    pub(crate) fn frame(&mut self) -> Result<Duration> {
        self.painter.next();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.turn = (pools.turn + 1) % BUFFERS;
        let layout = pools.layouts[pools.turn];
        self.painter.draw(&mut pools.from, layout, layout.whole());
        let Some(other) = &self.other else { return Ok(pools.copy()) };
        drop(pools);
        other.ask.send(())?;
        Ok(other.done.recv()?)
    }
}

impl Pools {
    fn copy(&mut self) -> Duration {
        let offset = self.layouts[self.turn].offset;
        let begin = Instant::now();
        self.to.copy(&self.from, offset, self.from.size() / BUFFERS);
        begin.elapsed()
    }
}

impl Other {
    /// It ends with its copier.
    fn start(pools: Arc<Mutex<Pools>>) -> Self {
        let (ask, asked) = channel();
        let (tell, done) = channel();
        std::thread::spawn(move || {
            while let Ok(()) = asked.recv() {
                let took = pools.lock().unwrap_or_else(PoisonError::into_inner).copy();
                if tell.send(took).is_err() {
                    return;
                }
            }
        });
        Self { ask, done }
    }
}
