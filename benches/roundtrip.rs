//! How long a `wl_display.sync` takes: the shortest way to the sink and back.

use anyhow::Result;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::Pace;
use wlproxy_benches::path::Path;
use wlproxy_benches::report::{Lane, Roundtrips};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::talk::{Burst, Task};
use wlproxy_benches::{Route, Sink};

/// How long each pace is measured.
const TIME: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let mut bench = Bench::new("roundtrip");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&[Path::without_pixels(), Path::EXAMPLES.to_vec()].concat());
    let names: Vec<String> = paths.iter().map(|path| path.key()).collect();
    let mut paces = Vec::new();
    for pace in Pace::ALL {
        let measure = |bench: &mut Bench| measure(bench, &paths, pace);
        let measured = bench.compare(&mut criterion, &pace.to_string(), &names, None, measure);
        paces.extend(measured.map(|measured| (pace, Lane::all(&paths, &measured))));
    }
    if !paces.is_empty() {
        bench.save(&Roundtrips { about: bench.about(), paces })?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, paths: &[Path], pace: Pace) -> Result<Vec<Collected>> {
    bench.say(&format!("{pace}"));
    let mut sink = Sink::start()?;
    let mut routes = Route::start_all(paths, &mut sink)?;
    routes.iter_mut().try_for_each(|route| route.take(Task::Sync))?;
    let plan = Plan {
        burst: Burst { warm_up: 2, count: bench.count(50, 2), limit_ms: 200, pace },
        time: bench.time(TIME),
        rounds: bench.count(3, 1),
    };
    rounds::measure(&mut routes.iter_mut().collect::<Vec<_>>(), &mut sink, &plan)
}
