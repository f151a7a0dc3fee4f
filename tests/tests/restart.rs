//! Compositor, host and agents go and come again, and those that stay follow.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use wlproxy_tests::{Desk, Kind, Plan, Raw, Way, until};

/// Longest until a client is served after who was away is back.
const SOON: Duration = Duration::from_secs(1);

/// A compositor that comes last: the client that came first waits and is served.
fn compositor_comes_last(kind: Kind) {
    let mut desk = Desk::nothing(Plan { compositor: kind, ..Plan::default() });
    desk.start_proxy();
    desk.start_serve();
    desk.start_vm("work");
    desk.ready("work");
    let mut early = Raw::connect(&desk.through("work"));
    // That wlproxy has it wait is what this is about.
    until("a client that waits", || (desk.pending() == 1).then_some(()));
    desk.compositor().start();
    early.sync();
    assert!(early.globals().iter().any(|(_, interface, _)| interface == "wl_compositor"));
    drop(early);
    desk.take_baseline();
}

#[test]
fn a_client_waits_for_sway() {
    compositor_comes_last(Kind::Sway);
}

#[test]
fn a_client_waits_for_weston() {
    compositor_comes_last(Kind::Weston);
}

/// A compositor that is killed and started again, twice: its clients are disconnected, later ones are served.
fn compositor_restarts(kind: Kind) {
    let mut desk = Desk::start(Plan { compositor: kind, ..Plan::default() });
    for _ in 0..2 {
        let mut old = Raw::connect(&desk.through("work"));
        old.sync();
        desk.compositor().kill();
        assert_eq!(old.end(), None);
        // Whether it comes before or after serve has noticed, it waits.
        let mut between = Raw::connect(&desk.through("work"));
        until("a client that waits", || (desk.pending() == 1).then_some(()));
        desk.compositor().start();
        let back = Instant::now();
        between.sync();
        Raw::connect(&desk.through("work")).sync();
        assert!(back.elapsed() < SOON, "{:?} after the compositor was back", back.elapsed());
    }
    desk.take_baseline();
}

#[test]
fn serve_follows_a_restart_of_sway() {
    compositor_restarts(Kind::Sway);
}

#[test]
fn serve_follows_a_restart_of_weston() {
    compositor_restarts(Kind::Weston);
}

/// wlproxy is killed and started again while `run` stays: its clients are disconnected, those that come meanwhile wait
/// in the socket's queue, and all of it goes on when wlproxy is back.
#[test]
fn run_follows_a_restart_of_the_host() {
    let mut desk = Desk::new(Way::Through);
    for _ in 0..2 {
        let mut old = Raw::connect(&desk.through("work"));
        old.sync();
        desk.proxy().signal(Signal::SIGKILL);
        desk.proxy().wait();
        assert_eq!(old.end(), None);
        let mut between = Raw::connect(&desk.through("work"));
        desk.start_proxy();
        // Its VMs' sockets are there before it answers.
        desk.pending();
        let back = Instant::now();
        between.sync();
        Raw::connect(&desk.through("work")).sync();
        assert!(back.elapsed() < SOON, "{:?} after wlproxy was back", back.elapsed());
    }
    desk.take_baseline();
}
