//! What a VM tells of itself: shown as it is, and what is no report ends the context that it came over.

use guest_agent::channel::{Channel as _, Error, VfdId};
use wlproxy_protocol::limits::MAX_SEND;
use wlproxy_protocol::report::{LENGTH, Report};
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, message, until};

const REPORT: Report = Report { frames: 7, damaged_bytes: 600, copied_bytes: 500 };

fn open(vm: &mut Puppet) -> Result<VfdId, Error> {
    vm.call("a context for reports", |channel| channel.open_reports())
}

/// Waits until this stands in the status of "work": agents, frames, bytes damaged and copied.
fn shows(desk: &Desk, expected: [u64; 4]) {
    let keys = ["agents", "frames", "damaged_bytes", "copied_bytes"];
    until(&format!("{expected:?} of {keys:?}"), || {
        let status = desk.whole_status();
        let shown = keys.map(|key| status["vms"]["work"]["reported"][key].as_u64().unwrap());
        (shown == expected).then_some(())
    });
}

/// Contexts that end for what came over them: more than the lines of them that may be in the log.
const WRONG: usize = 8_000;

#[test]
fn who_does_wrong_again_and_again_does_not_fill_the_log() {
    let desk = Desk::host_only(Plan::default());
    let mut work = desk.puppet("work");
    for _ in 0..WRONG {
        let bad = open(&mut work).expect("there is room");
        work.send(bad, b"x", &[]);
        assert_eq!(work.rest(bad), b"", "nothing but the hang-up");
        work.close(bad);
    }
    let told = desk.complaints().len();
    assert!((1..WRONG - 1_000).contains(&told), "{told} lines");
    // It may say more after a while, and then says that something is missing.
    until("a line of what is left out", || {
        let bad = open(&mut work).expect("there is room");
        work.send(bad, b"x", &[]);
        work.close(bad);
        desk.complaints()
            .iter()
            .any(|line| line.contains("lines of this worker are left out"))
            .then_some(())
    });
}

#[test]
fn what_is_no_report_ends_its_context_alone() {
    let desk = Desk::host_only(Plan::default());
    let (mut gui, mut work) = (desk.puppet("gui"), desk.puppet("work"));
    let mut door = Doorway::open(&mut gui);
    let client = work.connect();
    let record = door.record(&mut gui);
    let context = door.accept(&mut gui, &record);
    let mut talk = |work: &mut Puppet| {
        let sync = message(1, 0, &[Arg::Uint(2)]);
        work.send(client, &sync, &[]);
        assert_eq!(gui.read(context, 12).0, sync);
        let done = [message(2, 0, &[Arg::Uint(7)]), message(1, 1, &[Arg::Uint(2)])].concat();
        gui.send(context, &done, &[]);
        assert_eq!(work.read(client, 24).0, done);
    };
    talk(&mut work);

    let good = open(&mut work).expect("reports are taken");
    work.send(good, &REPORT.encode(), &[]);
    shows(&desk, [1, 7, 600, 500]);
    let twice = [REPORT.encode(); 2].concat();
    let newer = [&b"wlpr\x02\0\0\0"[..], &[0; 40]].concat();
    for bytes in [b"x", &twice[..LENGTH - 1], &twice, &newer, &[0xff; MAX_SEND]] {
        let bad = open(&mut work).expect("there is room");
        work.send(bad, bytes, &[]);
        assert_eq!(work.rest(bad), b"", "nothing but the hang-up");
        work.close(bad);
        talk(&mut work);
    }
    let log = desk.complaints().join("\n");
    for why in ["has 32 bytes, not 1", "not 31", "not 64", "version 2", "wrong magic"] {
        assert!(log.contains(why), "nobody was told of: {why}\n{log}");
    }

    // It may tell what it likes, of itself.
    let absurd = Report { frames: u64::MAX, damaged_bytes: 0, copied_bytes: u64::MAX };
    work.send(good, &absurd.encode(), &[]);
    shows(&desk, [1, u64::MAX, 0, u64::MAX]);
    let other = open(&mut work).expect("there is room");
    work.send(other, &absurd.encode(), &[]);
    shows(&desk, [2, u64::MAX, 0, u64::MAX]);
    for shown in [&["status"][..], &["status", "--json"]] {
        let output = desk.wlproxy(shown).output().expect("wlproxy can be started");
        assert!(output.status.success(), "{shown:?}");
    }
    work.send(good, &REPORT.encode(), &[]);
    work.send(other, &Report::default().encode(), &[]);
    work.close(other);
    shows(&desk, [1, 7, 600, 500]);
    talk(&mut work);

    // As many as it may have, and no other VM has any.
    let more = std::iter::repeat_with(|| open(&mut work)).take(100);
    let refused = more.filter_map(Result::err).map(|error| error.to_string());
    let refused: Vec<_> = refused.collect();
    assert!(refused.len() > 10, "there is a limit");
    assert!(refused.iter().all(|why| *why == Error::OutOfMemory.to_string()), "{refused:?}");
    talk(&mut work);
    assert!(matches!(open(&mut gui), Err(Error::NotFound)));
}
