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

/// Where `/proc/PID/stat` tells how many threads there are, counted from the state: the 20th field, and the state is the
/// 3rd (proc(5)).
const THREADS: usize = 20 - 3;

impl Process {
    /// Reads `/proc/PID/stat`: `pid (name) state ppid pgrp ...`, where the name may hold anything. None if it is dead:
    /// with all of its threads, since what it had open is open as long as one of them is not.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        if matches!(*fields.first()?, "Z" | "X") {
            fields.get(THREADS)?.parse().ok().filter(|&threads: &u32| threads > 1)?;
        }
        let id = |text: &str| text.parse().ok().map(Pid::from_raw);
        let (pid, parent, group) = (id(pid)?, id(fields.get(1)?)?, id(fields.get(2)?)?);
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

    #[test]
    fn who_has_a_thread_left_runs() {
        let stat = |threads| format!("13 (x) Z 7 5 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0");
        assert_eq!(Process::parse(&stat(1)), None);
        assert!(Process::parse(&stat(2)).is_some());
    }
}
