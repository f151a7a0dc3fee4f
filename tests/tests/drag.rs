//! What is dragged from one window and dropped on another arrives, wherever the two are.

use anyhow::{Context, Result, ensure};
use std::thread;
use wayland_client::protocol::wl_data_device_manager::DndAction;
use wlproxy_tests::{Desk, Display, Flood, Input, Party, Plan, until};

const KIND: &str = "application/x-test";

/// Where the two windows are, and a place in the middle of each; and one where no window is.
const SOURCE: (i64, i64) = (50, 50);
const ON_SOURCE: (i64, i64) = (100, 100);
const DESTINATION: (i64, i64) = (250, 50);
const ON_DESTINATION: (i64, i64) = (300, 100);
const NOWHERE: (i64, i64) = (600, 500);

/// All that two windows and a hand need.
struct Scene {
    hands: Input,
    source: Party,
    destination: Party,
}

impl Scene {
    /// The button is held down on the source, and something hangs on the pointer.
    fn begin(desk: &Desk, from: &Display, to: &Display, actions: DndAction) -> Result<Self> {
        let mut hands = Input::new(&desk.direct())?;
        let mut source = Party::with_window(desk, from, "source", SOURCE)?;
        let mut destination = Party::with_window(desk, to, "destination", DESTINATION)?;
        destination.take_drags()?;
        hands.move_to(ON_SOURCE.0, ON_SOURCE.1)?;
        hands.press()?;
        source.client.until("the button", |state| state.pressed == 1)?;
        source.drag(KIND, actions)?;
        Ok(Self { hands, source, destination })
    }

    /// It is over the destination, which takes it.
    fn enter(&mut self, actions: DndAction, preferred: DndAction) -> Result<()> {
        let Self { hands, source, destination } = self;
        hands.move_to(ON_DESTINATION.0, ON_DESTINATION.1)?;
        destination.client.until("a drag", |state| {
            state.exchange.drag.over.is_some() && state.exchange.drag.allowed.is_some()
        })?;
        hands.move_to(ON_DESTINATION.0 + 1, ON_DESTINATION.1)?;
        destination.client.until("its motion", |state| state.exchange.drag.motions > 0)?;
        let (serial, offer) = destination.exchange().drag.over.clone().context("just seen")?;
        offer.accept(serial, Some(KIND.to_owned()));
        offer.set_actions(actions, preferred);
        destination.client.until("a choice", |state| state.exchange.drag.chosen.is_some())?;
        source
            .client
            .until("a target", |state| state.exchange.drag.target == Some(Some(KIND.to_owned())))?;
        let (chosen, action) = (destination.exchange().drag.chosen, source.exchange().drag.action);
        ensure!(chosen == Some(preferred) && action == chosen, "{chosen:?} and {action:?}");
        Ok(())
    }

    fn end(mut self, desk: &Desk) -> Result<()> {
        self.source.client.roundtrip()?;
        self.destination.client.roundtrip()?;
        drop(self);
        desk.sway().empty();
        Ok(())
    }
}

/// `run` in every direction. The keymap, which every client of a seat gets, is there before the baseline.
fn in_every_direction(run: impl Fn(&Desk, &Display, &Display) -> Result<()>) {
    let mut desk = Desk::start(Plan { vms: &["work", "untrusted"], ..Plan::default() });
    let [work, local, untrusted] = [desk.through("work"), desk.direct(), desk.through("untrusted")];
    let directions = [
        ("local to local", &local, &local),
        ("VM to VM", &work, &untrusted),
        ("VM to VM, back", &untrusted, &work),
        ("VM to local", &work, &local),
        ("local to VM", &local, &work),
        ("within one VM", &work, &work),
    ];
    for (round, (direction, from, to)) in directions.into_iter().enumerate() {
        run(&desk, from, to).unwrap_or_else(|error| panic!("{direction}: {error:#}"));
        if round == 1 {
            desk.take_baseline();
        }
    }
    for vm in ["work", "untrusted"] {
        until("the end of all pipes", || (desk.vm(vm).stats("pipes") == 0).then_some(()));
        assert_eq!(desk.status(vm, "violations"), 0);
    }
}

#[test]
fn what_is_dropped_arrives() {
    in_every_direction(|desk, from, to| {
        for action in [DndAction::Copy, DndAction::Move] {
            dropped(desk, from, to, action).with_context(|| format!("{action:?}"))?;
        }
        dropped(desk, from, to, DndAction::Ask).context("ask")
    });
}

