//! VMs of the `process` channel.

use super::Machine;
use crate::Process;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A VM that its agent plays. It ends with that, and all its programs are the host's.
#[derive(Debug)]
pub(super) struct ProcessMachine {
    /// The vhost-user socket of its device.
    pub(super) device: PathBuf,
}

impl Machine for ProcessMachine {
    fn channel(&self) -> OsString {
        let mut channel = OsString::from("process:");
        channel.push(&self.device);
        channel
    }

    fn inside(&self, program: Command) -> Command {
        program
    }

    fn reach(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn holder(&self, program: &Process) -> u32 {
        program.id()
    }
}
