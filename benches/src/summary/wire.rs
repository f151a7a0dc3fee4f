//! What criterion has kept of the benchmark `wire`.

use super::figures::{speed, time};
use super::table::Table;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// How fast something without I/O is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    name: String,
    /// In nanoseconds.
    median: f64,
    /// Bytes that are worked on in that time, if it works on bytes.
    bytes: Option<f64>,
}

/// All that there is in criterion's folder, by name.
pub(super) fn rates(criterion: &Path) -> Vec<Rate> {
    let entries = fs::read_dir(criterion.join("wire")).into_iter().flatten().flatten();
    let mut rates: Vec<Rate> = entries.filter_map(|entry| rate(&entry.path())).collect();
    rates.sort_by(|a, b| a.name.cmp(&b.name));
    rates
}

fn rate(folder: &Path) -> Option<Rate> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&fs::read(folder.join("new").join(name)).ok()?).ok()
    };
    Some(Rate {
        name: folder.file_name()?.to_str()?.to_owned(),
        median: read("estimates.json")?["median"]["point_estimate"].as_f64()?,
        bytes: read("benchmark.json").and_then(|found| found["throughput"]["Bytes"].as_f64()),
    })
}

pub(super) fn section(rates: &[Rate]) -> String {
    if rates.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["what", "time", "speed"]);
    for Rate { name, median, bytes } in rates {
        let speed = bytes.map(|bytes| speed(bytes / median * 1e9)).unwrap_or_default();
        table.row([name.clone(), time(*median), speed]);
    }
    "## Codec and check, without I/O\n\n".to_owned() + &table.render()
}