fn dropped(desk: &Desk, from: &Display, to: &Display, action: DndAction) -> Result<()> {
    let all = DndAction::Copy | DndAction::Move | DndAction::Ask;
    let mut scene = Scene::begin(desk, from, to, all)?;
    scene.enter(all, action)?;
    let Scene { hands, source, destination } = &mut scene;
    hands.release()?;
    destination.client.until("the drop", |state| state.exchange.drag.dropped)?;
    source.client.until("the drop", |state| state.exchange.drag.performed)?;
    if action == DndAction::Ask {
        // The user was asked, and said so.
        let (_, offer) = destination.exchange().drag.over.clone().context("it was dropped")?;
        offer.set_actions(DndAction::Copy, DndAction::Copy);
    }
    let bytes = Flood::new(9).take(200_000);
    let reader = destination.take_dropped(KIND)?;
    let writer = source.asked(KIND)?;
    thread::scope(|scope| {
        let written = scope.spawn(|| {
            let written = writer.write(&bytes);
            drop(writer);
            written
        });
        ensure!(reader.read_to_end()? == bytes, "other bytes arrived");
        Ok(written.join().expect("writing doesn't panic")?)
    })?;
    // Later sway says so anyway, when the offer is destroyed.
    ensure!(source.exchange().cancelled == 0, "it was cancelled");
    let (_, offer) = destination.exchange().drag.over.take().context("it was dropped")?;
    offer.finish();
    offer.destroy();
    destination.client.roundtrip()?;
    source.client.until("the end of the drag", |state| state.exchange.drag.finished)?;
    // The source isn't told of the user's choice before.
    let expected = if action == DndAction::Ask { DndAction::Copy } else { action };
    let told = source.exchange().drag.action;
    ensure!(told == Some(expected), "{told:?} instead of {expected:?}");
    scene.end(desk)
}

/// It is dropped where nobody takes it: on nothing, or on a window that wants none of its types.
#[test]
fn a_drop_that_nobody_takes_is_cancelled() {
    in_every_direction(|desk, from, to| {
        let mut scene = Scene::begin(desk, from, to, DndAction::Copy)?;
        scene.enter(DndAction::Copy, DndAction::Copy)?;
        let Scene { hands, source, destination } = &mut scene;
        hands.move_to(NOWHERE.0, NOWHERE.1)?;
        destination.client.until("the leave", |state| state.exchange.drag.over.is_none())?;
        hands.release()?;
        source.client.until("the cancelled drag", |state| state.exchange.cancelled == 1)?;
        scene.end(desk)?;

        let mut scene = Scene::begin(desk, from, to, DndAction::Copy)?;
        let Scene { hands, source, destination } = &mut scene;
        hands.move_to(ON_DESTINATION.0, ON_DESTINATION.1)?;
        destination.client.until("a drag", |state| state.exchange.drag.over.is_some())?;
        hands.release()?;
        source.client.until("the cancelled drag", |state| state.exchange.cancelled == 1)?;
        ensure!(!destination.exchange().drag.dropped, "it was dropped");
        scene.end(desk)
    });
}

/// Its source dies while it hangs on the pointer, or when it was dropped and is being read.
#[test]
fn a_source_that_dies_ends_its_drag() {
    in_every_direction(|desk, from, to| {
        let mut scene = Scene::begin(desk, from, to, DndAction::Copy)?;
        scene.enter(DndAction::Copy, DndAction::Copy)?;
        let Scene { mut hands, source, mut destination } = scene;
        drop(source);
        destination.client.until("the leave", |state| state.exchange.drag.over.is_none())?;
        hands.release()?;
        drop((hands, destination));
        desk.sway().empty();

        let mut scene = Scene::begin(desk, from, to, DndAction::Copy)?;
        scene.enter(DndAction::Copy, DndAction::Copy)?;
        let Scene { mut hands, mut source, mut destination } = scene;
        hands.release()?;
        destination.client.until("the drop", |state| state.exchange.drag.dropped)?;
        let reader = destination.take_dropped(KIND)?;
        let writer = source.asked(KIND)?;
        writer.write(b"last words")?;
        drop((source, writer));
        ensure!(reader.read_to_end()? == b"last words", "other bytes arrived");
        destination.client.roundtrip()?;
        drop((hands, destination));
        desk.sway().empty();
        Ok(())
    });
}
