//! Clients come and go: early, in thousands, while others start.

use wlproxy_tests::{Bystander, Desk, Plan, Raw, Way, until};

/// 1,000 clients in a row, each of them served, and then all is as it was.
fn a_thousand(way: Way) {
    let desk = Desk::new(way);
    let leaks = desk.leaks();
    for _ in 0..1000 {
        let mut raw = Raw::connect(&desk.display());
        raw.sync();
        assert!(raw.globals().iter().any(|(_, interface, _)| interface == "wl_compositor"));
    }
    leaks.check();
    if way == Way::Through {
        // What a worker counts reaches the status a moment later.
        until("1000 contexts", || (desk.status("work", "contexts_opened") >= 1000).then_some(()));
        assert_eq!(desk.status("work", "violations"), 0);
    }
}

#[test]
fn a_thousand_in_a_row_directly() {
    a_thousand(Way::Direct);
}

#[test]
fn a_thousand_in_a_row() {
    a_thousand(Way::Through);
}

/// Clients that leave without a word, or in the middle of one.
#[test]
fn hasty_clients_leave_nothing() {
    let desk = Desk::new(Way::Through);
    let bystander = Bystander::start(&desk.display());
    let leaks = desk.leaks();
    for i in 0..100 {
        let mut raw = Raw::connect(&desk.display());
        if i % 2 == 1 {
            // Half a header.
            raw.send(&[1, 0, 0, 0, 0, 0], []);
        }
        drop(raw);
        bystander.check();
    }
    leaks.check();
}

/// Thirty at a time, all of them served.
#[test]
fn many_at_once() {
    let desk = Desk::new(Way::Through);
    let leaks = desk.leaks();
    let mut clients: Vec<_> = (0..30).map(|_| Raw::connect(&desk.display())).collect();
    clients.iter_mut().for_each(Raw::sync);
    clients.iter_mut().rev().for_each(Raw::sync);
    drop(clients);
    leaks.check();
}

/// A client that comes before the compositor VM's driver is up is served when it is.
#[test]
fn a_client_before_the_compositor_vm() {
    let mut desk = Desk::without_serve(Plan::default());
    desk.ready("work");
    let mut early = Raw::connect(&desk.display());
    // That wlproxy knows of it before serve starts, is what this is about.
    until("the client's context", || (desk.status("work", "contexts_opened") > 0).then_some(()));
    desk.start_serve();
    early.sync();
    assert!(early.globals().iter().any(|(_, interface, _)| interface == "wl_compositor"));
    drop(early);
    desk.take_baseline();
}

/// What starts: wlproxy, the compositor VM's agent, the client VM's agent.
#[derive(Debug, Clone, Copy)]
enum Part {
    Proxy,
    Serve,
    Run,
}

#[test]
fn the_order_of_starting_does_not_matter() {
    use Part::{Proxy, Run, Serve};
    let orders = [
        [Proxy, Serve, Run],
        [Proxy, Run, Serve],
        [Serve, Proxy, Run],
        [Serve, Run, Proxy],
        [Run, Proxy, Serve],
        [Run, Serve, Proxy],
    ];
    for order in orders {
        eprintln!("{order:?}");
        let mut desk = Desk::compositor_only(Plan::default());
        for part in order {
            match part {
                Proxy => desk.start_proxy(),
                Serve => desk.start_serve(),
                Run => desk.start_vm("work"),
            }
        }
        // Waits for a client to be served.
        desk.take_baseline();
    }
}

/// `guest-agent run` ends as its application does, and the application finds the compositor.
#[test]
fn an_application_runs_and_its_exit_status_is_returned() {
    let mut desk = Desk::start(Plan { vms: &["work"], ..Plan::default() });
    desk.stop_vm("work");
    for (script, code) in
        [("exit 0", 0), ("exit 41", 41), ("test -S $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY", 0)]
    {
        assert_eq!(desk.run("work", &["sh", "-c", script]).code(), Some(code), "{script}");
    }
    assert_eq!(desk.run("work", &["sh", "-c", "kill -9 $$"]).code(), Some(128 + 9));
    assert!(!desk.run("work", &["/nonexistent"]).success());
    desk.start_vm("work");
    desk.take_baseline();
}
