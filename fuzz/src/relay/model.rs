//! What has to come out of a relay, in the plainest words: what was said, but for what the policy says of it.

use super::backlog::{Nature, Said, nature};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::CStr;
use std::ops::Range;
use wlproxy::policy::Policy;
use wlproxy::relay::Begun;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::objects::Event;
use wlproxy_protocol::wayland::{Arg, Batch, Call, Globals, Message, Objects, tables, wire};

/// `wl_data_source.cancelled`.
const CANCELLED: u16 = 2;

/// Interfaces of what is copied, pasted and dragged.
const SOURCES: [&str; 3] =
    ["wl_data_source", "zwp_primary_selection_source_v1", "ext_data_control_source_v1"];
const DEVICES: [&str; 3] =
    ["wl_data_device", "zwp_primary_selection_device_v1", "ext_data_control_device_v1"];
const OFFERS: [&str; 3] =
    ["wl_data_offer", "zwp_primary_selection_offer_v1", "ext_data_control_offer_v1"];

/// Bytes and fds of one direction that no message has taken.
#[derive(Default)]
struct Unread {
    bytes: Vec<u8>,
    read: usize,
    fds: VecDeque<u32>,
}

/// What comes out, from where it is not compared yet.
struct Actual<'a> {
    bytes: &'a [u8],
    fds: &'a [u32],
    /// fds that were compared.
    taken: usize,
}

/// A link as it should be.
pub(super) struct Model {
    policy: Policy,
    /// Whether some selections pass and some don't: then this doesn't tell what becomes of them.
    mixed: bool,
    /// Whether none pass.
    nothing: bool,
    /// What everything is. That a message is right is said by these; what becomes of it isn't.
    objects: Objects,
    requests: Unread,
    events: Unread,
    /// Globals that the client knows of.
    shown: BTreeSet<u32>,
    /// Sources of drags that could not be, of which the client isn't told yet.
    cancelled: BTreeSet<u32>,
    /// Messages that have passed.
    pub(super) passed: u64,
}

impl Model {
    pub(super) fn new(policy: &Policy, mixed: bool) -> Self {
        Self {
            policy: policy.clone(),
            mixed,
            nothing: policy.selections.give.is_empty(),
            objects: Objects::with(Globals::new(policy.offer.clone())),
            requests: Unread::default(),
            events: Unread::default(),
            shown: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            passed: 0,
        }
    }

    /// The client has said this, of which the relay has taken `count` messages, and `out` came of them.
    pub(super) fn requests(
        &mut self,
        bytes: &[u8],
        fds: Range<u32>,
        count: u64,
        out: &Batch<u32>,
        begun: &[Begun],
        is_all: bool,
    ) {
        self.requests.push(bytes, fds);
        self.passed += count;
        let mut unread = std::mem::take(&mut self.requests);
        let mut actual = Actual { bytes: &out.bytes, fds: &out.fds, taken: 0 };
        let mut begins = begun.iter();
        for _ in 0..count {
            let message = next(&unread.bytes[unread.read..], MAX_REQUEST);
            let message = message.expect("a request that never was is passed on");
            let call = self.objects.request(message).expect("a wrong request is passed on");
            let fds = unread.fds.drain(..call.fds()).collect::<Vec<_>>();
            unread.read += call.message.bytes.len();
            self.request(&call, &fds, &mut actual, &mut begins);
        }
        unread.check(MAX_REQUEST, is_all);
        self.requests = unread;
        self.done(&actual, begins.len());
    }

