//! What processes use of memory and processors.
//!
//! With AddressSanitizer in them nobody can tell of memory, as it keeps what they have freed: then it is none.

use crate::sanitizer::IS_ON;
use std::fs;
use std::time::Duration;

/// Of the clock in which the kernel counts that, in a second (`USER_HZ`).
const TICKS: u64 = 100;

/// Memory of a process, in bytes: its own, and its share of memory that it has in common with others (Linux, `Pss_Anon`
/// and `Pss_Shmem` of `smaps_rollup`). 0 if it is gone.
///
/// Not that of its program's files: its share of that changes with who else runs the same program.
pub fn footprint(id: u32) -> u64 {
    if IS_ON {
        return 0;
    }
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let kib = |line: &str| {
        let rest = ["Pss_Anon:", "Pss_Shmem:"].iter().find_map(|name| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(kib).sum::<u64>() << 10
}

/// Memory of a process that is its own, in bytes.
///
/// # Panics
/// If it doesn't run.
pub fn anonymous(id: u32) -> usize {
    if IS_ON {
        return 0;
    }
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it is there");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("kB") << 10
}

/// Time that a process has run so far, on all processors (`utime` and `stime` of proc_pid_stat(5)); none if it is gone.
pub fn cpu(id: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Its name, the second field, may have spaces and brackets.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Whether any thread of a process has something to do, whatever else the processors do.
pub(crate) fn is_at_work(id: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    // Running, or in the middle of reading from a disk.
    stats.any(|text| text.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['R', 'D'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::until;
    use std::process::{Command, Stdio};

    #[test]
    fn who_waits_is_not_at_work() {
        assert!(is_at_work(std::process::id()));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        until("one that waits", || (!is_at_work(child.id())).then_some(()));
        child.kill().expect("it lives");
        child.wait().expect("it is ours");
    }

    #[test]
    fn who_runs_has_used_time() {
        let before = cpu(std::process::id());
        while cpu(std::process::id()) == before {
            std::hint::spin_loop();
        }
        assert_eq!(cpu(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn it_grows_with_what_is_used() {
        const SIZE: usize = 8 << 20;
        let id = std::process::id();
        let before = footprint(id);
        let used = vec![1u8; SIZE];
        let grown = footprint(id).saturating_sub(before);
        assert!(grown > SIZE as u64 / 2, "{grown} bytes for {}", used.len());
        assert_eq!(footprint(u32::MAX), 0);
    }
}
