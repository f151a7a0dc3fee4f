//! What clients of VMs and local ones copy and paste, and what only local ones may.

use super::{VMS, desk, no_windows, place};
use std::fs::{self, File};
use std::process::Stdio;
use wlproxy_tests::{Desk, Dice, Display, Example, Raw, until};

/// What wl-paste says, if it has something to say.
fn paste(desk: &Desk, vm: Option<&str>, options: &[&str]) -> Option<Vec<u8>> {
    let said = desk.folder().join("pasted");
    let mut command = desk.command("wl-paste");
    command.args(options);
    let mut command = place(desk, vm).command(command);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(File::create(&said).expect("our own folder"));
    let mut child = command.spawn().expect("wl-paste can be started");
    let status =
        until("the end of wl-paste", || child.try_wait().expect("a child can be waited for"));
    status.success().then(|| fs::read(&said).expect("it was just written"))
}

/// By wl-copy and wl-paste. In VMs they need a window and its focus, since data-control is hidden from them.
pub(crate) fn what_is_copied_is_pasted_each_way(example: Example) {
    /// More than any pipe or socket takes at once.
    const SIZE: usize = 1 << 20;
    let desk = desk(example);
    let mut dice = Dice::new(11);
    let ways = [
        (Some("work"), None),
        (None, Some("work")),
        (Some("work"), Some("untrusted")),
        (None, None),
    ];
    for (round, (from, to)) in ways.into_iter().enumerate() {
        let content: Vec<u8> = (0..SIZE).map(|_| dice.roll(256) as u8).collect();
        let kind = format!("application/x-copy-{round}");
        let copied = desk.folder().join("copied");
        fs::write(&copied, &content).expect("our own folder");
        // In the foreground it lives until something else is copied.
        let start = || {
            let mut copy = desk.command("wl-copy");
            copy.args(["--foreground", "--type", &kind]);
            let mut copy = place(&desk, from).command(copy);
            copy.stdin(File::open(&copied).expect("our own file"));
            copy.stdout(Stdio::null()).stderr(Stdio::null());
            copy.spawn().expect("wl-copy can be started")
        };
        let mut copy = start();
        // Told by a local client. Where that has no data-control it needs the focus, and who just copies may lose it by that:
        // its selection is cancelled, which ends it.
        until("something to paste", || {
            if let Some(status) = copy.try_wait().expect("a child can be waited for") {
                assert!(status.success(), "wl-copy failed: {status}");
                copy = start();
            }
            let types = paste(&desk, None, &["--list-types"])?;
            String::from_utf8_lossy(&types).lines().any(|line| line == kind).then_some(())
        });
        let pasted = paste(&desk, to, &["--no-newline", "--type", &kind]);
        assert!(pasted.as_ref() == Some(&content), "from {from:?} to {to:?}");
        copy.kill().expect("it is ours");
        copy.wait().expect("it is ours");
    }
    no_windows(&desk);
}

pub(crate) fn a_global_for_local_clients_is_seen_by_them_alone(example: Example) {
    let desk = desk(example);
    let globals = |display: &Display| {
        let mut client = Raw::connect(display);
        client.sync();
        client.globals().iter().map(|(_, interface, _)| interface.clone()).collect::<Vec<_>>()
    };
    let local: &[&str] = match example {
        Example::Wlroots => &["zwlr_data_control_manager_v1", "zwlr_screencopy_manager_v1"],
        _ => &["zwlr_data_control_manager_v1"],
    };
    let direct = globals(&desk.direct());
    for global in local {
        assert!(direct.iter().any(|name| name == global), "{global}: {direct:?}");
    }
    let others: Vec<_> =
        direct.into_iter().filter(|name| !local.contains(&name.as_str())).collect();
    for vm in VMS {
        assert_eq!(globals(&desk.through(vm)), others, "{vm}");
    }
}
