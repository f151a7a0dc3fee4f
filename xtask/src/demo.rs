//! `cargo xtask demo`: two client VMs on the screen of a compositor VM, without a hypervisor.

mod here;
mod numbers;
pub(crate) mod picture;
mod rooms;
mod scene;
mod show;
pub(crate) mod sway;

use crate::failure::Failure;
use crate::progress::Progress;
use crate::supervisor::Supervisor;
use crate::{absolute, apt, build, root};
use anyhow::{Context, Result};
use clap::Args;
use here::Desktop;
use rooms::Rooms;
use show::Show;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where demo.png, demo.json and, if kept, the logs are written [default: target/demo of the workspace]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep the logs of a demo that went well, too
    #[arg(long)]
    keep_logs: bool,
    /// Show the windows on the desktop that this is called from instead, until Ctrl-C or until the last one is closed.
    /// If its compositor lets clients take pictures, as those of wlroots do, demo.png shows all that is on it then
    #[arg(long)]
    here: bool,
}

/// Where the results go.
pub(crate) struct Output {
    picture: PathBuf,
    report: PathBuf,
    logs: PathBuf,
}

impl Output {
    /// An empty place: what an earlier demo left is removed, so that nothing old can pass for new.
    fn new(dir: &Path) -> Result<Self> {
        let output = Self {
            picture: dir.join("demo.png"),
            report: dir.join("demo.json"),
            logs: dir.join("logs"),
        };
        for file in [&output.picture, &output.report] {
            ignore_absent(fs::remove_file(file), file)?;
        }
        ignore_absent(fs::remove_dir_all(&output.logs), &output.logs)?;
        fs::create_dir_all(&output.logs)
            .with_context(|| format!("can't make {}", output.logs.display()))?;
        Ok(output)
    }
}

fn ignore_absent(result: std::io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let out = options.out.as_deref().map_or_else(|| root().join("target/demo"), absolute);
    // Before what an earlier demo left is removed.
    let desktop = if options.here { Some(Desktop::find()?) } else { None };
    let output = Output::new(&out)?;
    let mut progress = Progress::new();
    let packages = if options.here { apt::clients() } else { apt::DEMO.to_vec() };
    apt::ensure(&packages, &output.logs.join("apt.log"), &mut progress)?;
    let (wlproxy, guest_agent) = programs(&mut progress)?;

    let rooms = Rooms::new(&wlproxy, &guest_agent, desktop.as_ref().map(|desktop| desktop.owner))?;
    // Dropped before the rooms: what uses a room ends first.
    let mut supervisor = Supervisor::new(rooms.identity(), &output.logs, progress)?;
    let show = Show { rooms: &rooms, output: &output, supervisor: &mut supervisor };
    let shown = match &desktop {
        Some(desktop) => show.run_here(desktop),
        None => show.run(),
    };
    if shown.is_err() {
        supervisor.progress.failed();
    }
    supervisor.progress.stage("stopping everything");
    let stopped = supervisor.stop();
    if stopped.is_ok() {
        supervisor.progress.done();
    } else {
        supervisor.progress.failed();
    }

    let table = match (shown, stopped) {
        (Ok(table), Ok(())) => table,
        (Ok(_), Err(error)) | (Err(error), Ok(())) => return Err(tell_logs(error)),
        (Err(error), Err(also)) => {
            eprintln!("while stopping: {:#}", tell_logs(also));
            return Err(tell_logs(error));
        }
    };
    if !options.keep_logs {
        fs::remove_dir_all(&output.logs)?;
    }
    println!("{table}");
    if output.picture.exists() {
        println!("picture: {}", output.picture.display());
    }
    println!("numbers: {}", output.report.display());
    Ok(())
}

/// Builds the two programs that the demo shows.
fn programs(progress: &mut Progress) -> Result<(PathBuf, PathBuf)> {
    progress.stage("cargo build --release -p wlproxy -p guest-agent");
    progress.leave_line();
    let programs = build::build(&["--release", "-p", "wlproxy", "-p", "guest-agent"])?;
    progress.done();
    Ok((build::program(&programs, "wlproxy")?, build::program(&programs, "guest-agent")?))
}

/// Shows the ends of the logs that a failure names.
pub(crate) fn tell_logs(error: anyhow::Error) -> anyhow::Error {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        eprint!("{}", failure.log_tails());
    }
    error
}
