//! The document as tables for people, at most 100 columns wide.

use super::{CompositorStatus, Status, VmStatus};
use crate::bucket::Rate;
use crate::counters::{ConnectionSnapshot, ReportedSnapshot};
use crate::histogram::Durations;
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As many connections are shown without being asked for: a screenful, with the rest.
const FEW: usize = 12;

/// Longest name of a VM that is shown whole, in bytes: with this the widest table has 100 columns.
const MAX_NAME: usize = 16;

/// Which connections get a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// None, if there are more than some.
    Few,
    /// All that the document has.
    All,
}

/// The document as tables.
pub fn table(document: &str, connections: Connections) -> Result<String> {
    let status: Status =
        serde_json::from_str(document).context("wlproxy speaks another version")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = headline(&status);
    text.push('\n');
    text.push_str(&vms(&status));
    let paragraphs = [
        quotas(&status),
        haste(&status),
        queues(&status),
        hops(&status),
        told(&status),
        links(&status, connections, now),
        trouble(&status),
    ];
    for paragraph in paragraphs {
        if !paragraph.is_empty() {
            let _ = write!(text, "\n{paragraph}");
        }
    }
    Ok(text)
}

/// Where the compositor is, and who waits for it.
pub(crate) fn headline(status: &Status) -> String {
    let CompositorStatus { vm, socket, ready } = &status.compositor;
    let compositor = match (vm, socket) {
        (Some(vm), _) if *ready => format!("compositor VM {vm}: takes clients"),
        (Some(vm), _) => format!("compositor VM {vm}: doesn't take clients yet"),
        (None, socket) => {
            format!("compositor: {}", socket.as_deref().unwrap_or(Path::new("?")).display())
        }
    };
    format!("{compositor}\nclients waiting: {}\n", status.pending)
}

fn vms(status: &Status) -> String {
    let head = [
        "VM",
        "side",
        "connected",
        "contexts",
        "objects",
        "requests",
        "events",
        "commits",
        "allocated",
    ];
    let rows = status.vms.iter().map(|(name, vm)| {
        let c = &vm.counters;
        let connected = if vm.connected { "yes" } else { "no" };
        let mut row = vec![short(name), vm.side.clone(), connected.to_owned()];
        row.extend([c.contexts, c.objects, c.requests, c.events, c.commits].map(count));
        row.push(bytes(c.allocation_bytes));
        row
    });
    render(&head, 3, rows)
}

