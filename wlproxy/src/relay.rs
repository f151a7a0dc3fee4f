//! The relay of one link: bytes and fds in, bytes and fds out.
//!
//! It understands every message by the tables and passes it on, or ends the link. What it changes the policy says: it hides
//! globals, lowers their versions, puts the VM's prefix before the names of windows, and leaves out what may not be copied or
//! pasted. Ids pass through as they are. It does no I/O, reads no clock and keeps nothing of what has passed but the objects.
//!
//! | module | what it is |
//! |---|---|
//! | `backlog` | events that wait for a client that is slow to read |
//! | `joinable` | which of them are joined |
//! | `exchange` | what of selections goes on |

mod backlog;
mod exchange;
mod joinable;

pub use backlog::MAX_HELD_FDS;

use crate::concern::{Concern, Count};
use crate::impossible;
use crate::policy::{Identity, Policy};
use crate::quota::{Census, Quota, Spent};
use crate::rate::Rates;
use backlog::Backlog;
use exchange::{Exchange, Verdict};
use wlproxy_protocol::limits::{MAX_EVENT, MAX_REQUEST};
use wlproxy_protocol::wayland::objects::{Event, IMPLEMENTATION, INVALID_METHOD};
use wlproxy_protocol::wayland::{Batch, Call, Globals, Inbox, Objects, Text};

use std::sync::Arc;
use std::time::Instant;

pub use exchange::Begun;
pub use wlproxy_protocol::wayland::Violation;

/// What stands before an event in a trace.
const EVENT: &str = " -> ";

/// What passed since the last [`Relay::take_tally`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub requests: u64,
    /// Events.
    pub events: u64,
    /// `wl_surface.commit` requests among the requests.
    pub commits: u64,
    /// Requests and events that were left out, since the VM's clients may not give or take that.
    pub refused: u64,
    /// Why the last of them was.
    pub refusal: Option<&'static str>,
}

/// The state machine of one link. `F` stands for a file descriptor.
///
/// Call [`Relay::from_client`] and [`Relay::from_compositor`] with what arrives, in order. After an error nothing may
/// follow: what `out` got before is to be sent on, the client gets [`Violation::to_event`], and the link ends.
#[derive(Debug)]
pub struct Relay<F> {
    objects: Objects,
    quota: Quota,
    spent: Spent,
    identity: Arc<Identity>,
    exchange: Exchange,
    /// Since the last [`Relay::take_begun`].
    begun: Vec<Begun>,
    now: Option<Instant>,
    requests: Inbox<F>,
    events: Inbox<F>,
    /// Most clients keep up, and never need one.
    backlog: Option<Box<Backlog<F>>>,
    /// Bytes that may wait in it.
    most_held: usize,
    tally: Tally,
    /// What passed, as text, if anybody wants to know.
    lines: Option<Vec<String>>,
}

impl<F> Relay<F> {
    /// A link on which nothing was said, of a client with this policy.
    pub fn new(policy: &Policy) -> Self {
        Self::with(policy, Arc::default(), Arc::default())
    }

    /// The same; what it begins counts in `rates`, and what it has in `census`, with what others do and have that share them.
    pub fn with(policy: &Policy, rates: Arc<Rates>, census: Arc<Census>) -> Self {
        Self {
            objects: Objects::with(Globals::new(policy.offer.clone())),
            quota: policy.quota,
            spent: Spent::among(census),
            identity: policy.identity.clone(),
            exchange: Exchange::new(policy.selections.clone(), rates),
            begun: Vec::new(),
            now: None,
            requests: Inbox::default(),
            events: Inbox::default(),
            backlog: None,
            most_held: policy.vm_quota.waiting_events(),
            tally: Tally::default(),
            lines: None,
        }
    }

