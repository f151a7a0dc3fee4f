//! A policy: whatever a client and a compositor say, neither gets what it doesn't allow.

mod scenes;

use crate::input::Input;
use crate::wayland::{GLOBALS, Known};
use scenes::Script;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::sync::Arc;
use wlproxy::policy::{Identity, Kind, Pattern, Policy, Selections};
use wlproxy::quota::Quota;
use wlproxy::relay::Relay;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::objects::SERVER_IDS;
use wlproxy_protocol::wayland::wire::{Args, split};
use wlproxy_protocol::wayland::{Arg, Batch, Interface, Message, MessageDesc, Offer, tables};

/// What a VM may be offered at most: everything, what is copied and pasted by, or what has names. With fewer, more happens to
/// each.
const THEMES: [&[&CStr]; 3] = [
    &GLOBALS,
    &[
        c"wl_compositor",
        c"wl_seat",
        c"wl_data_device_manager",
        c"zwp_primary_selection_device_manager_v1",
        c"ext_data_control_manager_v1",
    ],
    &[c"wl_compositor", c"xdg_wm_base", c"xdg_toplevel_tag_manager_v1", c"xdg_activation_v1"],
];

/// What may stand before names.
const PREFIXES: [&str; 4] = ["", "work.", "[work] ", "\u{1f5a5} "];

/// Which types may be allowed.
const PATTERNS: [&str; 4] = ["text/*", "image/png", "*", "q"];

/// Whose requests name a window.
const NAMING: [&str; 5] =
    ["set_title", "set_app_id", "set_class", "set_toplevel_tag", "set_toplevel_description"];

/// A link under a policy, and what both sides have got.
struct Link {
    relay: Relay<u32>,
    policy: Policy,
    seen: Seen,
}

/// What somebody who reads both streams behind the relay knows.
struct Seen {
    /// By id, the oldest first: a client may use an id again before it hears that it may. Requests are the newest's, events
    /// the oldest's.
    objects: BTreeMap<u32, VecDeque<&'static Interface>>,
    /// What has to name windows next: by which request.
    unnamed: VecDeque<(u32, &'static str)>,
    surfaces: BTreeSet<u32>,
    windows: BTreeSet<u32>,
    /// By what was offered to the client: whether it was told a type, and by which way that is for it to take, once that is
    /// known.
    offered: BTreeMap<u32, (bool, Option<Kind>)>,
    aims: Aims,
}

/// How often something happened that a policy is about.
#[derive(Debug, Default)]
struct Aims {
    /// A type was told, and how often with the news of what it is a type of, as that had to be known first.
    told: u32,
    told_late: u32,
    /// A type was not told, nor passed on to others.
    denied: u32,
    /// A client took something, and gave something.
    received: u32,
    sent: u32,
    /// A drag began, or came over a window.
    dragged: u32,
    /// A window got a name.
    named: u32,
}

/// One input.
pub fn run(data: &[u8]) {
    play(data);
}

/// The same; returns what has happened.
fn play(data: &[u8]) -> Aims {
    let mut input = Input::new(data);
    let policy = policy(&mut input);
    let text = serde_json::to_string(&policy).expect("a policy can be sent");
    assert_eq!(serde_json::from_str::<Policy>(&text).expect("and read"), policy);
    let known = Known::new(policy.offer.clone(), !input.one_in(4));
    let mut known = known.with_words(&scenes::TYPES);
    let mut script = Script::new(&mut input);
    let seen = Seen {
        objects: BTreeMap::from([(1, [tables::wl_display()].into())]),
        unnamed: VecDeque::new(),
        surfaces: BTreeSet::new(),
        windows: BTreeSet::new(),
        offered: BTreeMap::new(),
        aims: Aims::default(),
    };
    let mut link = Link { relay: Relay::new(&policy), policy, seen };
    let mut bytes = Vec::new();
    while !input.is_empty() {
        bytes.clear();
        let (is_request, fds) =
            script.message(&mut known, &mut input, &mut bytes).unwrap_or_else(|| {
                let is_request = input.one_in(2);
                (is_request, known.message(&mut input, is_request, &mut bytes))
            });
        if !link.say(is_request, &bytes, fds) {
            break;
        }
    }
    link.seen.aims
}

/// Any policy.
fn policy(input: &mut Input<'_>) -> Policy {
    let mut offer = Offer::nothing();
    for global in input.pick(&THEMES) {
        if !input.one_in(4) {
            let version = (!input.one_in(2)).then(|| 1 + input.below(9) as u32);
            // What can't be allowed stays out.
            let _ = offer.add(global.to_str().expect("a name"), version);
        }
    }
    let prefix = |input: &mut Input<'_>| input.pick(&PREFIXES).to_owned();
    let identity = Identity::new(prefix(input), prefix(input)).expect("prefixes as they may be");
    let kinds = |input: &mut Input<'_>| {
        let all = Kind::ALL.into_iter().map(|(kind, _)| kind);
        all.filter(|_| input.one_in(2)).collect::<BTreeSet<_>>()
    };
    let pattern = |text: &str| Pattern::try_from(text.to_owned()).expect("patterns as they may be");
    let types = input
        .one_in(2)
        .then(|| PATTERNS.into_iter().filter(|_| input.one_in(3)).map(pattern).collect());
    let selections =
        Selections { give: kinds(input), take: kinds(input), types, ..Selections::default() };
    let few = |input: &mut Input<'_>| 1 + input.below(64) as u32;
    let mut quota = Quota::default();
    if input.one_in(4) {
        (quota.objects, quota.surfaces, quota.windows) = (few(input), few(input), few(input));
    }
    let (offer, identity, selections) = (Arc::new(offer), Arc::new(identity), Arc::new(selections));
    Policy { offer, identity, quota, selections, ..Policy::nothing() }
}

