//! Where clients connect.

use crate::binaries::interposer;
use crate::machine::{Channel, Machine};
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
    /// Whether its agent lends to clients.
    lends: bool,
}

impl Display {
    /// The socket at `path` in a VM.
    pub(crate) fn new(machine: &Arc<dyn Machine>, path: &Path) -> Self {
        let (socket, machine) = (machine.reach(path), machine.clone());
        Self { socket, path: path.to_owned(), machine, lends: false }
    }

    /// The socket at `path`, where this process runs.
    pub fn here(path: &Path) -> Self {
        // Of a VM that is a process, all is here.
        Self::new(&Channel::Process.machine(PathBuf::new()), path)
    }

    /// The same, where the agent lends to clients: they get what the application of `guest-agent run --zero-copy` gets.
    pub(crate) fn lending(self) -> Self {
        Self { lends: true, ..self }
    }

    /// Whether its agent lends to clients.
    pub fn lends(&self) -> bool {
        self.lends
    }

    /// What runs `client` where the socket is, as a client of it. Its XDG_RUNTIME_DIR is the socket's folder unless it
    /// has one of its own.
    pub fn command(&self, mut client: Command) -> Command {
        if !client.get_envs().any(|(name, _)| name == "XDG_RUNTIME_DIR") {
            client.env("XDG_RUNTIME_DIR", self.path.parent().expect("a socket lies somewhere"));
        }
        client.env("WAYLAND_DISPLAY", &self.path);
        if self.lends {
            let mut lender = self.path.clone().into_os_string();
            lender.push(".lend");
            let mut preload = interposer().into_os_string();
            if let Some((_, Some(before))) =
                client.get_envs().find(|(name, _)| *name == "LD_PRELOAD")
            {
                preload.push(":");
                preload.push(before);
            }
            client.env("LD_PRELOAD", preload);
            client.env("WLPROXY_LEND_DISPLAY", &self.path).env("WLPROXY_LEND_SOCKET", lender);
        }
        self.machine.inside(client)
    }
}
