//! No window and no path: what the machine needs to copy the pixels of a frame once, by memcpy(3).

use crate::cell::{Cell, Damage};
use crate::pixels::{Layout, Pool};
use crate::talk::Copyist;
use crate::window::{Painter, layouts};
use anyhow::{Context, Result, ensure};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Draws frames, and has them copied.
#[derive(Debug)]
pub(crate) struct Copier {
    pools: Arc<Mutex<Pools>>,
    layout: Layout,
    painter: Painter,
    other: Option<Other>,
}

/// Where a frame is drawn, and where it is copied to.
#[derive(Debug)]
struct Pools {
    from: Pool,
    to: Pool,
}

/// The thread that copies, if it isn't the one that draws.
#[derive(Debug)]
struct Other {
    ask: Sender<()>,
    done: Receiver<Duration>,
}

impl Copier {
    /// Two pools with room for a frame of `cell` each.
    pub(crate) fn new(cell: &Cell, copyist: Copyist) -> Result<Self> {
        ensure!(cell.damage == Damage::Full, "only whole frames are copied");
        let size = NonZeroUsize::new(cell.size.bytes() as usize).context("a frame has pixels")?;
        let pool = || Pool::new(size).map(|(pool, _)| pool).context("no pool");
        let pools = Arc::new(Mutex::new(Pools { from: pool()?, to: pool()? }));
        let other = (copyist == Copyist::Other).then(|| Other::start(pools.clone()));
        let (layout, painter) = (layouts(cell)[0], Painter::new(cell));
        let mut copier = Self { pools, layout, painter, other };
        // Every page of both is there before anything is measured.
        copier.frame()?;
        Ok(copier)
    }

    /// Draws a frame and has it copied; how long the copy took, once it had begun.
    pub(crate) fn frame(&mut self) -> Result<Duration> {
        self.painter.next();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        self.painter.draw(&mut pools.from, self.layout, self.layout.whole());
        let Some(other) = &self.other else { return Ok(pools.copy()) };
        drop(pools);
        other.ask.send(())?;
        Ok(other.done.recv()?)
    }
}

impl Pools {
    fn copy(&mut self) -> Duration {
        let begin = Instant::now();
        self.to.copy(&self.from, self.from.size());
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
