//! Windows of client VMs on the compositor VM's screen.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use anyhow::Result;

/// Clients of several kinds in both client VMs have windows, and all show something.
pub(super) fn of_vms(lab: &mut Lab) -> Result<()> {
    lab.start(Vm::Work, USER, "gtk3-demo", "exec gtk3-demo")?;
    lab.start(Vm::Work, USER, "simple-shm", "exec weston-simple-shm")?;
    lab.start(Vm::Untrusted, USER, "flower", "exec weston-flower")?;
    let text =
        "exec foot -T text -- sh -c 'echo; echo A window of another VM; exec sleep infinity'";
    lab.start(Vm::Untrusted, USER, "foot", text)?;
    let windows = lab.wait_for_windows(&["gtk3-demo", "simple-shm", "flower", "text"])?;
    lab.picture_of("windows", &windows)?;
    Ok(())
}
