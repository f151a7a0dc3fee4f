//! Windows of client VMs on the compositor VM's screen.

use super::super::lab::{Lab, Vm};
use anyhow::Result;

/// Clients of several kinds in both client VMs have windows, and all show something.
pub(super) fn of_vms(lab: &mut Lab) -> Result<()> {
    lab.open(Vm::Work, "gtk3-demo", "exec gtk3-demo")?;
    lab.open(Vm::Work, "simple-shm", "exec weston-simple-shm")?;
    lab.open(Vm::Untrusted, "flower", "exec weston-flower")?;
    let text =
        "exec foot -T text -- sh -c 'echo; echo A window of another VM; exec sleep infinity'";
    lab.open(Vm::Untrusted, "text", text)?;
    lab.picture_of("windows", &["gtk3-demo", "simple-shm", "flower", "text"])?;
    Ok(())
}
