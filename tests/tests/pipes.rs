//! What is copied reaches whoever pastes it, and a transfer goes and ends as it does on one machine: in every direction,
//! over every protocol.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use wlproxy_tests::{
    Bystander, Desk, Display, Flood, Input, Kind, Part, Party, Paste, Plan, Selection, Suite, until,
};

/// Needs no focus, so that scenarios about pipes are about nothing else.
const ANY: Selection = Selection::ControlledClipboard;

/// Much more than all pipes, sockets and rings on the way take.
const MUCH: usize = 4 << 20;

/// What all of them take at most: a transfer that nobody reads has moved no more than that. Between two VMs there are six
/// kernel pipes of 64 KiB, and as much as two quarters of a ring of 1 MiB.
const IN_BETWEEN: usize = 2 << 20;

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

/// Two client VMs.
fn two() -> Plan {
    Plan { vms: &["work", "untrusted"], ..Plan::default() }
}

/// Fails the test unless every transfer has ended.
fn idle(desk: &Desk) {
    for vm in ["work", "untrusted"] {
        until("the end of all pipes", || (desk.vm(vm).stats("pipes") == 0).then_some(()));
        assert_eq!(desk.status(vm, "violations"), 0);
    }
}

/// Somebody who copies and somebody who pastes, and both ends of a pipe between them.
struct Transfer {
    source: Party,
    destination: Party,
    writer: Paste,
    reader: Paste,
}

impl Transfer {
    fn new(from: &Display, to: &Display) -> Result<Self> {
        let (mut source, mut destination) = (Party::connect(from)?, Party::connect(to)?);
        source.copy(ANY, KIND)?;
        let reader = destination.paste(ANY, KIND)?;
        let writer = source.asked(KIND)?;
        Ok(Self { source, destination, writer, reader })
    }

    /// Another paste of the same.
    fn again(&mut self) -> Result<(Paste, Paste)> {
        let reader = self.destination.paste(ANY, KIND)?;
        Ok((self.source.asked(KIND)?, reader))
    }

    /// Nobody was disconnected.
    fn served(&mut self) -> Result<()> {
        self.source.client.roundtrip().context("the source")?;
        self.destination.client.roundtrip().context("the destination")
    }
}

type Scenario = fn(&Desk, Transfer) -> Result<()>;

/// What has to be the same in every direction.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("a short read is not an end", a_short_read_is_not_an_end),
    ("the end comes after the bytes", the_end_comes_after_the_bytes),
    ("nothing at all", nothing_at_all),
    ("a reader that leaves a silent writer", a_reader_that_leaves_a_silent_writer),
    ("a reader that leaves early", a_reader_that_leaves_early),
    ("a full pipe", a_full_pipe),
    ("a copy that is replaced", a_copy_that_is_replaced),
    ("a source that dies", a_source_that_dies),
    ("a destination that dies", a_destination_that_dies),
];

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
    for (direction, from, to) in directions(&desk) {
        for (name, scenario) in SCENARIOS {
            let done = Transfer::new(&from, &to).and_then(|transfer| scenario(&desk, transfer));
            done.unwrap_or_else(|error| panic!("{name}, {direction}: {error:#}"));
        }
    }
    idle(&desk);
}

fn a_short_read_is_not_an_end(_: &Desk, mut transfer: Transfer) -> Result<()> {
    for size in [1, 1, 3, 4096, 1] {
        let bytes = Flood::new(size as u64).take(size);
        transfer.writer.write(&bytes)?;
        // The writer goes on only when the reader has it.
        ensure!(transfer.reader.read(size)? == bytes, "other bytes arrived");
        transfer.served()?;
    }
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "more arrived than was written");
    Ok(())
}

fn the_end_comes_after_the_bytes(_: &Desk, mut transfer: Transfer) -> Result<()> {
    let (writer, reader) = transfer.again()?;
    cross(transfer.writer, &transfer.reader, &Flood::new(1).take(MUCH))?;
    // In small pieces too.
    cross(writer, &reader, b"0")
}

/// `bytes` are written, and read to their end.
fn cross(writer: Paste, reader: &Paste, bytes: &[u8]) -> Result<()> {
    thread::scope(|scope| {
        let written = scope.spawn(move || {
            let written = writer.write(bytes);
            drop(writer);
            written
        });
        ensure!(reader.read_to_end()? == bytes, "other bytes arrived");
        Ok(written.join().expect("writing doesn't panic")?)
    })
}

fn nothing_at_all(_: &Desk, transfer: Transfer) -> Result<()> {
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "something arrived");
    Ok(())
}

