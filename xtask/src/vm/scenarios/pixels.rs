//! Windows of client VMs look as if they were of the compositor VM.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use crate::demo::picture::Picture;
use anyhow::Result;

const COUNT: usize = 5;

/// Clients that stand still, from left to right: what their windows are called, and what opens them. The same each time:
/// weston-flower draws another flower.
const CLIENTS: [(&str, &str); COUNT] = [
    ("gtk3-demo", "exec gtk3-demo"),
    ("clickdot", "exec weston-clickdot"),
    ("scaler-test-box", "exec weston-scaler"),
    ("transformed", "exec weston-transformed"),
    ("text", "exec foot -T text -- sh -c 'echo; seq 400; exec sleep infinity'"),
];

/// How many pictures have to be the same, one after the other, until what is on them stands still.
const STILL: usize = 2;

/// Each pixel of their windows is the same, whether the clients run in the compositor VM or in client VMs. What sway draws
/// around is not: VMs' windows have other titles.
pub(super) fn same(lab: &mut Lab) -> Result<()> {
    open(lab, [Vm::Gui; COUNT])?;
    let local = still(lab, "pixels-local")?;
    close(lab, [Vm::Gui; COUNT])?;
    open(lab, [Vm::Work, Vm::Untrusted, Vm::Work, Vm::Untrusted, Vm::Work])?;
    let mut differing = 0;
    let same = lab.until("same picture", |lab| {
        let through = still(lab, "pixels-through")?;
        let windows = lab.wait_for_windows(&CLIENTS.map(|(name, _)| name))?;
        differing = windows.iter().map(|window| local.differing(&through, window.content)).sum();
        Ok((differing == 0).then_some(()))
    });
    same.map_err(|error| error.context(format!("{differing} pixels differ")))
}

/// Opens the windows one after the other, each in its VM.
fn open(lab: &mut Lab, vms: [Vm; COUNT]) -> Result<()> {
    for (vm, (name, script)) in vms.into_iter().zip(CLIENTS) {
        lab.start(vm, USER, name, script)?;
        lab.wait_for_windows(&[name])?;
    }
    Ok(())
}

fn close(lab: &mut Lab, vms: [Vm; COUNT]) -> Result<()> {
    for (vm, (name, _)) in vms.into_iter().zip(CLIENTS) {
        lab.end(vm, name)?;
        lab.wait_for_end_of_window(name)?;
    }
    Ok(())
}

/// A picture that shows all windows, when nothing changes any more.
fn still(lab: &mut Lab, name: &str) -> Result<Picture> {
    let mut before = lab.picture_of(name, &CLIENTS.map(|(name, _)| name))?;
    let mut same = 1;
    lab.until("picture that stands still", |lab| {
        let now = lab.picture(name)?;
        same = if now == before { same + 1 } else { 1 };
        before = now;
        Ok((same >= STILL).then_some(()))
    })?;
    Ok(before)
}
