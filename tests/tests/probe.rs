//! The program that also runs in VMs, here over the channel of this run: its scenarios, and what it finds wrong.

use std::process::Command;
use wlproxy_tests::probe::{CLIENT, COPY, NO_AGENT, PASTE};
use wlproxy_tests::{Client, Desk, Display, Kind, Plan, show, until};

const PROBE: &str = env!("CARGO_BIN_EXE_wlproxy-probe");

/// What needs no agent.
const ANYWHERE: [&str; 9] = [
    "pool-grows",
    "pool-cycles",
    "many-fds",
    "long-messages",
    "keymap",
    "damage",
    "pipes",
    "frames",
    "round-trips",
];

fn desk(vms: &'static [&'static str], lending: &'static [&'static str]) -> Desk {
    let compositor = Kind::Recorder;
    let mut desk = Desk::start(Plan { compositor, vms, lending, ..Plan::default() });
    // Of the keymap each VM keeps one for all who come later.
    vms.iter().for_each(|vm| drop(play(&mut desk, "first", &["keymap"], Some(vm))));
    desk.take_baseline();
    desk
}

/// Where a VM's clients connect, or the compositor's own.
fn place(desk: &Desk, vm: Option<&str>) -> Display {
    vm.map_or_else(|| desk.direct(), |vm| desk.through(vm))
}

/// Plays scenarios in a VM, or beside the compositor. What the client says.
fn play(desk: &mut Desk, name: &str, scenarios: &[&str], vm: Option<&str>) -> String {
    let stats = vm.map(|vm| desk.vm(vm).stats_file().to_owned());
    let mut command = desk.command(PROBE);
    command.arg(CLIENT).arg(stats.unwrap_or(NO_AGENT.into())).args(scenarios);
    let command = place(desk, vm).command(command);
    run(desk, name, command)
}

fn run(desk: &mut Desk, name: &str, command: Command) -> String {
    let process = desk.adopt(name, command, false);
    let status = process.wait();
    let log = process.log();
    assert!(status.success(), "{name}: {status}: {log}");
    log
}

#[test]
fn without_a_path_all_is_as_it_is_expected() {
    let mut desk = desk(&[], &[]);
    for scenario in ANYWHERE {
        let said = play(&mut desk, scenario, &[scenario], None);
        assert!(said.contains(&format!("{scenario}: ")), "{said}");
    }
}

#[test]
fn through_the_path_all_arrives_and_what_is_stale_is_copied() {
    let mut desk = desk(&["work"], &[]);
    for scenario in ANYWHERE.into_iter().chain(["unread-pastes"]) {
        let said = play(&mut desk, scenario, &[scenario], Some("work"));
        assert!(said.contains(&format!("{scenario}: ")), "{said}");
        assert!(scenario != "frames" || said.contains("1280x720, shadow: "), "{said}");
    }
}

#[test]
fn what_is_lent_is_seen_and_not_copied() {
    let mut desk = desk(&["lent"], &["lent"]);
    play(&mut desk, "lent", &["lent"], Some("lent"));
    play(&mut desk, "demoted", &["demoted"], Some("lent"));
    let said = play(&mut desk, "frames", &["frames"], Some("lent"));
    assert!(said.contains("1280x720, zero-copy: "), "{said}");
    // What can't be lent goes on as ever.
    play(&mut desk, "rest", &["pool-grows", "many-fds", "damage"], Some("lent"));
}

/// Where nothing is lent, the scenario about it fails, and says so.
#[test]
fn a_copy_is_noticed() {
    let mut desk = desk(&["work"], &[]);
    let stats = desk.vm("work").stats_file().to_owned();
    let mut command = desk.command(PROBE);
    command.arg(CLIENT).arg(stats).arg("lent");
    let command = desk.through("work").command(command);
    let process = desk.adopt("copied", command, false);
    assert!(!process.wait().success());
    let log = process.log();
    assert!(log.contains("lent failed") && log.contains("0 allocations are lent"), "{log}");
}

/// What a client draws and doesn't damage stays where it was drawn, and is told from what the compositor sees.
#[test]
fn other_pixels_are_noticed() {
    let desk = desk(&["work"], &[]);
    let mut client = Client::connect(&desk.through("work")).unwrap();
    let (surface, buffer) = (client.surface(), client.buffer(40, 30));
    show(&surface, &buffer);
    client.check(&surface, &buffer).unwrap();
    buffer.write(40 * 30 * 4 - 1, &[1]);
    let why = client.check(&surface, &buffer).unwrap_err().to_string();
    assert!(why.contains("was drawn"), "{why}");
    show(&surface, &buffer);
    client.check(&surface, &buffer).unwrap();
}

#[test]
fn much_is_copied_and_pasted_each_way() {
    let mut desk = desk(&["work", "untrusted"], &[]);
    let directions = [
        (Some("work"), None),
        (None, Some("work")),
        (Some("work"), Some("untrusted")),
        (Some("work"), Some("work")),
    ];
    for (from, to) in directions {
        let mut copy = desk.command(PROBE);
        copy.arg(COPY).arg("1");
        let copy = place(&desk, from).command(copy);
        let mut paste = desk.command(PROBE);
        paste.arg(PASTE);
        let paste = place(&desk, to).command(paste);
        let copy = desk.adopt("copy", copy, false);
        until("the copy", || copy.log().contains("are copied").then_some(()));
        run(&mut desk, "paste", paste);
        // It has written all of it, and ends.
        let copied = desk.apps().find(|app| app.name() == "copy").expect("it was started").wait();
        assert!(copied.success(), "{from:?} to {to:?}: {copied}");
        desk.close();
    }
}
