//! `WAYLAND_DISPLAY` for what the VM's user manager starts: launchers, services, and what D-Bus has it start.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where a user manager listens for `systemctl --user`, in XDG_RUNTIME_DIR (systemd, `src/basic/constants.h`).
const USER_MANAGER: &str = "systemd/private";

/// The user manager's `WAYLAND_DISPLAY`. It is set and unset by `systemctl`, of which one at a time runs; its end is
/// announced by SIGCHLD.
#[derive(Debug)]
pub(crate) struct Export {
    /// `WAYLAND_DISPLAY=` and the socket.
    assignment: OsString,
    running: Option<Child>,
}

impl Export {
    /// Sets the variable, if there is a user manager. Doesn't wait for it.
    pub(crate) fn start(display: &Path) -> Option<Self> {
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR")?;
        if !Path::new(&runtime_dir).join(USER_MANAGER).exists() {
            tracing::debug!("no user manager in XDG_RUNTIME_DIR is to be told of WAYLAND_DISPLAY");
            return None;
        }
        let mut assignment = OsString::from("WAYLAND_DISPLAY=");
        assignment.push(display);
        let mut export = Self { assignment, running: None };
        export.run("set-environment");
        Some(export)
    }

    /// Unsets the variable, unless somebody has given it another value since: so systemctl(1) does if it is told the
    /// value. To be called when [`Export::is_busy`] isn't true any more.
    pub(crate) fn unset(&mut self) {
        self.run("unset-environment");
    }

    fn run(&mut self, verb: &str) {
        let mut command = Command::new("systemctl");
        command.args(["--user", verb]).arg(&self.assignment);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => warn(&format!("systemctl can't be started ({error})")),
        }
    }

    /// Whether a command runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// A child has ended; perhaps the command.
    pub(crate) fn child_ended(&mut self) {
        let Some(child) = &mut self.running else { return };
        match child.try_wait() {
            Ok(None) => return,
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => warn(&format!("systemctl --user ended with {status}")),
            Err(error) => warn(&format!("systemctl can't be waited for ({error})")),
        }
        self.running = None;
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            warn("systemctl --user took too long");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn warn(cause: &str) {
    tracing::warn!(
        "the user manager's WAYLAND_DISPLAY isn't changed: {cause}; do so by `systemctl --user set-environment` or \
         `unset-environment`, or run this with --no-export"
    );
}
