//! VMs and workers that end under load: the rest goes on, and when they are back, new clients are served.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Instant;

/// How something ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The VM reboots, and its device is reset. QEMU stays.
    Reboot,
    /// The VM's power is cut.
    Kill,
    /// Its worker is killed. QEMU doesn't connect to the next one: the VM has to be started again.
    Worker,
}

/// Something of a VM ends under load, and is started again.
pub(super) fn of(lab: &mut Lab, vm: Vm, how: End) -> Result<()> {
    if vm == Vm::Gui { compositor_vm(lab, how) } else { client_vm(lab, vm, how) }
}

/// The windows of a client VM that ends are gone, and the other client VM draws on.
fn client_vm(lab: &mut Lab, vm: Vm, how: End) -> Result<()> {
    let other = if vm == Vm::Work { Vm::Untrusted } else { Vm::Work };
    load(lab)?;
    end(lab, vm, how)?;
    lab.wait_for_end_of_window(&loaded(vm))?;
    // Its other window, too: when it goes, all others change.
    lab.until("end of its windows", |lab| Ok((lab.windows()?.len() == 2).then_some(())))?;
    draws(lab, other)?;
    start_again(lab, vm, how)?;
    draws(lab, other)?;
    serves(lab, vm)
}

/// The clients of all VMs are told that the compositor VM has ended, and their agents stay.
fn compositor_vm(lab: &mut Lab, how: End) -> Result<()> {
    load(lab)?;
    end(lab, Vm::Gui, how)?;
    for vm in Vm::CLIENTS {
        lab.wait_for(vm, "/tmp/ended", "load")?;
    }
    start_again(lab, Vm::Gui, how)?;
    Vm::CLIENTS.into_iter().try_for_each(|vm| serves(lab, vm))
}

/// In each client VM two applications that draw all the time, one of them into lent memory.
fn load(lab: &mut Lab) -> Result<()> {
    for vm in Vm::CLIENTS {
        let script = format!("foot -T '{}' seq inf; mkfifo /tmp/ended", loaded(vm));
        lab.start(vm, USER, "load", &script)?;
        lab.start(vm, USER, "lent", "exec guest-agent run --zero-copy -- weston-simple-shm")?;
    }
    lab.until("two windows of each VM", |lab| {
        Ok((lab.windows()?.len() == 2 * Vm::CLIENTS.len()).then_some(()))
    })?;
    Vm::CLIENTS.into_iter().try_for_each(|vm| draws(lab, vm))
}

/// The title of that.
fn loaded(vm: Vm) -> String {
    format!("load of {vm}")
}

/// What a VM draws all the time changes on the screen.
fn draws(lab: &mut Lab, vm: Vm) -> Result<()> {
    let window = lab.wait_for_windows(&[&loaded(vm)])?;
    lab.wait_for_change(window[0].content)
}

/// A new client of a VM has a window.
fn serves(lab: &mut Lab, vm: Vm) -> Result<()> {
    let title = format!("new in {vm}");
    lab.start(
        vm,
        USER,
        "new",
        &format!("exec foot -T '{title}' sh -c 'echo; echo {title}; exec sleep infinity'"),
    )?;
    lab.picture_of("new", &[&title])?;
    Ok(())
}

fn end(lab: &mut Lab, vm: Vm, how: End) -> Result<()> {
    match how {
        End::Reboot => lab.reboot(vm),
        End::Kill => lab.kill(vm),
        End::Worker => {
            let before = worker(lab, vm)?.with_context(|| format!("{vm} has no worker"))?;
            kill(before, Signal::SIGKILL)?;
            lab.until("another worker", |lab| {
                Ok(worker(lab, vm)?.filter(|&now| now != before).map(drop))
            })
        }
    }
}

/// The process of a VM's worker.
fn worker(lab: &mut Lab, vm: Vm) -> Result<Option<Pid>> {
    let pid = lab.status()?["vms"][vm.name()]["pid"].as_i64();
    Ok(pid.map(i32::try_from).transpose()?.map(Pid::from_raw))
}

/// Waits for a VM that reboots, or starts it.
fn start_again(lab: &mut Lab, vm: Vm, how: End) -> Result<()> {
    if how == End::Worker {
        lab.kill(vm)?;
    }
    if how != End::Reboot {
        return lab.revive(vm);
    }
    let begin = Instant::now();
    let uptime = lab.boot(vm)?;
    lab.note(&format!(
        "{vm} was back {:.1} s later, its kernel for {uptime} s",
        begin.elapsed().as_secs_f32()
    ));
    lab.furnish(vm)
}
