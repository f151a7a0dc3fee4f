//! What is to be reached, and what was.

use super::Results;
use super::figures::three;
use super::frames::{best_waypipe, median};
use super::table::Table;
use crate::cell::{Cell, Damage, Pace, Size};
use crate::path::{Example, Isolation, Path, Way};
use crate::report::{FrameCell, Lane};
use crate::talk::{Beside, Copyist, Flood};

/// Where a number has to be.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

impl Bound {
    fn holds(self, number: f64) -> bool {
        match self {
            AtMost(bound) => number <= bound,
            AtLeast(bound) => number >= bound,
        }
    }

    fn text(self) -> String {
        match self {
            AtMost(bound) => format!("at most {}", short(bound)),
            AtLeast(bound) => format!("at least {}", short(bound)),
        }
    }
}

/// A number as people write it.
fn short(number: f64) -> String {
    if number == number.trunc() { format!("{number}") } else { three(number) }
}

/// One thing that is to be reached, paced and unpaced where there is a difference.
struct Goal {
    what: String,
    bound: Bound,
    found: Found,
    /// What bare relays that are as many processes have of the same, where they are comparable: nobody who passes
    /// messages through so many processes can do much better.
    relays: Found,
}

/// Numbers, and what each is of.
type Found = Vec<(String, Option<f64>)>;

/// All of them.
pub(super) fn section(results: &Results) -> String {
    let mut table = Table::new(&["what", "<goal", "<found", "<reached", "<bare relays"]);
    for Goal { what, bound, found, relays } in goals(results) {
        let known: Vec<f64> = found.iter().filter_map(|(_, number)| *number).collect();
        let reached = match known.len() == found.len() {
            true if known.iter().all(|&number| bound.holds(number)) => "yes",
            true => "**no**",
            false => "?",
        };
        table.row([what, bound.text(), text(&found), reached.to_owned(), text(&relays)]);
    }
    "## To reach\n\nRatios of medians. `relays`: bare relays that are as many processes; `waypipe`: the better one of its \
     settings. Where a goal concerns paced and unpaced frames, it is reached if both are. The last column is what these \
     relays, which only forward bytes, have in the place of the path: a goal that they don't reach is out of reach on \
     this machine for so many processes that sleep between messages.\n\n"
        .to_owned()
        + &table.render()
}

fn text(found: &Found) -> String {
    if found.iter().all(|(_, number)| number.is_none()) {
        return if found.is_empty() { String::new() } else { "not measured".to_owned() };
    }
    let numbers = found.iter().map(|(label, number)| {
        let number = number.map_or("not measured".to_owned(), three);
        if label.is_empty() { number } else { format!("{label} {number}") }
    });
    numbers.collect::<Vec<_>>().join(", ")
}

fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for isolation in Isolation::ALL {
        goals.extend(syncs(results, isolation));
    }
    for isolation in Isolation::ALL {
        goals.extend(zero_copy(results, isolation));
    }
    for isolation in Isolation::ALL {
        goals.extend(linked(results, isolation));
    }
    for isolation in Isolation::ALL {
        goals.extend(shadow(results, isolation));
    }
    for isolation in Isolation::ALL {
        goals.extend(crowd(results, isolation));
    }
    for isolation in Isolation::ALL {
        goals.extend(floods(results, isolation));
    }
    goals
}

fn by_pace(find: impl Fn(Pace) -> Option<f64>) -> Found {
    Pace::ALL.map(|pace| (pace.to_string(), find(pace))).to_vec()
}

/// A goal for both paces.
fn both(what: String, bound: Bound, find: impl Fn(Pace) -> Option<f64>) -> Goal {
    Goal { what, bound, found: by_pace(find), relays: Vec::new() }
}

/// A goal of `path` for both paces, and what bare relays have of it.
fn beside_relays(
    what: String,
    bound: Bound,
    (path, isolation): (Path, Isolation),
    find: impl Fn(Path, Pace) -> Option<f64>,
) -> Goal {
    let relays = by_pace(|pace| find(isolation.relays(), pace));
    Goal { what, bound, found: by_pace(|pace| find(path, pace)), relays }
}

