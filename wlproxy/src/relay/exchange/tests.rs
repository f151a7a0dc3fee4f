use super::*;
use crate::policy::Policy;
use crate::relay::{Batch, Relay};
use proptest::prelude::*;
use std::ffi::CString;
use std::time::Duration;
use wlproxy_protocol::wayland::objects::SERVER_IDS;

/// Objects of [`Link`]'s client.
const SEAT: u32 = 3;
const SURFACE: u32 = 8;
const DATA: u32 = 9;
const PRIMARY: u32 = 10;
const CONTROL: u32 = 11;
const DATA_SOURCE: u32 = 12;
const PRIMARY_SOURCE: u32 = 13;
const CONTROL_SOURCE: u32 = 14;

/// Opcodes: wayland.xml, primary-selection-unstable-v1.xml, wlr-data-control-unstable-v1.xml.
const START_DRAG: u16 = 0;
const SET_SELECTION: u16 = 1;
const SET_ANOTHER_SELECTION: u16 = 0;
const SET_PRIMARY_SELECTION: u16 = 2;
const DESTROY_SOURCE: u16 = 1;
const ACCEPT: u16 = 0;
const RECEIVE: u16 = 1;
const RECEIVE_ANOTHER: u16 = 0;
const DATA_OFFER: u16 = 0;
const ENTER: u16 = 1;
const SELECTION: u16 = 5;
const ANOTHER_SELECTION: u16 = 1;
const PRIMARY_SELECTION: u16 = 3;
const SEND: u16 = 1;
const SEND_ANOTHER: u16 = 0;

/// What follows set_selection's and start_drag's objects.
const SERIAL: Arg<'_> = Arg::Uint(7);

struct Link {
    relay: Relay<u32>,
    /// Offers that were made.
    offers: u32,
}

fn message(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(object, opcode, args, &mut bytes);
    bytes
}

fn text(kind: &str) -> CString {
    CString::new(kind).unwrap()
}

impl Link {
    fn new(selections: Selections) -> Self {
        let policy = Policy { selections: Arc::new(selections), ..Policy::unchanging() };
        let mut link = Self { relay: Relay::new(&policy), offers: 0 };
        link.say(&message(1, 1, &[Arg::NewId(2)]), []);
        let globals = [
            (c"wl_seat", 1),
            (c"wl_data_device_manager", 3),
            (c"zwp_primary_selection_device_manager_v1", 1),
            (c"zwlr_data_control_manager_v1", 2),
            (c"wl_compositor", 1),
        ];
        for (id, (interface, version)) in (SEAT..).zip(globals) {
            let (name, interface, version) =
                (Arg::Uint(id), Arg::Str(Some(interface)), Arg::Uint(version));
            link.hear(&message(2, 0, &[name, interface, version]), []);
            link.say(&message(2, 0, &[name, interface, version, Arg::NewId(id)]), []);
        }
        let [manager, primary, control, compositor] = [1, 2, 3, 4].map(|n| SEAT + n);
        link.say(&message(compositor, 0, &[Arg::NewId(SURFACE)]), []);
        for (manager, device) in [(manager, DATA), (primary, PRIMARY), (control, CONTROL)] {
            link.say(&message(manager, 1, &[Arg::NewId(device), Arg::Object(SEAT)]), []);
        }
        let sources =
            [(manager, DATA_SOURCE), (primary, PRIMARY_SOURCE), (control, CONTROL_SOURCE)];
        for (manager, source) in sources {
            link.say(&message(manager, 0, &[Arg::NewId(source)]), []);
        }
        link
    }

    /// What the compositor gets of it: all of what the client says, or nothing, or something else.
    fn say<const N: usize>(&mut self, bytes: &[u8], fds: [u32; N]) -> (Vec<u8>, Vec<u32>) {
        let mut out = Batch::default();
        self.relay.from_client(bytes, fds, &mut out).unwrap();
        (out.bytes, out.fds)
    }

    /// What the client gets of what the compositor says.
    fn hear<const N: usize>(&mut self, bytes: &[u8], fds: [u32; N]) -> (Vec<u8>, Vec<u32>) {
        let mut out = Batch::default();
        self.relay.from_compositor(bytes, fds, &mut out).unwrap();
        (out.bytes, out.fds)
    }

