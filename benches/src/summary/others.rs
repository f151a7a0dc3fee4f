//! What isn't frames of one client.

use super::figures::{bytes, speed, three, time};
use super::frames::{COMPARED, compared, lane};
use super::table::Table;
use super::times;
use crate::path::Path;
use crate::report::{
    Beaten, Clients, Company, Connects, Floods, Lane, Memories, Roundtrips, Throughputs,
};
use crate::resident::is_host;
use crate::talk::{Beside, Flood};
use std::fmt::Write as _;

/// Lanes beside each other.
fn comparison(lanes: &[Lane]) -> String {
    let mut table = Table::new(&[&COMPARED[..], &["CPU", "count"]].concat());
    for lane in lanes {
        let mut row = compared(lane, lanes);
        row.push(if lane.path == lane.path.direct() {
            String::new()
        } else {
            time(lane.between_ns)
        });
        row.push(lane.timing.count.to_string());
        table.row(row);
    }
    table.render()
}

pub(super) fn roundtrips(report: &Roundtrips) -> String {
    let mut text = "## wl_display.sync\n\n".to_owned();
    for (pace, lanes) in &report.paces {
        let _ = writeln!(text, "### {pace}\n");
        text += &comparison(lanes);
    }
    text
}

pub(super) fn connects(report: &Connects) -> String {
    "## From connect(2) to the first global\n\n".to_owned() + &comparison(&report.lanes)
}

impl Clients {
    /// How many times the median beside nobody that beside `beside` is.
    pub(crate) fn growth(&self, path: Path, beside: Beside) -> Option<f64> {
        let median = |beside| {
            let of_path = self.lanes.iter().filter(|found| found.lane.path == path);
            let found = of_path.into_iter().find(|found| found.beside == beside)?;
            Some(found.lane.timing.median as f64)
        };
        Some(median(beside)? / median(Beside::Idle(0))?)
    }
}

pub(super) fn clients(report: &Clients) -> String {
    let mut text =
        "## One client's frames (1280x720, 64x64 damage, paced) beside others\n\n".to_owned();
    let mut table = Table::new(&["path", "<beside", "median", "p95", "p99", "to nobody", "frames"]);
    for Company { beside, lane } in &report.lanes {
        table.row([
            lane.path.to_string(),
            match beside {
                Beside::Idle(0) => "nobody".to_owned(),
                Beside::Idle(count) => format!("{count} idle"),
                Beside::Flood => "a flood".to_owned(),
            },
            time(lane.timing.median as f64),
            time(lane.timing.p95 as f64),
            time(lane.timing.p99 as f64),
            report.growth(lane.path, *beside).map(|growth| times(growth, 1.0)).unwrap_or_default(),
            lane.timing.count.to_string(),
        ]);
    }
    text += &table.render();
    text
}

impl Floods {
    /// How many times the median beside nobody that beside a flood is.
    pub(crate) fn growth(&self, path: Path, flood: Flood) -> Option<f64> {
        let median = |flood| {
            let is_it = |found: &&Beaten| found.lane.path == path && found.flood == flood;
            Some(self.lanes.iter().find(is_it)?.lane.timing.median as f64)
        };
        Some(median(Some(flood))? / median(None)?)
    }
}

pub(super) fn floods(report: &Floods) -> String {
    let mut text = "## wl_display.sync, paced, while another VM floods\n\n".to_owned();
    text += "`flood/s`: how many of what it floods with that VM gets rid of. Directly, it is another client of the \
             compositor's own.\n\n";
    let mut table =
        Table::new(&["path", "<flood of", "median", "p95", "p99", "to none", "flood/s", "count"]);
    for Beaten { flood, rate, lane } in &report.lanes {
        let growth = flood.and_then(|flood| report.growth(lane.path, flood));
        table.row([
            lane.path.to_string(),
            flood.map_or("none".to_owned(), |flood| flood.to_string()),
            time(lane.timing.median as f64),
            time(lane.timing.p95 as f64),
            time(lane.timing.p99 as f64),
            growth.map(|growth| times(growth, 1.0)).unwrap_or_default(),
            flood.map(|_| three(*rate)).unwrap_or_default(),
            lane.timing.count.to_string(),
        ]);
    }
    text += &table.render();
    text
}

pub(super) fn throughputs(report: &Throughputs) -> String {
    let mut text = "## Throughput\n\n".to_owned();
    let mut table = Table::new(&["path", "requests/s", "events/s", "paste"]);
    let all = [&report.requests, &report.events, &report.pastes];
    let paths = Path::ALL.into_iter();
    for path in paths.filter(|&path| all.iter().any(|lanes| lane(lanes, path).is_some())) {
        let each = |lanes: &[Lane], count: f64| {
            let median = lane(lanes, path)?.timing.median.max(1) as f64;
            Some(count / median * 1e9)
        };
        let messages = f64::from(report.messages);
        let thousands = |rate: Option<f64>| {
            rate.map(|rate| format!("{} k", three(rate / 1e3))).unwrap_or_default()
        };
        table.row([
            path.to_string(),
            thousands(each(&report.requests, messages)),
            thousands(each(&report.events, messages)),
            each(&report.pastes, report.bytes as f64).map(speed).unwrap_or_default(),
        ]);
    }
    text += &table.render();
    text
}

impl Memories {
    /// Bytes on the host for each client.
    pub(crate) fn on_host(&self, path: Path) -> Option<f64> {
        let memory = self.paths.iter().find(|memory| memory.path == path)?;
        let host = memory.each.iter().filter(|(role, _)| is_host(role));
        Some(host.map(|(_, resident)| resident.pss).sum())
    }
}

pub(super) fn memories(report: &Memories) -> String {
    let mut text = "## Resident memory for each idle client\n\n".to_owned();
    let mut table = Table::new(&["path", "<process", "proportional", "private", "clients"]);
    for memory in &report.paths {
        for (role, resident) in &memory.each {
            table.row([
                memory.path.to_string(),
                role.clone(),
                bytes(resident.pss),
                bytes(resident.private),
                memory.clients.to_string(),
            ]);
        }
        let (pss, private) = memory.each.values().fold((0.0, 0.0), |(pss, private), resident| {
            (pss + resident.pss, private + resident.private)
        });
        table.row([memory.path.to_string(), "all".to_owned(), bytes(pss), bytes(private)]);
    }
    text += &table.render();
    text
}
