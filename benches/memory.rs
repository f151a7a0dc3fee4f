//! How much memory each process between client and sink holds for a client that does nothing.

use anyhow::Result;
use wlproxy_benches::bench::Bench;
use wlproxy_benches::path::{Compression, Isolation, Path};
use wlproxy_benches::report::{Memories, Memory};
use wlproxy_benches::resident::{Bytes, Resident, Roles, roles};
use wlproxy_benches::rounds::Collected;
use wlproxy_benches::talk::{Beside, Task};
use wlproxy_benches::{Route, Sink};

/// Clients that are there before anything is counted: all that happens once has happened.
const FIRST: u32 = 10;

/// How often memory is looked at. criterion wants ten numbers at least.
const STEPS: u32 = 10;

/// Clients that come in each step: in the end there are 1,000.
const STEP: u32 = 99;

/// Fewer of waypipe's: each is two processes.
const STEP_OF_WAYPIPE: u32 = 10;

/// Fewer, if everything is only tried.
const STEP_OF_TEST: u32 = 1;

fn main() -> Result<()> {
    let mut bench = Bench::new("memory");
    let mut criterion = Bench::criterion_of(
        criterion::Criterion::default().with_measurement(Bytes),
        STEPS as usize,
    );
    let paths = bench.there(&[
        Path::Shadow(Isolation::None),
        Path::Shadow(Isolation::Process),
        Path::Waypipe(Compression::None),
    ]);
    let names: Vec<String> = paths.iter().map(|path| path.key()).collect();
    let mut memories = Vec::new();
    bench.compare(&mut criterion, "idle-client", &names, None, |bench| {
        let mut all = Vec::new();
        for &path in &paths {
            let (memory, collected) = measure(bench, path)?;
            memories.push(memory);
            all.push(collected);
        }
        Ok(all)
    });
    if !memories.is_empty() {
        bench.save(&Memories { about: bench.about(), paths: memories })?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, path: Path) -> Result<(Memory, Collected)> {
    let step = match path {
        _ if bench.is_test() => STEP_OF_TEST,
        Path::Waypipe(_) => STEP_OF_WAYPIPE,
        _ => STEP,
    };
    bench.say(&format!("{path}: {} clients", FIRST + STEPS * step));
    let mut sink = Sink::start()?;
    let mut route = Route::start(path, &mut sink)?;
    route.take(Task::Sync)?;
    route.beside(Beside::Idle(FIRST))?;
    let first = roles(&mut route);
    let mut before = first.clone();
    let mut collected = Collected::default();
    for at in 1..=STEPS {
        route.beside(Beside::Idle(FIRST + at * step))?;
        let now = roles(&mut route);
        let more = total(&now) - total(&before);
        collected.samples.push((more / f64::from(step)).max(0.0) as u64);
        before = now;
    }
    let count = STEPS * step;
    let each = |(role, now): (String, _)| {
        let before = first.get(&role).copied().unwrap_or_default();
        let more = Resident::more_than(now, before, count);
        (role, more)
    };
    Ok((Memory { path, clients: count, each: before.into_iter().map(each).collect() }, collected))
}

/// What all of them hold.
fn total(roles: &Roles) -> f64 {
    roles.values().map(|resident| resident.pss).sum()
}
