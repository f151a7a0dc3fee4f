//! What the clients of a VM may have together, and how fast they may be: who asks for more waits or ends, and nobody else
//! notices.

use anyhow::Result;
use std::time::Instant;
use wlproxy_tests::attacker::opcode::CREATE_REGION;
use wlproxy_tests::{
    Arg, Attacker, Bystander, Client, Desk, PATIENCE, Plan, Raw, footprint, message, until,
};

/// "work" has an agent and these limits, "far" has the same without an agent, "untrusted" none of them.
fn plan(work: &'static str, far: &'static str) -> Plan {
    let policies: &[_] = Box::leak(Box::new([("work", work), ("far", far)]));
    Plan { vms: &["work", "untrusted"], dialling: &["far"], policies, ..Plan::default() }
}

#[test]
fn a_vm_has_no_more_connections_than_it_may() {
    let quota = ("[vm.work.quota]\nconnections = 3", "[vm.far.quota]\nconnections = 3");
    let desk = Desk::start(plan(quota.0, quota.1));
    for vm in ["work", "far"] {
        // That of another VM, and one of the same.
        let display = if vm == "far" { desk.dial(vm) } else { desk.through(vm) };
        let bystanders = [Bystander::start(&desk.through("untrusted")), Bystander::start(&display)];
        let mut served: Vec<_> = (0..2).map(|_| Raw::connect(&display)).collect();
        served.iter_mut().for_each(Raw::sync);
        let mut waits = Raw::connect(&display);
        // An agent is told so; who dials is not even accepted.
        if vm == "work" {
            until("the refusal", || (desk.status(vm, "contexts_refused") > 0).then_some(()));
        }
        until("three connections", || (desk.status(vm, "contexts") == 3).then_some(()));
        assert_eq!(desk.whole_status()["vms"][vm]["vm_quota"]["connections"], 3);
        served.iter_mut().for_each(Raw::sync);
        bystanders.iter().for_each(Bystander::check);
        // There is room when another leaves.
        served.pop();
        waits.sync();
        bystanders.iter().for_each(Bystander::check);
    }
    let table = desk.wlproxy(&["status"]).output().expect("wlproxy can be started").stdout;
    let table = String::from_utf8(table).expect("text");
    assert!(table.contains("of 3 ") && table.contains("clients too many"), "{table}");
}

#[test]
fn clients_come_no_faster_than_they_may() {
    const QUOTA: &str = "connections = 40\nconnections_per_second = 5";
    let work = Box::leak(format!("[vm.work.quota]\n{QUOTA}").into_boxed_str());
    let far = Box::leak(format!("[vm.far.quota]\n{QUOTA}").into_boxed_str());
    let desk = Desk::start(plan(work, far));
    let display = desk.dial("far");
    let bystanders =
        [desk.through("untrusted"), display.clone()].map(|display| Bystander::start(&display));
    let before = Instant::now();
    let mut came = 0;
    while desk.status("far", "contexts_refused") == 0 {
        assert!(before.elapsed() < PATIENCE, "{came} clients aren't too many");
        // It leaves without a word. All that may come at once, and more.
        (0..50).for_each(|_| drop(Raw::try_connect(&display)));
        came += 50;
        bystanders.iter().for_each(Bystander::check);
    }
    eprintln!("{came} clients in {:?} were too many", before.elapsed());
    assert!(came >= 30, "refused after {came}");
    // Who tries again is taken, sooner or later.
    until("one to be taken", || Raw::try_connect(&display)?.try_sync());
    // An agent does that for its clients.
    let mut clients: Vec<_> = (0..10).map(|_| Raw::connect(&desk.through("work"))).collect();
    clients.iter_mut().for_each(Raw::sync);
    bystanders.iter().for_each(Bystander::check);
    let told = desk.complaints().iter().filter(|line| line.contains("clients are refused")).count();
    assert!((1..=3).contains(&told), "told {told} times");
}

/// Objects of a client that has many, beside its first ones.
const MANY: usize = 60_000;

/// Each of them may have so many; 1,024 of them may not.
#[test]
fn all_clients_of_a_vm_have_no_more_objects_than_some_with_many() {
    let mut desk = Desk::start(Plan { vms: &["work", "untrusted"], ..Plan::default() });
    let display = desk.through("untrusted");
    let bystanders = [Bystander::start(&display), Bystander::start(&desk.through("work"))];
    let compositor = desk.compositor().process().id();
    let before = footprint(compositor);
    let mut greedy = Vec::new();
    let fault = loop {
        let mut client = Attacker::new(&display);
        (0..MANY).for_each(|_| _ = client.make(client.compositor, CREATE_REGION));
        match client.settle() {
            Ok(()) => greedy.push(client),
            Err(fault) => break fault.expect("it is told"),
        }
        assert!(greedy.len() < 20, "it goes on");
        bystanders.iter().for_each(Bystander::check);
    };
    let memory = footprint(compositor).saturating_sub(before);
    eprintln!("{} clients, and {} MiB more in the compositor", greedy.len(), memory >> 20);
    assert!(fault.message.contains("all clients of this VM"), "{fault:?}");
    assert_eq!(greedy.len(), 8);
    // Who has few goes on, and new ones come.
    bystanders.iter().for_each(Bystander::check);
    Raw::connect(&display).sync();
}

/// Requests that a client sends at once: three times what it may in a second.
const REQUESTS: u32 = 6000;

/// Has a client sync so many times at once; the first callback.
fn flood(client: &mut Raw, requests: u32) -> u32 {
    let ids: Vec<u32> = (0..requests).map(|_| client.id()).collect();
    let all: Vec<u8> = ids.iter().flat_map(|&id| message(1, 0, &[Arg::Uint(id)])).collect();
    client.send(&all, []);
    ids[0]
}

