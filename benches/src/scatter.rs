//! Where processes run: undone before each turn, so that no path keeps the place that it was lucky or unlucky to get.
//!
//! Who is woken up by whom decides where a process runs, and then it stays there: two that share a processor hand over in
//! a few microseconds, two that don't in tens, and the next run has it the other way round. So before each turn all
//! processes of a path are sent to processors by chance, run there once, and may then run where they like.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use wlproxy_tests::Dice;

/// Sends threads to processors.
#[derive(Debug)]
pub(crate) struct Scatter {
    /// Those that we may use.
    allowed: CpuSet,
    processors: Vec<usize>,
    dice: Dice,
}

impl Scatter {
    /// Over all processors that this process may use.
    pub(crate) fn new() -> nix::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let processors =
            (0..CpuSet::count()).filter(|&at| allowed.is_set(at).unwrap_or(false)).collect();
        Ok(Self { allowed, processors, dice: Dice::new(2) })
    }

    /// Lets each thread of `processes` run on one processor only.
    pub(crate) fn pin(&mut self, processes: &[u32]) {
        for thread in threads(processes) {
            let mut one = CpuSet::new();
            let at = self.dice.roll(self.processors.len() as u32).unsigned_abs() as usize;
            if one.set(self.processors[at]).is_ok() {
                // It may be gone.
                let _ = sched_setaffinity(thread, &one);
            }
        }
    }

    /// Lets them run anywhere again.
    pub(crate) fn release(&self, processes: &[u32]) {
        for thread in threads(processes) {
            let _ = sched_setaffinity(thread, &self.allowed);
        }
    }
}

fn threads(processes: &[u32]) -> impl Iterator<Item = Pid> {
    let of = |process: &u32| fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let id = |name: std::ffi::OsString| name.to_str()?.parse().ok().map(Pid::from_raw);
    processes.iter().flat_map(of).flatten().filter_map(move |entry| id(entry.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_pinned_is_let_go() {
        let own = [std::process::id()];
        let mut scatter = Scatter::new().unwrap();
        let allowed =
            |set: CpuSet| (0..CpuSet::count()).filter(|&at| set.is_set(at).unwrap()).count();
        let before = allowed(sched_getaffinity(Pid::from_raw(0)).unwrap());
        scatter.pin(&own);
        let pinned = allowed(sched_getaffinity(Pid::from_raw(0)).unwrap());
        scatter.release(&own);
        let after = allowed(sched_getaffinity(Pid::from_raw(0)).unwrap());
        assert_eq!((pinned, after), (1, before));
    }
}
