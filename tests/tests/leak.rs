//! Nothing is left by clients that have gone; and the check that says so finds what is planted.

use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;
use wlproxy_tests::scenes::{SCENES, place};
use wlproxy_tests::{Desk, Leaks, Plan, Way, until};

/// Leaks on command.
const LEAKER: &str = env!("CARGO_BIN_EXE_leaker");

/// What the check finds at once.
fn found(leaks: &Leaks) -> String {
    leaks.find_within(Duration::ZERO).join("; ")
}

/// Lets a process of the desk leak `kind`, and returns what the check says.
fn plant(kind: &str) -> String {
    let mut desk = Desk::new(Way::Direct);
    let command = desk.command(LEAKER);
    let child = desk.adopt("leaker", command, true).child();
    let (mut input, mut output) =
        (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut leak = |kind: &str| {
        writeln!(input, "{kind}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    };
    // One of them belongs to the baseline: the second leaks.
    leak(kind);
    let leaks = desk.leaks();
    assert_eq!(found(&leaks), "");
    leak(kind);
    let said = found(&leaks);
    desk.close();
    said
}

/// Whether the check says that there is one more of `what`. How many there were depends on what the tests inherited.
fn one_more(said: &str, what: &str) -> bool {
    said.split("; ").any(|found| {
        // "1 -> 2 fds of kind memfd in ..."
        let words: Vec<_> = found.splitn(4, ' ').collect();
        let [before, "->", now, rest] = words[..] else { return false };
        let number = |word: &str| word.parse::<usize>().unwrap();
        number(now) == number(before) + 1 && rest.starts_with(what)
    })
}

#[test]
fn a_leaked_fd_is_found() {
    let said = plant("fd");
    assert!(one_more(&said, "fds of kind /dev/zero") && said.contains("(leaker)"), "{said}");
}

#[test]
fn a_leaked_memfd_is_found() {
    let said = plant("memfd");
    assert!(one_more(&said, "fds of kind memfd") && one_more(&said, "memfds"), "{said}");
}

#[test]
fn a_leaked_mapping_is_found() {
    let said = plant("mapping");
    assert!(one_more(&said, "mappings") && one_more(&said, "memfds"), "{said}");
}

#[test]
fn a_child_that_nobody_has_waited_for_is_found() {
    let said = plant("zombie");
    assert!(said.contains("process") && said.contains("(true)"), "{said}");
}

#[test]
fn a_leaked_process_is_found() {
    let mut desk = Desk::new(Way::Direct);
    let leaks = desk.leaks();
    let mut command = desk.command("sleep");
    command.arg("infinity");
    desk.adopt("sleeper", command, false);
    // A process that was started a moment ago shows its parent's name.
    until("the sleeper", || found(&leaks).contains("(sleep)").then_some(()));
    desk.close();
    leaks.check();
}

/// Also one that has cleared its environment, and whose parent tells where it belongs.
#[test]
fn a_leaked_child_without_environment_is_found() {
    let mut desk = Desk::new(Way::Direct);
    let leaks = desk.leaks();
    let mut command = desk.command("sh");
    command.args(["-c", "env -i sleep infinity & echo $!; wait"]);
    let child = desk.adopt("parent", command, true).child();
    let mut id = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut id).unwrap();
    until("the sleeper", || found(&leaks).contains("(sleep)").then_some(()));
    let id = nix::unistd::Pid::from_raw(id.trim().parse().unwrap());
    nix::sys::signal::kill(id, Signal::SIGKILL).unwrap();
    desk.close();
    leaks.check();
}

#[test]
fn a_leaked_socket_file_is_found() {
    let desk = Desk::new(Way::Direct);
    let leaks = desk.leaks();
    let path = desk.folder().join("host/leak.sock");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(found(&leaks).contains("host/leak.sock"), "{}", found(&leaks));
    drop(listener);
    assert!(found(&leaks).contains("host/leak.sock"), "a socket file outlives its socket");
    std::fs::remove_file(path).unwrap();
    leaks.check();
}

/// A desk that leaves something behind fails its test.
#[test]
fn a_desk_that_leaves_something_fails() {
    let listener = std::cell::RefCell::new(None);
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let desk = Desk::new(Way::Direct);
        *listener.borrow_mut() = UnixListener::bind(desk.folder().join("host/leak.sock")).ok();
    }));
    let message = *left.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("host/leak.sock"), "{message}");
}

/// So does one of whose processes has leaked something, though nothing of that is there in the end.
#[test]
fn a_desk_whose_process_leaks_fails() {
    let left = std::panic::catch_unwind(|| {
        let mut desk = Desk::new(Way::Through);
        desk.stop_vm("work");
        desk.start_vm_with("work", LEAKER);
        let leak = |desk: &mut Desk| {
            for kind in ["fd", "mapping"] {
                assert_eq!(desk.tell("work", kind), "done");
            }
        };
        leak(&mut desk);
        desk.take_baseline();
        leak(&mut desk);
    });
    let message = *left.unwrap_err().downcast::<String>().unwrap();
    assert!(!message.contains("left at the end"), "{message}");
    let said = message.replace("left by clients: ", "");
    for what in ["fds of kind /dev/zero", "mappings", "memfds"] {
        assert!(one_more(&said, what), "not one more of {what}: {said}");
    }
}

/// All scenes three times over: what the second and third time leave is what the first has left for reuse.
fn repeated(plan: Plan) {
    let desk = Desk::start(plan);
    let round = || {
        let mut windows = Vec::new();
        for (name, scene) in SCENES {
            windows.push(place(&desk, &desk.display(), name, scene, (50, 50)).unwrap());
        }
        drop(windows);
        desk.sway().empty();
    };
    round();
    let leaks = desk.leaks();
    round();
    round();
    leaks.check();
}

#[test]
fn windows_leave_nothing_directly() {
    repeated(Plan { vms: &[], ..Plan::default() });
}

#[test]
fn windows_leave_nothing() {
    repeated(Plan::default());
}

#[test]
fn windows_leave_nothing_on_a_compositor_on_the_host() {
    repeated(Plan { compositor_vm: false, ..Plan::default() });
}

/// Unmodified applications, killed in the middle of their work.
///
/// How many buffers one draws in depends on how soon they are released, and all but those shown are kept for reuse: what
/// is kept differs from round to round, by less than one for each of many rounds. A leak is one for each. All that isn't
/// kept is the desk's to find.
#[test]
fn killed_applications_leave_nothing() {
    let mut desk = Desk::new(Way::Through);
    let display = desk.through("work");
    let round = |desk: &mut Desk| {
        for _ in 0..3 {
            // Draws for ever. (weston-simple-shm would, too, but gives up when sway keeps both of its buffers.)
            desk.app(&display, "foot", &["--config=/dev/null", "yes"]);
        }
        desk.sway().wait("three windows", |windows| (windows.len() == 3).then_some(()));
        desk.kill_apps();
        desk.sway().empty();
    };
    const ROUNDS: u64 = 20;
    round(&mut desk);
    let before = kept(&desk);
    (0..ROUNDS).for_each(|_| round(&mut desk));
    let after = kept(&desk);
    assert!(after < before + ROUNDS, "{before} allocations have become {after}");
}

/// Allocations that the client VM has when its clients have gone.
fn kept(desk: &Desk) -> u64 {
    let vm = desk.vm("work");
    until("the clients' end", || (vm.stats("connections_now") == 0).then_some(()));
    vm.stats("allocations")
}
