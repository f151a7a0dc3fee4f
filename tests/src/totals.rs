//! What a desk holds, whoever holds it: for comparing before and after processes were killed and started again.

use crate::leak::Count;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Numbers by the names of processes, which stay when their ids change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    processes: BTreeMap<String, usize>,
    fds: BTreeMap<(String, String), usize>,
    mappings: BTreeMap<String, usize>,
    files: Vec<PathBuf>,
    memfds: usize,
}

impl Totals {
    /// Adds up a count.
    pub fn of(count: &Count) -> Self {
        let mut totals = Self {
            files: count.files.iter().cloned().collect(),
            memfds: count.memfds.len(),
            ..Self::default()
        };
        let name = |id: &u32| count.processes.get(id).cloned().unwrap_or_default();
        for id in count.processes.keys() {
            *totals.processes.entry(name(id)).or_default() += 1;
        }
        for ((id, kind), number) in &count.fds {
            // Who is started again may have another log.
            let kind = if kind.ends_with(".log") { "log" } else { kind };
            *totals.fds.entry((name(id), kind.to_owned())).or_default() += number;
        }
        for (id, number) in &count.mappings {
            *totals.mappings.entry(name(id)).or_default() += number;
        }
        totals
    }

    /// What there is in `self` beyond `baseline`; empty if nothing is left over.
    pub fn beyond(&self, baseline: &Self) -> Vec<String> {
        let mut found =
            more(&self.processes, &baseline.processes, |name| format!("processes called {name}"));
        found.extend(more(&self.fds, &baseline.fds, |(name, kind)| {
            format!("fds of kind {kind} in {name}")
        }));
        found
            .extend(more(&self.mappings, &baseline.mappings, |name| format!("mappings in {name}")));
        let new = self.files.iter().filter(|file| !baseline.files.contains(file));
        found.extend(new.map(|file| format!("file {}", file.display())));
        if self.memfds > baseline.memfds {
            found.push(format!("{} -> {} memfds", baseline.memfds, self.memfds));
        }
        found
    }
}

fn more<K: Ord>(
    now: &BTreeMap<K, usize>,
    before: &BTreeMap<K, usize>,
    what: impl Fn(&K) -> String,
) -> Vec<String> {
    let grown = now.iter().filter_map(|(key, &now)| {
        let before = before.get(key).copied().unwrap_or_default();
        (now > before).then(|| format!("{before} -> {now} {}", what(key)))
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(id: u32, sockets: usize) -> Count {
        let mut count = Count::default();
        count.processes.insert(id, "agent".to_owned());
        count.fds.insert((id, "socket".to_owned()), sockets);
        count
    }

    #[test]
    fn another_process_of_the_same_name_is_the_same() {
        let before = Totals::of(&count(1, 3));
        assert_eq!(Totals::of(&count(2, 3)).beyond(&before), [""; 0]);
        let found = Totals::of(&count(2, 4)).beyond(&before);
        assert_eq!(found, ["3 -> 4 fds of kind socket in agent"]);
    }

    #[test]
    fn one_process_more_is_found() {
        let before = Totals::of(&count(1, 3));
        let mut both = count(1, 2);
        both.processes.insert(2, "agent".to_owned());
        assert_eq!(Totals::of(&both).beyond(&before), ["1 -> 2 processes called agent"]);
    }
}
