//! How long the frames of one client take while others are there: many that do nothing, and one that floods the path.

use anyhow::Result;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::{Cell, Content, Damage, Pace, Size};
use wlproxy_benches::path::{Compression, Isolation, Path};
use wlproxy_benches::report::{Clients, Company, Lane};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::talk::{Beside, Burst, Task};
use wlproxy_benches::{Route, Sink};

/// How long it is measured.
const TIME: Duration = Duration::from_secs(90);

/// What one client does: little, so that what is added shows.
const CELL: Cell =
    Cell { size: Size::HD, damage: Damage::Small, content: Content::Flat, pace: Pace::Paced };

/// How many do nothing.
const IDLE: [u32; 4] = [0, 10, 100, 1000];

/// Most idle clients of waypipe's: each is two processes, with 4 MB each.
const MAX_IDLE_OF_WAYPIPE: u32 = 100;

/// Fewer, if everything is only tried.
const MAX_IDLE_OF_TEST: u32 = 10;

fn main() -> Result<()> {
    let mut bench = Bench::new("clients");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&[
        Path::Direct,
        Path::Relays(4),
        Path::Shadow(Isolation::None),
        Path::Shadow(Isolation::Process),
        Path::Waypipe(Compression::None),
    ]);
    let lanes: Vec<(Path, Beside)> = paths
        .iter()
        .flat_map(|&path| company(path, bench.is_test()).map(move |beside| (path, beside)))
        .collect();
    let name = |(path, beside): &(Path, Beside)| match beside {
        Beside::Idle(count) => format!("{}-beside-{count}", path.key()),
        Beside::Flood => format!("{}-beside-flood", path.key()),
    };
    let names: Vec<String> = lanes.iter().map(name).collect();
    let measured =
        bench.compare(&mut criterion, "latency", &names, None, |bench| measure(bench, &lanes));
    if let Some(measured) = measured {
        let company =
            |(&(path, beside), collected)| Company { beside, lane: Lane::of(path, collected) };
        let lanes = lanes.iter().zip(&measured).map(company).collect();
        bench.save(&Clients { about: bench.about(), lanes })?;
    }
    Ok(())
}

/// Who may be beside a client on `path`.
fn company(path: Path, test: bool) -> impl Iterator<Item = Beside> {
    let most = match path {
        _ if test => MAX_IDLE_OF_TEST,
        Path::Waypipe(_) => MAX_IDLE_OF_WAYPIPE,
        _ => u32::MAX,
    };
    IDLE.into_iter().filter(move |&count| count <= most).map(Beside::Idle).chain([Beside::Flood])
}

/// Each lane has its path for itself: so all are measured in turns, whoever is there in others.
fn measure(bench: &mut Bench, lanes: &[(Path, Beside)]) -> Result<Vec<Collected>> {
    let mut sink = Sink::start()?;
    let mut routes: Vec<Route> = Vec::new();
    for &(path, beside) in lanes {
        bench.say(&format!("{path}: starting {beside:?}"));
        let mut route = Route::start(path, &mut sink)?;
        route.take(Task::Window(CELL))?;
        route.beside(beside)?;
        routes.push(route);
    }
    bench.say(&format!("measuring, {} s", bench.time(TIME).as_secs()));
    let plan = Plan {
        burst: Burst { warm_up: 1, count: bench.count(10, 1), limit_ms: 200, pace: CELL.pace },
        time: bench.time(TIME),
        rounds: bench.count(3, 1),
    };
    rounds::measure(&mut routes.iter_mut().collect::<Vec<_>>(), &mut sink, &plan)
}
