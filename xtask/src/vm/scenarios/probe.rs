//! What the suite tests over the `process` channel, in VMs: the suite's own clients and compositor, which are one program
//! (`wlproxy-probe`), in the VMs where each belongs.
//!
//! Left out is what a VM can't have, or what nothing in one could tell: tests that play a VM message by message, that
//! count the memory and fds of all processes on one machine, or that compare screenshots of real compositors (those have
//! scenarios of their own).

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the compositor that tells what it sees listens, in the compositor VM.
const RECORDER: &str = "/run/user/1000/recorder";

/// Where an agent listens whose numbers are asked for, in a client VM.
const AGENT: &str = "/run/user/1000/probe";

/// Where it writes them.
const STATS: &str = "/tmp/probe.json";

/// What an agent counts and the host shows.
const REPORTED: [&str; 3] = ["frames", "damaged_bytes", "copied_bytes"];

/// Pools that grow, many fds at once, messages as long as may be, a keymap, and damage: all is seen, and what was stale
/// is copied. What the agent has counted, the host shows.
pub(super) fn suite(lab: &mut Lab) -> Result<()> {
    before_recorder(lab, |lab| {
        let before = reported(lab)?;
        start_agent(lab, Vm::Work)?;
        client(
            lab,
            Vm::Work,
            "pool-grows many-fds long-messages keymap damage pipes unread-pastes",
        )?;
        lab.end(Vm::Work, "probe-run")?;
        let counted: Value =
            serde_json::from_str(&lab.text(Vm::Work, 0, &format!("cat {STATS}"))?)?;
        let counted = REPORTED.map(|key| counted[key].as_u64().unwrap_or(0));
        ensure!(counted.iter().all(|&number| number > 0), "the agent has counted {counted:?}");
        lab.until("numbers of the agent at the host", |lab| {
            let now = reported(lab)?;
            let told: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
            Ok((told == counted).then_some(()))
        })?;
        let [frames, damaged, copied] = counted;
        lab.note(&format!(
            "wlproxy status shows them, too: {frames} frames, {damaged} bytes damaged, {copied} copied"
        ));
        Ok(())
    })
}

/// Applications that draw into memory which the compositor VM sees: nothing is copied, and every pixel is right.
pub(super) fn zero_copy(lab: &mut Lab) -> Result<()> {
    before_recorder(lab, |lab| {
        let script = format!(
            "exec guest-agent run --zero-copy --stats {STATS} -- wlproxy-probe client {STATS} lent demoted"
        );
        play(lab, Vm::Work, &script)
    })
}

/// 20 MB are copied and pasted whole: each way between a client VM and the compositor VM, and between client VMs.
pub(super) fn clipboard(lab: &mut Lab) -> Result<()> {
    before_recorder(lab, |lab| {
        for (from, to) in [(Vm::Work, Vm::Gui), (Vm::Gui, Vm::Work), (Vm::Work, Vm::Untrusted)] {
            lab.start(from, USER, "copy", &format!("{}exec wlproxy-probe copy 1", display(from)))?;
            let copied = "until grep -q 'are copied' /run/log/copy; do sleep 0.1; done";
            lab.text(from, 0, copied).context("nothing is copied")?;
            let said = lab.text(to, USER, &format!("{}exec wlproxy-probe paste", display(to)))?;
            let status = lab.end(from, "copy")?;
            ensure!(status == 0, "what copies in {from} ended with {status}");
            lab.note(&format!("{from} to {to}: {said}"));
        }
        Ok(())
    })
}

/// How long round trips and frames take; the compositor VM's own clients beside them.
pub(super) fn figures(lab: &mut Lab) -> Result<()> {
    before_recorder(lab, |lab| {
        let direct = format!("{}exec wlproxy-probe client - round-trips frames", display(Vm::Gui));
        play(lab, Vm::Gui, &direct)?;
        start_agent(lab, Vm::Work)?;
        client(lab, Vm::Work, "round-trips frames")?;
        let lent = format!(
            "exec guest-agent run --zero-copy --stats {STATS} -- wlproxy-probe client {STATS} frames"
        );
        play(lab, Vm::Work, &lent)
    })
}

/// Does something while the compositor of the compositor VM is the one that tells what it sees. The usual one is back
/// afterwards.
pub(super) fn before_recorder(
    lab: &mut Lab,
    test: impl FnOnce(&mut Lab) -> Result<()>,
) -> Result<()> {
    lab.end(Vm::Gui, "serve")?;
    let recorder = format!("exec wlproxy-probe compositor {RECORDER}");
    lab.start(Vm::Gui, USER, "recorder", &recorder)?;
    lab.wait_for(Vm::Gui, RECORDER, "recorder")?;
    let serve = format!("exec guest-agent serve --compositor {RECORDER}");
    lab.start(Vm::Gui, USER, "recorder-serve", &serve)?;
    test(lab)?;
    lab.end(Vm::Gui, "recorder-serve")?;
    let status = lab.end(Vm::Gui, "recorder")?;
    ensure!(status == 0, "the compositor ended with {status}");
    lab.wait_until_ready(false)?;
    lab.start_part(Vm::Gui, "serve")?;
    lab.wait_until_ready(true)
}

/// Starts an agent beside the usual one.
pub(super) fn start_agent(lab: &mut Lab, vm: Vm) -> Result<()> {
    let agent = format!("exec guest-agent run --no-export --socket {AGENT} --stats {STATS}");
    lab.start(vm, USER, "probe-run", &agent)?;
    lab.wait_for(vm, AGENT, "probe-run")
}

/// Plays scenarios as a client of that agent.
pub(super) fn client(lab: &mut Lab, vm: Vm, scenarios: &str) -> Result<()> {
    let script = format!("WAYLAND_DISPLAY={AGENT} exec wlproxy-probe client {STATS} {scenarios}");
    play(lab, vm, &script)
}

/// Runs a script, and writes what it says into the log.
fn play(lab: &mut Lab, vm: Vm, script: &str) -> Result<()> {
    let said = lab.text(vm, USER, script)?;
    said.lines().for_each(|line| lab.note(&format!("{vm}: {line}")));
    Ok(())
}

/// Where clients find the compositor: those of the compositor VM have another one as well, and others the usual agent.
fn display(vm: Vm) -> String {
    if vm == Vm::Gui { format!("WAYLAND_DISPLAY={RECORDER} ") } else { String::new() }
}

/// What the host shows of what the agents of a VM have told.
fn reported(lab: &mut Lab) -> Result<[u64; 3]> {
    let status = lab.status()?;
    let reported = &status["vms"][Vm::Work.name()]["reported"];
    Ok(REPORTED.map(|key| reported[key].as_u64().unwrap_or(0)))
}