impl Link {
    /// Says something, and looks at what the other side gets of it. Returns whether the link goes on.
    fn say(&mut self, is_request: bool, bytes: &[u8], fds: usize) -> bool {
        let (mut out, fds) = (Batch::default(), 0..fds as u32);
        let result = if is_request {
            self.relay.from_client(bytes, fds, &mut out)
        } else {
            self.relay.from_compositor(bytes, fds, &mut out)
        };
        let max = if is_request { MAX_REQUEST } else { MAX_EVENT };
        if result.is_ok() && out.bytes.is_empty() {
            self.seen.look_at_hidden(bytes, is_request, &self.policy);
        }
        let (mut rest, mut passed) = (&out.bytes[..], 0);
        while let Some(message) = split(&mut rest, max).expect("what passes is whole") {
            self.seen.look(message, is_request, &self.policy);
            passed += 1;
        }
        // Names of a window come in one with it, too, but as requests.
        self.seen.aims.told_late += u32::from(!is_request && passed > 1);
        assert!(self.seen.unnamed.is_empty(), "a window without a name: {:?}", self.seen.unnamed);
        // Of what the compositor makes it is told when it asks for something next.
        if is_request && result.is_ok() {
            assert!(self.relay.objects() as u64 <= u64::from(self.policy.quota.objects));
        }
        let mut replies = Vec::new();
        if self.relay.has_replies() {
            replies = self.relay.take_replies();
        }
        let mut rest = &replies[..];
        while split(&mut rest, MAX_EVENT).expect("replies are whole").is_some() {}
        result.is_ok()
    }
}

