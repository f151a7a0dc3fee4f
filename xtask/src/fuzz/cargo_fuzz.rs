//! cargo-fuzz, which builds a target with libFuzzer and AddressSanitizer. It is installed in target/tools.

use crate::progress::Progress;
use crate::{build, root};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version that is installed.
const VERSION: &str = "0.13.2";

/// What it builds for.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Where it builds: other flags, so other files.
const FOLDER: &str = "target/fuzz";

/// Builds these targets. Returns the program of each.
pub(super) fn build(targets: &[String], progress: &mut Progress) -> Result<Vec<PathBuf>> {
    let program = ensure(progress)?;
    progress.stage(format!("cargo fuzz build {}", targets.join(" ")));
    progress.leave_line();
    let mut command = Command::new(program);
    command.args(["fuzz", "build", "--fuzz-dir", "fuzz", "--features", "libfuzzer"]);
    command.args(["--target", TRIPLE, "--target-dir", FOLDER]);
    if let [target] = targets {
        command.arg(target);
    }
    // Sanitizers are an unstable flag of rustc. The profile's link-time optimisation takes minutes for each target.
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    let status = command.current_dir(root()).stdin(Stdio::null()).status();
    let status = status.context("can't run cargo-fuzz")?;
    if !status.success() {
        bail!("cargo fuzz build failed ({status})");
    }
    progress.done();
    let folder = root().join(FOLDER).join(TRIPLE).join("release");
    Ok(targets.iter().map(|target| folder.join(target)).collect())
}

/// Installs it, unless it is there.
fn ensure(progress: &mut Progress) -> Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    if version(&program).is_none_or(|found| found != VERSION) {
        progress.say("cargo-fuzz is missing and will be installed in target/tools:");
        progress.stage(format!("cargo install cargo-fuzz@{VERSION}"));
        progress.leave_line();
        let mut cargo = build::cargo();
        cargo.args(["install", "--locked", "--debug", "--force", "--root"]).arg(&tools);
        cargo.arg(format!("cargo-fuzz@{VERSION}")).stdin(Stdio::null());
        let status = cargo.status().context("can't run cargo")?;
        if !status.success() {
            bail!("cargo install cargo-fuzz failed ({status})");
        }
        progress.done();
    }
    Ok(program)
}

fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).args(["fuzz", "--version"]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.split_whitespace().last()?.to_owned())
}
