//! What is held for VMs, and has to be given back.

use super::super::lab::{Lab, Vm};
use crate::family;
use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use std::fmt;
use std::fs;

/// By how much a VM's free memory may differ, in KiB: its kernel keeps what it has read, and frees it late.
const SLACK: i64 = 48 << 10;

/// What one VM has, on the host and in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Of {
    vm: Vm,
    /// Its worker: the process, its fds, and how many of those are memory.
    worker: (i64, usize, usize),
    /// Its monitor: fds, and mapped files that are memory.
    monitor: (usize, usize),
    /// Bytes: of its allocations, and of its window that are mapped.
    bytes: (u64, u64),
    /// fds of its agents.
    agents: usize,
    /// Its memory that is free, in KiB.
    free: i64,
}

/// What is held for all VMs.
#[derive(Debug, Clone)]
pub(super) struct Holdings(Vec<Of>);

impl Holdings {
    /// What is held now. All workers have to be there.
    pub(super) fn of(lab: &mut Lab) -> Result<Self> {
        let status = lab.status()?;
        Vm::ALL
            .into_iter()
            .map(|vm| {
                let of = &status["vms"][vm.name()];
                let worker = of["pid"].as_i64().with_context(|| format!("{vm} has no worker"))?;
                let monitor = monitor(vm)?;
                let bytes = |name: &str| of[name].as_u64().context("no such number");
                Ok(Of {
                    vm,
                    worker: (worker, fds(worker, |_| true)?, fds(worker, is_memory)?),
                    monitor: (fds(monitor, |_| true)?, mappings(monitor)?),
                    bytes: (bytes("allocation_bytes")?, bytes("window_bytes")?),
                    agents: lab.text(vm, 0, AGENTS_FDS)?.parse()?,
                    free: lab.text(vm, 0, FREE)?.parse()?,
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// How many more pieces of memory the monitor of any VM has mapped than before.
    pub(super) fn more_mappings(&self, before: &Self) -> usize {
        let pairs = self.0.iter().zip(&before.0);
        pairs.map(|(now, before)| now.monitor.1.saturating_sub(before.monitor.1)).max().unwrap_or(0)
    }

    /// Whether nothing more is held for these VMs than before. It may be less: agents keep memory for the next application.
    fn is_within(&self, before: &Self, vms: &[Vm]) -> bool {
        self.0.iter().zip(&before.0).filter(|(now, _)| vms.contains(&now.vm)).all(
            |(now, before)| {
                now.worker.0 == before.worker.0
                    && now.worker.1 <= before.worker.1
                    && now.worker.2 <= before.worker.2
                    && now.monitor.0 <= before.monitor.0
                    && now.monitor.1 <= before.monitor.1
                    && now.bytes.0 <= before.bytes.0
                    && now.bytes.1 <= before.bytes.1
                    && now.agents <= before.agents
                    && now.free >= before.free - SLACK
            },
        )
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Of { vm, worker, monitor, bytes, agents, free } in &self.0 {
            let (pid, fds, memory) = worker;
            writeln!(
                f,
                "{vm}: worker {pid} {fds} fds, {memory} of memory; monitor {} fds, {} mappings of memory; {} bytes \
                 allocated, {} in the window; agents {agents} fds; {free} KiB free",
                monitor.0, monitor.1, bytes.0, bytes.1
            )?;
        }
        Ok(())
    }
}

/// Waits until nothing more is held for these VMs than before, and tells what is. All workers have to be the same.
pub(super) fn wait_for(lab: &mut Lab, before: &Holdings, vms: &[Vm]) -> Result<()> {
    let mut last = String::new();
    let back = lab.until("end of what is held", |lab| {
        let now = Holdings::of(lab)?;
        last = now.to_string();
        for (now, before) in now.0.iter().zip(&before.0) {
            ensure!(now.worker.0 == before.worker.0, "{} has another worker", now.vm);
        }
        Ok(now.is_within(before, vms).then_some(()))
    });
    back.with_context(|| format!("before:\n{before}and now:\n{last}"))?;
    last.lines().for_each(|line| lab.note(line));
    Ok(())
}

/// In a VM: how many fds its agents have.
const AGENTS_FDS: &str =
    "for pid in $(busybox pidof guest-agent); do ls /proc/$pid/fd; done | wc -l";

/// In a VM: how much memory could be had, in KiB, after it has given back what it kept for later.
const FREE: &str = "sync; echo 3 >/proc/sys/vm/drop_caches; \
    while read -r name number unit; do [ $name != MemAvailable: ] || echo $number; done </proc/meminfo";

/// The process of a VM's monitor.
fn monitor(vm: Vm) -> Result<i64> {
    let is_of = |pid: Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        words.any(|word| word == b"-name") && words.next() == Some(vm.name().as_bytes())
    };
    let monitor = family::descendants().into_iter().find(|process| is_of(process.pid));
    Ok(monitor.with_context(|| format!("{vm} has no monitor"))?.pid.as_raw().into())
}

/// How many fds a process has that are such.
fn fds(pid: i64, such: impl Fn(&str) -> bool) -> Result<usize> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("can't read {folder}"))?;
    // One that is closed meanwhile doesn't count.
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|link| such(&link.to_string_lossy())).count())
}

fn is_memory(path: &str) -> bool {
    path.starts_with("/memfd:")
}

/// How many pieces of memory a process has mapped.
fn mappings(pid: i64) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok(maps.lines().filter(|line| line.contains("/memfd:")).count())
}