    /// Takes bytes and fds of the client; appends to `out` what the compositor is to get.
    ///
    /// Incomplete messages wait inside.
    pub fn from_client(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
        out: &mut Batch<F>,
    ) -> Result<(), Violation> {
        if !self.requests.push(bytes, fds) {
            return Err(Violation::stuffed());
        }
        while let Some((message, fds)) = self
            .requests
            .next(MAX_REQUEST)
            .map_err(|(object, error)| Violation::unreadable(object, error))?
        {
            let call = self.objects.request(message)?;
            let concern = Concern::of(&call);
            concern.number.map_or(Ok(()), |number| impossible::check(&call, number))?;
            self.spent.request(&call, concern, self.objects.count(), &self.quota)?;
            let wanted = call.fds();
            if fds.len() < wanted {
                return Err(call.violation(INVALID_METHOD, "its file descriptor is missing"));
            }
            if concern.relative {
                Backlog::note(&mut self.backlog, &call);
            }
            let rewritten = concern.naming.and_then(|how| self.identity.rewrite(&call, how));
            let prefixed = rewritten.is_some();
            let verdict = match rewritten {
                Some(bytes) => Verdict::Replace(bytes),
                None if concern.selection => self.exchange.request(&call, self.now),
                None => Verdict::Pass,
            };
            let note = pass(
                verdict,
                message.bytes,
                fds.drain(..wanted),
                out,
                &mut self.begun,
                &mut self.tally,
            );
            let note = if prefixed { " (with the VM's prefix)" } else { note };
            trace(&mut self.lines, "", &call, &self.objects, note);
            self.tally.requests += 1;
            self.tally.commits += u64::from(concern.count == Some(Count::Commit));
        }
        Ok(())
    }

    /// Takes bytes and fds of the compositor; appends to `out` what the client is to get.
    ///
    /// Globals that the policy doesn't offer are left out, and what the client may not take. What waits in here has to be
    /// taken before.
    pub fn from_compositor(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
        out: &mut Batch<F>,
    ) -> Result<(), Violation> {
        self.events(bytes, fds, Some(out))
    }

    /// The same for a client that doesn't take anything now: what it is to get waits in here, and where a later event makes
    /// an earlier one needless, they are joined. Not to be called unless [`Relay::has_room`].
    ///
    /// After an error, what waits is still for the client.
    pub fn hold(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
    ) -> Result<(), Violation> {
        self.events(bytes, fds, None)
    }

    /// Whether less waits in here than may: as many bytes as the policy has it, and [`MAX_HELD_FDS`] fds.
    pub fn has_room(&self) -> bool {
        self.backlog.as_ref().is_none_or(|backlog| backlog.has_room(self.most_held))
    }

