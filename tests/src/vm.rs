//! A client VM of a desk.

use crate::machine::Machine;
use crate::process::Process;
use crate::wait::{PATIENCE, until};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A client VM: a `guest-agent run` whose only child waits for the test.
#[derive(Debug)]
pub struct Vm {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) process: Process,
    /// Its XDG_RUNTIME_DIR.
    pub(crate) folder: PathBuf,
    /// Where the agent writes its numbers.
    pub(crate) stats: PathBuf,
    /// The process of its worker, when the baseline was taken.
    pub(crate) worker: Option<u32>,
}

impl Vm {
    /// The agent starts its child when its socket takes connections, and the child answers what it is told.
    pub(crate) fn ready(&mut self) {
        self.tell("?");
    }

    /// Tells the child a line; the line that it answers.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        let child = self.process.child();
        let told = writeln!(child.stdin.as_mut().expect("piped"), "{line}");
        let output = child.stdout.as_mut().expect("piped");
        let mut answer = Vec::new();
        while answer.last() != Some(&b'\n') {
            let mut byte = [0];
            let mut poll_fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            let in_time = poll(&mut poll_fds, PATIENCE.as_millis() as u16) == Ok(1);
            let heard = told.is_ok() && in_time && output.read_exact(&mut byte).is_ok();
            assert!(heard, "guest-agent run never served its child, or has ended");
            answer.extend(byte);
        }
        String::from_utf8_lossy(&answer).trim_end().to_owned()
    }

    /// Where the agent writes its numbers on SIGUSR1, in this VM.
    pub fn stats_file(&self) -> &Path {
        &self.stats
    }

    /// One number of what the agent counts, such as "copied_bytes".
    pub fn stats(&self, key: &str) -> u64 {
        let path = self.machine.reach(&self.stats);
        let _ = fs::remove_file(&path);
        self.process.signal(Signal::SIGUSR1);
        let stats: Value = until("the agent's stats", || {
            // Until it is all there.
            serde_json::from_slice(&fs::read(&path).ok()?).ok()
        });
        stats[key].as_u64().unwrap_or_else(|| panic!("no {key} in {stats}"))
    }

    /// The process that holds what the agent holds.
    pub(crate) fn holder(&self) -> u32 {
        self.machine.holder(&self.process)
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// The agent.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
