//! How a command with parts fails.

use nix::sys::signal::Signal;
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// How many of a log's last lines a failure shows.
pub(crate) const LOG_TAIL: usize = 30;

/// A part failed, or didn't do its work in time.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: String,
    logs: Vec<PathBuf>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// What failed, and the logs that may tell why.
    pub(crate) fn new(reason: String, logs: Vec<PathBuf>) -> Self {
        Self { reason, logs }
    }

    /// The same failure, with the first sign of it.
    pub(crate) fn seen_as(mut self, sign: &anyhow::Error) -> Self {
        self.reason = format!("{} ({sign:#})", self.reason);
        self
    }

    /// The ends of the logs that may tell why, each under its path.
    pub(crate) fn log_tails(&self) -> String {
        let mut text = String::new();
        for path in &self.logs {
            let log = fs::read(path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            text.push_str(&format!("---- {} ", path.display()));
            text.push_str(&match (lines.len(), shown.len()) {
                (0, _) => "is empty\n".to_owned(),
                (all, shown) => format!("(last {shown} of {all} lines)\n"),
            });
            for line in shown {
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }
}

/// Whose failure an error is: a context of errors.
#[derive(Debug)]
pub(crate) struct Blame(Vec<String>);

impl Blame {
    /// Blames these parts.
    pub(crate) fn on(parts: &[&str]) -> Self {
        Self(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    /// Their names.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// The user stopped the command.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) Signal);

impl Interrupted {
    /// The exit status that tells a shell of the signal.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.0 as u8
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}