    /// Whether a message of the client's passes, with its fd if it has one, or is left out with it.
    fn says<const N: usize>(&mut self, bytes: &[u8], fds: [u32; N]) -> bool {
        let said = self.say(bytes, fds);
        assert!(said == (bytes.to_vec(), fds.to_vec()) || said == (vec![], vec![]), "{said:?}");
        !said.0.is_empty()
    }

    /// The same of the compositor's.
    fn hears<const N: usize>(&mut self, bytes: &[u8], fds: [u32; N]) -> bool {
        let heard = self.hear(bytes, fds);
        assert!(heard == (bytes.to_vec(), fds.to_vec()) || heard == (vec![], vec![]), "{heard:?}");
        !heard.0.is_empty()
    }

    /// The compositor makes an offer, of which it hasn't told anything yet.
    fn offer(&mut self, device: u32) -> u32 {
        let id = SERVER_IDS + self.offers;
        self.offers += 1;
        assert!(self.hears(&message(device, DATA_OFFER, &[Arg::NewId(id)]), []));
        id
    }

    fn begun(&mut self) -> Vec<(usize, Direction, Option<Kind>, String)> {
        let begun = self.relay.take_begun().into_iter();
        begun.map(|one| (one.fd, one.direction, one.kind, one.of)).collect()
    }

    fn refused(&mut self) -> u64 {
        self.relay.take_tally().refused
    }
}

fn tell(offer: u32, kind: &str) -> Vec<u8> {
    message(offer, 0, &[Arg::Str(Some(&text(kind)))])
}

fn receive(offer: u32, opcode: u16, kind: &str) -> Vec<u8> {
    message(offer, opcode, &[Arg::Str(Some(&text(kind))), Arg::Fd])
}

fn selection(device: u32, opcode: u16, offer: u32) -> Vec<u8> {
    message(device, opcode, &[Arg::Object(offer)])
}

fn enter(offer: u32) -> Vec<u8> {
    let (surface, at) = (Arg::Object(SURFACE), Arg::Fixed(0));
    message(DATA, ENTER, &[SERIAL, surface, at, at, Arg::Object(offer)])
}

fn drag(source: u32) -> Vec<u8> {
    let (source, origin) = (Arg::Object(source), Arg::Object(SURFACE));
    message(DATA, START_DRAG, &[source, origin, Arg::Object(0), SERIAL])
}

fn giving(kinds: &[Kind]) -> Selections {
    Selections { give: kinds.iter().copied().collect(), ..Selections::default() }
}

fn taking(kinds: &[Kind]) -> Selections {
    Selections { take: kinds.iter().copied().collect(), ..Selections::default() }
}

/// Each way to make something a selection, and of which kind it is.
fn ways() -> [(Kind, u32, Vec<u8>); 4] {
    let set = |device, opcode, source| message(device, opcode, &[Arg::Object(source), SERIAL]);
    let control = |opcode| message(CONTROL, opcode, &[Arg::Object(CONTROL_SOURCE)]);
    [
        (Kind::Clipboard, DATA_SOURCE, set(DATA, SET_SELECTION, DATA_SOURCE)),
        (Kind::Primary, PRIMARY_SOURCE, set(PRIMARY, SET_ANOTHER_SELECTION, PRIMARY_SOURCE)),
        (Kind::Clipboard, CONTROL_SOURCE, control(SET_ANOTHER_SELECTION)),
        (Kind::Primary, CONTROL_SOURCE, control(SET_PRIMARY_SELECTION)),
    ]
}

#[test]
fn what_may_not_be_given_never_reaches_the_compositor() {
    for given in [&[][..], &[Kind::Clipboard], &[Kind::Primary], &[Kind::Drag]] {
        let mut link = Link::new(giving(given));
        for (source, kinds) in [
            (DATA_SOURCE, [Kind::Clipboard, Kind::Drag]),
            (PRIMARY_SOURCE, [Kind::Primary; 2]),
            (CONTROL_SOURCE, [Kind::Clipboard, Kind::Primary]),
        ] {
            let may = kinds.iter().any(|kind| given.contains(kind));
            assert_eq!(link.says(&tell(source, "text/plain"), []), may, "{given:?}: {source}");
        }
        link.refused();
        for (kind, source, set) in ways() {
            let may = given.contains(&kind);
            assert_eq!(link.says(&set, []), may, "{given:?}: {kind} of {source}");
            assert_eq!(link.refused(), u64::from(!may));
        }
        // To take away what is there is to give as well.
        let nothing = message(DATA, SET_SELECTION, &[Arg::Object(0), SERIAL]);
        assert_eq!(link.says(&nothing, []), given.contains(&Kind::Clipboard));
        assert_eq!(link.says(&drag(DATA_SOURCE), []), given.contains(&Kind::Drag));
        // A drag within one client has no source.
        assert!(link.says(&drag(0), []));
    }
}