    /// Bytes that wait in here for the client.
    pub fn held(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// Takes what has waited longest: whole messages of at most `limit` bytes, but for the first, which may be longer.
    pub fn take_held(&mut self, limit: usize, out: &mut Batch<F>) {
        if let Some(backlog) = &mut self.backlog {
            backlog.take(limit, out);
        }
    }

    /// Forgets what waits in here: the link has ended.
    pub fn forget_held(&mut self) {
        self.backlog = None;
    }

    /// Understands events; they go to `out` or, without that, into the backlog.
    fn events(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = F>,
        mut out: Option<&mut Batch<F>>,
    ) -> Result<(), Violation> {
        if !self.events.push(bytes, fds) {
            return Err(Violation::stuffed());
        }
        while let Some((message, fds)) = self
            .events
            .next(MAX_EVENT)
            .map_err(|(object, error)| Violation::unreadable(object, error))?
        {
            match self.objects.event(message)? {
                Event::Pass(call) => {
                    let wanted = call.fds();
                    if fds.len() < wanted {
                        let reason = "the compositor's file descriptor is missing";
                        return Err(call.violation(IMPLEMENTATION, reason));
                    }
                    let concern = Concern::of(&call);
                    self.spent.event(&call, concern, self.objects.is_newest(call.object()));
                    let verdict = match concern.selection {
                        true => self.exchange.event(&call, self.now),
                        false => Verdict::Pass,
                    };
                    let (begun, tally) = (&mut self.begun, &mut self.tally);
                    let fds = fds.drain(..wanted);
                    let note = match &mut out {
                        Some(out) => pass(verdict, message.bytes, fds, *out, begun, tally),
                        None => {
                            let backlog = self.backlog.get_or_insert_default();
                            let mut out = Held { backlog, call: &call };
                            pass(verdict, message.bytes, fds, &mut out, begun, tally)
                        }
                    };
                    trace(&mut self.lines, EVENT, &call, &self.objects, note);
                }
                Event::Hide(call) => {
                    trace(&mut self.lines, EVENT, &call, &self.objects, " (hidden)");
                }
                Event::Replace(call, bytes) => {
                    match &mut out {
                        Some(out) => out.bytes.extend_from_slice(&bytes),
                        None => {
                            let backlog = self.backlog.get_or_insert_default();
                            backlog.push(&call, &bytes, std::iter::empty());
                        }
                    }
                    trace(&mut self.lines, EVENT, &call, &self.objects, " (with a lower version)");
                }
            }
            self.tally.events += 1;
        }
        Ok(())
    }

    /// What is said next is said at this time. Without any, nothing begins too often.
    pub fn set_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// An fd that waits in here, by the place that [`Begun`] has of it right after [`Relay::hold`].
    pub fn held_fd(&mut self, at: usize) -> Option<&mut F> {
        self.backlog.as_mut()?.fd(at)
    }

    /// Transfers that began since the last call, in the order of their fds. Call it while these are still in `out`, or in
    /// here.
    pub fn take_begun(&mut self) -> Vec<Begun> {
        std::mem::take(&mut self.begun)
    }

    /// Whether there is something to tell the client that the compositor doesn't say.
    pub fn has_replies(&self) -> bool {
        self.exchange.has_replies()
    }

    /// That: whole events.
    pub fn take_replies(&mut self) -> Vec<u8> {
        self.exchange.replies()
    }

    /// Keeps what passes as text from now on, or doesn't any more. It costs much beside what the relay does otherwise.
    pub fn set_traced(&mut self, traced: bool) {
        self.lines = traced.then(Vec::new);
    }

    /// Whether it does.
    pub fn is_traced(&self) -> bool {
        self.lines.is_some()
    }

    /// What passed since the last call, a line for each message: as `WAYLAND_DEBUG` has it in a compositor, with an arrow
    /// before events. Nothing, unless it is traced.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Objects that exist now.
    pub fn objects(&self) -> usize {
        self.objects.count()
    }

    /// What passed since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

/// Where messages go on.
trait Out<F> {
    /// fds that are there.
    fn fds(&self) -> usize;
    fn push(&mut self, message: &[u8], fds: impl Iterator<Item = F>);
}

impl<F> Out<F> for Batch<F> {
    fn fds(&self) -> usize {
        self.fds.len()
    }

    fn push(&mut self, message: &[u8], fds: impl Iterator<Item = F>) {
        self.bytes.extend_from_slice(message);
        self.fds.extend(fds);
    }
}

/// The backlog, for the event `call`.
struct Held<'a, F> {
    backlog: &'a mut Backlog<F>,
    call: &'a Call<'a>,
}

impl<F> Out<F> for Held<'_, F> {
    fn fds(&self) -> usize {
        self.backlog.fds()
    }

    fn push(&mut self, message: &[u8], fds: impl Iterator<Item = F>) {
        self.backlog.push(self.call, message, fds);
    }
}

/// Appends to `out` what becomes of a message; returns what a trace says of it.
fn pass<F>(
    verdict: Verdict,
    message: &[u8],
    fds: impl Iterator<Item = F>,
    out: &mut impl Out<F>,
    begun: &mut Vec<Begun>,
    tally: &mut Tally,
) -> &'static str {
    let (bytes, note) = match &verdict {
        Verdict::Pass => (message, ""),
        Verdict::Replace(bytes) => (&bytes[..], " (with other words)"),
        Verdict::Begin(transfer) => {
            begun.push(Begun { fd: out.fds(), ..transfer.clone() });
            (message, "")
        }
        Verdict::Hide => return " (hidden)",
        Verdict::Refuse(why) => {
            tally.refused += 1;
            tally.refusal = Some(why);
            return " (refused)";
        }
    };
    out.push(bytes, fds);
    note
}

