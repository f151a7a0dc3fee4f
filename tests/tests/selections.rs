//! What a VM's clients may copy to others, and paste from them, against a real compositor.

use anyhow::{Context, Result, ensure};
use std::os::fd::AsFd;
use std::thread;
use wayland_client::protocol::wl_data_device_manager::DndAction;
use wlproxy_tests::transfer::{Transfer, cross};
use wlproxy_tests::{
    DATA_CONTROL, Desk, Display, Flood, Input, Party, Paste, Plan, Selection, until,
};

const KIND: &str = "application/x-test";
/// What was copied before, by a client of the compositor's own.
const KEPT: &str = "application/x-kept";

/// By these anybody pastes without the focus.
const CONTROLLED: [Selection; 2] = [Selection::ControlledClipboard, Selection::ControlledPrimary];

/// Each of them, and how a client with the focus calls the same.
const WITH_FOCUS: [(Selection, Selection); 4] = [
    (Selection::Clipboard, Selection::ControlledClipboard),
    (Selection::Primary, Selection::ControlledPrimary),
    (Selection::ControlledClipboard, Selection::ControlledClipboard),
    (Selection::ControlledPrimary, Selection::ControlledPrimary),
];

/// As many bytes as one transfer may have, where there is a limit.
const LIMIT: usize = 64 << 10;

/// Where two windows are, and a place in the middle of each.
const SOURCE: (i64, i64) = (50, 50);
const ON_SOURCE: (i64, i64) = (100, 100);
const DESTINATION: (i64, i64) = (250, 50);
const ON_DESTINATION: (i64, i64) = (300, 100);

/// Two VMs, of which "untrusted" has this policy.
fn desk(policies: &'static [(&'static str, &'static str)]) -> Desk {
    Desk::start(plan(policies))
}

fn plan(policies: &'static [(&'static str, &'static str)]) -> Plan {
    Plan { vms: &["work", "untrusted"], allow: DATA_CONTROL, policies, ..Plan::default() }
}

/// A hand on a keyboard and a mouse. The keymap is kept on every way.
fn hands(desk: &mut Desk) -> Result<Input> {
    let hands = Input::new(&desk.direct())?;
    for vm in ["work", "untrusted"] {
        Party::with_window(desk, &desk.through(vm), "first", SOURCE)?.focus(desk)?;
        desk.sway().empty();
    }
    desk.take_baseline();
    Ok(hands)
}

/// What stands in wlproxy's log of transfers that have ended, behind the time.
fn transfers(desk: &mut Desk) -> Vec<String> {
    let log = desk.proxy().log();
    let lines = log.lines().filter_map(|line| line.split_once("a transfer ends: "));
    lines.map(|(_, rest)| rest.to_owned()).collect()
}

fn refused(desk: &Desk, vm: &str) -> u64 {
    desk.status(vm, "selections_refused")
}

/// What is copied there arrives here.
fn copied(selection: Selection, from: &Display, to: &Display) -> Result<()> {
    let transfer = Transfer::new(selection, from, to)?;
    cross(transfer.writer, &transfer.reader, &Flood::new(1).take(200_000))
}

/// Asks for something that it wasn't offered; whether anything came.
fn steal(thief: &mut Party, selection: Selection, kind: &str) -> Result<Vec<u8>> {
    let (ours, theirs) = Paste::pipe()?;
    let offers = &thief.exchange().offers;
    offers.get(&selection).context("an offer")?.receive(kind, theirs.as_fd());
    thief.client.flush()?;
    drop(theirs);
    thief.client.roundtrip()?;
    Ok(ours.read_to_end()?)
}

