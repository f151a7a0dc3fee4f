//! Clients, VMs and hosts come, go and stand still.

use super::still::FOOT;
use super::{desk, no_windows, window};
use nix::sys::signal::Signal;
use wlproxy_tests::{Arg, Example, Part, Raw, die_in_a_message, message, until};

pub(crate) fn a_thousand_clients_leave_nothing(example: Example) {
    let desk = desk(example);
    let leaks = desk.leaks();
    (0..1000).for_each(|_| Raw::connect(&desk.through("work")).sync());
    leaks.check();
}

/// wlproxy and the compositor's worker are killed: windows of VMs are gone, those of local clients stay, and later clients
/// are served.
pub(crate) fn the_host_is_found_again(example: Example) {
    let mut desk = desk(example);
    FOOT.start(&mut desk, None);
    let (_, local) = FOOT.settled(&desk, None, None);
    for part in [Part::Worker("gui"), Part::Proxy] {
        let display = desk.through("work");
        desk.app(&display, "weston-simple-shm", &[]);
        until("a window", || window(&desk.picture(), Some("work")).map(|_| ()));
        let mut old = Raw::connect(&display);
        old.sync();
        desk.kill(part);
        assert_eq!(old.end(), None);
        until("the window's end", || (desk.picture().windows.len() == 1).then_some(()));
        desk.revive(part);
        until("a client that is served", || Raw::try_connect(&desk.through("work"))?.try_sync());
        FOOT.settled(&desk, None, Some(&local));
    }
    desk.kill_apps();
    desk.take_baseline();
}

/// Half a message, and then nothing more.
pub(crate) fn a_client_that_dies_in_a_message_leaves_nothing(example: Example) {
    let mut desk = desk(example);
    die_in_a_message(&mut desk);
}

/// A VM that doesn't run any more: its window is there still, and everybody else goes on.
pub(crate) fn a_vm_that_stands_still_holds_up_nobody(example: Example) {
    let mut desk = desk(example);
    FOOT.start(&mut desk, Some("untrusted"));
    let (_, content) = FOOT.settled(&desk, Some("untrusted"), None);
    let mut stopped = Raw::connect(&desk.through("untrusted"));
    stopped.sync();
    // Many answers are on their way to it.
    let callbacks: Vec<u32> = (0..10_000).map(|_| stopped.id()).collect();
    let syncs =
        callbacks.iter().flat_map(|&id| message(1, 0, &[Arg::Uint(id)])).collect::<Vec<u8>>();
    stopped.send(&syncs, []);
    desk.vm("untrusted").signal(Signal::SIGSTOP);
    for display in [desk.through("work"), desk.direct()] {
        (0..100).for_each(|_| Raw::connect(&display).sync());
    }
    for vm in [None, Some("work")] {
        FOOT.start(&mut desk, vm);
        FOOT.settled(&desk, vm, None);
    }
    FOOT.settled(&desk, Some("untrusted"), Some(&content));
    desk.vm("untrusted").signal(Signal::SIGCONT);
    Raw::connect(&desk.through("untrusted")).sync();
    drop(stopped);
    desk.close();
    no_windows(&desk);
}
