//! Processes are killed and stopped, sockets filled, fds and the disk used up, at moments that nobody has chosen: who is
//! not concerned draws on, who comes later is served, and nothing is left over.
//!
//! `WLPROXY_CHAOS_MINUTES` says how long, `WLPROXY_CHAOS_SEED` where the dice begin: the same seed rolls the same faults,
//! though not at the same instants of the programs. `cargo xtask chaos` sets both.

mod disk;
mod fault;
mod painter;

use disk::Disk;
use fault::{Fault, Undo, soft_limit};
use nix::unistd::Pid;
use painter::Painter;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use wlproxy_tests::{Desk, Dice, Display, Part, Plan, Raw, until};

const VMS: &[&str] = &["other", "untrusted", "work"];

/// Everything of which something is done.
const PARTS: [Part; 10] = [
    Part::Proxy,
    Part::Worker("work"),
    Part::Worker("untrusted"),
    Part::Worker("other"),
    Part::Worker("gui"),
    Part::Run("work"),
    Part::Run("untrusted"),
    Part::Run("other"),
    Part::Serve,
    Part::Compositor,
];

/// Most faults of one round.
const FAULTS: u32 = 4;

/// Longest time between two of them, and that they last, in milliseconds. It is no wait for anything: the moment is what
/// is rolled.
const MOMENT: u32 = 150;

/// How long it goes on if nobody says, in minutes.
const MINUTES: f64 = 2.0;

/// Where the dice begin if nobody says.
const SEED: u64 = 8;

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Vm(&'static str),
    /// Beside the compositor.
    Local,
}

const PLACES: [Place; 4] = [Place::Local, Place::Vm(VMS[0]), Place::Vm(VMS[1]), Place::Vm(VMS[2])];

impl Place {
    fn display(self, desk: &Desk) -> Display {
        match self {
            Self::Vm(vm) => desk.through(vm),
            Self::Local => desk.direct(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Vm(vm) => vm,
            Self::Local => "local",
        }
    }

    /// Whether a client here depends on `part`.
    fn is_on(self, part: Part) -> bool {
        match part {
            Part::Compositor => true,
            Part::Worker("gui") | Part::Proxy | Part::Serve => self != Self::Local,
            Part::Worker(vm) | Part::Run(vm) => self == Self::Vm(vm),
        }
    }
}

#[test]
fn whatever_happens_survivors_draw_on_and_nothing_is_left_over() {
    let minutes = number("WLPROXY_CHAOS_MINUTES").unwrap_or(MINUTES);
    let seed = number("WLPROXY_CHAOS_SEED").unwrap_or(SEED as f64) as u64;
    let end = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let begin = Instant::now();
    let disk = Disk::own();
    let mut desk = Desk::start_in(
        disk.as_ref().map_or(Path::new("/tmp"), Disk::folder),
        Plan { vms: VMS, ..Plan::default() },
    );
    // What the second death of a part leaves, the first has left.
    for part in PARTS {
        desk.kill(part);
        desk.revive(part);
        PLACES.iter().for_each(|place| serve(&mut desk, *place));
    }
    let mut dice = Dice::new(seed);
    // Agents keep memory for the next window.
    round(&mut desk, 0, &mut dice, disk.as_ref());
    let before = desk.totals();
    let (mut rounds, mut told) = (0, BTreeMap::<String, u32>::new());
    while Instant::now() < end || rounds == 0 {
        let faults = 1 + dice.roll(FAULTS);
        let faults = round(&mut desk, faults, &mut dice, disk.as_ref());
        println!(
            "round {rounds} of seed {seed}, after {:.1} s: {}",
            begin.elapsed().as_secs_f64(),
            faults.join(", ")
        );
        faults.into_iter().for_each(|fault| *told.entry(fault).or_default() += 1);
        desk.expect_totals(&before);
        rounds += 1;
    }
    desk.take_baseline();
    let faults: u32 = told.values().sum();
    println!("{rounds} rounds with {faults} faults of {} kinds", told.len());
}

fn number(name: &str) -> Option<f64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// At most so many faults while clients draw in all places; what they were.
fn round(desk: &mut Desk, faults: i32, dice: &mut Dice, disk: Option<&Disk>) -> Vec<String> {
    let painters: Vec<_> = PLACES
        .iter()
        .enumerate()
        .map(|(n, &place)| Painter::start(desk, place, (20, 20 + 120 * n as i64)))
        .collect();
    let ids: BTreeMap<String, Pid> =
        PARTS.iter().map(|part| (format!("{part:?}"), desk.id(*part))).collect();
    // As they were before anything was done.
    let limits: BTreeMap<String, u64> =
        ids.iter().map(|(part, id)| (part.clone(), soft_limit(*id))).collect();
    let (mut done, mut undone) = (Vec::new(), Vec::<Undo>::new());
    let mut killed: Vec<Part> = Vec::new();
    for _ in 0..faults {
        sleep(Duration::from_millis(dice.roll(MOMENT) as u64));
        let fault = Fault::roll(dice, disk.is_some());
        // What is dead can't be stopped, nor does it die twice.
        if fault.part().is_some_and(|part| killed.iter().any(|dead| goes_with(part, *dead))) {
            continue;
        }
        if let Fault::Kill(part) = fault {
            killed.push(part);
        }
        println!("{fault}");
        done.push(fault.to_string());
        undone.extend(fault.happen(desk, &ids, &limits, disk));
    }
    sleep(Duration::from_millis(dice.roll(MOMENT) as u64));
    // Who was stopped goes on, in the order of the dice.
    while !undone.is_empty() {
        undone.swap_remove(dice.roll(undone.len() as u32) as usize).undo();
    }
    println!("all goes on");
    revive(desk, killed.clone(), &ids);
    PLACES.iter().for_each(|place| serve(desk, *place));
    for painter in painters {
        let lives = !killed.iter().any(|part| painter.place.is_on(*part));
        painter.finish(desk, lives, &done);
    }
    desk.sway().empty();
    done
}

/// Whether `part` ends when `dead` does.
fn goes_with(part: Part, dead: Part) -> bool {
    part == dead || (dead == Part::Proxy && matches!(part, Part::Worker(_)))
}

fn revive(desk: &mut Desk, mut killed: Vec<Part>, ids: &BTreeMap<String, Pid>) {
    // Workers end with wlproxy, and serve and the others look for it again.
    for part in PARTS {
        if killed.iter().any(|dead| goes_with(part, *dead)) {
            desk.bury(part, ids[&format!("{part:?}")]);
        }
    }
    // The compositor is what serve waits for, wlproxy what all others do.
    for part in [Part::Compositor, Part::Proxy, Part::Serve].into_iter().chain(PARTS) {
        if let Some(at) = killed.iter().position(|dead| *dead == part) {
            killed.swap_remove(at);
            desk.revive(part);
        }
    }
}

/// A client that tries until it is served, as a person would.
fn serve(desk: &mut Desk, place: Place) {
    if let Place::Vm(vm) = place {
        desk.ready(vm);
    }
    until("a new client to be served", || Raw::try_connect(&place.display(desk))?.try_sync());
}
