//! Whatever dies: who was on it is told, the others go on, and afterwards all works as before.

use std::time::{Duration, Instant};
use wlproxy_tests::{Bystander, Desk, Display, Part, Plan, Raw, Totals};

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
