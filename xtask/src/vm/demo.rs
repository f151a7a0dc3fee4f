//! `cargo xtask vm demo`: windows of two VMs on the screen of a third. All have a stock kernel, and wlproxy's virtio-gpu.

use super::lab::{How, Lab, Vm, picture_path};
use crate::progress::Progress;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::io;

/// Options of `cargo xtask vm demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    how: How,
}

/// The windows, from left to right: each with its VM, what it is called, and what opens it.
const WINDOWS: &[(Vm, &str, &str)] = &[
    (Vm::Work, "flower", "exec weston-flower"),
    (
        Vm::Work,
        "foot of work",
        "exec foot -T 'foot of work' sh -c 'echo; echo A window of $(hostname); uname -sr; exec sleep infinity'",
    ),
    (
        Vm::Untrusted,
        "foot of untrusted",
        "exec foot -T 'foot of untrusted' sh -c 'echo; echo A window of $(hostname); uname -sr; exec sleep infinity'",
    ),
    (Vm::Untrusted, "gtk3-demo", "exec gtk3-demo"),
];

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let picture = picture_path("demo");
    match fs::remove_file(&picture) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("can't remove {}", picture.display()));
        }
        _ => {}
    }
    let mut lab = Lab::new(&options.how, Progress::new())?;
    let shown = lab.up().and_then(|()| show(&mut lab)).map_err(|error| lab.explain(error));
    if shown.is_err() {
        lab.progress().failed();
    }
    let stopped = lab.stop().map_err(|error| lab.explain(error));
    let logs = lab.logs().display().to_string();
    lab.progress().say(&format!("consoles: {logs}"));
    shown.and(stopped)?;
    println!("picture: {}", picture.display());
    Ok(())
}

fn show(lab: &mut Lab) -> Result<()> {
    lab.stage("windows of both client VMs on one screen");
    for (vm, name, script) in WINDOWS {
        // One after the other: each new one comes at the right.
        lab.open(*vm, name, script)?;
    }
    let names: Vec<&str> = WINDOWS.iter().map(|(_, name, _)| *name).collect();
    lab.picture_of("demo", &names)?;
    lab.progress().done();
    Ok(())
}
