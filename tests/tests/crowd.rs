//! Many clients: at once, and one after the other.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::process::Command;
use std::time::Instant;
use wlproxy_tests::{Desk, Kind, Plan, Raw, Way, footprint, until};

/// Memory that 200 idle clients may cost in all of our processes together, in bytes. waypipe takes some 700 MB.
const MEMORY_OF_200: u64 = 60 << 20;

/// By how much each of our processes may have grown after ten thousand clients came and went, in bytes: some hundred
/// for each would be a leak. That an allocator keeps a few pages more is none.
const GROWTH: u64 = 1 << 20;

/// A desktop with a VM for each purpose: nothing is as large because of how many there are.
const SIXTEEN: [&str; 16] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

/// Connects `count` clients in each VM before any of them waits for anything, and has all of them served; the clients.
fn at_once(desk: &Desk, count: usize) -> Vec<Raw> {
    // Each has an fd, and the usual limit is made for `select`.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit is allowed");
    let displays: Vec<_> = desk.vms().iter().map(|vm| desk.through(vm)).collect();
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..count).flat_map(|_| displays.iter().map(Raw::connect)).collect();
    clients.iter_mut().for_each(Raw::sync);
    eprintln!("{} clients at once were served after {:?}", clients.len(), begin.elapsed());
    clients
}

/// The memory of all our processes together.
fn memory(desk: &Desk) -> u64 {
    desk.our_processes().into_iter().map(footprint).sum()
}

#[test]
fn two_hundred_at_once_in_little_memory() {
    let desk = Desk::new(Way::Through);
    let before = memory(&desk);
    let clients = at_once(&desk, 200);
    let now = memory(&desk);
    eprintln!("our processes together: {} KiB, before {} KiB", now >> 10, before >> 10);
    assert!(now <= MEMORY_OF_200, "{} MiB for {} clients", now >> 20, clients.len());
}

#[test]
fn a_thousand_at_once_work() {
    let desk = Desk::start(Plan::default());
    let mut clients = at_once(&desk, 1000);
    clients.iter_mut().rev().for_each(Raw::sync);
}

/// As many as a virtgpu device of the compositor's VM may have, of sixteen VMs. Who comes later than all is served as well
/// once there is room again.
#[test]
fn sixteen_vms_have_64_clients_each() {
    let plan = Plan { compositor: Kind::Recorder, vms: &SIXTEEN, ..Plan::default() };
    let desk = Desk::start(plan);
    let mut clients = at_once(&desk, 64);
    clients.iter_mut().rev().for_each(Raw::sync);
    for vm in SIXTEEN {
        assert_eq!(desk.status(vm, "contexts"), 64, "{vm}");
    }
    drop(clients);
    SIXTEEN.into_iter().for_each(|vm| Raw::connect(&desk.through(vm)).sync());
}

/// Clients that come, are served, and go without a word.
#[test]
fn ten_thousand_in_a_row_leave_fds_and_memory_where_they_were() {
    let desk = Desk::new(Way::Through);
    let round = |count| {
        for _ in 0..count {
            Raw::connect(&desk.display()).sync();
        }
    };
    round(1000);
    let leaks = desk.leaks();
    let processes = desk.our_processes();
    let before: Vec<_> = processes.iter().map(|&id| footprint(id)).collect();
    round(10_000);
    leaks.check();
    for (id, before) in processes.into_iter().zip(before) {
        let now = footprint(id);
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        eprintln!("{}: {} -> {} KiB", name.trim_end(), before >> 10, now >> 10);
        assert!(
            now <= before + GROWTH,
            "{} of {} -> {} KiB",
            name.trim_end(),
            before >> 10,
            now >> 10
        );
    }
}

/// Nobody is forgotten who came while there were no fds left for him.
#[test]
fn a_client_is_served_after_its_agent_was_out_of_fds() {
    let desk = Desk::start(Plan::default());
    let ours = desk.ours();
    let (_, agent) = ours.iter().find(|(name, _)| name == "run-work").expect("the agent");
    let fds = || fs::read_dir(format!("/proc/{agent}/fd")).expect("it runs").count();
    let limit = fds() + 20;
    let limited = Command::new("prlimit")
        .args([format!("--pid={agent}"), format!("--nofile={limit}:{limit}")])
        .status();
    assert!(limited.expect("prlimit is part of util-linux").success());
    let display = desk.through("work");
    let clients: Vec<_> = (0..60).map(|_| Raw::connect(&display)).collect();
    // One that sleeps has found that it can take no more.
    let sleeps = || {
        let stat = fs::read_to_string(format!("/proc/{agent}/stat")).expect("it runs");
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    };
    until("the agent to be out of fds", || (fds() >= limit && sleeps()).then_some(()));
    drop(clients);
    Raw::connect(&display).sync();
}