    fn request<'b>(
        &mut self,
        call: &Call<'_>,
        fds: &[u32],
        actual: &mut Actual<'_>,
        begins: &mut impl Iterator<Item = &'b Begun>,
    ) {
        let (interface, name) = call.name();
        let is_source = SOURCES.contains(&interface);
        if is_source && name == "destroy" {
            self.cancelled.remove(&call.object());
        }
        let (title, app_id) = (self.policy.identity.title(), self.policy.identity.app_id());
        let source = || {
            call.args().find_map(|arg| match arg {
                Arg::Object(id) => Some(id),
                _ => None,
            })
        };
        match (interface, name) {
            ("xdg_surface", "get_toplevel") => {
                actual.take(call.message.bytes, fds);
                for (opcode, prefix) in [(2, title), (3, app_id)] {
                    if !prefix.is_empty() {
                        let window = call.args().find_map(|arg| match arg {
                            Arg::NewId(id) => Some(id),
                            _ => None,
                        });
                        let message = actual.message(fds, 0);
                        assert_eq!((Some(message.object), message.opcode), (window, opcode));
                        assert_eq!(text(message.bytes, 8), prefix.as_bytes());
                    }
                }
            }
            ("xdg_toplevel", "set_title") => renamed(call, title, actual),
            ("xdg_toplevel" | "xdg_activation_token_v1", "set_app_id") => {
                renamed(call, app_id, actual);
            }
            ("xdg_toplevel_tag_manager_v1", "set_toplevel_tag") => renamed(call, app_id, actual),
            ("xdg_toplevel_tag_manager_v1", "set_toplevel_description") => {
                renamed(call, title, actual);
            }
            _ if self.mixed && is_selection(interface) => actual.take_if_there(call, fds),
            (_, "offer") if self.nothing && is_source => {}
            (_, "set_selection" | "set_primary_selection")
                if self.nothing && DEVICES.contains(&interface) => {}
            ("wl_data_device", "start_drag") if self.nothing && source() != Some(0) => {
                self.cancelled.extend(source());
            }
            (_, "receive") if OFFERS.contains(&interface) => {
                if !self.nothing {
                    let at = actual.taken;
                    actual.take(call.message.bytes, fds);
                    assert_eq!(begins.next().map(|begun| begun.fd), Some(at), "a transfer's fd");
                }
            }
            ("wl_data_offer", "accept") if self.nothing => {
                let message = actual.message(fds, 0);
                assert_eq!((message.object, message.opcode), (call.object(), call.message.opcode));
                assert_eq!(message.bytes[8..12], call.message.bytes[8..12]);
                assert_eq!(message.bytes[12..], [0; 4], "a type is accepted");
            }
            _ => actual.take(call.message.bytes, fds),
        }
    }

    /// The compositor has said this. Returns what the client is to get.
    pub(super) fn events(
        &mut self,
        bytes: &[u8],
        fds: Range<u32>,
        count: u64,
        out: &Batch<u32>,
        begun: &[Begun],
        is_all: bool,
    ) -> Vec<Said> {
        self.events.push(bytes, fds);
        self.passed += count;
        let mut unread = std::mem::take(&mut self.events);
        let mut actual = Actual { bytes: &out.bytes, fds: &out.fds, taken: 0 };
        let mut begins = begun.iter();
        let mut said = Vec::new();
        for _ in 0..count {
            let message = next(&unread.bytes[unread.read..], MAX_EVENT);
            let message = message.expect("an event that never was is passed on");
            let event = self.objects.event(message).expect("a wrong event is passed on");
            let (Event::Pass(call) | Event::Hide(call) | Event::Replace(call, _)) = event;
            let fds = unread.fds.drain(..call.fds()).collect::<Vec<_>>();
            unread.read += call.message.bytes.len();
            let (left, taken) = (actual.bytes, actual.taken);
            self.event(&call, &fds, &mut actual, &mut begins);
            let bytes = &left[..left.len() - actual.bytes.len()];
            let is_changed = bytes != call.message.bytes;
            if !bytes.is_empty() {
                said.push(Said {
                    bytes: bytes.to_vec(),
                    fds: out.fds[taken..actual.taken].to_vec(),
                    nature: if is_changed { Nature::Single } else { nature(&call) },
                });
            }
        }
        unread.check(MAX_EVENT, is_all);
        self.events = unread;
        self.done(&actual, begins.len());
        said
    }

    fn event<'b>(
        &mut self,
        call: &Call<'_>,
        fds: &[u32],
        actual: &mut Actual<'_>,
        begins: &mut impl Iterator<Item = &'b Begun>,
    ) {
        let (interface, name) = call.name();
        match (interface, name) {
            ("wl_registry", "global") => {
                let args: Vec<Arg<'_>> = call.args().collect();
                let [Arg::Uint(number), Arg::Str(Some(text)), Arg::Uint(version)] = args[..] else {
                    panic!("these are its arguments");
                };
                let offered = text.to_str().ok().and_then(|text| self.policy.offer.version(text));
                let known = text.to_str().ok().and_then(tables::global);
                let crosses = known.is_some_and(|it| it.class != tables::Class::CannotCross);
                match offered.filter(|_| crosses) {
                    None => drop(self.shown.remove(&number)),
                    Some(highest) => {
                        self.shown.insert(number);
                        let mut expected = call.message.bytes.to_vec();
                        if version > highest {
                            expected.clear();
                            let args = [args[0], args[1], Arg::Uint(highest)];
                            wire::encode(call.object(), call.message.opcode, &args, &mut expected);
                        }
                        actual.take(&expected, fds);
                    }
                }
            }
            ("wl_registry", "global_remove") => {
                if let Some(Arg::Uint(number)) = call.args().next()
                    && self.shown.contains(&number)
                {
                    actual.take(call.message.bytes, fds);
                }
            }
            _ if self.mixed && is_selection(interface) => actual.take_if_there(call, fds),
            (_, "offer") if self.nothing && OFFERS.contains(&interface) => {}
            (_, "send") if SOURCES.contains(&interface) => {
                if !self.nothing {
                    let at = actual.taken;
                    actual.take(call.message.bytes, fds);
                    assert_eq!(begins.next().map(|begun| begun.fd), Some(at), "a transfer's fd");
                }
            }
            _ => actual.take(call.message.bytes, fds),
        }
    }

    fn done(&self, actual: &Actual<'_>, begun: usize) {
        assert!(actual.bytes.is_empty(), "{} bytes that nobody said", actual.bytes.len());
        assert!(actual.fds.is_empty(), "fds {:?} that are nobody's", actual.fds);
        assert!(self.mixed || begun == 0, "a transfer that nobody began");
    }

    /// There is something to tell the client beside what the compositor says, or not.
    pub(super) fn check_replies(&self, there_are: bool) {
        assert!(self.mixed || there_are != self.cancelled.is_empty(), "a drag doesn't end");
    }

    /// The client is told this beside what the compositor says.
    pub(super) fn replies(&mut self, replies: &[u8]) {
        let mut expected = Vec::new();
        for source in std::mem::take(&mut self.cancelled) {
            wire::encode(source, CANCELLED, &[], &mut expected);
        }
        assert!(self.mixed || replies == expected, "{replies:?}");
    }
}

