//! How much processor time processes have used.

use std::collections::HashSet;
use std::fs;

/// Processor time of a process and all its threads that run, in nanoseconds (Linux, the first number of `schedstat`).
/// 0 if it is gone.
pub(crate) fn used(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// `roots` and all that they have started and that still runs, but not `strangers` and theirs.
pub(crate) fn family(roots: &[u32], strangers: &[u32]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            Some((process, parent(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .filter(|(process, _)| !strangers.contains(process))
        .collect();
    let mut family: HashSet<u32> = roots.iter().copied().collect();
    loop {
        let before = family.len();
        others.retain(|(process, parent)| {
            let is_child = family.contains(parent);
            if is_child {
                family.insert(*process);
            }
            !is_child
        });
        if family.len() == before {
            let mut family: Vec<u32> = family.into_iter().collect();
            family.sort_unstable();
            return family;
        }
    }
}

/// What a process calls itself. Empty if it is gone.
pub(crate) fn name(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The parent in `/proc/PID/stat`: `pid (name) state ppid ...`, where the name may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_may_hold_anything() {
        assert_eq!(parent("12 (a) b (c) S 7 5 12 0"), Some(7));
        assert_eq!(parent("12 (a"), None);
    }

    #[test]
    fn who_works_uses_time() {
        let own = std::process::id();
        let before = used(own);
        let mut number = 1u64;
        for _ in 0..10_000_000 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(used(own) > before, "no time for {number}");
        assert_eq!(used(u32::MAX), 0);
    }

    #[test]
    fn grandchildren_are_family_and_strangers_are_not() {
        // The shell has a child that says when it is there, and both end with the pipe, which `&` would take away.
        let mut shell = Command::new("sh")
            .args(["-c", "exec 3<&0; sh -c 'echo up; cat <&3' & wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut heard = [0; 3];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut heard).unwrap();
        let all = family(&[shell.id()], &[]);
        assert!(all.len() >= 2 && all.contains(&shell.id()), "{all:?}");
        let child = *all.iter().find(|&&id| id != shell.id()).unwrap();
        assert!(!family(&[shell.id()], &[child]).contains(&child));
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
