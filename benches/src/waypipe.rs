//! waypipe, which other people use for the same: what it is compared with.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `cargo xtask suite` puts a newer one than the machine's, in cargo's folder of targets.
const NEWER: &str = "suite/forky/usr/bin/waypipe";

/// A waypipe that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Waypipe {
    program: PathBuf,
    /// As it says itself.
    pub(crate) version: String,
}

impl Waypipe {
    /// The newest there is.
    pub(crate) fn find() -> Result<Self> {
        let programs = [crate::part::target().join(NEWER), PathBuf::from("waypipe")];
        match programs.into_iter().find_map(Self::of) {
            Some(waypipe) => Ok(waypipe),
            None => bail!(
                "there is no waypipe, so nothing is compared with it: `cargo xtask bench` gets it, and so does \
                 `apt install waypipe`"
            ),
        }
    }

    fn of(program: PathBuf) -> Option<Self> {
        let output = Command::new(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "waypipe 0.11.2", and more lines.
        let version = text.strip_prefix("waypipe ")?.split_whitespace().next()?.to_owned();
        Some(Self { program, version })
    }

    /// Whether it carries a paste of any size. That of Debian 12 never ends one that is larger than a pipe.
    pub(crate) fn pastes(&self) -> bool {
        !self.version.starts_with("0.8.")
    }

    /// `waypipe` over the Unix socket `socket`, with the same options for both of its sides.
    pub(crate) fn command(&self, socket: &Path, compression: &str) -> (PathBuf, Vec<String>) {
        let socket = socket.to_string_lossy().into_owned();
        let args = ["--no-gpu", "--compress", compression, "--socket", &socket];
        (self.program.clone(), args.map(str::to_owned).to_vec())
    }
}
