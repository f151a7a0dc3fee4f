//! How long a client's wl_display.sync takes while another VM floods the host, `serve` and the compositor.
//!
//! The compositor is one of libwayland's, which reads a little of each client in turn. The sink, and whatever else is made
//! with the wayland-server crate, reads one until there is nothing more to read: so it isn't the path there that others wait
//! for.
use anyhow::Result;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::Pace;
use wlproxy_benches::path::{Example, Isolation, Path, Way};
use wlproxy_benches::report::{Beaten, Floods, Lane};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::talk::{Burst, Flood, Task};
use wlproxy_benches::{Extras, Route, Sink};

/// How long it is measured.
const TIME: Duration = Duration::from_secs(75);

/// The paths, each of which a flood comes over, too. What it does on the direct one isn't the path's doing.
const WAYS: [Way; 5] = [
    Way::Direct,
    Way::Serve(Isolation::None),
    Way::Serve(Isolation::Process),
    Way::Shim(Isolation::None),
    Way::Shim(Isolation::Process),
];

fn main() -> Result<()> {
    let mut bench = Bench::new("flood");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&WAYS.map(|way| Path::Example(Example::Libwayland, way)));
    let floods: Vec<Option<Flood>> = [None].into_iter().chain(Flood::ALL.map(Some)).collect();
    let lanes: Vec<(Path, Option<Flood>)> =
        paths.iter().flat_map(|&path| floods.iter().map(move |&flood| (path, flood))).collect();
    let name = |(path, flood): &(Path, Option<Flood>)| match flood {
        None => format!("{}-beside-nobody", path.key()),
        Some(flood) => format!("{}-beside-{flood}", path.key()),
    };
    let names: Vec<String> = lanes.iter().map(name).collect();
    let measured =
        bench.compare(&mut criterion, "latency", &names, None, |bench| measure(bench, &lanes));
    if let Some(measured) = measured {
        let beaten = |(&(path, flood), collected): (&(Path, Option<Flood>), &Collected)| Beaten {
            flood,
            rate: collected.beside.rate(),
            lane: Lane::of(path, collected),
        };
        let lanes = lanes.iter().zip(&measured).map(beaten).collect();
        bench.save(&Floods { about: bench.about(), lanes })?;
    }
    Ok(())
}

/// Each lane has its path for itself, but for the flood, which only comes when the lane has its turn.
fn measure(bench: &mut Bench, lanes: &[(Path, Option<Flood>)]) -> Result<Vec<Collected>> {
    bench.say("starting all paths");
    let mut sink = Sink::start()?;
    let mut routes: Vec<Route> = Vec::new();
    for &(path, flood) in lanes {
        let extras = Extras { neighbour: true, ..Extras::default() };
        let mut route = Route::start_with(path, extras, &mut sink)?;
        if let Some(flood) = flood {
            route.flood(flood)?;
        }
        route.take(Task::Sync)?;
        routes.push(route);
    }
    bench.say(&format!("measuring, {} s", bench.time(TIME).as_secs()));
    let plan = Plan {
        // By then the flood is everywhere.
        burst: Burst { warm_up: 5, count: bench.count(30, 2), limit_ms: 300, pace: Pace::Paced },
        time: bench.time(TIME),
        rounds: bench.count(3, 1),
    };
    rounds::measure(&mut routes.iter_mut().collect::<Vec<_>>(), &mut sink, &plan)
}