/// What others have copied stays as it is.
#[test]
fn what_a_vm_may_not_give_nobody_gets() -> Result<()> {
    let mut desk = desk(&[("untrusted", "[vm.untrusted.selections]\ngive = []")]);
    let _hands = hands(&mut desk)?;
    let (local, untrusted) = (desk.direct(), desk.through("untrusted"));
    let mut before = 0;
    for (selection, seen_by) in WITH_FOCUS {
        let which = || format!("{selection:?}");
        let mut keeper = Party::connect(&local)?;
        keeper.copy(seen_by, KEPT)?;
        let mut source = Party::with_window(&desk, &untrusted, "source", SOURCE)?;
        source.focus(&desk)?;
        source.copy(selection, KIND)?;
        // The compositor has heard all of that.
        let mut observer = Party::connect(&local)?;
        let reader = observer.paste(seen_by, KEPT).with_context(which)?;
        ensure!(!observer.exchange().offers[&seen_by].has(KIND), "{selection:?} was given");
        cross(keeper.asked(KEPT)?, &reader, b"as before").with_context(which)?;
        until("a refusal", || (refused(&desk, "untrusted") > before).then_some(()));
        before = refused(&desk, "untrusted");
        drop(source);
        desk.sway().empty();
    }
    // It takes, and others give.
    for selection in CONTROLLED {
        copied(selection, &local, &untrusted)?;
        copied(selection, &desk.through("work"), &local)?;
    }
    ensure!(refused(&desk, "work") == 0);
    Ok(())
}

#[test]
fn what_a_vm_may_not_take_it_does_not_get() -> Result<()> {
    let mut desk = desk(&[("untrusted", "[vm.untrusted.selections]\ntake = []")]);
    let _hands = hands(&mut desk)?;
    let (local, untrusted) = (desk.direct(), desk.through("untrusted"));
    for (selection, seen_by) in WITH_FOCUS {
        for from in [&local, &desk.through("work")] {
            let mut keeper = Party::connect(from)?;
            keeper.copy(seen_by, KIND)?;
            let mut thief = Party::with_window(&desk, &untrusted, "thief", SOURCE)?;
            thief.listen(selection)?;
            thief.focus(&desk)?;
            thief
                .client
                .until("an offer", |state| state.exchange.offers.contains_key(&selection))?;
            thief.client.roundtrip()?;
            ensure!(!thief.exchange().offers[&selection].has(KIND), "{selection:?} has a type");
            let before = refused(&desk, "untrusted");
            ensure!(steal(&mut thief, selection, KIND)?.is_empty(), "{selection:?} was taken");
            keeper.client.roundtrip()?;
            ensure!(keeper.exchange().asked.is_empty(), "{selection:?} was asked for");
            until("a refusal", || (refused(&desk, "untrusted") > before).then_some(()));
            drop(thief);
            desk.sway().empty();
        }
    }
    // It gives, and others take.
    for selection in CONTROLLED {
        copied(selection, &untrusted, &local)?;
        copied(selection, &untrusted, &desk.through("work"))?;
        copied(selection, &local, &desk.through("work"))?;
    }
    Ok(())
}

#[test]
fn only_listed_types_pass() -> Result<()> {
    let desk = desk(&[("untrusted", "[vm.untrusted.selections]\ntypes = [\"text/*\"]")]);
    let (local, untrusted) = (desk.direct(), desk.through("untrusted"));
    let selection = Selection::ControlledClipboard;
    for (from, to) in [(&local, &untrusted), (&untrusted, &local)] {
        let (mut source, mut destination) = (Party::connect(from)?, Party::connect(to)?);
        destination.listen(selection)?;
        source.copy_as(selection, &[KIND, "text/plain;charset=utf-8", "UTF8_STRING"])?;
        for kind in ["text/plain;charset=utf-8", "UTF8_STRING"] {
            let reader = destination.paste(selection, kind)?;
            cross(source.asked(kind)?, &reader, kind.as_bytes())?;
        }
        ensure!(!destination.exchange().offers[&selection].has(KIND), "{KIND} was offered");
        ensure!(steal(&mut destination, selection, KIND)?.is_empty(), "{KIND} was taken");
        source.client.roundtrip()?;
        ensure!(source.exchange().asked.is_empty(), "{KIND} was asked for");
    }
    Ok(())
}

#[test]
fn a_transfer_has_a_limit_and_is_told_in_the_log() -> Result<()> {
    for compositor_vm in [true, false] {
        has_a_limit(Plan {
            compositor_vm,
            ..plan(&[("untrusted", "[vm.untrusted.selections]\nbytes = \"64 KiB\"")])
        })
        .with_context(|| format!("compositor in a VM: {compositor_vm}"))?;
    }
    Ok(())
}