impl Unread {
    fn push(&mut self, bytes: &[u8], fds: Range<u32>) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
    }

    /// If all was taken, no whole message is left.
    fn check(&self, max: usize, is_all: bool) {
        let is_left = || next(&self.bytes[self.read..], max).is_some();
        assert!(!is_all || !is_left(), "a message stays inside");
    }
}

/// The next message, which isn't taken yet.
fn next(mut bytes: &[u8], max: usize) -> Option<Message<'_>> {
    wire::split(&mut bytes, max).expect("its size is right")
}

impl<'a> Actual<'a> {
    /// This comes next.
    fn take(&mut self, bytes: &[u8], fds: &[u32]) {
        let taken = self.bytes.split_at_checked(bytes.len());
        let (taken, rest) = taken.unwrap_or_else(|| panic!("{bytes:?} is lost"));
        assert_eq!(taken, bytes, "it is changed, or another is lost");
        self.bytes = rest;
        self.take_fds(fds);
    }

    fn take_fds(&mut self, fds: &[u32]) {
        assert!(self.fds.starts_with(fds), "{fds:?} are lost: {:?}", self.fds);
        self.fds = &self.fds[fds.len()..];
        self.taken += fds.len();
    }

    /// A message comes next, with the first `count` of these fds.
    fn message(&mut self, fds: &[u32], count: usize) -> Message<'a> {
        self.take_fds(&fds[..count]);
        wire::split(&mut self.bytes, MAX_EVENT).expect("its size").expect("a message is lost")
    }

    /// This comes next, or something else of the same object, or nothing.
    fn take_if_there(&mut self, call: &Call<'_>, fds: &[u32]) {
        if self.bytes.starts_with(call.message.bytes) && self.fds.starts_with(fds) {
            return self.take(call.message.bytes, fds);
        }
        let is_of_selection = call.name().1 == "accept" || DEVICES.contains(&call.interface.name);
        while is_of_selection && let Ok(Some(message)) = wire::split(&mut &*self.bytes, MAX_EVENT) {
            // Types of what was offered, which waited until now.
            let is_last = message.object == call.object();
            if !is_last && message.object < wlproxy_protocol::wayland::objects::SERVER_IDS {
                return;
            }
            self.bytes = &self.bytes[message.bytes.len()..];
            if is_last {
                return;
            }
        }
    }
}

fn is_selection(interface: &str) -> bool {
    [SOURCES, DEVICES, OFFERS].iter().any(|all| all.contains(&interface))
}

/// The request comes next, with the prefix before its text.
fn renamed(call: &Call<'_>, prefix: &str, actual: &mut Actual<'_>) {
    let message = actual.message(&[], 0);
    assert_eq!((message.object, message.opcode), (call.object(), call.message.opcode));
    let of_call = call.args().find_map(|arg| match arg {
        Arg::Str(text) => Some(text.map_or(&b""[..], CStr::to_bytes)),
        _ => None,
    });
    // An object stands before the text of a tag.
    let at = if call.interface.name == "xdg_toplevel_tag_manager_v1" { 12 } else { 8 };
    assert_eq!(message.bytes[8..at], call.message.bytes[8..at]);
    let shown = text(message.bytes, at);
    assert!(shown.starts_with(prefix.as_bytes()), "{shown:?} isn't {prefix:?}'s");
    let (said, behind) = (of_call.unwrap_or_default(), &shown[prefix.len()..]);
    if said.iter().all(u8::is_ascii_graphic) {
        assert_eq!(behind, said, "a name is changed");
    }
}

/// The text at `at` of a message.
fn text(bytes: &[u8], at: usize) -> &[u8] {
    CStr::from_bytes_until_nul(&bytes[at + 4..]).expect("a text ends").to_bytes()
}
