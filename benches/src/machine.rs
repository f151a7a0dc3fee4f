//! What it was measured on: enough to judge the numbers by, and nothing that tells whose machine it is.

use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// A machine, and how busy it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that may be used.
    pub cores: usize,
    /// The model, as the processor says.
    pub processor: String,
    /// Memory, in bytes.
    pub memory: u64,
    /// Linux' version: numbers alone, since who builds it often names the machine.
    pub kernel: String,
    /// Load of the last minute, before anything was measured.
    pub load: f64,
}

impl Machine {
    /// This one, now.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let load = read("/proc/loadavg");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            memory: kib << 10,
            kernel: numbers(&read("/proc/sys/kernel/osrelease")),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// The numbers that a kernel's release begins with.
fn numbers(release: &str) -> String {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    release[..end].trim_end_matches('.').to_owned()
}

/// The date in UTC, as YYYY-MM-DD.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / (24 * 60 * 60))
}

/// The date so many days after 1970-01-01.
///
/// By eras of 400 years, all of which are alike, that begin on the first of March: so the leap day is a year's last.
fn date(days: u64) -> String {
    const ERA: u64 = 146_097;
    // 1970-01-01 is that many days after 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (10_956, "1999-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_665, "2026-07-31"),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn a_release_keeps_its_numbers_alone() {
        assert_eq!(numbers("6.1.0-18-amd64\n"), "6.1.0");
        assert_eq!(numbers("6.12"), "6.12");
        assert_eq!(numbers(""), "");
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory > 0 && machine.kernel.contains('.'));
    }
}