impl Seen {
    /// Whose message this is.
    fn interface(&self, object: u32, is_request: bool) -> Option<&'static Interface> {
        let of_id = self.objects.get(&object)?;
        if is_request { of_id.back() } else { of_id.front() }.copied()
    }

    /// Something that has not passed.
    fn look_at_hidden(&mut self, mut bytes: &[u8], is_request: bool, policy: &Policy) {
        let Ok(Some(message)) = split(&mut bytes, MAX_REQUEST) else { return };
        let Some(interface) = self.interface(message.object, is_request) else { return };
        let descs = if is_request { interface.requests } else { interface.events };
        let Some(desc) = descs.get(usize::from(message.opcode)) else { return };
        let of = Args::new(message, desc.signature).flatten().find_map(|arg| str(&arg));
        let is_denied = of.is_some_and(|of| !policy.selections.allows_type(of.to_bytes()));
        self.aims.denied += u32::from(is_denied && scenes::names_type(interface, desc));
    }

    /// A message that has passed.
    fn look(&mut self, message: Message<'_>, is_request: bool, policy: &Policy) {
        let interface = self.interface(message.object, is_request);
        let interface = interface.unwrap_or_else(|| panic!("{} is nobody", message.object));
        let (name, descs) =
            (interface.name, if is_request { interface.requests } else { interface.events });
        let desc = &descs[usize::from(message.opcode)];
        let args: Vec<Arg<'_>> = Args::new(message, desc.signature)
            .collect::<Result<_, _>>()
            .expect("what passes can be read");
        if let Some((window, request)) = self.unnamed.pop_front() {
            assert!(is_request && (message.object, desc.name) == (window, request), "{desc:?}");
        }
        if is_request {
            self.request(message.object, name, desc, &args, policy);
        } else {
            self.event(message.object, name, desc, &args, policy);
        }
        let bound = || args.iter().find_map(|arg| tables::global(str(arg)?.to_str().ok()?));
        let child = desc.child_interface.or_else(|| bound().map(|global| global.interface));
        for arg in &args {
            match (arg, child) {
                (Arg::NewId(id), Some(child)) => {
                    let of_id = self.objects.entry(*id).or_default();
                    if *id >= SERVER_IDS {
                        of_id.clear();
                    }
                    of_id.push_back(child);
                }
                (Arg::Uint(id), _) if desc.name == "delete_id" => {
                    if let Some(of_id) = self.objects.get_mut(id).filter(|_| *id > 1) {
                        of_id.pop_front();
                    }
                }
                _ => {}
            }
        }
    }

    fn request(
        &mut self,
        object: u32,
        interface: &str,
        desc: &'static MessageDesc,
        args: &[Arg<'_>],
        policy: &Policy,
    ) {
        let id =
            args.iter().find_map(|arg| if let Arg::NewId(id) = arg { Some(*id) } else { None });
        let first =
            args.iter().find_map(|arg| if let Arg::Object(id) = arg { Some(*id) } else { None });
        let (identity, selections, quota) = (&policy.identity, &policy.selections, &policy.quota);
        let gives = |kind| selections.give.contains(&kind) || first == Some(0);
        match (interface, desc.name) {
            ("wl_registry", "bind") => check_offered(args, policy),
            ("xdg_surface", "get_toplevel") => {
                let window = id.expect("it makes one");
                let names = [("set_title", identity.title()), ("set_app_id", identity.app_id())];
                let named = names.into_iter().filter(|(_, prefix)| !prefix.is_empty());
                self.unnamed.extend(named.map(|(request, _)| (window, request)));
                self.windows.insert(window);
                assert!(self.windows.len() as u64 <= u64::from(quota.windows));
            }
            ("xdg_toplevel", "destroy") => drop(self.windows.remove(&object)),
            ("wl_compositor", "create_surface") => {
                self.surfaces.insert(id.expect("it makes one"));
                assert!(self.surfaces.len() as u64 <= u64::from(quota.surfaces));
            }
            ("wl_surface", "destroy") => drop(self.surfaces.remove(&object)),
            (_, request) if NAMING.contains(&request) => {
                let is_title = matches!(request, "set_title" | "set_toplevel_description");
                let prefix = if is_title { identity.title() } else { identity.app_id() };
                let name = args.iter().find_map(str).expect("a name").to_str().expect("text");
                let own = name.strip_prefix(prefix).unwrap_or_else(|| panic!("{name:?}"));
                assert!(!own.chars().any(commands) && own.chars().count() <= 256, "{own:?}");
                self.aims.named += 1;
            }
            ("zwp_primary_selection_device_v1", "set_selection") | (_, "set_primary_selection") => {
                assert!(gives(Kind::Primary))
            }
            (_, "set_selection") => assert!(gives(Kind::Clipboard)),
            ("wl_data_device", "start_drag") => {
                assert!(gives(Kind::Drag));
                self.aims.dragged += 1;
            }
            (_, "offer") => {
                let allowed = may(&selections.give, interface, args, selections);
                assert!(allowed, "{interface}@{object}: {args:?}, {selections:?}");
            }
            (_, "receive") => {
                assert!(may(&selections.take, interface, args, selections));
                if let Some((_, Some(way))) = self.offered.get(&object) {
                    assert!(selections.take.contains(way), "{way:?}");
                }
                self.aims.received += 1;
            }
            _ => {}
        }
    }

    fn event(
        &mut self,
        object: u32,
        interface: &str,
        desc: &'static MessageDesc,
        args: &[Arg<'_>],
        policy: &Policy,
    ) {
        let selections = &policy.selections;
        let offer = args.iter().rev().find_map(|arg| match arg {
            Arg::Object(id) | Arg::NewId(id) => Some(*id),
            _ => None,
        });
        let way = match (interface, desc.name) {
            ("wl_registry", "global") => return check_offered(args, policy),
            (_, "data_offer") => {
                let offer = offer.expect("it makes one");
                self.offered.insert(offer, (false, None));
                return;
            }
            (_, "offer") => {
                assert!(may(&selections.take, interface, args, selections));
                if let Some((is_told, way)) = self.offered.get_mut(&object) {
                    *is_told = true;
                    assert!(way.is_none_or(|way| selections.take.contains(&way)), "{way:?}");
                    self.aims.told += 1;
                }
                return;
            }
            (_, "send") => {
                let allowed = may(&selections.give, interface, args, selections);
                assert!(allowed, "{interface}@{object}: {args:?}, {selections:?}");
                self.aims.sent += 1;
                return;
            }
            ("zwp_primary_selection_device_v1", "selection") | (_, "primary_selection") => {
                Kind::Primary
            }
            (_, "selection") => Kind::Clipboard,
            ("wl_data_device", "enter") => Kind::Drag,
            _ => return,
        };
        if let Some((is_told, known)) = offer.and_then(|offer| self.offered.get_mut(&offer)) {
            assert!(!*is_told || selections.take.contains(&way) || known.is_some(), "{way:?}");
            *known = Some(way);
            self.aims.dragged += u32::from(way == Kind::Drag);
        }
    }
}

/// Who is told or asks of a global has its interface and version in these arguments: it is offered, and so new.
fn check_offered(args: &[Arg<'_>], policy: &Policy) {
    let version = args.iter().filter_map(uint).next_back().expect("a version");
    let of = args.iter().find_map(str).expect("an interface");
    let most = policy.offer.version(of.to_str().expect("a name"));
    assert!(most.is_some_and(|most| version <= most), "{of:?} {version}");
}

/// Whether anything of this type may go by one of the ways that this object may be for.
fn may(kinds: &BTreeSet<Kind>, interface: &str, args: &[Arg<'_>], selections: &Selections) -> bool {
    let ways = match interface {
        "zwp_primary_selection_source_v1" | "zwp_primary_selection_offer_v1" => {
            &[Kind::Primary][..]
        }
        "ext_data_control_source_v1" | "ext_data_control_offer_v1" => {
            &[Kind::Clipboard, Kind::Primary]
        }
        _ => &[Kind::Clipboard, Kind::Drag],
    };
    let of = args.iter().find_map(str).map_or(&b""[..], CStr::to_bytes);
    ways.iter().any(|kind| kinds.contains(kind)) && selections.allows_type(of)
}

/// Whether a character commands a terminal or turns text around.
fn commands(c: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    c.is_control()
        || turns.contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn str<'a>(arg: &Arg<'a>) -> Option<&'a CStr> {
    if let Arg::Str(text) = arg { *text } else { None }
}

fn uint(arg: &Arg<'_>) -> Option<u32> {
    if let Arg::Uint(number) = arg { Some(*number) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Maker;

    const INPUTS: u64 = 2000;

    #[test]
    fn what_a_policy_is_about_happens() {
        let maker = Maker::new(1, &[]).expect("nothing is read");
        let (mut input, mut all) = (Vec::new(), Aims::default());
        for number in 0..INPUTS {
            maker.make(number, &mut input);
            let aims = play(&input);
            all.told += aims.told;
            all.told_late += aims.told_late;
            all.denied += aims.denied;
            all.received += aims.received;
            all.sent += aims.sent;
            all.dragged += aims.dragged;
            all.named += aims.named;
        }
        let Aims { told, told_late, denied, received, sent, dragged, named } = all;
        let least = [told, told_late, denied, received, sent, dragged, named].into_iter().min();
        assert!(least > Some(INPUTS as u32 / 50), "{all:?}");
    }
}
