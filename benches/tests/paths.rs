//! Every path works, and shows what its client draws.

use std::time::Duration;
use wlproxy_benches::cell::{Cell, Content, Damage, Pace, Size};
use wlproxy_benches::path::{Example, Isolation, Path, Way};
use wlproxy_benches::rounds::{self, Plan};
use wlproxy_benches::talk::{Beside, Burst, Flood, Task};
use wlproxy_benches::{Extras, Route, Sink};

/// Small, so that the test is quick; but with more places for small damage than a test has frames.
const SIZE: Size = Size { width: 512, height: 256 };

/// Two rounds of a few frames.
const PLAN: Plan = Plan {
    burst: Burst { warm_up: 1, count: 3, limit_ms: 10_000, pace: Pace::Paced },
    time: Duration::ZERO,
    rounds: 2,
};

/// Those of them that this machine has.
fn routes(paths: &[Path], sink: &mut Sink) -> Vec<Route> {
    let there = |path: &&Path| match Route::lacks(**path) {
        Some(why) => {
            eprintln!("{path} is left out: {why}");
            false
        }
        None => true,
    };
    let there: Vec<Path> = paths.iter().filter(there).copied().collect();
    Route::start_all_for(&there, SIZE, sink).unwrap()
}

#[test]
fn every_path_shows_what_is_drawn() {
    let mut sink = Sink::start().unwrap();
    let mut routes = routes(&[&Path::ALL[..], &Path::EXAMPLES].concat(), &mut sink);
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
                assert_eq!(collected.between_ns > 0, path != path.direct(), "{cell}: {path}");
                assert!(collected.client_ns > 0 && collected.sink_ns > 0, "{cell}: {path}");
                let copied = match (path, damage) {
                    (Path::Shadow(_), Damage::Full) => Some(SIZE.bytes() * collected.all),
                    (Path::Shadow(_), Damage::Small) => collected.copied.filter(|&bytes| bytes > 0),
                    (Path::Example(_, Way::Direct), _) => None,
                    (Path::Direct | Path::Relays(_) | Path::Waypipe(_), _) => None,
                    _ => Some(0),
                };
                assert_eq!(collected.copied, copied, "{cell}: {path}");
                // More, since the sink knows whose frame was the last. So many that another buffer is shown than at first.
                route.burst(Burst { warm_up: 0, ..PLAN.burst }).unwrap();
                route.check(&mut sink).unwrap_or_else(|error| panic!("{cell}: {error:#}"));
            }
        }
    }
}

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
    for mut route in routes(&Path::ALL, &mut sink) {
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
fn a_flood_comes_from_another_vm() {
    let mut sink = Sink::start().unwrap();
    let shadows = Isolation::ALL.map(Path::Shadow);
    let c = Path::EXAMPLES.into_iter().filter(|path| {
        path.direct() == Path::Example(Example::Libwayland, Way::Direct)
            && Route::lacks(*path).is_none()
    });
    for path in [Path::Direct].into_iter().chain(shadows).chain(c) {
        let extras = Extras { neighbour: true, ..Extras::default() };
        let mut route = Route::start_with(path, extras, &mut sink).unwrap();
        for flood in Flood::ALL {
            route.flood(flood).unwrap();
            route.take(Task::Sync).unwrap();
            let measured = rounds::measure(&mut [&mut route], &mut sink, &PLAN).unwrap();
            assert_eq!(measured[0].samples.len(), 6, "{path}: {flood}");
            assert!(measured[0].beside.count > 0, "{path}: {flood}");
            // What is copied of commits isn't copied by the client's own agent.
            assert_eq!(measured[0].copied.unwrap_or(0), 0, "{path}: {flood}");
        }
    }
    let extras = Extras { neighbour: true, ..Extras::default() };
    let path = Path::Linked(Isolation::None);
    let error = format!("{:#}", Route::start_with(path, extras, &mut sink).unwrap_err());
    assert!(error.contains("nobody is beside it"), "{error}");
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
