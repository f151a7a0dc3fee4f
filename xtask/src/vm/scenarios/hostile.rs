//! A client VM that says everything wrong to its device: it gets errors, and nobody else notices.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use super::holdings::{self, Holdings};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// What all of it comes from: the same in each run, so that what fails, fails again.
const SEED: u64 = 1;

/// How many commands. By hand it may be more: `wlproxy-hostile --commands 100000`.
const COMMANDS: u32 = 20_000;

/// How long they may take. By themselves they take half a minute.
const LONGEST: Duration = Duration::from_secs(240);

/// Another client VM's application, whose window is another one with each frame.
const BYSTANDER: &str = "simple-shm";

/// For whom nothing else may be held then. The bystander's agent keeps memory for the next application.
const VMS: &[Vm] = &[Vm::Gui, Vm::Untrusted];

/// Any program of a VM says it, over the kernel's driver.
pub(super) fn program(lab: &mut Lab) -> Result<()> {
    let before = Holdings::of(lab)?;
    attack(lab, USER, "ioctls")?;
    holdings::wait_for(lab, &before, VMS)
}

/// The kernel of a VM says it, in the place of its driver: into the device's queues, which are sometimes nowhere.
pub(super) fn kernel(lab: &mut Lab) -> Result<()> {
    let before = Holdings::of(lab)?;
    // Its device is taken away.
    lab.end(Vm::Untrusted, "run")?;
    attack(lab, 0, "queue")?;
    lab.text(Vm::Untrusted, 0, "chmod 666 /dev/dri/*")?;
    lab.furnish(Vm::Untrusted)?;
    holdings::wait_for(lab, &before, VMS)
}

fn attack(lab: &mut Lab, uid: u32, way: &str) -> Result<()> {
    lab.start(Vm::Work, USER, BYSTANDER, "exec weston-simple-shm")?;
    let window = lab.wait_for_windows(&[BYSTANDER])?[0].content;
    lab.wait_for_change(window)?;
    let script = format!(
        "wlproxy-hostile --seed {SEED} --commands {COMMANDS} {way}; status=$?; mkfifo /tmp/{way}; exit $status"
    );
    lab.start(Vm::Untrusted, uid, "hostile", &script)?;
    let end = Instant::now() + LONGEST;
    let mut changes = 0;
    let mut is_over = false;
    while !is_over {
        if Instant::now() > end {
            let said = lab.text(Vm::Untrusted, 0, "tail -n 20 /run/log/hostile")?;
            bail!("it isn't over after {} s; it said:\n{said}", LONGEST.as_secs());
        }
        is_over = lab.run(Vm::Untrusted, 0, &format!("test -e /tmp/{way}"))?.status == 0;
        lab.wait_for_change(window)?;
        changes += 1;
    }
    let said = lab.text(Vm::Untrusted, 0, "cat /run/log/hostile")?;
    let status = lab.end(Vm::Untrusted, "hostile")?;
    ensure!(status == 0, "it ended with {status}, and said:\n{said}");
    lab.note(said.lines().last().unwrap_or_default());
    lab.note(&format!("{BYSTANDER} was seen to draw {changes} times meanwhile"));
    lab.end(Vm::Work, BYSTANDER)?;
    Ok(())
}
