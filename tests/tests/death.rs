//! Whatever dies: who was on it is told, the others go on, and afterwards all works as before.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use wlproxy_tests::{
    Arg, Bystander, Desk, Display, Part, Plan, Raw, Totals, footprint, message, slow,
};

const VMS: &[&str] = &["untrusted", "work"];

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Vm(&'static str),
    /// Beside the compositor.
    Local,
}

const PLACES: [Place; 3] = [Place::Vm("work"), Place::Vm("untrusted"), Place::Local];

impl Place {
    fn display(self, desk: &Desk) -> Display {
        match self {
            Self::Vm(vm) => desk.through(vm),
            Self::Local => desk.direct(),
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

/// Everything that may die but clients.
const PARTS: [Part; 6] = [
    Part::Proxy,
    Part::Worker("work"),
    Part::Worker("gui"),
    Part::Run("work"),
    Part::Serve,
    Part::Compositor,
];

/// Kills `part` under clients in all places, and has it again; how long the slowest disconnect and the first new client
/// took.
fn death(desk: &mut Desk, part: Part) -> (Duration, Duration) {
    let (mut on_it, mut others) = (Vec::new(), Vec::new());
    for place in PLACES {
        if place.is_on(part) {
            let mut raw = Raw::connect(&place.display(desk));
            raw.sync();
            on_it.push(raw);
        } else {
            others.push(Bystander::start(&place.display(desk)));
        }
    }
    let killed = Instant::now();
    desk.kill(part);
    for raw in &mut on_it {
        // An error that tells why may come before the end; neither waits for anything.
        raw.end();
    }
    let disconnected = killed.elapsed();
    others.iter().for_each(Bystander::check);
    let revived = Instant::now();
    desk.revive(part);
    for place in PLACES {
        if let Place::Vm(vm) = place {
            desk.ready(vm);
        }
        serve_a_new_one(&place.display(desk));
    }
    let served = revived.elapsed();
    others.iter().for_each(Bystander::check);
    (disconnected, served)
}

/// A client that tries until it is served, as a person would: while parts are away, clients may be turned away.
fn serve_a_new_one(display: &Display) {
    wlproxy_tests::until("a new client to be served", || Raw::try_connect(display)?.try_sync());
}

fn told(part: Part, how: &str, (disconnected, served): (Duration, Duration)) {
    eprintln!(
        "{part:?} killed {how}: clients told after {disconnected:?}, new ones served after {served:?}"
    );
}

/// Each part three times, with idle clients. What the second and third time leave, the first has left.
#[test]
fn whatever_dies_the_others_live_and_nothing_is_left_over() {
    for part in PARTS {
        let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
        death(&mut desk, part);
        let before: Totals = desk.totals();
        for _ in 0..2 {
            let took = death(&mut desk, part);
            told(part, "idle", took);
        }
        desk.expect_totals(&before);
        desk.take_baseline();
    }
}

/// Each part while applications draw all the time.
#[test]
fn whatever_dies_under_load_the_others_live() {
    let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
    for part in PARTS {
        for place in PLACES {
            let display = place.display(&desk);
            desk.app(&display, "foot", &["--config=/dev/null", "yes"]);
        }
        desk.sway().wait("three windows", |windows| (windows.len() == 3).then_some(()));
        let took = death(&mut desk, part);
        told(part, "under load", took);
        let left = PLACES.iter().filter(|place| !place.is_on(part)).count();
        let mut sway = desk.sway();
        sway.wait("the windows of those who live", |windows| (windows.len() == left).then_some(()));
        desk.close();
        desk.sway().empty();
    }
    desk.take_baseline();
}

/// A client that is killed in the middle of a message leaves those beside it alone.
#[test]
fn a_killed_client_is_noticed_by_nobody() {
    let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
    let bystanders = PLACES.map(|place| Bystander::start(&place.display(&desk)));
    for _ in 0..5 {
        for place in PLACES {
            let display = place.display(&desk);
            desk.app(&display, "foot", &["--config=/dev/null", "yes"]);
        }
        desk.sway().wait("three windows", |windows| (windows.len() == 3).then_some(()));
        desk.kill_apps();
        desk.sway().empty();
        bystanders.iter().for_each(Bystander::check);
    }
}

/// How long a compositor is stopped.
fn stop_time() -> Duration {
    Duration::from_secs(if slow() { 60 } else { 3 })
}

/// What a stopped compositor may cost in all of our processes together, in bytes: what may wait in each of them for one
/// client (1 MiB), and then some.
const WAITING: u64 = 8 << 20;

/// Requests between two questions: each question is an object, of which a client has only so many.
const BETWEEN: u32 = 1000;

/// The compositor is stopped while a client says and says, and asks now and then: the client waits, what it said is
/// kept within bounds, and all of it is answered when the compositor goes on.
#[test]
fn what_a_stopped_compositor_is_told_waits_for_it() {
    let mut desk = Desk::start(Plan { vms: VMS, ..Plan::default() });
    let mut raw = Raw::connect(&desk.through("work"));
    raw.sync();
    let compositor = raw.bind("wl_compositor", 4);
    let surface = raw.id();
    raw.send(&message(compositor, 0, &[Arg::Uint(surface)]), []);
    raw.sync();
    let memory = |desk: &Desk| desk.our_processes().into_iter().map(footprint).sum::<u64>();
    let before = memory(&desk);
    desk.compositor().process().signal(Signal::SIGSTOP);
    let (stopped, stop_time) = (Instant::now(), stop_time());
    let (mut said, mut asked) = (0, Vec::new());
    while stopped.elapsed() < stop_time {
        if raw.is_held_back() {
            raw.wait_for_room(stopped + stop_time);
            continue;
        }
        // set_buffer_scale
        raw.send(&message(surface, 8, &[Arg::Int(1)]), []);
        said += 1;
        if said % BETWEEN == 0 {
            asked.push(raw.id());
            raw.send(&message(1, 0, &[Arg::Uint(*asked.last().expect("just pushed"))]), []);
        }
    }
    let (held_back, grown) = (raw.is_held_back(), memory(&desk).saturating_sub(before));
    desk.compositor().process().signal(Signal::SIGCONT);
    let goes_on = Instant::now();
    for &callback in &asked {
        let answer = std::iter::from_fn(|| raw.event()).find(|event| event.opcode == 0);
        let found = answer.as_ref().map(|event| event.object);
        assert_eq!(found, Some(callback), "{answer:?} instead of the answer");
    }
    raw.sync();
    eprintln!(
        "{said} requests waited for {stop_time:?} in {} KiB and were answered {:?} later",
        grown >> 10,
        goes_on.elapsed()
    );
    assert!(held_back, "{said} requests, and the client doesn't wait");
    assert!(grown <= WAITING, "{} KiB for {said} requests", grown >> 10);
}
