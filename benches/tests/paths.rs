//! Every path works, and shows what its client draws.

use std::time::Duration;
use wlproxy_benches::cell::{Cell, Content, Damage, Pace, Size};
use wlproxy_benches::path::Path;
use wlproxy_benches::rounds::{self, Plan};
use wlproxy_benches::talk::{Beside, Burst, Task};
use wlproxy_benches::{Route, Sink};

/// Small, so that the test is quick.
const SIZE: Size = Size { width: 256, height: 128 };

/// Two rounds of a few frames.
const PLAN: Plan = Plan {
    burst: Burst { warm_up: 1, count: 3, limit_ms: 10_000, pace: Pace::Paced },
    time: Duration::ZERO,
    rounds: 2,
};

fn routes(sink: &mut Sink) -> Vec<Route> {
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
    let mut routes = routes(&mut sink);
    for damage in [Damage::Full, Damage::Small, Damage::None] {
        for content in [Content::Flat, Content::Noise] {
            let cell = Cell { size: SIZE, damage, content, pace: Pace::Paced };
            routes.iter_mut().for_each(|route| route.take(Task::Window(cell)).unwrap());
            let mut lanes: Vec<_> = routes.iter_mut().collect();
            let measured = rounds::measure(&mut lanes, &mut sink, &PLAN).unwrap();
            for (route, collected) in routes.iter_mut().zip(measured) {
                let path = route.path();
                eprintln!("{cell}: {path}: {collected:?}");
                assert_eq!((collected.samples.len(), collected.all), (6, 10), "{cell}: {path}");
                assert!(collected.samples.iter().all(|&ns| ns > 0), "{cell}: {path}");
                assert_eq!(collected.between_ns > 0, path != Path::Direct, "{cell}: {path}");
                assert!(collected.client_ns > 0 && collected.sink_ns > 0, "{cell}: {path}");
                let copied = match (path, damage) {
                    (Path::Shadow(_), Damage::Full) => Some(SIZE.bytes() * collected.all),
                    (Path::Shadow(_), Damage::Small) => collected.copied.filter(|&bytes| bytes > 0),
                    (Path::Shadow(_) | Path::ZeroCopy(_) | Path::Linked(_), _) => Some(0),
                    _ => None,
                };
                assert_eq!(collected.copied, copied, "{cell}: {path}");
                // One more, since the sink knows whose frame was the last.
                route.burst(PLAN.burst).unwrap();
                route.check(&mut sink).unwrap_or_else(|error| panic!("{cell}: {error:#}"));
            }
        }
    }
}

/// Nothing is drawn there: it can't be asked for a checksum of what it shows.
#[test]
fn every_example_answers() {
    let mut sink = Sink::start().unwrap();
    for path in Path::EXAMPLES {
        if let Some(why) = Route::lacks(path) {
            eprintln!("{path} is left out: {why}");
            continue;
        }
        let mut route = Route::start(path, &mut sink).unwrap();
        assert_eq!(route.between().is_empty(), path == path.direct(), "{path}");
        route.take(Task::Sync).unwrap();
        let measured = rounds::measure(&mut [&mut route], &mut sink, &PLAN).unwrap();
        let collected = &measured[0];
        assert_eq!((collected.samples.len(), collected.all), (6, 10), "{path}");
        assert!(collected.sink_ns > 0, "{path}");
    }
}

#[test]
fn every_path_does_all_that_is_measured() {
    let mut sink = Sink::start().unwrap();
    let mut source = Route::start(Path::Direct, &mut sink).unwrap();
    // More than a pipe holds.
    let bytes = 1 << 20;
    source.take(Task::Offer(bytes)).unwrap();
    for mut route in routes(&mut sink) {
        let path = route.path();
        route.beside(Beside::Idle(3)).unwrap();
        assert_eq!(route.between().is_empty(), path == Path::Direct, "{path}");
        let pastes = Route::pastes(path).then_some(Task::Paste(bytes));
        let tasks = [Task::Sync, Task::Connect, Task::Requests(1000), Task::Events(1000)];
        for task in tasks.into_iter().chain(pastes) {
            route.take(task).unwrap();
            let measured = rounds::measure(&mut [&mut route], &mut sink, &PLAN).unwrap();
            assert_eq!(measured[0].samples.len(), 6, "{path}: {task:?}");
        }
        route.beside(Beside::Flood).unwrap();
        route.take(Task::Sync).unwrap();
        rounds::measure(&mut [&mut route], &mut sink, &PLAN).unwrap();
    }
}

#[test]
fn a_picture_that_is_not_shown_is_noticed() {
    let mut sink = Sink::start().unwrap();
    let mut routes = [0, 1].map(|_| Route::start(Path::Direct, &mut sink).unwrap());
    let cell = Cell::full(SIZE, Pace::Unpaced);
    routes.iter_mut().for_each(|route| route.take(Task::Window(cell)).unwrap());
    let frames = |count| Burst { warm_up: 0, count, limit_ms: 10_000, pace: Pace::Unpaced };
    let [first, second] = &mut routes;
    // Others have drawn since, and something else.
    first.burst(frames(1)).unwrap();
    second.burst(frames(2)).unwrap();
    assert!(first.check(&mut sink).is_err());
    second.check(&mut sink).unwrap();
}

#[test]
fn a_client_that_fails_says_why() {
    let mut sink = Sink::start().unwrap();
    let mut route = Route::start(Path::Direct, &mut sink).unwrap();
    let error = format!("{:#}", route.burst(PLAN.burst).unwrap_err());
    assert!(error.contains("direct") && error.contains("nothing to measure"), "{error}");
    drop(sink);
    let error = format!("{:#}", route.take(Task::Sync).unwrap_err());
    assert!(error.contains("can't connect"), "{error}");
}
