//! cargo-deb, which makes Debian packages. It is installed in target/tools.

use crate::progress::Progress;
use crate::{build, root};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version that is installed.
const VERSION: &str = "3.8.0";

/// cargo-deb, ready to be run.
pub(super) struct CargoDeb(PathBuf);

impl CargoDeb {
    /// Installs it, unless it is there.
    pub(super) fn ensure(progress: &mut Progress) -> Result<Self> {
        let tools = root().join("target/tools");
        let program = tools.join("bin/cargo-deb");
        if version(&program).is_none_or(|found| found != VERSION) {
            progress.say("cargo-deb is missing and will be installed in target/tools:");
            progress.stage(format!("cargo install cargo-deb@{VERSION}"));
            progress.leave_line();
            // Building it fast matters more than how fast it runs, which is a second or two.
            let mut cargo = build::cargo();
            cargo.args(["install", "--locked", "--debug", "--force", "--root"]).arg(&tools);
            cargo.arg(format!("cargo-deb@{VERSION}")).stdin(Stdio::null());
            let status = cargo.status().context("can't run cargo")?;
            if !status.success() {
                bail!("cargo install cargo-deb failed ({status})");
            }
            progress.done();
        }
        Ok(Self(program))
    }

    /// Packages a crate whose programs were built for release. Returns the package.
    pub(super) fn package(&self, name: &str, out: &Path) -> Result<PathBuf> {
        let mut command = Command::new(&self.0);
        // Its warnings are about what lies in target/dist, as if that were to be built.
        command.args(["--quiet", "--no-build", "--locked", "--package", name, "--output"]);
        // A path with a slash at its end is a folder.
        command.arg(out.join("")).current_dir(root()).stdin(Stdio::null());
        let output = command.stderr(Stdio::inherit()).output().context("can't run cargo-deb")?;
        let package = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || package.is_empty() {
            bail!("cargo-deb failed for {name} ({})", output.status);
        }
        Ok(root().join(package))
    }
}

fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.split_whitespace().last()?.to_owned())
}