fn a_reader_that_leaves_a_silent_writer(_: &Desk, mut transfer: Transfer) -> Result<()> {
    drop(transfer.reader);
    transfer.writer.unread()?;
    let error = transfer.writer.write(b"?").err().map(|error| error.kind());
    ensure!(error == Some(ErrorKind::BrokenPipe), "{error:?}");
    transfer.source.client.roundtrip()?;
    transfer.destination.client.roundtrip()
}

fn a_reader_that_leaves_early(_: &Desk, mut transfer: Transfer) -> Result<()> {
    transfer.writer.write(b"first")?;
    transfer.reader.read(1)?;
    let Transfer { writer, reader, .. } = &transfer;
    let sent = writer.write_some(&[7; 1 << 16])?;
    ensure!(reader.read(1)?.len() == 1 && sent > 0);
    drop(transfer.reader);
    broken(&transfer.writer)?;
    transfer.source.client.roundtrip()?;
    transfer.destination.client.roundtrip()
}

/// The writer is told that nobody reads, before it has written more than fits in between.
fn broken(writer: &Paste) -> Result<()> {
    let (mut written, piece) = (0, [1; 4096]);
    loop {
        match writer.write_some(&piece) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ensure!(written < IN_BETWEEN, "{written} bytes went nowhere");
    }
}

/// Nobody reads: the writer waits, nothing is lost, and nobody else waits.
fn a_full_pipe(desk: &Desk, mut transfer: Transfer) -> Result<()> {
    let bystanders = [desk.through("work"), desk.direct(), desk.through("untrusted")]
        .map(|display| Bystander::start(&display));
    let bytes = Flood::new(2).take(MUCH);
    let written = AtomicUsize::new(0);
    let (second_writer, second_reader) = transfer.again()?;
    let Transfer { mut source, mut destination, writer, reader } = transfer;
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            for piece in bytes.chunks(4096) {
                writer.write(piece)?;
                written.fetch_add(piece.len(), Ordering::Relaxed);
            }
            drop(writer);
            Ok(())
        });
        // Another pipe of the same two clients goes on; by its end the first one has long been full.
        cross(second_writer, &second_reader, &Flood::new(3).take(MUCH))?;
        bystanders.iter().for_each(Bystander::check);
        source.client.roundtrip()?;
        destination.client.roundtrip()?;
        let on_the_way = written.load(Ordering::Relaxed);
        ensure!(on_the_way <= IN_BETWEEN, "{on_the_way} bytes are on their way");
        ensure!(!writing.is_finished(), "the writer was cut off");
        ensure!(reader.read_to_end()? == bytes, "other bytes arrived");
        writing.join().expect("writing doesn't panic")
    })
}

fn a_copy_that_is_replaced(_: &Desk, mut transfer: Transfer) -> Result<()> {
    let bytes = Flood::new(4).take(300_000);
    let (first, rest) = bytes.split_at(5);
    transfer.writer.write(first)?;
    ensure!(transfer.reader.read(5)? == first, "other bytes arrived");
    transfer.destination.copy(ANY, "application/x-other")?;
    transfer.source.client.until("a cancelled source", |state| state.exchange.cancelled == 1)?;
    // Whoever is in the middle of it may finish.
    let Transfer { writer, reader, .. } = &transfer;
    thread::scope(|scope| {
        let written = scope.spawn(|| writer.write(rest));
        ensure!(reader.read(rest.len())? == rest, "other bytes arrived");
        written.join().expect("writing doesn't panic")?;
        Ok(())
    })?;
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "more arrived than was written");
    Ok(())
}

fn a_source_that_dies(_: &Desk, transfer: Transfer) -> Result<()> {
    let Transfer { source, mut destination, writer, reader } = transfer;
    writer.write(b"last words")?;
    drop(source);
    drop(writer);
    ensure!(reader.read_to_end()? == b"last words", "other bytes arrived");
    destination.client.roundtrip()
}

fn a_destination_that_dies(_: &Desk, transfer: Transfer) -> Result<()> {
    let Transfer { mut source, destination, writer, reader } = transfer;
    writer.write(b"for nobody")?;
    drop(destination);
    drop(reader);
    broken(&writer)?;
    source.client.roundtrip()
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
                Transfer::new(&from, &to)
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
    let desk = Desk::start(Plan { vms, ..Plan::default() });
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
            Transfer::new(from, to)
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
    let Transfer { mut source, mut destination, writer, reader } = Transfer::new(&from, &to)?;
    writer.write(b"some")?;
    ensure!(reader.read(4)? == b"some");
    desk.kill(Part::Worker("gui"));
    ensure!(reader.read_to_end()?.is_empty(), "more arrived than was written");
    writer.unread()?;
    ensure!(source.client.until("nothing", |_| false).is_err(), "the source is disconnected");
    ensure!(destination.client.until("nothing", |_| false).is_err(), "so is the destination");
    let again = Transfer::new(&from, &to)?;
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