/// A client may use an id again before the compositor has heard of it.
#[test]
fn a_source_is_asked_for_nothing_by_what_another_of_its_id_was_used_for() {
    let mut link = Link::new(giving(&[Kind::Drag]));
    link.say(&message(PRIMARY_SOURCE, DESTROY_SOURCE, &[]), []);
    link.say(&message(SEAT + 1, 0, &[Arg::NewId(PRIMARY_SOURCE)]), []);
    assert!(link.says(&drag(PRIMARY_SOURCE), []));
    let args = [Arg::Str(Some(c"text/plain")), Arg::Fd];
    assert!(!link.hears(&message(PRIMARY_SOURCE, SEND_ANOTHER, &args), [1]), "it gives nothing");
}

#[test]
fn a_drag_that_may_not_be_is_cancelled() {
    let mut link = Link::new(giving(&[Kind::Clipboard]));
    assert!(!link.says(&drag(DATA_SOURCE), []) && !link.says(&drag(DATA_SOURCE), []));
    assert!(link.relay.has_replies());
    assert_eq!(link.relay.take_replies(), message(DATA_SOURCE, CANCELLED, &[]));
    assert!(!link.relay.has_replies());
    // Whoever has destroyed its source must not hear of it: its id may be another's by then.
    assert!(!link.says(&drag(DATA_SOURCE), []));
    assert!(link.says(&message(DATA_SOURCE, DESTROY_SOURCE, &[]), []));
    assert!(!link.relay.has_replies() && link.relay.take_replies().is_empty());
    let mut link = Link::new(giving(&[Kind::Drag]));
    assert!(link.says(&drag(DATA_SOURCE), []) && !link.relay.has_replies());
}

#[test]
fn what_may_not_be_taken_has_no_types_and_nothing_in_it() {
    let mut link = Link::new(taking(&[]));
    for (device, opcode, receives) in [
        (DATA, SELECTION, RECEIVE),
        (PRIMARY, ANOTHER_SELECTION, RECEIVE_ANOTHER),
        (CONTROL, ANOTHER_SELECTION, RECEIVE_ANOTHER),
        (CONTROL, PRIMARY_SELECTION, RECEIVE_ANOTHER),
    ] {
        let offer = link.offer(device);
        assert!(!link.hears(&tell(offer, "text/plain"), []));
        assert!(link.hears(&selection(device, opcode, offer), []));
        // The fd is gone.
        assert!(!link.says(&receive(offer, receives, "text/plain"), [5]));
        assert_eq!((link.refused(), link.begun().len()), (1, 0));
    }
    let offer = link.offer(DATA);
    assert!(!link.hears(&tell(offer, "text/plain"), []) && link.hears(&enter(offer), []));
    let accept = |of: Option<&std::ffi::CStr>| message(offer, ACCEPT, &[SERIAL, Arg::Str(of)]);
    assert_eq!(link.say(&accept(Some(c"text/plain")), []).0, accept(None));
    assert!(link.says(&accept(None), []) && !link.says(&receive(offer, RECEIVE, "a/b"), [5]));
    // What it gives it gives.
    assert!(link.says(&tell(DATA_SOURCE, "text/plain"), []));
}

