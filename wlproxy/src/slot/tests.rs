use super::*;
use crate::backoff::FIRST;
use crate::control::{Received, WorkerControl, pair};
use crate::counters::ConnectionSnapshot;
use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// Longest that a worker thread may take to end, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

fn vm(dir: &Path, name: &str, side: Side) -> Vm {
    let socket = dir.join(format!("{name}.sock"));
    let (device, policy) = (Default::default(), Policy::of(name));
    Vm { name: name.to_owned(), side, socket, window: 16 << 20, device, policy }
}

#[test]
fn a_worker_that_dies_is_due_again_after_the_pauses_of_the_backoff() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::<()>::try_new().unwrap();
    let started = Instant::now();
    let mut now = started;
    let mut slot = Slot::new(vm(temp.path(), "work", Side::Client), now).unwrap();
    for deaths in 0..3 {
        slot.start(&Home::Threads(Arc::default()), "info", now, |control| {
            let source = Generic::new(control, Interest::READ, Mode::Level);
            let watch = |_: calloop::Readiness, _: &mut _, (): &mut ()| Ok(PostAction::Continue);
            Ok(events.handle().insert_source(source, watch).map_err(|error| error.error)?)
        })
        .unwrap();
        assert!(slot.control().is_some() && slot.deadline(now).is_none());
        events.handle().remove(slot.cut(now, false).unwrap());
        while slot.reap(now).is_none() {
            assert!(started.elapsed() < PATIENCE, "the worker doesn't end");
            std::thread::sleep(THREAD_PERIOD);
        }
        let due = now + FIRST * 2u32.pow(deaths);
        assert_eq!(slot.deadline(now), Some(due));
        slot.start(&Home::Threads(Arc::default()), "info", now, |_| unreachable!("not due yet"))
            .unwrap();
        now = due;
    }
    assert_eq!(slot.status().restarts, 3);
}

#[test]
fn a_connection_that_two_clients_list_is_neither_of_theirs() {
    let temp = tempfile::tempdir().unwrap();
    let vms = [("gui", Side::Compositor), ("work", Side::Client), ("play", Side::Client)];
    let lists = [vec![1, 2, 3], vec![1, 3], vec![2, 3]];
    let mut slots: Vec<Slot> = Vec::new();
    for ((name, side), list) in vms.into_iter().zip(lists) {
        let mut slot = Slot::new(vm(temp.path(), name, side), Instant::now()).unwrap();
        let one = |connection| ConnectionSnapshot { connection, ..Default::default() };
        let connections = list.into_iter().map(one).collect();
        assert!(slot.handle_counters(Snapshot { connections, ..Snapshot::default() }));
        slots.push(slot);
    }
    let mut found =
        |connection| client_with(&mut slots, connection).map(|slot| slot.vm.name.clone());
    assert_eq!(found(1).unwrap(), "work");
    assert_eq!(found(2).unwrap(), "play");
    let both = found(3).unwrap_err();
    assert!(both.contains("work") && both.contains("play") && both.contains("--vm"), "{both}");
    assert!(found(4).unwrap_err().contains("lists no connection 4"));
}

/// A slot whose worker is the test.
fn played(vm: Vm, events: &EventLoop<'static, ()>) -> (Slot, WorkerControl) {
    let mut slot = Slot::new(vm, Instant::now()).unwrap();
    let (control, worker) = pair().unwrap();
    let source = Generic::new(Rc::new(control), Interest::READ, Mode::Level);
    let control = source.get_ref().clone();
    let watch = |_: calloop::Readiness, _: &mut _, (): &mut ()| Ok(PostAction::Continue);
    let watch = events.handle().insert_source(source, watch).unwrap();
    let running = Running::Thread(std::thread::spawn(|| ()));
    slot.phase = Phase::Up { running, control, watch, since: Instant::now() };
    (slot, worker)
}

/// Which VM is traced, the asker has from wlproxy, whatever the worker says.
#[test]
fn a_trace_begins_with_what_wlproxy_knows() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::try_new().unwrap();
    let (mut slot, worker) = played(vm(temp.path(), "work", Side::Client), &events);
    let (ours, asker) = UnixStream::pair().unwrap();
    asker.set_nonblocking(true).unwrap();
    slot.trace(3, &asker).unwrap();
    let order = worker.receive().unwrap();
    let Received::Message(Order::Trace { connection: 3 }, Some(reader)) = order else {
        panic!("{order:?}");
    };
    UnixStream::from(reader).write_all(b"{\"trace\":\"gui\",\"connection\":9}\n").unwrap();
    drop(asker);
    let lines: Vec<_> = BufReader::new(ours).lines().map(Result::unwrap).collect();
    assert_eq!(lines[0], r#"{"trace":"work","connection":3}"#);
    assert_eq!(lines.len(), 2);
}

#[test]
fn who_is_not_there_to_read_costs_no_worker_a_trace() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::try_new().unwrap();
    let (mut slot, worker) = played(vm(temp.path(), "work", Side::Client), &events);
    let (ours, asker) = UnixStream::pair().unwrap();
    asker.set_nonblocking(true).unwrap();
    drop(ours);
    slot.trace(3, &asker).unwrap_err();
    assert!(matches!(worker.receive().unwrap(), Received::WouldBlock));
}