/// What client VMs have of what they may have.
fn quotas(status: &Status) -> String {
    let rows = status.vms.iter().filter_map(|(name, vm)| {
        let (quota, c) = (vm.vm_quota?, &vm.counters);
        let of = |used: String, most: String| format!("{used} of {most}");
        Some(vec![
            short(name),
            of(count(c.contexts), count(quota.connections.into())),
            format!("{}/s", count(quota.connections_per_second.into())),
            of(count(c.vfds), count(quota.vfds.into())),
            of(bytes(c.allocation_bytes), bytes(quota.memory())),
        ])
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["VM's quota", "connections", "new", "vfds", "memory"];
    render(&head, 1, rows.into_iter())
}

/// What client VMs send of what they may, all clients of one and whichever sends most: now, and at most since the worker
/// started.
fn haste(status: &Status) -> String {
    let rows = status.vms.iter().filter_map(|(name, vm)| {
        let (quota, c) = (vm.vm_quota?, &vm.counters);
        let most = c.connections.iter().map(|one| one.messages).max().unwrap_or(0);
        let of = |now, Rate { per_second, burst }: Rate| {
            let [now, burst, speed] = [now, burst.into(), per_second.into()].map(count);
            format!("{now} of {burst}, {speed}/s")
        };
        let speed = quota.speed();
        Some(vec![
            short(name),
            of(c.messages, speed.all),
            count(c.most_messages),
            of(most, speed.each),
            count(c.most_client_messages),
        ])
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    render(&["messages", "all clients", "ever", "one client", "ever"], 1, rows.into_iter())
}

/// What waits for who doesn't read, of one connection, of what may: now, and at most since the worker started. What waits for
/// the compositor VM itself is no more than what is read at once.
fn queues(status: &Status) -> String {
    let rows = status.vms.iter().filter_map(|(name, vm)| {
        let c = &vm.counters;
        let now = |waiting: fn(&ConnectionSnapshot) -> u64| {
            c.connections.iter().map(waiting).max().unwrap_or(0)
        };
        let (sending, receiving) = (now(|one| one.sending_bytes), now(|one| one.receiving_bytes));
        let of = |now, most: u64| format!("{} of {}", bytes(now), bytes(most));
        let kib = |most: u32| u64::from(most) << 10;
        Some(match (vm.vm_quota, vm.events_kib) {
            (Some(quota), _) => vec![
                short(name),
                of(sending, kib(quota.requests_kib)),
                bytes(c.most_sending_bytes),
                of(receiving, kib(quota.events_kib)),
                bytes(c.most_receiving_bytes),
            ],
            (None, Some(events)) => vec![
                short(name),
                bytes(receiving),
                bytes(c.most_receiving_bytes),
                of(sending, kib(events)),
                bytes(c.most_sending_bytes),
            ],
            (None, None) => return None,
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["waits at the most", "requests", "ever", "events", "ever"];
    render(&head, 1, rows.into_iter())
}

/// How long commits take.
fn hops(status: &Status) -> String {
    let rows: Vec<_> = status.vms.iter().filter_map(|(name, vm)| hop(name, vm)).collect();
    if rows.is_empty() {
        return String::new();
    }
    render(&["hop of a commit", "measured", "median", "95 %", "99 %"], 1, rows.into_iter())
}

fn hop(name: &str, vm: &VmStatus) -> Option<Vec<String>> {
    let (how, durations) = hop_of(vm)?;
    let mut row = vec![format!("{how} {}", short(name)), count(durations.count())];
    row.extend([50, 95, 99].map(|percent| micros(durations.percentile(percent))));
    Some(row)
}

/// The hop through a VM's worker, if commits have taken it.
pub(crate) fn hop_of(vm: &VmStatus) -> Option<(&'static str, &Durations)> {
    let hops = [("in: from", &vm.counters.commit_in), ("out: to", &vm.counters.commit_out)];
    hops.into_iter().find(|(_, durations)| durations.count() > 0)
}

/// What client VMs tell of themselves, if they do.
fn told(status: &Status) -> String {
    let rows = reported(status).map(|(name, told)| {
        let mut row = vec![short(name)];
        row.extend([told.agents, told.frames].map(count));
        row.extend([told.damaged_bytes, told.copied_bytes].map(bytes));
        row
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    render(&["told by the VM", "agents", "frames", "damaged", "copied"], 1, rows.into_iter())
}

/// The VMs that have told something of themselves, and what.
pub(crate) fn reported(status: &Status) -> impl Iterator<Item = (&str, &ReportedSnapshot)> {
    let all = status.vms.iter().map(|(name, vm)| (name.as_str(), &vm.counters.reported));
    all.filter(|(_, told)| **told != ReportedSnapshot::default())
}

/// Each client's connection, with what waits for it at the compositor VM's end too.
fn links(status: &Status, shown: Connections, now: Duration) -> String {
    let (all, more) = clients(status);
    let unlisted = |more| format!("connections not listed: {more}\n");
    if shown == Connections::Few && all.len() > FEW {
        let all = more.saturating_add(all.len() as u64);
        return format!("connections: {all}; `--connections` shows them\n");
    }
    if all.is_empty() {
        return if more > 0 { unlisted(more) } else { String::new() };
    }
    let head =
        ["VM", "connection", "age", "objects", "requests", "events", "commits", "vfds", "waiting"];
    let rows = all.iter().map(|(name, one, waiting)| {
        let mut row = vec![short(name), one.connection.to_string(), age(one, now)];
        row.extend([one.objects, one.requests, one.events, one.commits, one.vfds].map(count));
        row.push(bytes(*waiting));
        row
    });
    let mut text = render(&head, 1, rows);
    if more > 0 {
        text.push_str(&unlisted(more));
    }
    text
}

/// The connections of all client VMs, with the bytes that wait at either end; and how many the document leaves out.
pub(crate) fn clients(status: &Status) -> (Vec<(&str, &ConnectionSnapshot, u64)>, u64) {
    let (mut all, mut more) = (Vec::new(), 0u64);
    let compositor = status.compositor.vm.as_ref().and_then(|name| status.vms.get(name));
    let other_ends = compositor.map_or(&[][..], |vm| &vm.counters.connections);
    for (name, vm) in &status.vms {
        if status.compositor.vm.as_ref() == Some(name) {
            continue;
        }
        more = more.saturating_add(vm.counters.more_connections);
        for one in &vm.counters.connections {
            let other = other_ends.iter().find(|other| other.connection == one.connection);
            let waiting = waiting(one).saturating_add(other.map_or(0, waiting));
            all.push((name.as_str(), one, waiting));
        }
    }
    (all, more)
}

fn waiting(one: &ConnectionSnapshot) -> u64 {
    one.sending_bytes.saturating_add(one.receiving_bytes)
}

/// A line for each VM with which something was wrong.
fn trouble(status: &Status) -> String {
    let mut text = String::new();
    for (name, vm) in &status.vms {
        let violations = vm.counters.violations;
        if violations > 0 {
            let _ = writeln!(text, "{name}: {violations} clients ended for violations");
        }
        let (refused, pauses) = (vm.counters.contexts_refused, vm.counters.pauses);
        if refused > 0 {
            let _ = writeln!(text, "{name}: {refused} clients too many");
        }
        if pauses > 0 {
            let _ = writeln!(text, "{name}: {pauses} pauses of hasty clients");
        }
        if vm.restarts > 0 {
            let _ = writeln!(text, "{name}: its worker died {} times", vm.restarts);
        }
    }
    text
}

/// Lays out rows under a header: so many columns of words, to the left, then numbers, to the right.
fn render(head: &[&str], words: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if at < words {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A VM's name, cut to its column.
pub(crate) fn short(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let cut: String = name.chars().take(MAX_NAME - 1).collect();
    format!("{cut}…")
}

/// A number for people, of at most seven characters unless it is absurd.
pub(crate) fn count(n: u64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M")];
    match units.into_iter().find(|&(unit, _)| n >= unit) {
        Some((unit, letter)) => format!("{:.1}{letter}", n as f64 / unit as f64),
        None => n.to_string(),
    }
}

/// A size for people: three digits or so.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

/// A bound of a histogram for people.
pub(crate) fn micros(bound: Option<u64>) -> String {
    match bound {
        None => "-".to_owned(),
        Some(u64::MAX) => "longer".to_owned(),
        Some(us) if us < 1000 => format!("{us} us"),
        Some(us) if us < 1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        Some(us) => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// How long a connection has been there.
pub(crate) fn age(one: &ConnectionSnapshot, now: Duration) -> String {
    let seconds = now.as_secs().saturating_sub(one.since);
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, ..) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compositor;
    use crate::counters::Snapshot;
    use crate::device::Side;
    use crate::quota::vm::VmQuota;
    use crate::status::side_name;

    fn connection(connection: u64, sending_bytes: u64) -> ConnectionSnapshot {
        ConnectionSnapshot { connection, sending_bytes, requests: 77, ..Default::default() }
    }

    fn vm(side: Side, counters: Snapshot) -> VmStatus {
        VmStatus::of_test(side_name(side), counters)
    }

    fn quota() -> VmQuota {
        VmQuota { client_messages_per_second: 1000, ..VmQuota::default() }
    }

    fn status() -> Status {
        let durations = |bucket: usize| {
            let mut buckets = vec![0; bucket + 1];
            buckets[bucket] = 5;
            Durations { buckets, total_us: 1 }
        };
        let gui = Snapshot {
            commit_out: durations(9),
            connections: vec![connection(3, 1 << 19)],
            ..Default::default()
        };
        let work = Snapshot {
            allocation_bytes: 3 << 19,
            requests: u64::MAX,
            violations: 2,
            contexts_refused: 5,
            pauses: 6,
            messages: 70,
            most_messages: 80,
            most_client_messages: 60,
            most_sending_bytes: 3 << 19,
            most_receiving_bytes: 3 << 10,
            commit_in: durations(8),
            connections: vec![
                connection(3, 1 << 20),
                ConnectionSnapshot { messages: 50, ..connection(4, 0) },
            ],
            reported: ReportedSnapshot {
                agents: 2,
                frames: 1234,
                damaged_bytes: 3 << 30,
                copied_bytes: 5 << 19,
            },
            ..Default::default()
        };
        let compositor = CompositorStatus::new(&Compositor::Vm("gui".to_owned()), false);
        let vms = [
            ("gui".to_owned(), VmStatus { events_kib: Some(512), ..vm(Side::Compositor, gui) }),
            (
                "w".repeat(64),
                VmStatus { restarts: 4, vm_quota: Some(quota()), ..vm(Side::Client, work) },
            ),
        ];
        Status::new(compositor, 3, vms.into())
    }

    fn shown(status: &Status, connections: Connections) -> String {
        table(&serde_json::to_string(status).unwrap(), connections).unwrap()
    }

    #[test]
    fn the_table_shows_what_a_person_asks_for() {
        let text = shown(&status(), Connections::Few);
        for needle in [
            "compositor VM gui: doesn't",
            "waiting: 3",
            "1.5 MiB",
            "yes",
            "in: from wwwwwwwwwwwwwww…         5   24 us",
            "out: to gui",
            "told by the VM    agents  frames  damaged   copied",
            "w…       2    1234  3.0 GiB  2.5 MiB",
            "2 clients ended for violations",
            ": 5 clients too many",
            ": 6 pauses of hasty clients",
            "VM's quota        connections     new       vfds              memory",
            "w…    0 of 1024  1000/s  0 of 4096  1.5 MiB of 8.0 GiB",
            "messages                    all clients  ever          one client  ever",
            "w…  70 of 40000, 400000/s    80  50 of 1000, 1000/s    60",
            "waits at the most            requests     ever                  events     ever",
            "gui                               0 B      0 B  512.0 KiB of 512.0 KiB      0 B",
            "w…   1.0 MiB of 1.0 MiB  1.5 MiB        0 B of 256.0 KiB  3.0 KiB",
            "its worker died 4 times",
        ] {
            assert!(text.contains(needle), "{needle} is missing:\n{text}");
        }
        let row = text.lines().find(|line| line.contains("  3  ") && line.contains("77")).unwrap();
        assert!(row.ends_with("  1.5 MiB"), "what waits at both ends: {row}");
        assert!(table("{}", Connections::All).is_err());
    }

    #[test]
    fn a_hundred_columns_are_enough() {
        let mut status = status();
        let full = 999_999_999;
        for vm in status.vms.values_mut() {
            let c = &mut vm.counters;
            (c.contexts, c.objects, c.requests, c.events, c.commits) =
                (9999, full, full, full, full);
            c.allocation_bytes = 1023 << 30;
            let absurd = u64::MAX;
            c.reported = ReportedSnapshot {
                agents: absurd,
                frames: absurd,
                damaged_bytes: absurd,
                copied_bytes: absurd,
            };
            for one in &mut c.connections {
                (one.objects, one.requests, one.events, one.commits) = (65_536, full, full, full);
                (one.connection, one.sending_bytes) = (full, 1 << 20);
            }
        }
        let text = shown(&status, Connections::All);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest} columns:\n{text}");
    }

    #[test]
    fn many_connections_are_shown_when_they_are_asked_for() {
        let mut status = status();
        let work = &mut status.vms.values_mut().last().unwrap().counters;
        work.connections = (0..FEW as u64 + 1).map(|number| connection(number, 0)).collect();
        work.more_connections = 5;
        let few = shown(&status, Connections::Few);
        assert!(few.contains("connections: 18; `--connections`"), "{few}");
        let all = shown(&status, Connections::All);
        assert_eq!(all.lines().filter(|line| line.contains("  77  ")).count(), FEW + 1);
        assert!(all.contains("connections not listed: 5"), "{all}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 999_999, 1_000_000, 2_500_000_000].map(count),
            ["0", "999999", "1.0M", "2.5G"]
        );
        let bounds = [None, Some(24), Some(1536), Some(2_000_000), Some(u64::MAX)];
        assert_eq!(bounds.map(micros), ["-", "24 us", "1.5 ms", "2.0 s", "longer"]);
        let age = |seconds| age(&connection(1, 0), Duration::from_secs(seconds));
        assert_eq!([5, 65, 3700, 90_000].map(age), ["5s", "1m05s", "1h01m", "1d01h"]);
    }
}
