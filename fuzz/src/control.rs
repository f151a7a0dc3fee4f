//! What wlproxy is asked, and what its workers tell it: each takes exactly what is documented, and shows no more than
//! it may.

use crate::input::Input;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use wlproxy::ask::{self, Ask};
use wlproxy::config::Compositor;
use wlproxy::control::{HostControl, Order, Received, Request, WorkerControl, pair};
use wlproxy::counters::Snapshot;
use wlproxy::metrics;
use wlproxy::status::{CompositorStatus, Status, VmStatus};

/// Parts of documents and requests, of which most belong somewhere.
const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u0000",
    "-1",
    "18446744073709551615",
    "1e3",
    "null",
    "true",
    "{\"ask\":\"status\"}\n",
    "{\"ask\":\"trace\",\"vm\":\"work\",\"connection\":3}\n",
    "\"vm\"",
    "\n",
    "{\"open\":{\"ticket\":7,\"target\":\"default\"}}",
    "{\"open\":{\"ticket\":7,\"target\":{\"channel\":65536}}}",
    "{\"open\":{\"ticket\":7,\"target\":{\"accepted\":\"MDEyMzQ1Njc4OWFiY2RlZg\"}}}",
    "{\"connected\":true}",
    "{\"stats\":",
    "\"trace_taken\"",
    "\"shutdown\"",
    "{\"refused\":{\"ticket\":1,\"error\":\"limit\"}}",
    "{\"opened\":{\"ticket\":1,\"role\":{\"link\":{\"connection\":1}}}}",
    "{\"trace\":{\"connection\":1}}",
    "GET /metrics HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\n",
    "\r\n",
    "\r\n\r\n",
    " ",
];

/// Most fds of one packet that are tried.
const FDS: usize = 4;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, fds) = (input.below(4), if input.one_in(4) { input.below(FDS + 1) } else { 0 });
    let bytes = document(&mut input);
    match kind {
        0 => question(&bytes),
        1 => scrape(&bytes),
        2 => packet(&bytes, fds),
        _ => {
            if let Some(Request::Stats(snapshot)) = told::<Request>(&bytes) {
                show(*snapshot);
            }
            told::<Order>(&bytes);
        }
    }
}

fn document(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.is_empty() {
        match input.below(PARTS.len() + 4) {
            part if part < PARTS.len() => bytes.extend(PARTS[part].bytes()),
            part if part == PARTS.len() => bytes.extend(snapshot(input)),
            part if part == PARTS.len() + 1 => {
                bytes.extend(input.rest());
                break;
            }
            _ => bytes.extend(input.bytes(12)),
        }
    }
    bytes
}

/// A worker's numbers, some of which are others than they should be.
fn snapshot(input: &mut Input<'_>) -> Vec<u8> {
    let text = serde_json::to_string(&Snapshot::default()).expect("keys are strings");
    let replaced = text.replacen(":0", &format!(":{}", input.number()), input.below(16));
    replaced.into_bytes()
}

fn question(bytes: &[u8]) {
    match Ask::parse(bytes) {
        None => assert!(!bytes.contains(&b'\n'), "a whole question isn't answered"),
        Some(Ok(ask)) => assert_eq!(Ask::parse(&ask::line(&ask)), Some(Ok(ask))),
        Some(Err(refusal)) => {
            let (last, line) = refusal.split_last().expect("there is an answer");
            assert!(*last == b'\n' && !line.contains(&b'\n'), "an answer is one line");
            serde_json::from_slice::<ask::Refusal>(line).expect("it is a document");
        }
    }
}

fn scrape(bytes: &[u8]) {
    let answer = metrics::answer(bytes, || status(Snapshot::default()));
    let whole = |end: &[u8]| bytes.windows(end.len()).any(|window| window == end);
    assert_eq!(answer.is_some(), whole(b"\n\r\n") || whole(b"\n\n"));
    let Some(answer) = answer else { return };
    let text = String::from_utf8(answer).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("headers end");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
}

/// A message that is taken is the same when it is said again.
fn told<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(bytes).ok()?;
    let again = serde_json::to_vec(&message).expect("keys are strings");
    assert_eq!(serde_json::from_slice::<T>(&again).expect("it is one"), message);
    Some(message)
}

fn status(counters: Snapshot) -> Status {
    let vm = VmStatus {
        side: "client".to_owned(),
        socket: PathBuf::from("/run/work.sock"),
        connected: true,
        pid: None,
        restarts: 0,
        quota: None,
        vm_quota: None,
        events_kib: None,
        counters,
    };
    let compositor = CompositorStatus::new(&Compositor::Vm("gui".to_owned()), true);
    Status::new(compositor, 0, BTreeMap::from([("work".to_owned(), vm)]))
}

/// What wlproxy would show of a worker's numbers.
fn show(snapshot: Snapshot) {
    if !snapshot.is_within_limits() {
        return;
    }
    let status = status(snapshot);
    let line = ask::line(&status);
    assert_eq!(serde_json::from_slice::<Status>(&line).expect("it is a status"), status);
    for line in metrics::text(&status).lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a name and a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}: no number"));
    }
}

/// A packet from a worker, with so many fds: nothing of it stays open that wasn't taken.
fn packet(bytes: &[u8], fds: usize) {
    let (host, worker): (HostControl, WorkerControl) = pair().expect("a pair of sockets");
    let null = File::open("/dev/null").expect("it is always there");
    let rights = vec![null.as_raw_fd(); fds];
    let control = [ControlMessage::ScmRights(&rights)];
    let control = if fds == 0 { &[][..] } else { &control[..] };
    let slices = [IoSlice::new(bytes)];
    let socket = worker.as_fd().as_raw_fd();
    if sendmsg::<()>(socket, &slices, control, MsgFlags::MSG_DONTWAIT, None).is_err() {
        return;
    }
    match host.receive() {
        Ok(Received::Message(request, fd)) => {
            assert!(fds <= 1 && fd.is_some() == (fds == 1), "{request:?} with {fds} fds");
            assert_eq!(serde_json::from_slice::<Request>(bytes).expect("it is one"), request);
        }
        Ok(Received::Eof) => {
            assert!(bytes.is_empty() && fds <= 1, "{} bytes, {fds} fds", bytes.len())
        }
        Ok(Received::WouldBlock) => panic!("a packet is lost"),
        Ok(Received::Lost(request)) => panic!("there is room for the fd of {request:?}"),
        Err(_) => {}
    }
}