#[test]
fn a_worker_that_takes_no_policies_is_sent_no_more_of_them() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::try_new().unwrap();
    let (mut slot, worker) = played(vm(temp.path(), "work", Side::Client), &events);
    let now = Instant::now();
    assert!(!slot.handle_policy_taken(now), "it wasn't sent one");
    for sent in 0.. {
        if let Err(why) = slot.has_room_for_policy(&Policy::nothing()) {
            assert!(sent == MAX_POLICY_ORDERS && why.contains("try again"), "{sent}: {why}");
            break;
        }
        slot.set_policy(Policy::nothing(), now).unwrap();
        let order = worker.receive().unwrap();
        assert!(matches!(order, Received::Message(Order::Policy(_), None)), "{order:?}");
    }
    assert_eq!(slot.vm.policy, Policy::nothing());
    // It has to take one after the other.
    assert!(!slot.is_late(now) && slot.deadline(now) == Some(now + POLICY_PATIENCE));
    assert!(slot.is_late(now + POLICY_PATIENCE));
    let later = now + POLICY_PATIENCE / 2;
    assert!(slot.handle_policy_taken(later));
    slot.has_room_for_policy(&Policy::nothing()).unwrap();
    assert!(!slot.is_late(now + POLICY_PATIENCE) && slot.is_late(later + POLICY_PATIENCE));
    (1..MAX_POLICY_ORDERS).for_each(|_| assert!(slot.handle_policy_taken(later)));
    assert!(!slot.is_late(later + POLICY_PATIENCE) && slot.deadline(later).is_none());
    drop(worker);
    assert!(slot.set_policy(Policy::of("work"), now).is_err());
    assert_eq!(slot.vm.policy, Policy::of("work"), "the next worker starts with it");
}

/// Whose window it is, its title tells: also for clients that came before a reload.
#[test]
fn names_that_clients_may_still_have_are_known() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::try_new().unwrap();
    let now = Instant::now();
    let (mut slot, worker) = played(vm(temp.path(), "work", Side::Client), &events);
    let titles = |slot: &Slot| -> Vec<String> {
        slot.identities().map(|identity| identity.title().to_owned()).collect()
    };
    for name in ["play", "work", "play"] {
        slot.set_policy(Policy::of(name), now).unwrap();
        worker.receive().unwrap();
    }
    assert_eq!(titles(&slot), ["[play] ", "[work] ", "[play] "]);
    // The last one isn't taken yet.
    (0..2).for_each(|_| assert!(slot.handle_policy_taken(now)));
    slot.handle_connected(false);
    assert_eq!(titles(&slot).len(), 3);
    assert!(slot.handle_policy_taken(now));
    slot.handle_connected(true);
    assert_eq!(titles(&slot).len(), 3);
    slot.handle_connected(false);
    assert_eq!(titles(&slot), ["[play] "]);

    for n in 0..MAX_WORN {
        let policy = Policy::of(&n.to_string());
        slot.has_room_for_policy(&policy).unwrap();
        slot.set_policy(policy, now).unwrap();
        assert!(slot.handle_policy_taken(now));
        worker.receive().unwrap();
    }
    slot.has_room_for_policy(&slot.vm.policy).unwrap();
    let why = slot.has_room_for_policy(&Policy::of("work")).unwrap_err();
    assert!(why.contains("start it again"), "{why}");
    events.handle().remove(slot.cut(now, false).unwrap());
    assert_eq!(titles(&slot).len(), 1);
}

#[test]
fn a_prefix_is_not_given_away_while_windows_may_have_it() {
    let temp = tempfile::tempdir().unwrap();
    let events = EventLoop::try_new().unwrap();
    let now = Instant::now();
    let (work, worker) = played(vm(temp.path(), "work", Side::Client), &events);
    let gui = Slot::new(vm(temp.path(), "gui", Side::Compositor), now).unwrap();
    let mut slots = [work, gui];
    let of = |title: &str, app_id: &str| Identity::new(title.into(), app_id.into()).unwrap();
    let refused = |slots: &[Slot], identity: &Identity, key: &str| {
        let why = apart("other", identity, slots).unwrap_err();
        let words = [key, "VM other: ", "windows of VM work may still have"];
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    };
    for (title, app_id) in [("[work] ", "a"), ("[work] x", "a"), ("[w", "a")] {
        refused(&slots, &of(title, app_id), "title_prefix");
    }
    refused(&slots, &of("a", "work.x"), "app_id_prefix");
    for (title, app_id) in [("", ""), ("[play] ", "play."), ("[gui] ", "gui.")] {
        apart("other", &of(title, app_id), &slots).unwrap();
    }
    apart("work", &of("[work] ", "work."), &slots).unwrap();
    // It has another one now; but who came before has the old one.
    slots[0].set_policy(Policy::of("play"), now).unwrap();
    for name in ["work", "play"] {
        refused(&slots, &Identity::of(name), "title_prefix");
    }
    assert!(slots[0].handle_policy_taken(now));
    slots[0].handle_connected(false);
    apart("other", &Identity::of("work"), &slots).unwrap();
    drop(worker);
}
