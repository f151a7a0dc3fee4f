//! The processes below this one.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;

/// A process that runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    pub(crate) group: Pid,
    pub(crate) name: String,
}

impl Process {
    /// Reads `/proc/PID/stat`: `pid (name) state ppid pgrp ...`, where the name may hold anything. None if it is dead.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let id = |text: &str| text.parse().ok().map(Pid::from_raw);
        let (pid, parent, group) = (id(pid)?, id(fields.next()?)?, id(fields.next()?)?);
        Some(Self { pid, parent, group, name: name.to_owned() })
    }
}

/// All running processes that this one is an ancestor of.
///
/// When this process is a subreaper, none gets away: who loses its parent becomes this process's child.
pub(crate) fn descendants() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others: Vec<Process> = entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .filter_map(|stat| Process::parse(&String::from_utf8_lossy(&stat)))
        .collect();
    let mut family = HashSet::from([Pid::this()]);
    let mut found = Vec::new();
    loop {
        let (below, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|process| family.contains(&process.parent));
        if below.is_empty() {
            return found;
        }
        family.extend(below.iter().map(|process| process.pid));
        found.extend(below);
        others = rest;
    }
}

/// Takes the exit statuses of all children that ended.
pub(crate) fn reap() {
    while matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    ) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let process = Process::parse("12 (a) b (c) S 7 5 12 0").unwrap();
        assert_eq!(
            (process.pid.as_raw(), process.parent.as_raw(), process.group.as_raw()),
            (12, 7, 5)
        );
        assert_eq!(process.name, "a) b (c");
    }

    #[test]
    fn the_dead_and_the_unreadable_do_not_run() {
        for stat in ["13 (x) Z 7 5 0", "", "13 (x", "13 (x) S", "x (x) S 1 1 1"] {
            assert_eq!(Process::parse(stat), None, "{stat}");
        }
    }
}
