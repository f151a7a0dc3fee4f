//! Where clients connect.

use crate::machine::Machine;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A Wayland socket, in a VM or beside the compositor.
#[derive(Debug, Clone)]
pub struct Display {
    /// Where clients of the test's own reach it.
    pub socket: PathBuf,
    /// What it is to clients in its VM.
    path: PathBuf,
    machine: Arc<dyn Machine>,
}

impl Display {
    /// The socket at `path` in a VM.
    pub(crate) fn new(machine: &Arc<dyn Machine>, path: &Path) -> Self {
        let (socket, machine) = (machine.reach(path), machine.clone());
        Self { socket, path: path.to_owned(), machine }
    }

    /// What runs `client` where the socket is, as a client of it. Its XDG_RUNTIME_DIR is the socket's folder unless it
    /// has one of its own.
    pub fn command(&self, mut client: Command) -> Command {
        if !client.get_envs().any(|(name, _)| name == "XDG_RUNTIME_DIR") {
            client.env("XDG_RUNTIME_DIR", self.path.parent().expect("a socket lies somewhere"));
        }
        client.env("WAYLAND_DISPLAY", &self.path);
        self.machine.inside(client)
    }
}
