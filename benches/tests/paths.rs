//! Every path works, and shows what its client draws.

use std::time::Duration;
use wlproxy_benches::cell::{Cell, Content, Damage, Pace, Size};
use wlproxy_benches::path::Path;
use wlproxy_benches::rounds::{self, Plan};
use wlproxy_benches::talk::{Burst, Task};
use wlproxy_benches::{Route, Sink};

/// Small, so that the test is quick.
const SIZE: Size = Size { width: 256, height: 128 };

/// Two rounds of a few frames.
const PLAN: Plan = Plan {
    burst: Burst { warm_up: 1, count: 3, limit_ms: 10_000, pace: Pace::Paced },
    time: Duration::ZERO,
    rounds: 2,
};

fn routes(sink: &Sink) -> Vec<Route> {
    let there = |path: &Path| match Route::lacks(*path) {
        Some(why) => {
            eprintln!("{path} is left out: {why}");
            false
        }
        None => true,
    };
    Path::ALL.into_iter().filter(there).map(|path| Route::start(path, sink).unwrap()).collect()
}

#[test]
fn every_path_shows_what_is_drawn() {
    let mut sink = Sink::start().unwrap();
    let mut routes = routes(&sink);
    for damage in [Damage::Full, Damage::Small, Damage::None] {
        for content in [Content::Flat, Content::Noise] {
            let cell = Cell { size: SIZE, damage, content, pace: Pace::Paced };
            routes.iter_mut().for_each(|route| route.take(Task::Window(cell)).unwrap());
            let mut lanes: Vec<_> = routes.iter_mut().collect();
            let measured = rounds::measure(&mut lanes, &mut sink, &PLAN).unwrap();
            for (route, collected) in routes.iter_mut().zip(measured) {
                eprintln!("{cell}: {}: {collected:?}", route.path());
                assert_eq!((collected.samples.len(), collected.all), (6, 8), "{}", route.path());
                // One more, since the sink knows whose frame was the last.
                route.burst(PLAN.burst).unwrap();
                route.check(&mut sink).unwrap_or_else(|error| panic!("{cell}: {error:#}"));
            }
        }
    }
}
