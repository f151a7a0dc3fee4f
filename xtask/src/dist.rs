//! `cargo xtask dist`: the Debian packages.

mod cargo_deb;

use crate::build::{self, program};
use crate::part::end_with_caller;
use crate::progress::Progress;
use crate::{absolute, apt, root};
use anyhow::{Context, Result, bail};
use cargo_deb::CargoDeb;
use clap::Args;
use nix::unistd::geteuid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options of `cargo xtask dist`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the packages go, and the manual pages and completions that are in them [default: target/dist of the
    /// workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Then install them on a copy of this machine that systemd boots in namespaces of its own, use all that they
    /// bring, and remove them; only root can do that, and nothing of the machine is changed
    #[arg(long)]
    test: bool,
}

/// The crates that become a package.
const CRATES: [&str; 2] = ["wlproxy", "guest-agent"];

/// What else is in the packages, or makes what is in them.
const BESIDE: [&str; 2] = ["wlproxy-interposer", "wlproxy-dist"];

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    // Where the packages' metadata expect what is made for them.
    let made = root().join("target/dist");
    let out = options.out.as_deref().map_or_else(|| made.clone(), absolute);
    for dir in [&made, &out] {
        fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    }
    let mut progress = Progress::new();
    let log = made.join("apt.log");
    apt::ensure(apt::DIST, &log, &mut progress)?;
    let cargo_deb = CargoDeb::ensure(&mut progress)?;

    let built = CRATES.iter().chain(&BESIDE).flat_map(|name| ["-p", name]);
    let arguments: Vec<&str> = ["--release"].into_iter().chain(built).collect();
    progress.stage(format!("cargo build {}", arguments.join(" ")));
    progress.leave_line();
    let programs = build::build(&arguments)?;
    progress.done();
    let generator = program(&programs, "wlproxy-dist")?;
    generate(&generator, &made)?;
    if out != made {
        generate(&generator, &out)?;
    }

    let mut packages = Vec::new();
    for name in CRATES {
        progress.stage(format!("cargo deb -p {name}"));
        packages.push(cargo_deb.package(name, &out)?);
        progress.done();
    }
    for package in &packages {
        progress.say(&format!("package: {}", package.display()));
    }
    if options.test {
        apt::ensure(apt::TRIAL, &log, &mut progress)?;
        progress.say("... installing the packages on a copy of this machine");
        drop(progress);
        try_out(&packages)?;
    }
    Ok(())
}

/// Makes the manual pages and completions.
fn generate(generator: &Path, out: &Path) -> Result<()> {
    let status = Command::new(generator).arg(out).status().context("can't run wlproxy-dist")?;
    if !status.success() {
        bail!("wlproxy-dist failed ({status})");
    }
    Ok(())
}

/// Installs the packages and uses them. The script tells what it checks, and how many checks passed.
fn try_out(packages: &[PathBuf]) -> Result<()> {
    if !geteuid().is_root() {
        println!("skipped the trial of the packages: only root can boot a copy of this machine");
        println!("0 passed, 0 failed, 1 skipped");
        return Ok(());
    }
    let mut command = Command::new("bash");
    command.arg(root().join("dist/trial/run.sh")).args(packages).stdin(Stdio::null());
    end_with_caller(&mut command);
    let status = command.status().context("can't run bash")?;
    if !status.success() {
        bail!("the trial of the packages failed ({status})");
    }
    Ok(())
}
