//! The agent that a client is connected to, and what it counts.

use crate::{Display, until};
use anyhow::{Context, Result};
use guest_agent::stats::Stats;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// An agent of this VM that writes its numbers to a file when it is told to.
#[derive(Debug)]
pub(super) struct Agent {
    process: Pid,
    stats: PathBuf,
}

impl Agent {
    /// The one that listens at `display`: the kernel says who that is.
    pub(super) fn of(display: &Display, stats: &OsStr) -> Result<Self> {
        let socket = UnixStream::connect(&display.socket).context("the agent's socket")?;
        let process = Pid::from_raw(getsockopt(&socket, PeerCredentials)?.pid());
        Ok(Self { process, stats: stats.into() })
    }

    /// What it has counted so far.
    pub(super) fn stats(&self) -> Result<Stats> {
        let _ = fs::remove_file(&self.stats);
        kill(self.process, Signal::SIGUSR1).context("the agent has ended")?;
        Ok(until("the agent's numbers", || {
            // Until it is all there.
            serde_json::from_slice(&fs::read(&self.stats).ok()?).ok()
        }))
    }
}