fn has_a_limit(plan: Plan) -> Result<()> {
    let mut desk = Desk::start(plan);
    let [local, work, untrusted] = [desk.direct(), desk.through("work"), desk.through("untrusted")];
    let selection = Selection::ControlledClipboard;
    for (direction, from, to) in [("take", &local, &untrusted), ("give", &untrusted, &local)] {
        for more in [0, 1, 300_000] {
            let before = transfers(&mut desk).len();
            let bytes = Flood::new(3).take(LIMIT + more);
            let Transfer { writer, reader, mut source, mut destination, .. } =
                Transfer::new(selection, from, to)?;
            let read = thread::scope(|scope| {
                let written = scope.spawn(move || {
                    // It may be cut off.
                    let _ = writer.write(&bytes);
                    bytes
                });
                let read = reader.read_to_end()?;
                let bytes = written.join().expect("writing doesn't panic");
                ensure!(bytes.starts_with(&read), "other bytes arrived");
                Ok(read.len())
            })?;
            let most = if direction == "take" || more == 0 { LIMIT..=LIMIT } else { 0..=LIMIT };
            ensure!(most.contains(&read), "{direction}: {read} of {} bytes", LIMIT + more);
            source.client.roundtrip()?;
            destination.client.roundtrip()?;
            let why = if more == 0 { "" } else { "it has more bytes than" };
            // What waited for room in the reader's pipe is lost to who wrote too much, and isn't counted.
            let ends =
                format!("direction={direction} kind=\"clipboard\" type={KIND:?} bytes={read}");
            until("the end of it in the log", || {
                let lines = transfers(&mut desk).split_off(before);
                let is = |line: &String| {
                    line.starts_with(why)
                        && line.ends_with(&ends)
                        && line.contains("vm=\"untrusted\" connection=")
                };
                lines.iter().any(is).then_some(())
            });
        }
    }
    // Where both ends are in VMs, each VM's is told. Others have no such limit.
    let before = transfers(&mut desk).len();
    let transfer = Transfer::new(selection, &work, &untrusted)?;
    cross(transfer.writer, &transfer.reader, b"both")?;
    until("both in the log", || (transfers(&mut desk).len() == before + 2).then_some(()));
    let lines = transfers(&mut desk).split_off(before);
    for (vm, direction) in [("work", "give"), ("untrusted", "take")] {
        let words = [format!("vm={vm:?}"), format!("direction={direction}"), "bytes=4".to_owned()];
        let is = |line: &String| words.iter().all(|word| line.contains(word));
        ensure!(lines.iter().any(is), "{lines:?}");
    }
    copied(selection, &work, &local)?;
    copied(selection, &local, &work)?;
    until("the count", || (desk.status("work", "transfer_bytes") == 400_004).then_some(()));
    ensure!(desk.status("work", "transfers") == 3);
    Ok(())
}

#[test]
fn transfers_beyond_the_rate_are_empty() -> Result<()> {
    let desk = desk(&[("untrusted", "[vm.untrusted.selections]\nrate = 2")]);
    let (local, untrusted) = (desk.direct(), desk.through("untrusted"));
    let selection = Selection::ControlledClipboard;
    let (mut source, mut destination) = (Party::connect(&local)?, Party::connect(&untrusted)?);
    source.copy(selection, KIND)?;
    for _ in 0..2 {
        let reader = destination.paste(selection, KIND)?;
        cross(source.asked(KIND)?, &reader, b"often")?;
    }
    ensure!(destination.paste(selection, KIND)?.read_to_end()?.is_empty(), "a third one");
    // The VM's, not the client's.
    let mut other = Party::connect(&untrusted)?;
    ensure!(other.paste(selection, KIND)?.read_to_end()?.is_empty(), "a fourth one");
    destination.client.roundtrip()?;
    copied(selection, &local, &desk.through("work"))?;
    // What others take of it counts as theirs, or they could use up each other's.
    for to in [&desk.through("work"), &local] {
        (0..3).try_for_each(|_| copied(selection, &untrusted, to))?;
    }
    Ok(())
}

