//! Clients that come while the compositor VM isn't there: they wait at the host, and are served when it is.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use anyhow::{Result, ensure};

/// Clients come when the compositor VM is gone, when its monitor is there and its driver isn't, and when it reboots.
pub(super) fn clients(lab: &mut Lab) -> Result<()> {
    lab.kill(Vm::Gui)?;
    comes(lab, Vm::Work, "gone")?;
    wait(lab, 1)?;

    lab.start_vm(Vm::Gui)?;
    lab.until("monitor at wlproxy's device", |lab| {
        Ok((lab.status()?["vms"][Vm::Gui.name()]["connected"] == true).then_some(()))
    })?;
    comes(lab, Vm::Untrusted, "early")?;
    wait(lab, 2)?;
    lab.boot(Vm::Gui)?;
    lab.furnish(Vm::Gui)?;
    lab.wait_for_windows(&["gone", "early"])?;

    lab.reboot(Vm::Gui)?;
    lab.until("end of the compositor", |lab| {
        Ok((lab.status()?["compositor"]["ready"] == false).then_some(()))
    })?;
    comes(lab, Vm::Work, "between")?;
    // Those from before have come again.
    wait(lab, 3)?;
    lab.boot(Vm::Gui)?;
    lab.furnish(Vm::Gui)?;
    lab.picture_of("early", &["gone", "early", "between"])?;
    for (vm, name) in [(Vm::Work, "gone"), (Vm::Untrusted, "early"), (Vm::Work, "between")] {
        let tries = lab.text(vm, 0, &format!("grep -c 'comes again' /run/log/{name} || true"))?;
        lab.note(&format!("{name} of {vm} came again {tries} times"));
    }
    Ok(())
}

/// Starts a client that comes again when it was disconnected: a compositor VM may take longer than wlproxy lets clients
/// wait.
fn comes(lab: &mut Lab, vm: Vm, name: &str) -> Result<()> {
    let script = format!(
        "until foot -T {name} sh -c 'echo; echo {name}; exec sleep infinity'; do echo comes again; done"
    );
    lab.start(vm, USER, name, &script)
}

/// So many clients wait for the compositor VM.
fn wait(lab: &mut Lab, count: u64) -> Result<()> {
    let status = lab.until("client that waits", |lab| {
        let status = lab.status()?;
        Ok((status["pending"] == count).then_some(status))
    })?;
    ensure!(
        status["compositor"]["ready"] == false,
        "a client waits for a compositor that is there"
    );
    Ok(())
}
