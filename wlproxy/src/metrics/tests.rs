use super::*;
use crate::config::Compositor;
use crate::counters::{ConnectionSnapshot, ReportedSnapshot, Snapshot};
use crate::status::CompositorStatus;
use std::collections::{BTreeMap, HashMap};

fn status() -> Status {
    let connection =
        ConnectionSnapshot { sending_bytes: 5, receiving_bytes: 6, ..Default::default() };
    let counters = Snapshot {
        requests: 12,
        reported: ReportedSnapshot { agents: 1, frames: 2, damaged_bytes: 3, copied_bytes: 4 },
        commit_in: Durations { buckets: vec![1, 0, 2], total_us: 1_500_000 },
        connections: vec![connection; 2],
        ..Default::default()
    };
    let vm = |connected, counters| VmStatus {
        connected,
        pid: None,
        restarts: 3,
        ..VmStatus::of_test("client", counters)
    };
    let compositor = CompositorStatus::new(&Compositor::Socket("/c".into()), true);
    let vms = [
        ("work".to_owned(), vm(true, counters)),
        ("\"odd\\\n".to_owned(), vm(false, Snapshot::default())),
    ];
    Status::new(compositor, 4, vms.into())
}

/// The text as a parser sees it: samples by name and labels, and the types. Panics where the format is broken.
#[derive(Default)]
struct Parsed {
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
    types: HashMap<String, String>,
}

fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(valid)
}

/// Takes `name="value",...}` apart; returns what stands behind it.
fn labels(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name:?}");
        let (mut value, mut chars) = (String::new(), rest.chars());
        loop {
            match chars.next().expect("the end of a value") {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("an escaped {c:?}"),
                }),
                c => value.push(c),
            }
        }
        labels.push((name.to_owned(), value));
        match chars.next().unwrap() {
            ',' => text = chars.as_str(),
            '}' => return (labels, chars.as_str()),
            c => panic!("{c:?} after a value"),
        }
    }
}

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut helped = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').unwrap().0.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            let before = parsed.types.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} twice");
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(end);
            assert!(is_name(name), "{name:?}");
            let (labels, rest) = match rest.strip_prefix('{') {
                Some(rest) => labels(rest),
                None => (Vec::new(), rest),
            };
            let of = helped.as_str();
            assert!(
                name.strip_prefix(of).is_some_and(|end| {
                    let ends: &[_] = match parsed.types[of].as_str() {
                        "histogram" => &["_bucket", "_sum", "_count"],
                        _ => &[""],
                    };
                    ends.contains(&end)
                }),
                "{name} under {of}"
            );
            let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
            let before = parsed.samples.insert((name.to_owned(), labels), value);
            assert_eq!(before, None, "{line} twice");
        }
    }
    parsed
}

#[test]
fn the_format_holds_and_the_numbers_are_there() {
    let parsed = parse(&text(&status()));
    let value = |name: &str, vm: &str| {
        parsed.samples[&(name.to_owned(), vec![("vm".to_owned(), vm.to_owned())])]
    };
    assert_eq!(value("wlproxy_requests_total", "work"), 12.0);
    assert_eq!(value("wlproxy_waiting_bytes", "work"), 22.0);
    assert_eq!(value("wlproxy_vm_reporting_agents", "work"), 1.0);
    assert_eq!(value("wlproxy_vm_reported_frames_total", "work"), 2.0);
    assert_eq!(value("wlproxy_vm_reported_damaged_bytes_total", "work"), 3.0);
    assert_eq!(value("wlproxy_vm_reported_copied_bytes_total", "work"), 4.0);
    assert_eq!(value("wlproxy_worker_restarts_total", "\"odd\\\n"), 3.0);
    assert_eq!(value("wlproxy_vm_connected", "work"), 1.0);
    assert_eq!(parsed.samples[&("wlproxy_clients_waiting".to_owned(), Vec::new())], 4.0);
    for (name, kind) in &parsed.types {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
    assert_eq!(value("wlproxy_commit_in_seconds_count", "work"), 3.0);
    assert_eq!(value("wlproxy_commit_in_seconds_sum", "work"), 1.5);
}

#[test]
fn buckets_are_cumulative_and_end_at_infinity() {
    let parsed = parse(&text(&status()));
    let mut buckets: Vec<(f64, f64)> = parsed
        .samples
        .iter()
        .filter(|((name, _), _)| name == "wlproxy_commit_in_seconds_bucket")
        .map(|((_, labels), &value)| (labels[1].1.parse().unwrap(), value))
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(buckets.len(), BOUNDS.len() + 1);
    assert_eq!(buckets[..4], [(1e-6, 1.0), (2e-6, 1.0), (3e-6, 3.0), (4e-6, 3.0)]);
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 3.0)));
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1));
    assert!(!parsed.samples.keys().any(|(name, _)| name.starts_with("wlproxy_commit_out")));
}

#[test]
fn the_answer_tells_its_type_and_length() {
    assert!(answer(b"GET / HTTP/1.1\r\n", || unreachable!("not whole")).is_none());
    let answer = answer(b"GET / HTTP/1.1\r\n\r\n", status).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(body, text(&status()));
}
