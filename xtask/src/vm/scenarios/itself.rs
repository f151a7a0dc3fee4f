//! The VMs themselves: what is done with them is done as it should.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use super::super::setup::Room;
use crate::family;
use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use std::fs;

/// What is copied out whole, in bytes.
const BULK: usize = 1 << 20;

/// Each VM has its own name, and its user has a home.
pub(super) fn names(lab: &mut Lab) -> Result<()> {
    Vm::ALL.into_iter().try_for_each(|vm| is_itself(lab, vm))
}

fn is_itself(lab: &mut Lab, vm: Vm) -> Result<()> {
    let name = lab.text(vm, 0, "cat /proc/sys/kernel/hostname")?;
    ensure!(name == vm.name(), "the VM {vm} calls itself {name}");
    let user = lab.text(vm, USER, "id -un; cd; pwd; echo $XDG_RUNTIME_DIR")?;
    ensure!(user == "user\n/home/user\n/run/user/1000", "the user is {user:?}");
    Ok(())
}

/// Exit statuses come out, and what is written, where it is written to.
pub(super) fn statuses(lab: &mut Lab) -> Result<()> {
    for (script, status) in [("true", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)] {
        let output = lab.run(Vm::Work, 0, script)?;
        ensure!(output.status == status, "{script} had status {}", output.status);
    }
    let output = lab.run(Vm::Work, 0, "echo good; echo bad >&2")?;
    ensure!(output.stdout == b"good\n" && output.stderr == b"bad\n", "it wrote {output:?}");
    Ok(())
}

/// 1 MiB comes out as it is, and what is ours in the VM is of the current build.
pub(super) fn current_build(lab: &mut Lab) -> Result<()> {
    for program in lab.programs().inside.clone() {
        let script = format!("head -c {BULK} /usr/local/bin/{}", program.name);
        let found = lab.bytes(Vm::Work, 0, &script)?;
        let built = fs::read(&program.path)?;
        let built = &built[..built.len().min(BULK)];
        let differs = found.iter().zip(built).position(|(a, b)| a != b);
        ensure!(
            found == built,
            "{}: {} of {} bytes came, the first that differs is {differs:?}",
            program.name,
            found.len(),
            built.len()
        );
    }
    lab.text(Vm::Work, 0, "guest-agent --version")?;
    Ok(())
}

/// What isn't there is waited for, and what goes on is started.
pub(super) fn waiting(lab: &mut Lab) -> Result<()> {
    let sleeper = "echo tired; mkfifo /tmp/there; exec sleep infinity";
    lab.start(Vm::Work, USER, "sleeper", sleeper)?;
    lab.wait_for(Vm::Work, "/tmp/there", "sleeper")?;
    let Err(error) = lab.start(Vm::Work, USER, "sleeper", "true") else {
        bail!("there are two of a name");
    };
    ensure!(format!("{error:#}").contains("sleeper runs already"), "{error:#}");
    Ok(())
}

/// What is ended is gone with all that it has started, whether it wants to or not, and its status is told.
pub(super) fn ending(lab: &mut Lab) -> Result<()> {
    let family = "sleep 1111 & mkfifo /tmp/meek; exec sleep 1111";
    let stubborn = "trap '' TERM; sleep 1111 & mkfifo /tmp/stubborn; while :; do wait; done";
    for (name, script, status) in [("meek", family, 128 + 15), ("stubborn", stubborn, 128 + 9)] {
        lab.start(Vm::Work, USER, name, script)?;
        lab.wait_for(Vm::Work, &format!("/tmp/{name}"), name)?;
        let found = lab.end(Vm::Work, name)?;
        ensure!(found == status, "the status of {name} is {found}");
        let left = lab.run(Vm::Work, 0, "pgrep -f 'sleep 111[1]'")?;
        ensure!(left.status == 1, "of {name} is left: {}", String::from_utf8_lossy(&left.stdout));
    }
    Ok(())
}

/// A VM that is killed is told, leaves nothing, and the other VMs don't notice. It isn't there afterwards.
pub(super) fn killed(lab: &mut Lab, vm: Vm) -> Result<()> {
    let another = || Room::new(&crate::root().join("target/vm/rooms"), vm.name());
    ensure!(another().is_err(), "there could be two VMs {vm}");
    let processes = family::descendants().len();
    lab.supervisor().signal(vm.name(), Signal::SIGKILL)?;
    let Err(error) = lab.run(vm, 0, "sleep infinity") else {
        bail!("a script ended by itself");
    };
    let told = format!("{error:#}");
    ensure!(told.contains(vm.name()), "whose end it was isn't told: {told}");
    lab.kill(vm)?;
    let left = family::descendants().len();
    ensure!(left == processes - 1, "of {processes} processes {left} are left");
    another()?;
    is_itself(lab, Vm::Work)
}
