//! What is copied reaches whoever pastes it, and a transfer goes and ends as it does on one machine: in every direction,
//! over every protocol.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use wlproxy_tests::transfer::{SCENARIOS, Transfer, cross};
use wlproxy_tests::{
    DATA_CONTROL, Desk, Display, Flood, Input, Kind, Part, Party, Paste, Plan, Selection, Suite,
    until,
};

/// Needs no focus, so that scenarios about pipes are about nothing else.
const ANY: Selection = Selection::ControlledClipboard;

/// More pastes than are carried at once for one VM.
const PASTES: usize = 70;

/// Roundtrips beside full pipes in which nothing happens to them.
const ROUNDS: u32 = 20;

const KIND: &str = "application/x-test";

/// All ways for a copy to take. The first is how it is without us.
fn directions(desk: &Desk) -> [(&'static str, Display, Display); 5] {
    let [work, local, untrusted] = [desk.through("work"), desk.direct(), desk.through("untrusted")];
    [
        ("local to local", local.clone(), local.clone()),
        ("VM to VM", work.clone(), untrusted),
        ("VM to local", work.clone(), local.clone()),
        ("local to VM", local, work.clone()),
        ("within one VM", work.clone(), work),
    ]
}

/// Two client VMs, in which more is pasted than by people.
fn two() -> Plan {
    const OFTEN: &[(&str, &str)] = &[
        ("work", "[vm.work.selections]\nrate = 60000"),
        ("untrusted", "[vm.untrusted.selections]\nrate = 60000"),
    ];
    let vms = &["work", "untrusted"];
    Plan { vms, allow: DATA_CONTROL, policies: OFTEN, ..Plan::default() }
}

/// Fails the test unless every transfer has ended.
fn idle(desk: &Desk) {
    for vm in ["work", "untrusted"] {
        until("the end of all pipes", || (desk.vm(vm).stats("pipes") == 0).then_some(()));
        assert_eq!(desk.status(vm, "violations"), 0);
    }
}

#[test]
fn transfers_are_as_on_one_machine() {
    as_on_one_machine(two());
}

#[test]
fn transfers_are_as_on_one_machine_with_a_compositor_on_the_host() {
    as_on_one_machine(Plan { compositor_vm: false, ..two() });
}

fn as_on_one_machine(plan: Plan) {
    let desk = Desk::start(plan);
    let others = [desk.through("work"), desk.direct(), desk.through("untrusted")];
    for (direction, from, to) in directions(&desk) {
        for (name, scenario) in SCENARIOS {
            let done =
                Transfer::new(ANY, &from, &to).and_then(|transfer| scenario(&others, transfer));
            done.unwrap_or_else(|error| panic!("{name}, {direction}: {error:#}"));
        }
    }
    idle(&desk);
}

/// Not everybody pastes into a pipe.
#[test]
fn pastes_into_files_and_sockets() -> Result<()> {
    let desk = Desk::start(two());
    for (direction, from, to) in directions(&desk) {
        pasted_into_others(&desk, &from, &to).context(direction)?;
    }
    idle(&desk);
    Ok(())
}

fn pasted_into_others(desk: &Desk, from: &Display, to: &Display) -> Result<()> {
    let (mut source, mut destination) = (Party::connect(from)?, Party::connect(to)?);
    source.copy(ANY, KIND)?;
    let bytes = Flood::new(8).take(300_000);

    let (socket, theirs) = UnixStream::pair()?;
    destination.paste_into(ANY, KIND, theirs.into())?;
    cross(source.asked(KIND)?, &Paste::new(socket.into())?, &bytes)?;

    // What a compositor's own client wants to be written to is told from a keymap by being no file that can be read.
    let is_carried_in = from.socket != desk.direct().socket && to.socket == desk.direct().socket;
    for readable in [false, true] {
        if readable && is_carried_in {
            continue;
        }
        let path = desk.folder().join("pasted");
        File::create(&path)?;
        let file = File::options().read(readable).write(true).open(&path)?;
        destination.paste_into(ANY, KIND, file.into())?;
        source.asked(KIND)?.write(&bytes).context("a file")?;
        until("what was pasted", || (fs::read(&path).ok()? == bytes).then_some(()));
    }
    if !is_carried_in {
        destination.paste_into(ANY, KIND, File::options().write(true).open("/dev/null")?.into())?;
        source.asked(KIND)?.write(&bytes).context("/dev/null")?;
    }
    source.client.roundtrip()?;
    destination.client.roundtrip()
}

/// More pastes than are carried at once, that nobody reads or nobody writes: the oldest end, and nobody is disconnected.
#[test]
fn pastes_that_go_on_for_ever_end_nobodys_connection() -> Result<()> {
    let desk = Desk::start(two());
    let other_bytes = Flood::new(6).take(300_000);
    for (direction, from, to) in &directions(&desk)[1..] {
        for writes in [true, false] {
            let (mut source, mut destination) = (Party::connect(from)?, Party::connect(to)?);
            source.copy(ANY, KIND)?;
            let mut pastes = Vec::new();
            for _ in 0..PASTES {
                let reader = destination.paste(ANY, KIND)?;
                pastes.push((source.asked(KIND)?, reader));
            }
            if writes {
                fill(&pastes, &mut source)?;
            }
            let which = || format!("{direction}, writes: {writes}");
            pastes[0].0.unread().with_context(which)?;
            // Others go on, also those of VMs that take part in it.
            for (direction, from, to) in directions(&desk) {
                let between = || format!("{direction} meanwhile; {}", which());
                Transfer::new(ANY, &from, &to)
                    .and_then(|other| cross(other.writer, &other.reader, &other_bytes))
                    .with_context(between)?;
                source.copy(ANY, KIND)?;
            }
            source.client.roundtrip()?;
            destination.client.roundtrip()?;
            let reader = destination.paste(ANY, KIND)?;
            let writer = source.asked(KIND)?;
            cross(writer, &reader, b"as ever")?;
        }
    }
    idle(&desk);
    Ok(())
}

/// Nobody reads what was pasted from three VMs: a fourth one exchanges with all as ever.
#[test]
fn vms_of_which_nothing_is_read_stop_no_other() -> Result<()> {
    let vms = &["work", "untrusted", "third", "other"];
    let desk = Desk::start(Plan { vms, ..two() });
    let (local, other) = (desk.direct(), desk.through("other"));
    let bytes = Flood::new(7).take(300_000);
    let mut stuck = Vec::new();
    for vm in &vms[..3] {
        let mut source = Party::connect(&desk.through(vm))?;
        let mut destination = Party::connect(&local)?;
        source.copy(ANY, KIND)?;
        let mut pastes = Vec::new();
        for _ in 0..PASTES {
            let reader = destination.paste(ANY, KIND)?;
            pastes.push((source.asked(KIND)?, reader));
        }
        fill(&pastes, &mut source)?;
        stuck.push((source, destination, pastes));
        for (from, to) in [(&other, &local), (&local, &other), (&other, &other)] {
            Transfer::new(ANY, from, to)
                .and_then(|transfer| cross(transfer.writer, &transfer.reader, &bytes))
                .with_context(|| format!("{from:?} to {to:?}, beside {vm}"))?;
        }
    }
    for (source, destination, _) in &mut stuck {
        source.client.roundtrip()?;
        destination.client.roundtrip()?;
    }
    drop(stuck);
    idle(&desk);
    Ok(())
}

/// Writes until nothing goes in any more, whatever else happens on the way.
fn fill(pastes: &[(Paste, Paste)], beside: &mut Party) -> Result<()> {
    let piece = vec![5; 1 << 16];
    let mut patience = ROUNDS;
    while patience > 0 {
        // Those that end take nothing.
        let written: usize =
            pastes.iter().map(|(writer, _)| writer.write_now(&piece).unwrap_or(0)).sum();
        patience = if written > 0 { ROUNDS } else { patience - 1 };
        beside.client.roundtrip()?;
    }
    Ok(())
}

/// Both ends learn that the compositor VM's worker is gone, and soon the next ones are served.
#[test]
fn a_worker_that_dies_ends_its_transfers() -> Result<()> {
    let mut desk = Desk::compositor_only(two());
    desk.start_proxy();
    desk.start_serve();
    for vm in ["work", "untrusted"] {
        desk.start_vm(vm);
        desk.ready(vm);
    }
    let (from, to) = (desk.through("work"), desk.through("untrusted"));
    let Transfer { mut source, mut destination, writer, reader, .. } =
        Transfer::new(ANY, &from, &to)?;
    writer.write(b"some")?;
    ensure!(reader.read(4)? == b"some");
    desk.kill(Part::Worker("gui"));
    ensure!(reader.read_to_end()?.is_empty(), "more arrived than was written");
    writer.unread()?;
    ensure!(source.client.until("nothing", |_| false).is_err(), "the source is disconnected");
    ensure!(destination.client.until("nothing", |_| false).is_err(), "so is the destination");
    let again = Transfer::new(ANY, &from, &to)?;
    again.writer.write(b"more")?;
    ensure!(again.reader.read(4)? == b"more");
    Ok(())
}

/// Every protocol that the compositor offers, every direction.
#[test]
fn every_protocol_carries_copies() -> Result<()> {
    every_protocol(Desk::start(two()))
}

/// ext_data_control among them, as long as the compositor takes clients of VMs for its own.
#[test]
fn every_protocol_of_a_newer_sway_carries_copies() -> Result<()> {
    let plan = Plan {
        compositor: Kind::Newer(Suite::Forky),
        serve: &["--security-context", "off"],
        ..two()
    };
    let desk = Desk::start(plan);
    for display in [desk.direct(), desk.through("work")] {
        for selection in [Selection::ExtClipboard, Selection::ExtPrimary] {
            ensure!(Party::connect(&display)?.can(selection), "no {selection:?} at {display:?}");
        }
    }
    every_protocol(desk)
}

fn every_protocol(mut desk: Desk) -> Result<()> {
    let hands = Input::new(&desk.direct())?;
    // The keymap is kept on every way.
    for display in [desk.through("work"), desk.through("untrusted")] {
        Party::with_window(&desk, &display, "first", (50, 50))?.focus(&desk)?;
        desk.sway().empty();
    }
    desk.take_baseline();
    for (direction, from, to) in directions(&desk) {
        for selection in Selection::ALL {
            copied(&desk, selection, &from, &to)
                .with_context(|| format!("{selection:?}, {direction}"))?;
        }
    }
    idle(&desk);
    drop(hands);
    Ok(())
}

fn copied(desk: &Desk, selection: Selection, from: &Display, to: &Display) -> Result<()> {
    let offered = Party::connect(&desk.direct())?.can(selection);
    for display in [from, to] {
        ensure!(Party::connect(display)?.can(selection) == offered, "offered to some only");
    }
    if !offered {
        println!("{selection:?}: not offered");
        return Ok(());
    }
    let mut source = Party::with_window(desk, from, "source", (50, 50))?;
    let mut destination = Party::with_window(desk, to, "destination", (250, 50))?;
    source.focus(desk)?;
    source.copy(selection, KIND)?;
    if selection.needs_focus() {
        destination.focus(desk)?;
    }
    for (seed, size) in [0, 1, 200_000].into_iter().enumerate() {
        let bytes = Flood::new(seed as u64).take(size);
        let reader = destination.paste(selection, KIND)?;
        let writer = source.asked(KIND)?;
        cross(writer, &reader, &bytes)?;
    }
    // Replaced by the other side, which is told of it too.
    destination.copy(selection, KIND)?;
    source.client.until("a cancelled source", |state| state.exchange.cancelled == 1)?;
    drop((source, destination));
    desk.sway().empty();
    Ok(())
}