/// Reads the answers to so many syncs.
fn answers(client: &mut Raw, first: u32, requests: u32) {
    let mut answered = 0;
    while answered < requests {
        let event = client.event().expect("it is not ended");
        assert!((event.object, event.opcode) != (1, 0), "{event:?}");
        answered += u32::from(event.object == first + answered && event.opcode == 0);
    }
    client.sync();
}

#[test]
fn a_client_that_sends_too_much_waits_and_no_other_does() {
    const QUOTA: &str = "client_messages_per_second = 2000";
    let work = Box::leak(format!("[vm.work.quota]\n{QUOTA}").into_boxed_str());
    let far = Box::leak(format!("[vm.far.quota]\n{QUOTA}").into_boxed_str());
    let desk = Desk::start(plan(work, far));
    for vm in ["work", "far"] {
        let display = if vm == "far" { desk.dial(vm) } else { desk.through(vm) };
        let mut hasty = Raw::connect(&display);
        hasty.sync();
        let bystanders =
            [desk.through("untrusted"), display].map(|display| Bystander::start(&display));
        let before = Instant::now();
        let first = flood(&mut hasty, REQUESTS);
        until("the pause", || (desk.status(vm, "pauses") > 0).then_some(()));
        bystanders.iter().for_each(Bystander::check);
        answers(&mut hasty, first, REQUESTS);
        eprintln!("{vm}: {REQUESTS} requests were answered after {:?}", before.elapsed());
        bystanders.iter().for_each(Bystander::check);
        assert_eq!(desk.status(vm, "violations"), 0);
    }
    let told = desk.complaints().iter().filter(|line| line.contains("is made to wait")).count();
    assert_eq!(told, 2, "once for each client");
}

/// Clients that flood at once, and what each says: together they would take more than half a minute at the speed of
/// [`SLOW`].
const FLOODS: u32 = 6;
const FLOOD: u32 = 20_000;
const SLOW: &str = "messages_per_second = 3000\nclient_messages_per_second = 2000";

#[test]
fn clients_that_send_too_much_together_wait_and_no_other_does() {
    let both = |quota: &str| {
        let of = |vm| &*Box::leak(format!("[vm.{vm}.quota]\n{quota}").into_boxed_str());
        &*Box::leak(Box::new([("work", of("work")), ("far", of("far"))]))
    };
    let mut desk = Desk::start(Plan { policies: both(SLOW), ..plan("", "") });
    for vm in ["work", "far"] {
        let display = if vm == "far" { desk.dial(vm) } else { desk.through(vm) };
        let mut flooding: Vec<Raw> = (0..FLOODS).map(|_| Raw::connect(&display)).collect();
        flooding.iter_mut().for_each(Raw::sync);
        let bystanders =
            [desk.through("untrusted"), display.clone()].map(|display| Bystander::start(&display));
        let before = Instant::now();
        let first: Vec<u32> = flooding.iter_mut().map(|client| flood(client, FLOOD)).collect();
        until("all to be made to wait", || {
            (desk.status(vm, "pauses") >= FLOODS.into()).then_some(())
        });
        (0..5).for_each(|_| bystanders.iter().for_each(Bystander::check));
        // One that comes now is served, too.
        Raw::connect(&display).sync();
        let passed = desk.status(vm, "requests");
        eprintln!("{vm}: {passed} requests have passed after {:?}", before.elapsed());
        assert!(passed < u64::from(FLOODS * FLOOD), "they don't wait");
        let status = &desk.whole_status()["vms"][vm];
        assert!(status["most_messages"].as_u64() >= Some(3000), "{status}");
        assert!(status["most_client_messages"].as_u64() >= Some(500), "{status}");
        // Those that wait go on at another speed.
        desk.rewrite_config(both(
            "messages_per_second = 1000000\nclient_messages_per_second = 1000000",
        ));
        desk.reload();
        for (client, first) in flooding.iter_mut().zip(first) {
            answers(client, first, FLOOD);
        }
        bystanders.iter().for_each(Bystander::check);
        assert_eq!(desk.status(vm, "violations"), 0);
        desk.rewrite_config(both(SLOW));
        desk.reload();
    }
    let complaints = desk.complaints();
    let together = complaints.iter().filter(|line| line.contains("in a second together")).count();
    assert!((1..20).contains(&together), "told {together} times");
}

#[test]
fn a_client_for_which_no_memory_is_left_ends_alone() -> Result<()> {
    let desk = Desk::start(plan("[vm.work.quota]\nmemory_mib = 4", ""));
    let bystanders = ["work", "untrusted"].map(|vm| Bystander::start(&desk.through(vm)));
    let mut small = Client::connect(&desk.through("work"))?;
    let window = small.toplevel("small")?;
    window.show(&small.buffer(200, 200));
    small.roundtrip()?;
    let mut large = Client::connect(&desk.through("work"))?;
    let window = large.toplevel("large")?;
    window.show(&large.buffer(1200, 1000));
    let error = large.roundtrip().expect_err("no room for 4.6 MiB");
    eprintln!("{error:#}");
    small.roundtrip()?;
    bystanders.iter().for_each(Bystander::check);
    assert!(desk.status("work", "allocation_bytes") <= 4 << 20);
    // The same is no trouble elsewhere.
    let mut large = Client::connect(&desk.through("untrusted"))?;
    let window = large.toplevel("large")?;
    window.show(&large.buffer(1200, 1000));
    large.roundtrip()
}