fn trace(
    lines: &mut Option<Vec<String>>,
    arrow: &str,
    call: &Call<'_>,
    objects: &Objects,
    note: &str,
) {
    if let Some(lines) = lines {
        lines.push(format!("{arrow}{}{note}", Text::new(call, objects)));
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wlproxy_protocol::wayland::{Arg, Offer, wire};

    const GET_REGISTRY: u16 = 1;
    const BIND: u16 = 0;
    const GLOBAL: u16 = 0;
    const GLOBAL_REMOVE: u16 = 1;

    fn message(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, args, &mut bytes);
        bytes
    }

    fn global(name: u32, interface: &std::ffi::CStr, version: u32) -> Vec<u8> {
        message(2, GLOBAL, &[Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version)])
    }

    /// A relay whose client has bound wl_shm as object 3.
    fn with_shm() -> Relay<u32> {
        with_shm_under(&Policy::of("work"))
    }

    fn with_shm_under(policy: &Policy) -> Relay<u32> {
        let mut relay = Relay::new(policy);
        let mut out = Batch::default();
        relay.from_client(&message(1, GET_REGISTRY, &[Arg::NewId(2)]), [], &mut out).unwrap();
        relay.from_compositor(&global(1, c"wl_shm", 1), [], &mut out).unwrap();
        let bind = [Arg::Uint(1), Arg::Str(Some(c"wl_shm")), Arg::Uint(1), Arg::NewId(3)];
        relay.from_client(&message(2, BIND, &bind), [], &mut out).unwrap();
        relay
    }

    fn create_pool(id: u32) -> Vec<u8> {
        message(3, 0, &[Arg::NewId(id), Arg::Fd, Arg::Int(4096)])
    }

    #[test]
    fn messages_pass_unchanged_with_their_fds() {
        let mut relay = with_shm();
        let mut out = Batch::default();
        let bytes = [create_pool(4), create_pool(5)].concat();
        // The fds came with the first byte; the second message is cut in half.
        relay.from_client(&bytes[..20], [10, 11], &mut out).unwrap();
        assert_eq!((out.bytes.len(), &out.fds[..]), (16, &[10][..]));
        relay.from_client(&bytes[20..], [], &mut out).unwrap();
        assert_eq!((&out.bytes[..], &out.fds[..]), (&bytes[..], &[10, 11][..]));
        assert_eq!((relay.take_tally().requests, relay.objects()), (4, 5));
    }

    #[test]
    fn a_missing_fd_is_named() {
        let error = with_shm().from_client(&create_pool(4), [], &mut Batch::default()).unwrap_err();
        assert_eq!(error.to_string(), "wl_shm@3.create_pool: its file descriptor is missing");
    }

    #[test]
    fn what_stands_before_a_violation_is_passed_on() {
        let mut relay = with_shm();
        let mut out = Batch::default();
        let bytes = [create_pool(4), message(99, 0, &[])].concat();
        assert!(relay.from_client(&bytes, [10], &mut out).is_err());
        assert_eq!((out.bytes.len(), out.fds.len()), (16, 1));
    }

    #[test]
    fn globals_that_cannot_cross_do_not() {
        let mut relay = with_shm();
        let mut out = Batch::default();
        let shown = global(3, c"wl_output", 1);
        let bytes = [global(2, c"zwp_linux_dmabuf_v1", 4), shown.clone()].concat();
        relay.from_compositor(&bytes, [], &mut out).unwrap();
        assert_eq!(out.bytes, shown);
    }

    #[test]
    fn what_is_not_allowed_is_neither_shown_nor_bound() {
        let mut offer = Offer::safe();
        offer.add("wl_output", Some(2)).unwrap();
        let of = |offer| Policy { offer: Arc::new(offer), ..Policy::of("work") };
        let policy = of(offer.clone());
        offer.add("zwlr_layer_shell_v1", None).unwrap();
        let allowing = of(offer);
        let layers = global(2, c"zwlr_layer_shell_v1", 1);
        let removed = message(2, GLOBAL_REMOVE, &[Arg::Uint(2)]);
        let bind = |name, interface, version| {
            let args =
                [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version), Arg::NewId(4)];
            message(2, BIND, &args)
        };
        for (policy, is_shown) in [(policy, false), (allowing, true)] {
            let mut relay = with_shm_under(&policy);
            let mut out = Batch::default();
            let events = [&layers[..], &global(3, c"wl_output", 4), &removed].concat();
            relay.from_compositor(&events, [], &mut out).unwrap();
            let output = global(3, c"wl_output", 2);
            let expected: &[&[u8]] =
                if is_shown { &[&layers, &output, &removed] } else { &[&output] };
            assert_eq!(out.bytes, expected.concat());
            let mut out = Batch::default();
            let bound = relay.from_client(&bind(2, c"zwlr_layer_shell_v1", 1), [], &mut out);
            if is_shown {
                assert_eq!((bound, out.bytes.is_empty()), (Ok(()), false));
                continue;
            }
            let why = "global 2, zwlr_layer_shell_v1, was not offered";
            assert_eq!(bound.unwrap_err().to_string(), format!("wl_registry@2.bind: {why}"));
            assert!(out.bytes.is_empty(), "the compositor hears nothing of it");
            let mut relay = with_shm_under(&policy);
            relay.from_compositor(&global(3, c"wl_output", 4), [], &mut out).unwrap();
            let error = relay.from_client(&bind(3, c"wl_output", 3), [], &mut out).unwrap_err();
            assert!(error.to_string().contains("version 3 of wl_output, which has 1 to 2"));
        }
    }

    /// A toplevel as object 6 of an xdg_wm_base as object 4; the bytes that go on when it is made.
    fn with_window(policy: &Policy) -> (Relay<u32>, Vec<u8>) {
        let mut relay = with_shm_under(policy);
        let mut out = Batch::default();
        let globals = [global(2, c"xdg_wm_base", 2), global(3, c"wl_compositor", 1)].concat();
        relay.from_compositor(&globals, [], &mut out).unwrap();
        let bind = |name, interface, id| {
            let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(1), Arg::NewId(id)];
            message(2, BIND, &args)
        };
        let requests = [
            bind(2, c"xdg_wm_base", 4),
            bind(3, c"wl_compositor", 5),
            message(5, 0, &[Arg::NewId(6)]),
            message(4, 2, &[Arg::NewId(7), Arg::Object(6)]),
        ];
        relay.from_client(&requests.concat(), [], &mut out).unwrap();
        out.bytes.clear();
        relay.from_client(&message(7, 1, &[Arg::NewId(8)]), [], &mut out).unwrap();
        (relay, out.bytes)
    }

    fn set(opcode: u16, text: &std::ffi::CStr) -> Vec<u8> {
        message(8, opcode, &[Arg::Str(Some(text))])
    }

    #[test]
    fn windows_have_the_names_that_the_host_gives_them() {
        const SET_TITLE: u16 = 2;
        const SET_APP_ID: u16 = 3;
        let get_toplevel = message(7, 1, &[Arg::NewId(8)]);
        let (mut relay, bytes) = with_window(&Policy::of("work"));
        // Also a window of which the client says nothing.
        let expected =
            [get_toplevel.clone(), set(SET_TITLE, c"[work] "), set(SET_APP_ID, c"work.")];
        assert_eq!(bytes, expected.concat());
        let mut out = Batch::default();
        let requests = [set(SET_TITLE, c"[gui] a\nb"), set(SET_APP_ID, c"foot")].concat();
        relay.from_client(&requests, [], &mut out).unwrap();
        let expected = [set(SET_TITLE, c"[work] [gui] ab"), set(SET_APP_ID, c"work.foot")];
        assert_eq!(out.bytes, expected.concat());

        // The longest request that a client may send is not too long when it goes on.
        let longest = std::ffi::CString::new("\u{1f600}".repeat(1020)).unwrap();
        let mut out = Batch::default();
        relay.from_client(&set(SET_TITLE, &longest), [], &mut out).unwrap();
        assert!(matches!(wire::split(&mut &out.bytes[..], MAX_REQUEST), Ok(Some(_))));

        // Without prefixes there is nothing to add, but still what to take out.
        let none = Policy { identity: Arc::default(), ..Policy::of("work") };
        let (mut relay, bytes) = with_window(&none);
        assert_eq!(bytes, get_toplevel);
        let mut out = Batch::default();
        relay.from_client(&set(SET_TITLE, c"a\x1bb"), [], &mut out).unwrap();
        assert_eq!(out.bytes, set(SET_TITLE, c"ab"));
    }

    #[test]
    fn a_tag_of_a_window_has_the_prefix_of_app_ids() {
        let (mut relay, _) = with_window(&Policy::of("work"));
        let mut out = Batch::default();
        relay.from_compositor(&global(4, c"xdg_toplevel_tag_manager_v1", 1), [], &mut out).unwrap();
        let bind = [
            Arg::Uint(4),
            Arg::Str(Some(c"xdg_toplevel_tag_manager_v1")),
            Arg::Uint(1),
            Arg::NewId(9),
        ];
        relay.from_client(&message(2, BIND, &bind), [], &mut out).unwrap();
        let set_tag = |text| message(9, 1, &[Arg::Object(8), Arg::Str(Some(text))]);
        let mut out = Batch::default();
        relay.from_client(&set_tag(c"settings\n"), [], &mut out).unwrap();
        assert_eq!(out.bytes, set_tag(c"work.settings"));
    }

    #[test]
    fn what_passes_can_be_read() {
        let mut relay = with_shm();
        assert!(relay.take_lines().is_empty());
        relay.set_traced(true);
        let mut out = Batch::default();
        relay.from_client(&create_pool(4), [10], &mut out).unwrap();
        let events = [
            global(2, c"zwp_linux_dmabuf_v1", 4),
            global(3, c"wl_seat", 99),
            global(4, c"wl_output", 1),
        ];
        relay.from_compositor(&events.concat(), [], &mut out).unwrap();
        let expected = [
            "wl_shm@3.create_pool(new id wl_shm_pool@4, fd, 4096)",
            " -> wl_registry@2.global(2, \"zwp_linux_dmabuf_v1\", 4) (hidden)",
            " -> wl_registry@2.global(3, \"wl_seat\", 99) (with a lower version)",
            " -> wl_registry@2.global(4, \"wl_output\", 1)",
        ];
        assert_eq!(relay.take_lines(), expected);
        assert!(relay.take_lines().is_empty());
        relay.set_traced(false);
        relay.from_client(&create_pool(5), [11], &mut out).unwrap();
        assert!(relay.take_lines().is_empty());
    }

    #[test]
    fn an_oversized_request_is_refused_by_its_header() {
        let mut relay = with_shm();
        let header = [3u32.to_ne_bytes(), (5000u32 << 16).to_ne_bytes()].concat();
        let error = relay.from_client(&header, [], &mut Batch::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("object 3: ") && text.contains("5000 bytes"), "{text}");
    }

    proptest! {
        /// Whatever a client sends in whatever pieces, only whole messages pass, and nothing panics.
        #[test]
        fn hostile_bytes_end_the_link_at_most(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut relay = with_shm();
            let mut out = Batch::default();
            for piece in pieces {
                if relay.from_client(&piece, [0], &mut out).is_err() {
                    break;
                }
            }
            let mut rest = &out.bytes[..];
            while wire::split(&mut rest, MAX_REQUEST).expect("whole messages").is_some() {}
            prop_assert!(rest.is_empty());
        }
    }
}
