//! A compositor that links the shim: clients of other VMs come to itself, and no `guest-agent serve` runs.

use std::process::Command;
use wlproxy_tests::probe::{CLIENT, COPY, NO_AGENT, PASTE};
use wlproxy_tests::recorder::seat;
use wlproxy_tests::{Arg, Desk, Display, Kind, Part, Plan, Raw, die_in_a_message, message, until};

const PROBE: &str = env!("CARGO_BIN_EXE_wlproxy-probe");

/// `wl_seat.name`.
const NAME: u16 = 1;

fn plan(vms: &'static [&'static str]) -> Plan {
    Plan { compositor: Kind::Linked, vms, ..Plan::default() }
}

/// Plays scenarios in a VM, or beside the compositor.
fn play(desk: &mut Desk, scenarios: &[&str], vm: Option<&str>) {
    let stats = vm.map(|vm| desk.vm(vm).stats_file().to_owned());
    let mut command = desk.command(PROBE);
    command.arg(CLIENT).arg(stats.unwrap_or(NO_AGENT.into())).args(scenarios);
    run(desk, vm, "client", command);
}

fn place(desk: &Desk, vm: Option<&str>) -> Display {
    vm.map_or_else(|| desk.direct(), |vm| desk.through(vm))
}

fn run(desk: &mut Desk, vm: Option<&str>, name: &str, command: Command) {
    let command = place(desk, vm).command(command);
    let process = desk.adopt(name, command, false);
    let status = process.wait();
    assert!(status.success(), "{name}: {status}: {}", process.log());
}

/// Who the compositor says that a client is.
fn who(display: &Display) -> String {
    let mut client = Raw::connect(display);
    client.sync();
    let id = client.bind("wl_seat", 2);
    loop {
        let event = client.event().expect("the connection stays open");
        if (event.object, event.opcode) == (id, NAME) {
            return event.text(0).to_owned();
        }
    }
}

#[test]
fn the_compositor_knows_who_a_client_is() {
    let mut desk = Desk::start(plan(&["work", "untrusted"]));
    let name = who(&desk.through("work"));
    let first: u64 = name.rsplit(' ').next().expect("a word").parse().expect("a number");
    assert_eq!(name, seat(Some(("work", first))));
    assert_eq!(who(&desk.through("untrusted")), seat(Some(("untrusted", first + 1))));
    assert_eq!(who(&desk.direct()), seat(None));
    desk.take_baseline();
}

#[test]
fn all_arrives_as_through_serve() {
    let mut desk = Desk::start(plan(&["work"]));
    let scenarios = ["pool-grows", "many-fds", "long-messages", "keymap", "damage", "pipes"];
    play(&mut desk, &scenarios, Some("work"));
    play(&mut desk, &scenarios[..3], None);
    // Of the keymap the VM keeps one for all who come later.
    desk.take_baseline();
}

#[test]
fn what_is_lent_is_seen_and_not_copied() {
    let mut desk = Desk::start(Plan { lending: &["lent"], ..plan(&["lent"]) });
    play(&mut desk, &["lent", "demoted", "pool-grows", "many-fds", "damage"], Some("lent"));
}

#[test]
fn much_is_copied_and_pasted_each_way() {
    let mut desk = Desk::start(plan(&["work", "untrusted"]));
    let ways = [(Some("work"), None), (None, Some("work")), (Some("work"), Some("untrusted"))];
    for (from, to) in ways {
        let mut copy = desk.command(PROBE);
        copy.arg(COPY).arg("1");
        let copy = place(&desk, from).command(copy);
        let copy = desk.adopt("copy", copy, false);
        until("the copy", || copy.log().contains("are copied").then_some(()));
        let mut paste = desk.command(PROBE);
        paste.arg(PASTE);
        run(&mut desk, to, "paste", paste);
        let copied = desk.apps().find(|app| app.name() == "copy").expect("it was started").wait();
        assert!(copied.success(), "{from:?} to {to:?}: {copied}");
        desk.close();
    }
}

/// wlproxy and the compositor's worker are killed: clients of VMs are disconnected, the compositor and its own clients go
/// on, and later ones are served.
#[test]
fn the_host_is_found_again() {
    let mut desk = Desk::start(plan(&["work"]));
    let mut own = Raw::connect(&desk.direct());
    for part in [Part::Worker("gui"), Part::Proxy] {
        let mut old = Raw::connect(&desk.through("work"));
        old.sync();
        desk.kill(part);
        assert_eq!(old.end(), None);
        own.sync();
        desk.revive(part);
        until("a client that is served", || Raw::try_connect(&desk.through("work"))?.try_sync());
        own.sync();
    }
    drop(own);
    desk.take_baseline();
}

/// A client that floods the compositor and reads nothing holds up neither others of its VM nor the compositor.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let mut desk = Desk::start(plan(&["work", "untrusted"]));
    let mut flood = Raw::connect(&desk.through("untrusted"));
    flood.sync();
    // Each is answered, until nobody takes answers any more.
    let callbacks: Vec<u32> = (0..200_000).map(|_| flood.id()).collect();
    let syncs =
        callbacks.iter().flat_map(|&id| message(1, 0, &[Arg::Uint(id)])).collect::<Vec<u8>>();
    flood.send(&syncs, []);
    assert!(flood.is_held_back());
    for display in [desk.through("work"), desk.through("untrusted"), desk.direct()] {
        (0..100).for_each(|_| Raw::connect(&display).sync());
    }
    drop(flood);
    desk.take_baseline();
}

/// Half a message, and then nothing more.
#[test]
fn a_client_that_dies_in_a_message_leaves_nothing() {
    let mut desk = Desk::start(plan(&["work"]));
    die_in_a_message(&mut desk);
}

#[test]
fn a_thousand_clients_leave_nothing() {
    let desk = Desk::start(plan(&["work"]));
    let leaks = desk.leaks();
    (0..1000).for_each(|_| Raw::connect(&desk.through("work")).sync());
    leaks.check();
}
