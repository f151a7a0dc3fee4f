//! How much goes through: small requests, small events, and what is pasted.

use anyhow::Result;
use criterion::Throughput;
use std::time::Duration;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::cell::Pace;
use wlproxy_benches::path::Path;
use wlproxy_benches::report::{Lane, Throughputs};
use wlproxy_benches::rounds::{self, Collected, Plan};
use wlproxy_benches::talk::{Burst, Task};
use wlproxy_benches::{Route, Sink};

/// How long each direction is measured.
const TIME: Duration = Duration::from_secs(15);

/// Messages at once. More than all buffers on the way hold.
const MESSAGES: u32 = 20_000;

/// Bytes of a paste.
const BYTES: u64 = 16 << 20;

fn main() -> Result<()> {
    let mut bench = Bench::new("throughput");
    let mut criterion = Bench::criterion();
    let paths = bench.there(&Path::without_pixels());
    let mut report = Throughputs { messages: MESSAGES, bytes: BYTES, ..Throughputs::default() };
    let elements = Throughput::Elements(MESSAGES.into());
    for (group, task, throughput, found) in [
        ("requests", Task::Requests(MESSAGES), elements.clone(), &mut report.requests),
        ("events", Task::Events(MESSAGES), elements, &mut report.events),
        ("paste", Task::Paste(BYTES), Throughput::Bytes(BYTES), &mut report.pastes),
    ] {
        let can = |path: &&Path| !matches!(task, Task::Paste(_)) || Route::pastes(**path);
        let paths: Vec<Path> = paths.iter().filter(can).copied().collect();
        let names: Vec<String> = paths.iter().map(|path| path.key()).collect();
        let measured = bench.compare(&mut criterion, group, &names, Some(throughput), |bench| {
            bench.say(group);
            measure(bench, &paths, task)
        });
        found.extend(measured.map(|measured| Lane::all(&paths, &measured)).unwrap_or_default());
    }
    if !(report.requests.is_empty() && report.events.is_empty() && report.pastes.is_empty()) {
        report.about = bench.about();
        bench.save(&report)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, paths: &[Path], task: Task) -> Result<Vec<Collected>> {
    let mut sink = Sink::start()?;
    // A client of the compositor's own, of whom all others paste.
    let mut source = Route::start(Path::Direct, &mut sink)?;
    source.take(Task::Offer(BYTES))?;
    let mut routes = Route::start_all(paths, &mut sink)?;
    routes.iter_mut().try_for_each(|route| route.take(task))?;
    let plan = Plan {
        burst: Burst { warm_up: 1, count: bench.count(3, 1), limit_ms: 500, pace: Pace::Unpaced },
        time: bench.time(TIME),
        rounds: bench.count(3, 1),
    };
    rounds::measure(&mut routes.iter_mut().collect::<Vec<_>>(), &mut sink, &plan)
}
