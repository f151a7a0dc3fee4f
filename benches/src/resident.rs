//! How much memory processes hold.

use crate::cpu;
use crate::route::Route;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// Memory of processes, in bytes (Linux, `smaps_rollup`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Resident {
    /// Resident, with a fair share of what others have mapped too.
    pub pss: f64,
    /// Resident, and nobody else's.
    pub private: f64,
}

impl Resident {
    /// Of one process. Nothing if it is gone.
    fn of(process: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let sum = |keys: &[&str]| {
            let of_key = |line: &str| {
                let (key, value) = line.split_once(':')?;
                keys.contains(&key).then(|| value.split_whitespace().next()?.parse::<f64>().ok())?
            };
            text.lines().filter_map(of_key).sum::<f64>() * 1024.0
        };
        Self { pss: sum(&["Pss"]), private: sum(&["Private_Clean", "Private_Dirty"]) }
    }

    /// By how much this is more than it was, for each of `count`.
    pub fn more_than(self, before: Self, count: u32) -> Self {
        let each = |now: f64, before: f64| (now - before) / f64::from(count.max(1));
        Self { pss: each(self.pss, before.pss), private: each(self.private, before.private) }
    }
}

/// What processes are there for, and what those hold together.
pub type Roles = BTreeMap<String, Resident>;

/// The processes between client and sink, by what they are there for.
pub fn roles(route: &mut Route) -> Roles {
    let mut roles = Roles::new();
    for process in route.between() {
        let resident = Resident::of(process);
        let role = roles.entry(role(process)).or_default();
        role.pss += resident.pss;
        role.private += resident.private;
    }
    roles
}

/// What a process is there for, by its command line: `wlproxy worker --vm work`, `guest-agent run`, `waypipe`.
fn role(process: u32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let name = words.first().map_or("", |program| program.rsplit('/').next().unwrap_or_default());
    let vm = words.iter().skip_while(|word| *word != "--vm").nth(1);
    match (name, words.get(1).map(AsRef::as_ref), vm) {
        ("wlproxy", Some("worker"), Some(vm)) => format!("worker {vm}"),
        ("wlproxy", ..) => name.to_owned(),
        ("guest-agent", Some(part), _) => part.to_owned(),
        _ => cpu::name(process),
    }
}

/// Whether who does this is on the host, not in a VM.
pub fn is_host(role: &str) -> bool {
    role == "wlproxy" || role.starts_with("worker ")
}

/// Bytes, for criterion.
#[derive(Debug, Clone, Copy)]
pub struct Bytes;

impl Measurement for Bytes {
    type Intermediate = ();
    type Value = f64;

    fn start(&self) {}

    fn end(&self, (): ()) -> f64 {
        0.0
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Bytes {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|value| *value /= 1024.0);
        "KiB"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, _: &mut [f64]) -> &'static str {
        "?"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "bytes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_used_is_seen() {
        const SIZE: usize = 8 << 20;
        let own = std::process::id();
        let before = Resident::of(own);
        let used = vec![1u8; SIZE];
        let more = Resident::of(own).more_than(before, 2);
        let expected = SIZE as f64 / 2.0;
        assert!(more.pss > expected / 2.0 && more.private > expected / 2.0, "{more:?}");
        assert_eq!(used.len(), SIZE);
        assert_eq!(Resident::of(u32::MAX), Resident::default());
    }

    #[test]
    fn the_host_is_told_from_the_vms() {
        let hosts = ["wlproxy", "worker work", "run", "serve", "waypipe"].map(is_host);
        assert_eq!(hosts, [true, true, false, false, false]);
    }
}
