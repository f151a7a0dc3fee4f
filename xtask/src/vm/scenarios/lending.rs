//! Unmodified applications of a client VM that draw into memory which the compositor VM sees.

use super::super::lab::{Lab, Vm};
use super::super::machine::USER;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Frames of which none is copied.
const FRAMES: u64 = 100;

/// Applications, with the title that each window has: one draws all the time, into a pool for each of its two wl_buffers;
/// the other has one large pool, and draws what a terminal shows.
const APPLICATIONS: [(&str, &str, &str); 2] = [
    ("simple-shm", "simple-shm", "weston-simple-shm"),
    ("lent-foot", "lent", "foot -T lent -- sh -c 'while :; do cat /proc/uptime; done'"),
];

/// Their frames are seen without a copy, and change on the screen.
pub(super) fn to_applications(lab: &mut Lab) -> Result<()> {
    for (name, title, command) in APPLICATIONS {
        let stats = format!("/tmp/{name}.json");
        let script = format!(
            "echo $$ >/tmp/{name}.pid; exec guest-agent run --zero-copy --stats {stats} -- {command}"
        );
        lab.start(Vm::Work, USER, name, &script)?;
        let window = lab.wait_for_windows(&[title])?;
        lab.wait_for_change(window[0].content)?;
        let first = frames(lab, name, 5)?;
        let last = frames(lab, name, first.seen + FRAMES)?;
        ensure!(last.lent > 0, "{name}: nothing is lent");
        let copied = last.copied - first.copied;
        ensure!(copied == 0, "{name}: {copied} bytes were copied");
        let (all, seen) = (last.frames - first.frames, last.seen - first.seen);
        ensure!(seen + 1 >= all, "{name}: of {all} frames {seen} were seen without a copy");
        lab.note(&format!("{name}: {seen} frames, 0 bytes copied; {} before", first.copied));
        lab.end(Vm::Work, name)?;
    }
    Ok(())
}

/// What an agent has counted.
struct Counted {
    frames: u64,
    seen: u64,
    copied: u64,
    lent: u64,
}

/// The numbers of an application's agent, once it has seen so many frames.
fn frames(lab: &mut Lab, name: &str, least: u64) -> Result<Counted> {
    // The agent writes a new file when it is told to.
    let ask = format!(
        "rm -f /tmp/{name}.json; kill -USR1 $(cat /tmp/{name}.pid) || exit 1; \
         until [ -s /tmp/{name}.json ]; do sleep 0.05; done; cat /tmp/{name}.json"
    );
    lab.until("frames of an application", |lab| {
        let stats: Value = serde_json::from_str(&lab.text(Vm::Work, 0, &ask)?)?;
        let number = |key: &str| stats[key].as_u64().with_context(|| format!("no {key}: {stats}"));
        let counted = Counted {
            frames: number("frames")?,
            seen: number("seen_frames")?,
            copied: number("copied_bytes")?,
            lent: number("lent")?,
        };
        Ok((counted.seen >= least).then_some(counted))
    })
}
