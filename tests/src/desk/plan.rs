//! What a desk consists of, and what wlproxy is told of it.

use crate::Kind;
use std::fmt::Write as _;
use std::path::Path;

/// How a client reaches the compositor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It connects to the compositor's own socket.
    Direct,
    /// It runs in the client VM "work".
    Through,
}

/// What a desk consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The compositor.
    pub compositor: Kind,
    /// Client VMs; without any there is no wlproxy either.
    pub vms: &'static [&'static str],
    /// Those of them whose agents lend to clients.
    pub lending: &'static [&'static str],
    /// Client VMs without an agent: each connection to their sockets on the host is a client.
    pub dialling: &'static [&'static str],
    /// Privileged globals that the clients of every VM are offered. Then no policy has a table of globals of its own.
    pub allow: &'static [&'static str],
    /// What stands in the configuration of a VM besides: its name, and lines of its table or of tables in that.
    pub policies: &'static [(&'static str, &'static str)],
    /// Whether the compositor stands in a VM of its own, or on the host.
    pub compositor_vm: bool,
    /// More arguments of `guest-agent serve`.
    pub serve: &'static [&'static str],
    /// `isolation` in the config, if it is to be there.
    pub isolation: Option<&'static str>,
    /// Whether the compositor logs every message.
    pub debug: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            compositor: Kind::Sway,
            vms: &["work"],
            lending: &[],
            dialling: &[],
            allow: &[],
            policies: &[],
            compositor_vm: true,
            serve: &[],
            isolation: None,
            debug: false,
        }
    }
}

impl Plan {
    /// Whether clients of other VMs are brought to the compositor, or come to it by themselves.
    pub(super) fn has_serve(&self) -> bool {
        self.compositor_vm && !self.compositor.is_linked()
    }

    /// wlproxy's configuration, with its sockets in `host`, and where the compositor's own one is.
    pub(super) fn config(&self, host: &Path, compositor: &Path) -> String {
        let mut text = format!("runtime_dir = {host:?}\n");
        if let Some(isolation) = self.isolation {
            let _ = writeln!(text, "isolation = {isolation:?}");
        }
        text += "[compositor]\n";
        let _ = match self.compositor_vm {
            true => writeln!(text, "vm = \"gui\"\n[vm.gui]\n{}", self.policy("gui")),
            false => writeln!(text, "socket = {compositor:?}"),
        };
        for vm in self.vms {
            let _ = writeln!(text, "[vm.{vm}]");
            self.write_policy(vm, &mut text);
        }
        for vm in self.dialling {
            let _ = writeln!(text, "[vm.{vm}]\ndevice = \"socket\"");
            self.write_policy(vm, &mut text);
        }
        text
    }

    fn policy(&self, vm: &str) -> &str {
        self.policies.iter().find(|(name, _)| *name == vm).map_or("", |(_, lines)| lines)
    }

    fn write_policy(&self, vm: &str, text: &mut String) {
        *text += &format!("{}\n", self.policy(vm));
        if !self.allow.is_empty() {
            let _ = writeln!(text, "[vm.{vm}.globals]\nallow = {:?}", self.allow);
        }
    }
}
