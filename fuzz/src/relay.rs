//! A link: what comes out was let in, in order, with its fds; and how the streams are cut changes nothing.

use crate::input::Input;
use crate::wayland::Known;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::ops::Range;
use wlproxy::policy::Policy;
use wlproxy::relay::{Relay, Tally, Violation};
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::{
    Arg, Batch, Message, WL_DISPLAY, WL_DISPLAY_DELETE_ID, tables, wire,
};

/// Most fds beside one delivery: more than may wait, now and then.
const MOST_FDS: usize = 255;

/// `wl_registry`'s events.
const GLOBAL: u16 = 0;
const GLOBAL_REMOVE: u16 = 1;

/// One direction: what was said, and what came out of it.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    fds: u32,
    out: Batch<u32>,
}

/// A link twice: one gets what is said whole, the other in pieces.
struct Links {
    whole: Relay<u32>,
    cut: Relay<u32>,
    cut_out: Batch<u32>,
    requests: Stream,
    events: Stream,
    tally: Tally,
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut known = Known::default();
    let mut links = Links {
        whole: Relay::new(&Policy::unchanging()),
        cut: Relay::new(&Policy::unchanging()),
        cut_out: Batch::default(),
        requests: Stream::default(),
        events: Stream::default(),
        tally: Tally::default(),
    };
    links.whole.set_traced(input.one_in(4));
    while !input.is_empty() {
        let is_request = input.one_in(2);
        let (bytes, fds) = said(&mut input, &mut known, is_request);
        if let Err(violation) = links.deliver(&mut input, is_request, &bytes, fds) {
            links.end(&violation);
            break;
        }
    }
    links.check();
}

/// Some messages and their fds, or nearly so.
fn said(input: &mut Input<'_>, known: &mut Known, is_request: bool) -> (Vec<u8>, usize) {
    let (mut bytes, mut fds) = (Vec::new(), 0);
    for _ in 0..=input.below(4) {
        let made = known.message(input, is_request);
        bytes.extend(made.bytes);
        fds += made.fds;
    }
    match input.byte() {
        240..245 => fds = input.below(MOST_FDS + 1),
        245..248 => bytes.extend(input.bytes(40)),
        248..250 => bytes.truncate(input.below(256).min(bytes.len())),
        250 => fds = fds.saturating_sub(1),
        _ => {}
    }
    (bytes, fds)
}

impl Links {
    fn deliver(
        &mut self,
        input: &mut Input<'_>,
        is_request: bool,
        bytes: &[u8],
        fds: usize,
    ) -> Result<(), Violation> {
        let stream = if is_request { &mut self.requests } else { &mut self.events };
        let numbers = stream.fds..stream.fds + fds as u32;
        stream.bytes.extend(bytes);
        stream.fds = numbers.end;
        let before = (stream.out.bytes.len(), stream.out.fds.len());
        let result = pass(&mut self.whole, is_request, bytes, numbers.clone(), &mut stream.out);
        let mut numbers = Some(numbers);
        let mut cut_result = Ok(());
        self.cut_out = Batch::default();
        for piece in input.pieces(bytes) {
            // As on a socket: they come with the first byte.
            let fds = numbers.take().unwrap_or(0..0);
            cut_result = pass(&mut self.cut, is_request, piece, fds, &mut self.cut_out);
            if cut_result.is_err() {
                break;
            }
        }
        assert_eq!(cut_result, result, "it matters how the stream is cut");
        assert_eq!(self.cut_out.bytes, stream.out.bytes[before.0..]);
        assert_eq!(self.cut_out.fds, stream.out.fds[before.1..]);
        assert_eq!(self.cut.objects(), self.whole.objects());
        let (a, b) = (self.whole.take_tally(), self.cut.take_tally());
        assert_eq!(a, b);
        self.tally.requests += a.requests;
        self.tally.events += a.events;
        let lines = self.whole.take_lines();
        assert!(!self.whole.is_traced() || lines.len() as u64 == a.requests + a.events);
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
        result
    }

