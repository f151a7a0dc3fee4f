use super::*;
use crate::backoff::FIRST;
use crate::device::Side;
use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};

/// Longest that a worker thread may take to end, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_worker_that_dies_is_due_again_after_the_pauses_of_the_backoff() {
    let temp = tempfile::tempdir().unwrap();
    let vm = Vm {
        name: "work".to_owned(),
        side: Side::Client,
        socket: temp.path().join("work.sock"),
        window: 16 << 20,
    };
    let events = EventLoop::<()>::try_new().unwrap();
    let started = Instant::now();
    let mut now = started;
    let mut slot = Slot::new(vm, now).unwrap();
    for deaths in 0..3 {
        slot.start(Isolation::None, "info", now, |control| {
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
        slot.start(Isolation::None, "info", now, |_| unreachable!("not due yet")).unwrap();
        now = due;
    }
    assert_eq!(slot.status().restarts, 3);
}
