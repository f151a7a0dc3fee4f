//! How long it takes until a frame that a client has drawn was processed: commit and `wl_display.sync`.

use anyhow::{Context, Result};
use criterion::Criterion;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::{Cell, Damage, Pace, Size};
use wlproxy_benches::path::Path;
use wlproxy_benches::report::{FrameCell, Frames, Lane};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::samples::Timing;
use wlproxy_benches::talk::{Burst, Copyist, Task};
use wlproxy_benches::{Route, Sink};

/// How long each cell is measured. With what is around it, 14 of them take about 7 minutes.
const TIME: Duration = Duration::from_secs(26);

/// How long the compositors of `examples/` are, in their cells: 6, which take about 2 minutes.
const TIME_OF_EXAMPLES: Duration = Duration::from_secs(14);

/// Who copies frames beside the paths, and what that is called among them.
const MEMCPY: [(Copyist, &str); 2] =
    [(Copyist::Other, "memcpy"), (Copyist::Painter, "memcpy-by-painter")];

fn main() -> Result<()> {
    let mut bench = Bench::new("frame");
    let mut criterion = Bench::criterion();
    let all = Cell::all();
    // Pictures of the largest windows take seconds where nothing is optimised.
    let is_test = bench.is_test();
    let is_of_examples =
        |cell: &Cell| cell.is_of_examples() && !(is_test && cell.size == Size::UHD);
    let mut stage = Stage::new(bench.there(&Path::ALL), &MEMCPY, TIME);
    // They have turns of their own: what they are compared with is among them.
    let mut examples = Stage::new(bench.there(&Path::EXAMPLES), &[], TIME_OF_EXAMPLES);
    let sizes = all.iter().filter(|cell| is_of_examples(cell)).map(|cell| cell.size);
    examples.window = sizes.max_by_key(|size| size.bytes()).expect("there are some");
    let mut cells = Vec::new();
    for (at, &cell) in all.iter().enumerate() {
        let mut found = FrameCell { cell, memcpy: Vec::new(), lanes: Vec::new() };
        let group = cell.to_string();
        let what = format!("cell {} of {}: {cell}", at + 1, all.len());
        stage.compare(&mut bench, &mut criterion, (&group, &what), &mut found);
        if is_of_examples(&cell) {
            let (group, what) = (format!("{group} of examples"), format!("{what}, of examples"));
            examples.compare(&mut bench, &mut criterion, (&group, &what), &mut found);
        }
        if !found.lanes.is_empty() {
            cells.push(found);
        }
    }
    if !cells.is_empty() {
        bench.save(&Frames { about: bench.about(), cells })?;
    }
    Ok(())
}

/// Paths that have their turns together, and those who only copy.
struct Stage {
    paths: Vec<Path>,
    copyists: &'static [(Copyist, &'static str)],
    /// How long each cell is measured.
    time: Duration,
    /// The largest window that is checked, if the compositor isn't the sink.
    window: Size,
    running: Option<Running>,
}

/// All of them at once.
struct Running {
    sink: Sink,
    routes: Vec<Route>,
    copiers: Vec<Route>,
}

impl Stage {
    fn new(paths: Vec<Path>, copyists: &'static [(Copyist, &'static str)], time: Duration) -> Self {
        Self { paths, copyists, time, window: Size::UHD, running: None }
    }

    /// Has criterion show what is found for a cell, if it wants any of it, and adds it to `found`.
    fn compare(
        &mut self,
        bench: &mut Bench,
        criterion: &mut Criterion,
        (group, what): (&str, &str),
        found: &mut FrameCell,
    ) {
        let cell = found.cell;
        // Whoever only copies has nothing to do where little changes.
        let copyists = if cell.damage == Damage::Full { self.copyists } else { &[] };
        let mut names: Vec<String> = self.paths.iter().map(|path| path.key()).collect();
        names.extend(copyists.iter().map(|(_, name)| (*name).to_owned()));
        let measured = bench.compare(criterion, group, &names, None, |bench| {
            if self.running.is_none() {
                self.running =
                    Some(Running::start(bench, &self.paths, self.copyists, self.window)?);
            }
            bench.say(what);
            let running = self.running.as_mut().expect("started");
            running.measure(bench, cell, copyists, self.time)
        });
        let Some(measured) = measured else { return };
        let copies = measured[self.paths.len()..].iter().map(|copy| Timing::of(&copy.samples));
        found.memcpy.extend(copyists.iter().map(|(copyist, _)| *copyist).zip(copies));
        found.lanes.extend(Lane::all(&self.paths, &measured));
    }
}

impl Running {
    fn start(
        bench: &mut Bench,
        paths: &[Path],
        copyists: &[(Copyist, &'static str)],
        window: Size,
    ) -> Result<Self> {
        bench.say(&format!("starting {} paths", paths.len()));
        let mut sink = Sink::start()?;
        let routes = Route::start_all_for(paths, window, &mut sink)?;
        let copier = |_| Route::start(Path::Direct, &mut sink);
        let copiers = copyists.iter().map(copier).collect::<Result<_>>()?;
        Ok(Self { sink, routes, copiers })
    }

    /// What was measured over each path, then of each who copies.
    fn measure(
        &mut self,
        bench: &Bench,
        cell: Cell,
        copyists: &[(Copyist, &'static str)],
        time: Duration,
    ) -> Result<Vec<Collected>> {
        self.routes.iter_mut().try_for_each(|route| route.take(Task::Window(cell)))?;
        let mut lanes: Vec<&mut Route> = self.routes.iter_mut().collect();
        for (copier, (copyist, _)) in self.copiers.iter_mut().zip(copyists) {
            copier.take(Task::Copy(cell, *copyist))?;
            lanes.push(copier);
        }
        let plan = Plan {
            burst: Burst { warm_up: 1, count: bench.count(10, 1), limit_ms: 150, pace: cell.pace },
            time: bench.time(time),
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
