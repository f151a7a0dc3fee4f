//! What of ours is in each VM.

use crate::build;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The packages, each with a program or library of it. All are in /usr/local/bin of each VM: that is in its PATH, and
/// `guest-agent` finds the library beside itself. Whatever else is to be in VMs is a line here.
const INSIDE: &[(&str, &str)] = &[
    ("guest-agent", "guest-agent"),
    ("wlproxy-hostile", "wlproxy-hostile"),
    ("wlproxy-interposer", "wlproxy_interposer"),
    ("wlproxy-runner", "wlproxy-runner"),
    ("wlproxy-tests", "wlproxy-probe"),
];

/// A program or library of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The name of its file in VMs.
    pub(super) name: String,
    /// Where it is here.
    pub(super) path: PathBuf,
}

/// What was built.
#[derive(Debug)]
pub(super) struct Programs {
    /// The host's own.
    pub(super) wlproxy: PathBuf,
    /// What is in all VMs.
    pub(super) inside: Vec<Program>,
    /// The compositors of `examples/`, and libraries of theirs, which are in the compositor VM; none if nobody wants them.
    pub(super) examples: Vec<Program>,
}

impl Program {
    /// A file that has the same name in VMs.
    pub(super) fn at(path: PathBuf) -> Result<Self> {
        let name = path.file_name().context("a program is a file")?;
        Ok(Self { name: name.to_string_lossy().into_owned(), path })
    }
}

impl Programs {
    /// Builds all, optimised if `release`.
    ///
    /// What is in VMs is built for this machine: their libc must not be older.
    pub(super) fn build(release: bool, progress: &mut Progress) -> Result<Self> {
        let mut args = Vec::from(if release { &["--release"][..] } else { &[] });
        for package in INSIDE.iter().map(|(package, _)| *package).chain(["wlproxy"]) {
            if !args.contains(&package) {
                args.extend(["-p", package]);
            }
        }
        progress.stage(format!("cargo build {}", args.join(" ")));
        progress.leave_line();
        let built = build::build(&args)?;
        progress.done();
        let inside = INSIDE.iter().map(|(_, target)| Program::at(build::program(&built, target)?));
        Ok(Self {
            inside: inside.collect::<Result<_>>()?,
            examples: Vec::new(),
            wlproxy: build::program(&built, "wlproxy")?,
        })
    }
}
