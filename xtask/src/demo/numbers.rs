//! The numbers of a demo: what wlproxy and the agents counted.

use super::scene::{self, WLPROXY, agent_name};
use crate::failure::Blame;
use crate::table;
use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

/// What one VM's agent wrote.
#[derive(Debug, Clone)]
pub(crate) struct AgentStats {
    pub(crate) vm: &'static str,
    pub(crate) stats: Value,
}

/// The numbers of one client VM.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    vm: String,
    connections: u64,
    requests: u64,
    events: u64,
    /// What wlproxy counted of `frames`.
    commits: u64,
    frames: u64,
    damaged_bytes: u64,
    copied_bytes: u64,
    vfds: u64,
    allocation_bytes: u64,
}

/// The numbers of all.
#[derive(Debug)]
pub(crate) struct Numbers {
    status: Value,
    agents: Vec<AgentStats>,
    rows: Vec<Row>,
}

impl Numbers {
    /// Puts together what `wlproxy status --json` and the agents say. Everything that the table shows must be there.
    pub(crate) fn new(status: Value, agents: &[AgentStats]) -> Result<Self> {
        let mut rows = Vec::new();
        for vm in scene::CLIENT_VMS {
            let agent = agents.iter().find(|agent| agent.vm == vm.name);
            let stats = &agent.with_context(|| format!("no numbers of {}", vm.name))?.stats;
            rows.push(Row::new(vm.name, &status["vms"][vm.name], stats)?);
        }
        Ok(Self { status, agents: agents.to_vec(), rows })
    }

    /// Who lags behind: a VM of which wlproxy tells fewer frames than its agent had counted before.
    pub(crate) fn lagging(&self) -> Option<String> {
        let row = self.rows.iter().find(|row| row.commits < row.frames)?;
        Some(format!("{} of {} frames of {}", row.commits, row.frames, row.vm))
    }

    /// Checks that each VM had its connections, and that frames passed.
    pub(crate) fn check(&self, connections: u64) -> Result<()> {
        for row in &self.rows {
            let Row { vm, connections: opened, .. } = row;
            let agent = agent_name(vm);
            if *opened < connections {
                return Err(anyhow!("{vm} has {opened} connections, not {connections}"))
                    .context(Blame::on(&[&agent, WLPROXY]));
            }
            for (part, name, value) in [
                (WLPROXY, "requests", row.requests),
                (WLPROXY, "events", row.events),
                (&agent, "frames", row.frames),
                (&agent, "copied bytes", row.copied_bytes),
                (WLPROXY, "vfds", row.vfds),
                (WLPROXY, "bytes of allocations", row.allocation_bytes),
            ] {
                if value == 0 {
                    return Err(anyhow!("windows of {vm} are shown, but no {name} were counted"))
                        .context(Blame::on(&[part]));
                }
            }
        }
        Ok(())
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let header = [
            "VM",
            "connections",
            "requests",
            "events",
            "frames",
            "damaged",
            "copied",
            "vfds",
            "allocations",
        ];
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        table::render(&header, &rows)
    }

    /// Everything for programs.
    pub(crate) fn json(&self) -> Value {
        let agents: serde_json::Map<String, Value> =
            self.agents.iter().map(|agent| (agent.vm.to_owned(), agent.stats.clone())).collect();
        let table: serde_json::Map<String, Value> =
            self.rows.iter().map(|row| (row.vm.clone(), row.json())).collect();
        json!({ "table": table, "wlproxy": self.status, "agents": agents })
    }
}

impl Row {
    fn new(vm: &str, host: &Value, agent: &Value) -> Result<Self> {
        let number = |part: &str, value: &Value, name: &str| {
            value[name]
                .as_u64()
                .with_context(|| format!("its numbers of {vm} don't tell `{name}`"))
                .with_context(|| Blame::on(&[part]))
        };
        let host_says = |name| number(WLPROXY, host, name);
        let agent_says = |name| number(&agent_name(vm), agent, name);
        Ok(Self {
            vm: vm.to_owned(),
            connections: host_says("contexts_opened")?,
            requests: host_says("requests")?,
            events: host_says("events")?,
            commits: host_says("commits")?,
            frames: agent_says("frames")?,
            damaged_bytes: agent_says("damaged_bytes")?,
            copied_bytes: agent_says("copied_bytes")?,
            vfds: host_says("vfds")?,
            allocation_bytes: host_says("allocation_bytes")?,
        })
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.vm.clone(),
            self.connections.to_string(),
            self.requests.to_string(),
            self.events.to_string(),
            self.frames.to_string(),
            table::bytes(self.damaged_bytes),
            table::bytes(self.copied_bytes),
            self.vfds.to_string(),
            table::bytes(self.allocation_bytes),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "requests": self.requests,
            "events": self.events,
            "frames": self.frames,
            "damaged_bytes": self.damaged_bytes,
            "copied_bytes": self.copied_bytes,
            "vfds": self.vfds,
            "allocation_bytes": self.allocation_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Value {
        json!({
            "contexts_opened": 3, "requests": 40, "events": 30, "commits": 5, "vfds": 9,
            "allocation_bytes": 8192,
        })
    }

    fn agents() -> Vec<AgentStats> {
        let stats = json!({"frames": 5, "damaged_bytes": 2048, "copied_bytes": 1024});
        scene::CLIENT_VMS.map(|vm| AgentStats { vm: vm.name, stats: stats.clone() }).into()
    }

    #[test]
    fn numbers_of_both_sides_meet_in_one_row() {
        let status = json!({"vms": {"work": host(), "untrusted": host()}});
        let numbers = Numbers::new(status, &agents()).unwrap();
        numbers.check(3).unwrap();
        assert!(numbers.check(4).is_err());
        assert_eq!(
            numbers.table().lines().nth(1).unwrap(),
            "work                 3        40      30       5  2.0 KiB  1.0 KiB     9      8.0 KiB"
        );
        assert_eq!(numbers.json()["table"]["untrusted"]["frames"], 5);
        assert_eq!(numbers.json()["agents"]["work"]["copied_bytes"], 1024);
    }

    #[test]
    fn a_number_that_is_missing_is_named() {
        let mut silent = host();
        silent.as_object_mut().unwrap().remove("events");
        let status = json!({"vms": {"work": host(), "untrusted": silent}});
        let error = Numbers::new(status, &agents()).unwrap_err();
        assert_eq!(format!("{error:#}"), "wlproxy: its numbers of untrusted don't tell `events`");
    }

    #[test]
    fn old_numbers_are_noticed() {
        let mut old = host();
        old["commits"] = 4.into();
        let status = json!({"vms": {"work": host(), "untrusted": old}});
        let numbers = Numbers::new(status, &agents()).unwrap();
        assert_eq!(numbers.lagging().as_deref(), Some("4 of 5 frames of untrusted"));
        let status = json!({"vms": {"work": host(), "untrusted": host()}});
        assert_eq!(Numbers::new(status, &agents()).unwrap().lagging(), None);
    }

    #[test]
    fn windows_without_frames_are_noticed() {
        let mut idle = host();
        idle["requests"] = 0.into();
        let status = json!({"vms": {"work": idle, "untrusted": host()}});
        let error = Numbers::new(status, &agents()).unwrap().check(3).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "wlproxy: windows of work are shown, but no requests were counted"
        );
    }
}
