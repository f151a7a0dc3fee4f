//! How long it takes from connect(2) until the first global is announced. Directly, that is a plain accept(2).

use anyhow::Result;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::Pace;
use wlproxy_benches::path::Path;
use wlproxy_benches::report::{Connects, Lane};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::talk::{Burst, Task};
use wlproxy_benches::{Route, Sink};

/// How long it is measured.
const TIME: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let mut bench = Bench::new("connect");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&Path::without_pixels());
    let names: Vec<String> = paths.iter().map(|path| path.key()).collect();
    let measured =
        bench.compare(&mut criterion, "first-global", &names, None, |bench| measure(bench, &paths));
    if let Some(measured) = measured {
        bench.save(&Connects { about: bench.about(), lanes: Lane::all(&paths, &measured) })?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, paths: &[Path]) -> Result<Vec<Collected>> {
    bench.say("all paths");
    let mut sink = Sink::start()?;
    let mut routes = Route::start_all(paths, &mut sink)?;
    routes.iter_mut().try_for_each(|route| route.take(Task::Connect))?;
    let plan = Plan {
        // Paced: who comes next doesn't wait for what the one before has left.
        burst: Burst { warm_up: 1, count: bench.count(20, 2), limit_ms: 200, pace: Pace::Paced },
        time: bench.time(TIME),
        rounds: bench.count(3, 1),
    };
    rounds::measure(&mut routes.iter_mut().collect::<Vec<_>>(), &mut sink, &plan)
}