    /// The client can be told why.
    fn end(&self, violation: &Violation) {
        let event = violation.to_event();
        let mut rest = &event[..];
        assert!(wire::split(&mut rest, MAX_EVENT).expect("a size").is_some() && rest.is_empty());
    }

    fn check(&self) {
        let Self { requests, events, .. } = self;
        assert!(requests.bytes.starts_with(&requests.out.bytes), "requests are changed");
        let passed = messages(&requests.out.bytes, MAX_REQUEST);
        assert_eq!(passed.len() as u64, self.tally.requests);
        for stream in [requests, events] {
            let count = stream.out.fds.len() as u32;
            assert!(count <= stream.fds && stream.out.fds.iter().copied().eq(0..count), "fds");
        }
        let passed = self.tally.events as usize;
        if let Some(expected) = offered(&requests.out.bytes, &events.bytes, passed) {
            assert_eq!(events.out.bytes, expected, "events are changed");
        }
    }
}

fn pass(
    relay: &mut Relay<u32>,
    is_request: bool,
    bytes: &[u8],
    fds: Range<u32>,
    out: &mut Batch<u32>,
) -> Result<(), Violation> {
    if is_request {
        relay.from_client(bytes, fds, out)
    } else {
        relay.from_compositor(bytes, fds, out)
    }
}

fn messages(mut bytes: &[u8], max: usize) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    while let Some(message) = wire::split(&mut bytes, max).expect("what passed is whole") {
        found.push(message);
    }
    assert!(bytes.is_empty(), "half a message passed");
    found
}

/// What the client is to get of the first `count` events: all but the globals that can't cross, and none with a version
/// that isn't known. `None` if a registry's id may have become another object's.
fn offered(requests: &[u8], events: &[u8], count: usize) -> Option<Vec<u8>> {
    let is_registry = registries(requests);
    let (mut rest, mut expected) = (events, Vec::new());
    let mut shown = BTreeSet::new();
    for _ in 0..count {
        let message = wire::split(&mut rest, MAX_EVENT).expect("it passed").expect("it is whole");
        let word =
            |at: usize| u32::from_le_bytes(message.bytes[at..at + 4].try_into().expect("four"));
        match message.opcode {
            GLOBAL if is_registry.contains(&message.object) => {
                let length = word(12) as usize;
                let text = str::from_utf8(&message.bytes[16..16 + length - 1]).unwrap_or_default();
                let known = tables::global(text)
                    .filter(|global| global.class != tables::Class::CannotCross);
                let Some(known) = known else { continue };
                shown.insert(word(8));
                let version = word(message.bytes.len() - 4);
                if version <= known.interface.version {
                    expected.extend(message.bytes);
                } else {
                    let text = CString::new(text).expect("it was read");
                    let newest = Arg::Uint(known.interface.version);
                    let args = [Arg::Uint(word(8)), Arg::Str(Some(&text)), newest];
                    wire::encode(message.object, GLOBAL, &args, &mut expected);
                }
            }
            WL_DISPLAY_DELETE_ID
                if message.object == WL_DISPLAY && is_registry.contains(&word(8)) =>
            {
                return None;
            }
            GLOBAL_REMOVE if is_registry.contains(&message.object) && !shown.contains(&word(8)) => {
            }
            _ => expected.extend(message.bytes),
        }
    }
    Some(expected)
}

/// The ids that `wl_display.get_registry` made. One that the client used for something else as well is no good here.
fn registries(requests: &[u8]) -> Vec<u32> {
    let get_registry = |message: &&Message<'_>| message.object == 1 && message.opcode == 1;
    let id =
        |message: &Message<'_>| u32::from_le_bytes(message.bytes[8..12].try_into().expect("an id"));
    messages(requests, MAX_REQUEST).iter().filter(get_registry).map(id).collect()
}
