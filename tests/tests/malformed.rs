//! Requests that are no Wayland: their sender is told why and disconnected, and nobody else hears of it.

use std::fs::File;
use std::os::fd::OwnedFd;
use wlproxy_tests::attacker::opcode::COMMIT;
use wlproxy_tests::malformed::{Attack, CANARY, CASES, COMMITTED, Libwayland};
use wlproxy_tests::{Arg, Attacker, Bystander, Desk, Plan, Raw, Way, memfd, message, until};

/// Each case in turn, with a client beside it. What becomes of the connection is up to `judge`.
fn run(desk: &Desk, mut judge: impl FnMut(&str, &Attack, &mut Raw)) {
    let bystander = Bystander::start(&desk.display());
    let outsider = Bystander::start(&desk.direct());
    for (name, case) in CASES {
        let mut attacker = Attacker::new(&desk.display());
        let mut attack = case(&mut attacker);
        attacker.raw.send(&attack.bytes, std::mem::take(&mut attack.fds));
        judge(name, &attack, &mut attacker.raw);
        bystander.check();
        outsider.check();
    }
}

/// Without the path, libwayland itself sees each of them: the cases are what they say, and its log is where one would
/// be seen that came through.
#[test]
fn each_is_an_error_to_libwayland() {
    use Libwayland::{Closes, Takes, Tells, Waits};
    let mut desk = Desk::start(Plan { vms: &[], debug: true, ..Plan::default() });
    let version = desk.compositor().libwayland();
    eprintln!("libwayland 1.{}.{}", version.0, version.1);
    let mut taken = Vec::new();
    run(&desk, |name, attack, raw| match attack.libwayland(version) {
        Tells => assert!(raw.end().is_some(), "{name}: no wl_display.error"),
        Closes => assert_eq!(raw.end(), None, "{name}"),
        // It goes when its client does.
        Waits => {}
        Takes(logged) => taken.push(logged),
    });
    for logged in taken {
        until(logged, || desk.compositor().log().contains(logged).then_some(()));
    }
    assert!(tells_an_error(&desk.compositor().log()), "an error would not be seen in the log");
}

/// Whether a libwayland's log has it that a client was sent an error.
fn tells_an_error(log: &str) -> bool {
    // Until 1.22, and since.
    ["wl_display@1.error(", "wl_display#1.error("].iter().any(|error| log.contains(error))
}

#[test]
fn each_ends_its_sender_with_a_reason_and_goes_no_further() {
    let mut desk = Desk::start(Plan { debug: true, ..Plan::default() });
    run(&desk, |name, attack, raw| {
        let fault = raw.end().unwrap_or_else(|| panic!("{name}: no wl_display.error"));
        let message = fault.message.to_lowercase();
        let named = fault.object == attack.object
            || message.split(|c: char| !c.is_ascii_digit()).any(|n| n == attack.object.to_string());
        assert!(named, "{name}: {fault:?} doesn't name object {}", attack.object);
        let explained = attack.reason.iter().any(|word| message.contains(word));
        assert!(explained, "{name}: {fault:?} gives no reason");
    });
    let log = desk.compositor().log();
    assert!(log.contains("get_toplevel"), "the compositor's log is empty");
    assert!(!tells_an_error(&log), "the compositor has seen an error");
    for seen in [COMMITTED, CANARY] {
        assert!(!log.contains(seen), "the compositor has seen {seen}");
    }
}

/// What a client sends before and after its fault: the first is served, the second is not.
#[test]
fn what_comes_before_a_fault_is_served() {
    let desk = Desk::new(Way::Through);
    let mut attacker = Attacker::new(&desk.display());
    let (commits, callback) = (desk.status("work", "commits"), attacker.raw.id());
    let bytes = [
        message(attacker.surface, COMMIT, &[]),
        message(1, 0, &[Arg::Uint(callback)]),
        message(attacker.surface, 99, &[]),
        message(attacker.surface, COMMIT, &[]),
    ];
    attacker.raw.send(&bytes.concat(), []);
    let fault = attacker.raw.end().expect("a reason");
    assert!(fault.message.contains("99") || fault.message.contains("opcode"), "{fault:?}");
    until("the first commit", || (desk.status("work", "commits") == commits + 1).then_some(()));
}

/// Files that aren't the memory that a client says they are. Whether it gets an error is between it and the
/// compositor; that nobody falls over is not.
fn files(way: Way) {
    const SIZE: i32 = 64 * 64 * 4;
    let desk = Desk::new(way);
    let (bystander, outsider) =
        (Bystander::start(&desk.display()), Bystander::start(&desk.direct()));
    let open = |path: &str| File::open(path).expect("every machine has it");
    let read_only =
        || wlproxy_unix::memory::constant("constant", &[7; SIZE as usize]).expect("memory is left");
    let cases: [(&str, OwnedFd); 6] = [
        ("an empty file", memfd(0).into()),
        ("half of the file", memfd(SIZE as u64 / 2).into()),
        ("a folder", open("/").into()),
        ("a device", open("/dev/null").into()),
        ("a pipe", std::io::pipe().expect("fds are left").0.into()),
        ("a constant", read_only()),
    ];
    for (name, file) in cases {
        eprintln!("{name}");
        let mut attacker = Attacker::new(&desk.display());
        attacker.show(file, SIZE);
        let _ = attacker.settle();
        bystander.check();
        outsider.check();
    }
    // Cut off while it is shown, and while frames are on their way.
    let file = memfd(SIZE as u64);
    let mut attacker = Attacker::new(&desk.display());
    attacker.show(file.try_clone().expect("fds are left").into(), SIZE);
    file.set_len(0).expect("not sealed");
    let _ = attacker.settle();
    bystander.check();
    outsider.check();
}

#[test]
fn a_file_that_is_no_pool_hurts_nobody_directly() {
    files(Way::Direct);
}

#[test]
fn a_file_that_is_no_pool_hurts_nobody() {
    files(Way::Through);
}
