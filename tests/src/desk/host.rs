//! What the host's wlproxy says, and is told.

use super::Desk;
use crate::binaries::binary;
use crate::process::output;
use crate::sanitizer;
use crate::wait::{PATIENCE, until};
use serde_json::Value;
use std::os::unix::net::UnixStream;
use std::process::Command;

impl Desk {
    /// One number of a VM from `wlproxy status`, such as "requests".
    pub fn status(&self, vm: &str, key: &str) -> u64 {
        let status = self.whole_status();
        status["vms"][vm][key].as_u64().unwrap_or_else(|| panic!("no {key} of {vm} in {status}"))
    }

    /// Clients that wait for the compositor VM.
    pub fn pending(&self) -> u64 {
        self.whole_status()["pending"].as_u64().expect("a number")
    }

    /// All of `wlproxy status --json`.
    ///
    /// Waits until wlproxy listens: it may have been started a moment ago.
    pub fn whole_status(&self) -> Value {
        let socket = self.path("host/control.sock");
        until("wlproxy's control socket", || UnixStream::connect(&socket).ok());
        let mut command = self.wlproxy(&["status", "--json"]);
        serde_json::from_slice(&output(&mut command, PATIENCE)).expect("JSON")
    }

    /// Another wlproxy, which asks the one that runs.
    pub fn wlproxy(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(binary("wlproxy"));
        command.args(arguments).arg("--config").arg(self.config());
        command
    }

    /// Writes other policies into the configuration, of which wlproxy isn't told.
    pub fn rewrite_config(&mut self, policies: &'static [(&'static str, &'static str)]) {
        self.plan.policies = policies;
        self.write_config();
    }

    /// `wlproxy reload`, which has to succeed; what it says.
    pub fn reload(&self) -> String {
        let said = output(&mut self.wlproxy(&["reload"]), PATIENCE);
        String::from_utf8(said).expect("text")
    }

    /// What our programs have warned of so far, or called an error.
    pub fn complaints(&self) -> Vec<String> {
        let agents = self.vms.values().map(|vm| &vm.process);
        let processes = agents.chain([&self.serve, &self.proxy].into_iter().flatten());
        let complains = |line: &&str| ["WARN", "ERROR"].iter().any(|word| line.contains(word));
        processes
            .flat_map(|process| {
                let log = process.log();
                let lines = log.lines().filter(complains).filter(|line| !sanitizer::is_meant(line));
                lines.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }
}