/// What something offered is, the compositor says when it has told all types.
#[test]
fn types_wait_until_it_is_known_what_they_are_of() {
    let mut link = Link::new(taking(&[Kind::Drag, Kind::Primary]));
    let told = |offer| [tell(offer, "text/plain"), tell(offer, "image/png")].concat();
    let offer = link.offer(DATA);
    assert_eq!(link.hear(&told(offer), []).0, b"");
    assert!(!link.says(&receive(offer, RECEIVE, "text/plain"), [5]), "too early");
    assert_eq!(link.hear(&enter(offer), []).0, [told(offer), enter(offer)].concat());
    assert!(link.says(&receive(offer, RECEIVE, "text/plain"), [5]));
    assert!(link.hears(&tell(offer, "text/late"), []));

    let offer = link.offer(DATA);
    assert_eq!(link.hear(&told(offer), []).0, b"");
    assert!(link.hears(&selection(DATA, SELECTION, offer), []));
    assert!(!link.says(&receive(offer, RECEIVE, "text/plain"), [5]));

    let offer = link.offer(CONTROL);
    assert_eq!(link.hear(&told(offer), []).0, b"");
    let is = selection(CONTROL, PRIMARY_SELECTION, offer);
    assert_eq!(link.hear(&is, []).0, [told(offer), is].concat());

    // No more is kept than may wait elsewhere, also of an offer whose kind never comes.
    let long = "x".repeat(60_000);
    let offer = link.offer(DATA);
    (0..100).for_each(|_| assert!(!link.hears(&tell(offer, &long), [])));
    let told = link.hear(&enter(offer), []).0.len() - enter(offer).len();
    assert!((MAX_QUEUED - 60_100..=MAX_QUEUED).contains(&told), "{told}");
    assert_eq!(link.relay.exchange.held, 0);
}

#[test]
fn only_types_that_are_allowed_pass_either_way() {
    let types = Some(vec!["text/*".to_owned().try_into().unwrap()]);
    let mut link = Link::new(Selections { types, ..Selections::default() });
    let offer = link.offer(DATA);
    for (of, may) in [("text/html", true), ("image/png", false), ("UTF8_STRING", true)] {
        assert_eq!(link.says(&tell(DATA_SOURCE, of), []), may, "{of}");
        assert_eq!(link.hears(&tell(offer, of), []), may, "{of}");
        assert_eq!(link.says(&receive(offer, RECEIVE, of), [5]), may, "{of}");
        let accept = message(offer, ACCEPT, &[SERIAL, Arg::Str(Some(&text(of)))]);
        let nothing = message(offer, ACCEPT, &[SERIAL, Arg::Str(None)]);
        assert_eq!(link.say(&accept, []).0, if may { accept } else { nothing }, "{of}");
        assert_eq!(link.hears(&receive(DATA_SOURCE, SEND, of), [5]), may, "{of}");
    }
    assert_eq!(link.refused(), 2, "what was asked for; not what wasn't told");
}

#[test]
fn a_transfer_begins_with_what_is_known_of_it() {
    let mut link = Link::new(Selections::default());
    let offer = link.offer(DATA);
    let early = receive(offer, RECEIVE, "text/a\nb\u{202e}");
    assert!(link.says(&early, [5]));
    assert_eq!(link.begun(), [(0, Direction::Take, None, "text/ab".to_owned())]);
    link.hear(&selection(DATA, SELECTION, offer), []);
    let bytes = [receive(offer, RECEIVE, "a/b"), receive(offer, RECEIVE, "c/d")].concat();
    let mut out = Batch { bytes: vec![], fds: vec![1, 2] };
    link.relay.from_client(&bytes, [5, 6], &mut out).unwrap();
    let taken = |fd, of: &str| (fd, Direction::Take, Some(Kind::Clipboard), of.to_owned());
    assert_eq!(link.begun(), [taken(2, "a/b"), taken(3, "c/d")]);
    assert!(link.begun().is_empty());

    for (kind, source, set) in ways() {
        assert!(link.says(&set, []));
        let send = if source == DATA_SOURCE { SEND } else { SEND_ANOTHER };
        assert!(link.hears(&receive(source, send, "a/b"), [5]));
        assert_eq!(link.begun(), [(0, Direction::Give, Some(kind), "a/b".to_owned())]);
    }
    assert!(link.says(&drag(DATA_SOURCE), []));
    assert!(link.hears(&receive(DATA_SOURCE, SEND, "a/b"), [5]));
    assert_eq!(link.begun(), [(0, Direction::Give, Some(Kind::Drag), "a/b".to_owned())]);
}