#[test]
fn what_a_vm_may_not_drag_is_cancelled() -> Result<()> {
    const POLICY: &str = "[vm.untrusted.selections]\ngive = [\"clipboard\"]";
    let mut desk = desk(&[("untrusted", POLICY)]);
    let mut hands = hands(&mut desk)?;
    let mut source = Party::with_window(&desk, &desk.through("untrusted"), "source", SOURCE)?;
    let mut destination = Party::with_window(&desk, &desk.direct(), "destination", DESTINATION)?;
    destination.take_drags()?;
    hands.move_to(ON_SOURCE.0, ON_SOURCE.1)?;
    hands.press()?;
    source.client.until("the button", |state| state.pressed == 1)?;
    source.drag(KIND, DndAction::Copy)?;
    source.client.until("a cancelled drag", |state| state.exchange.cancelled == 1)?;
    hands.move_to(ON_DESTINATION.0, ON_DESTINATION.1)?;
    hands.release()?;
    destination.client.roundtrip()?;
    ensure!(destination.exchange().drag.over.is_none(), "it was dragged");
    copied(Selection::ControlledClipboard, &desk.through("untrusted"), &desk.direct())
}

#[test]
fn what_a_vm_may_not_be_given_by_dragging_has_no_type() -> Result<()> {
    const POLICY: &str = "[vm.untrusted.selections]\ntake = [\"clipboard\"]";
    let mut desk = desk(&[("untrusted", POLICY)]);
    let mut hands = hands(&mut desk)?;
    let mut source = Party::with_window(&desk, &desk.direct(), "source", SOURCE)?;
    let mut destination =
        Party::with_window(&desk, &desk.through("untrusted"), "destination", DESTINATION)?;
    destination.take_drags()?;
    hands.move_to(ON_SOURCE.0, ON_SOURCE.1)?;
    hands.press()?;
    source.client.until("the button", |state| state.pressed == 1)?;
    source.drag(KIND, DndAction::Move)?;
    hands.move_to(ON_DESTINATION.0, ON_DESTINATION.1)?;
    destination.client.until("a drag", |state| state.exchange.drag.over.is_some())?;
    // It says that it takes what it wasn't told of, and the source hears that it doesn't.
    let (serial, offer) = destination.exchange().drag.over.clone().context("just seen")?;
    offer.accept(serial, Some(KIND.to_owned()));
    offer.set_actions(DndAction::Move, DndAction::Move);
    destination.client.roundtrip()?;
    ensure!(destination.take_dropped(KIND)?.read_to_end()?.is_empty(), "it was taken");
    hands.release()?;
    source.client.until("a cancelled drag", |state| state.exchange.cancelled == 1)?;
    ensure!(source.exchange().asked.is_empty() && !source.exchange().drag.finished);
    copied(Selection::ControlledClipboard, &desk.direct(), &desk.through("untrusted"))
}

/// What somebody copies in one VM: as many types as may be, of which each is so long.
fn types(length: usize) -> Vec<String> {
    (0..250).map(|n| format!("{n:a<length$}")).collect()
}

/// A compositor tells whoever gets the focus all types in one go, and disconnects who has no room for them.
#[test]
fn who_copies_many_types_ends_nobody_who_gets_the_focus() -> Result<()> {
    let mut desk = desk(&[]);
    let _hands = hands(&mut desk)?;
    let untrusted = desk.through("untrusted");
    let places = [(desk.direct(), "local", DESTINATION), (desk.through("work"), "work", (50, 250))];
    let victims = places.map(|(display, title, place)| {
        let mut victim = Party::with_window(&desk, &display, title, place)?;
        victim.listen(Selection::Clipboard)?;
        victim.listen(Selection::Primary)?;
        Ok::<_, anyhow::Error>(victim)
    });
    let [local, work] = victims;
    let mut victims = [local?, work?];
    // With a NUL each. Of 400 characters sway disconnects a local client that gets the focus, and not who copied them.
    for (length, may) in [(400, false), (127, true)] {
        let kinds = types(length);
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let mut source = Party::with_window(&desk, &untrusted, "source", SOURCE)?;
        source.focus(&desk)?;
        let copied = source.copy_as(Selection::Clipboard, &kinds);
        ensure!(copied.is_ok() == may, "types of {length} characters: {copied:?}");
        if may {
            source.copy_as(Selection::Primary, &kinds)?;
        }
        for victim in &mut victims {
            victim.focus(&desk)?;
            victim.client.roundtrip()?;
            for selection in [Selection::Clipboard, Selection::Primary] {
                let offer = victim.exchange().offers.get(&selection);
                let has = offer.is_some_and(|offer| offer.has(kinds[249]));
                ensure!(has == may, "{selection:?}: {has}");
            }
        }
    }
    Ok(())
}