/// A goal for one number.
fn one(what: String, bound: Bound, found: Option<f64>) -> Goal {
    Goal { what, bound, found: vec![(String::new(), found)], relays: Vec::new() }
}

fn syncs(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let lanes = |pace: Pace| -> Option<&[Lane]> {
        let paces = &results.roundtrips.as_ref()?.paces;
        paces.iter().find(|(found, _)| *found == pace).map(|(_, lanes)| &lanes[..])
    };
    let path = Path::Shadow(isolation);
    let what = format!("wl_display.sync, {isolation}");
    let mut goals = vec![both(format!("{what}, to relays"), AtMost(1.2), |pace| {
        Some(median(lanes(pace)?, path)? / median(lanes(pace)?, isolation.relays())?)
    })];
    if isolation == Isolation::None {
        let what = format!("{what}, to waypipe");
        goals.push(beside_relays(what, AtMost(1.0), (path, isolation), |path, pace| {
            let waypipe = best_waypipe(lanes(pace)?, |lane| lane.timing.median as f64)?;
            Some(median(lanes(pace)?, path)? / waypipe)
        }));
    }
    let what = format!("wl_display.sync, shim, {isolation}: to serve");
    goals.push(both(what, AtMost(1.0), |pace| {
        Some(median(lanes(pace)?, Path::Linked(isolation))? / median(lanes(pace)?, path)?)
    }));
    for example in Example::ALL {
        let what = format!("wl_display.sync, shim ({example}), {isolation}: to serve");
        goals.push(both(what, AtMost(1.0), |pace| {
            let lanes = lanes(pace)?;
            let median = |way| median(lanes, Path::Example(example, way));
            Some(median(Way::Shim(isolation))? / median(Way::Serve(isolation))?)
        }));
    }
    goals
}

/// A cell of which all changes.
fn full(results: &Results, size: Size, pace: Pace) -> Option<&FrameCell> {
    results.frames.as_ref()?.cell(Cell::full(size, pace))
}

fn waypipe(cell: &FrameCell) -> Option<f64> {
    best_waypipe(&cell.lanes, |lane| lane.timing.median as f64)
}

fn zero_copy(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let path = Path::ZeroCopy(isolation);
    let isolated = isolation == Isolation::Process;
    let what = |size: Size, rest: &str| format!("{size} full, zero-copy, {isolation}: {rest}");
    let against_waypipe = |size: Size, bound| {
        let what = what(size, "waypipe to it");
        beside_relays(what, AtLeast(bound), (path, isolation), move |path, pace| {
            let cell = full(results, size, pace)?;
            Some(waypipe(cell)? / cell.median(path)?)
        })
    };
    let copied = results.frames.as_ref().and_then(|frames| {
        let lanes = frames.cells.iter().flat_map(|cell| &cell.lanes);
        let own = lanes.filter(|lane| lane.path.zero_copy() == Some(isolation));
        own.filter_map(|lane| lane.copied).max_by(f64::total_cmp)
    });
    vec![
        against_waypipe(Size::FULL_HD, if isolated { 20.0 } else { 30.0 }),
        both(what(Size::FULL_HD, "adds, to relays"), AtMost(1.2), |pace| {
            let cell = full(results, Size::FULL_HD, pace)?;
            let adds = |path| Some(cell.median(path)? - cell.median(Path::Direct)?);
            Some(adds(path)? / adds(isolation.relays())?)
        }),
        against_waypipe(Size::UHD, if isolated { 60.0 } else { 80.0 }),
        beside_relays(
            what(Size::UHD, &format!("to {}", Size::HD)),
            AtMost(1.2),
            (path, isolation),
            |path, pace| {
                let median = |size| full(results, size, pace)?.median(path);
                Some(median(Size::UHD)? / median(Size::HD)?)
            },
        ),
        one(format!("bytes copied for each frame, zero-copy, {isolation}"), AtMost(0.0), copied),
        beside_relays(
            what(Size::FULL_HD, "CPU of waypipe's to it"),
            AtLeast(30.0),
            (path, isolation),
            |path, pace| {
                let cell = full(results, Size::FULL_HD, pace)?;
                let waypipe = best_waypipe(&cell.lanes, |lane| lane.between_ns)?;
                Some(waypipe / cell.lane(path)?.between_ns)
            },
        ),
    ]
}