#[test]
fn transfers_begin_as_often_as_they_may() {
    let policy = Policy {
        selections: Arc::new(Selections { rate: 3, ..Selections::default() }),
        ..Policy::unchanging()
    };
    let rates = Arc::new(Rates::default());
    // Two clients of one VM.
    let mut links = [(); 2].map(|()| {
        let mut link = Link::new((*policy.selections).clone());
        link.relay.exchange.rates = rates.clone();
        let offer = link.offer(DATA);
        (link, offer)
    });
    let start = Instant::now();
    // How many they take of four, and how many are told of those that others take of them, which all do.
    let mut begun = |at: Duration| {
        let (mut taken, mut told) = (0, 0);
        for (link, offer) in &mut links {
            link.relay.set_time(start + at);
            for _ in 0..2 {
                assert!(link.hears(&receive(DATA_SOURCE, SEND, "a/b"), [5]));
                told += link.relay.take_begun().iter().filter(|begun| begun.is_told).count();
                taken += usize::from(link.says(&receive(*offer, RECEIVE, "a/b"), [5]));
                assert!(link.relay.take_begun().iter().all(|begun| begun.is_told));
            }
        }
        (taken, told)
    };
    assert_eq!(begun(Duration::ZERO), (3, 3));
    assert_eq!(begun(Duration::from_secs(19)), (0, 0));
    assert_eq!(begun(Duration::from_secs(21)), (1, 1));
    assert_eq!(begun(Duration::from_secs(600)), (3, 3));
}

const TYPES: [&str; 4] = ["text/plain", "UTF8_STRING", "image/png", "x/y"];

/// Something that a compositor offers, and what a client asks of it.
#[derive(Debug, Clone)]
struct Offered {
    /// Of these devices, and as which of the kinds that it can be.
    device: usize,
    as_second: bool,
    types: Vec<usize>,
    early: Option<usize>,
    late: Option<usize>,
}

fn offered() -> impl Strategy<Value = Offered> {
    let of = || prop::option::of(0..TYPES.len());
    let types = prop::collection::vec(0..TYPES.len(), 0..6);
    (0..3usize, any::<bool>(), types, of(), of()).prop_map(
        |(device, as_second, types, early, late)| Offered { device, as_second, types, early, late },
    )
}

proptest! {
    /// Whatever the policy: a client is told exactly the types of what it may take, before it is told what that is, and it
    /// gets exactly what it may.
    #[test]
    fn a_client_gets_what_it_may_and_nothing_else(
        taken in prop::collection::btree_set(prop::sample::select(Kind::ALL.map(|(kind, _)| kind).to_vec()), 0..4),
        types in prop::option::of(prop::sample::subsequence(vec!["text/*", "image/png", "x/*"], 0..3)),
        all in prop::collection::vec(offered(), 1..8),
        cut in 1..60usize,
    ) {
        let patterns = types.map(|all| all.iter().map(|of| of.to_string().try_into().unwrap()).collect());
        let selections = Selections { take: taken.clone(), types: patterns, ..Selections::default() };
        let mut link = Link::new(selections.clone());
        for one in all {
            let (device, kinds, says, receives): (_, [Kind; 2], [_; 2], _) = match one.device {
                0 => (DATA, [Kind::Clipboard, Kind::Drag], [SELECTION, ENTER], RECEIVE),
                1 => (PRIMARY, [Kind::Primary; 2], [ANOTHER_SELECTION; 2], RECEIVE_ANOTHER),
                _ => (CONTROL, [Kind::Clipboard, Kind::Primary], [ANOTHER_SELECTION, PRIMARY_SELECTION], RECEIVE_ANOTHER),
            };
            let at = usize::from(one.as_second);
            let (kind, says) = (kinds[at], says[at]);
            let offer = link.offer(device);
            let told: Vec<Vec<u8>> = one.types.iter().map(|&of| tell(offer, TYPES[of])).collect();
            let mut heard = Vec::new();
            for piece in told.concat().chunks(cut) {
                heard.extend(link.hear(piece, []).0);
            }
            if let Some(of) = one.early {
                let all = kinds.iter().all(|kind| taken.contains(kind));
                let may = all && selections.allows_type(TYPES[of].as_bytes());
                prop_assert_eq!(link.says(&receive(offer, receives, TYPES[of]), [5]), may);
            }
            let is = if says == ENTER && device == DATA { enter(offer) } else { selection(device, says, offer) };
            heard.extend(link.hear(&is, []).0);
            let may_be = |of: usize| taken.contains(&kind) && selections.allows_type(TYPES[of].as_bytes());
            let mut expected: Vec<u8> = Vec::new();
            for (&of, message) in one.types.iter().zip(&told) {
                if may_be(of) {
                    expected.extend(message);
                }
            }
            expected.extend(&is);
            prop_assert_eq!(heard, expected);
            if let Some(of) = one.late {
                prop_assert_eq!(link.says(&receive(offer, receives, TYPES[of]), [5]), may_be(of));
            }
        }
        prop_assert_eq!(link.relay.exchange.held, 0);
    }
}
