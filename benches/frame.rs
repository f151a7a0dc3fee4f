//! How long it takes until a frame that a client has drawn was processed: commit and `wl_display.sync`.

use anyhow::{Context, Result};
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::{Cell, Damage, Pace};
use wlproxy_benches::path::Path;
use wlproxy_benches::report::{FrameCell, Frames, Lane};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::samples::Timing;
use wlproxy_benches::talk::{Burst, Copyist, Task};
use wlproxy_benches::{Route, Sink};

/// How long each cell is measured. With what is around it, 14 of them take about 7 minutes.
const TIME: Duration = Duration::from_secs(26);

/// Who copies frames beside the paths, and what that is called among them.
const MEMCPY: [(Copyist, &str); 2] =
    [(Copyist::Other, "memcpy"), (Copyist::Painter, "memcpy-by-painter")];

fn main() -> Result<()> {
    let mut bench = Bench::new("frame");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&Path::ALL);
    let all = Cell::all();
    let (mut stage, mut cells) = (None, Vec::new());
    for (at, &cell) in all.iter().enumerate() {
        let mut names: Vec<String> = paths.iter().map(|path| path.key()).collect();
        if copies(cell) {
            names.extend(MEMCPY.map(|(_, name)| name.to_owned()));
        }
        let measure = |bench: &mut Bench| {
            if stage.is_none() {
                stage = Some(Stage::start(bench, &paths)?);
            }
            bench.say(&format!("cell {} of {}: {cell}", at + 1, all.len()));
            stage.as_mut().expect("started").measure(bench, cell)
        };
        let group = cell.to_string();
        if let Some(measured) = bench.compare(&mut criterion, &group, &names, None, measure) {
            let copies = measured[paths.len()..].iter().map(|copy| Timing::of(&copy.samples));
            let memcpy = MEMCPY.into_iter().map(|(copyist, _)| copyist).zip(copies).collect();
            cells.push(FrameCell { cell, memcpy, lanes: Lane::all(&paths, &measured) });
        }
    }
    if !cells.is_empty() {
        bench.save(&Frames { about: bench.about(), cells })?;
    }
    Ok(())
}

/// Whether somebody who only copies a frame is among the lanes of `cell`.
fn copies(cell: Cell) -> bool {
    cell.damage == Damage::Full
}

/// All paths at once, and those who only copy.
struct Stage {
    sink: Sink,
    routes: Vec<Route>,
    copiers: Vec<Route>,
}

impl Stage {
    fn start(bench: &mut Bench, paths: &[Path]) -> Result<Self> {
        bench.say("starting all paths");
        let mut sink = Sink::start()?;
        let routes = Route::start_all(paths, &mut sink)?;
        let copier = |_| Route::start(Path::Direct, &mut sink);
        let copiers = MEMCPY.iter().map(copier).collect::<Result<_>>()?;
        Ok(Self { sink, routes, copiers })
    }

    /// What was measured over each path, then of each who copies, if any.
    fn measure(&mut self, bench: &Bench, cell: Cell) -> Result<Vec<Collected>> {
        self.routes.iter_mut().try_for_each(|route| route.take(Task::Window(cell)))?;
        let mut lanes: Vec<&mut Route> = self.routes.iter_mut().collect();
        if copies(cell) {
            for (copier, (copyist, _)) in self.copiers.iter_mut().zip(MEMCPY) {
                copier.take(Task::Copy(cell, copyist))?;
                lanes.push(copier);
            }
        }
        let plan = Plan {
            burst: Burst { warm_up: 1, count: bench.count(10, 1), limit_ms: 150, pace: cell.pace },
            time: bench.time(TIME),
            rounds: bench.count(3, 1),
        };
        let collected = rounds::measure(&mut lanes, &mut self.sink, &plan)?;
        // What isn't shown was no frame.
        let once = Burst { warm_up: 0, count: 1, limit_ms: 0, pace: Pace::Unpaced };
        for route in &mut self.routes {
            route.burst(once)?;
            route.check(&mut self.sink).with_context(|| format!("{cell}"))?;
            route.close()?;
        }
        self.copiers.iter_mut().try_for_each(Route::close)?;
        Ok(collected)
    }
}