/// What a compositor gains by linking the shim.
fn linked(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let pairs = [(String::new(), Path::Linked(isolation), Path::ZeroCopy(isolation))];
    let examples = Example::ALL.map(|example| {
        let path = |way: fn(Isolation) -> Way| Path::Example(example, way(isolation));
        (format!(" ({example})"), path(Way::Shim), path(Way::Serve))
    });
    let mut goals = Vec::new();
    for (example, shim, serve) in pairs.into_iter().chain(examples) {
        for damage in [Damage::Full, Damage::Small] {
            let what =
                format!("frame, {} {damage}, shim{example}, {isolation}: to serve", Size::FULL_HD);
            goals.push(both(what, AtMost(1.0), |pace| {
                let cell = Cell { damage, ..Cell::full(Size::FULL_HD, pace) };
                let cell = results.frames.as_ref()?.cell(cell)?;
                Some(cell.median(shim)? / cell.median(serve)?)
            }));
        }
    }
    goals
}

fn shadow(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let path = Path::Shadow(isolation);
    let small = if isolation == Isolation::Process { 1.0 } else { 0.75 };
    let copy = |copyist: Copyist, what: &str| {
        let what = format!("{} full, shadow, {isolation}: copy, to memcpy{what}", Size::FULL_HD);
        both(what, AtLeast(0.7), move |pace| {
            let cell = full(results, Size::FULL_HD, pace)?;
            let copy = results.frames.as_ref()?.copy(cell.cell, isolation)?;
            Some(cell.memcpy(copyist)? / copy)
        })
    };
    vec![
        copy(Copyist::Other, ""),
        copy(Copyist::Painter, " by the painter"),
        both(
            format!("{} full, shadow, {isolation}: to waypipe", Size::FULL_HD),
            AtMost(0.25),
            |pace| {
                let cell = full(results, Size::FULL_HD, pace)?;
                Some(cell.median(path)? / waypipe(cell)?)
            },
        ),
        beside_relays(
            format!("{} 64x64, shadow, {isolation}: to waypipe", Size::FULL_HD),
            AtMost(small),
            (path, isolation),
            |path, pace| {
                let cell = Cell { damage: Damage::Small, ..Cell::full(Size::FULL_HD, pace) };
                let cell = results.frames.as_ref()?.cell(cell)?;
                Some(cell.median(path)? / waypipe(cell)?)
            },
        ),
    ]
}

fn crowd(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let path = Path::Shadow(isolation);
    let growth =
        results.clients.as_ref().and_then(|clients| clients.growth(path, Beside::Idle(1000)));
    let memory = results.memories.as_ref().and_then(|memories| memories.on_host(path));
    vec![
        one(
            format!("beside 1,000 idle clients, {isolation}: to beside nobody"),
            AtMost(1.1),
            growth,
        ),
        one(
            format!("KiB on the host for each idle client, {isolation}"),
            AtMost(64.0),
            memory.map(|bytes| bytes / 1024.0),
        ),
    ]
}

/// What one VM does to another's round trips.
fn floods(results: &Results, isolation: Isolation) -> Vec<Goal> {
    let goal = |way: Way| {
        let path = Path::Example(Example::Libwayland, way);
        let growth = |flood| results.floods.as_ref()?.growth(path, flood);
        let found = Flood::ALL.map(|flood| (flood.to_string(), growth(flood))).to_vec();
        let what = format!("wl_display.sync, {path}, while another VM floods: to without");
        Goal { what, bound: AtMost(2.0), found, relays: Vec::new() }
    };
    vec![goal(Way::Serve(isolation)), goal(Way::Shim(isolation))]
}
