//! The selections of one client: what it gives to others and takes from them, in the words of each protocol.
//!
//! What its VM may not give never reaches the compositor: requests that name a type, or make a source the selection, are left
//! out. A drag that may not be is cancelled, since its client would wait for its end.
//!
//! What it may not take has no types. The compositor makes an object for each thing that is offered, and numbers them one by
//! one, so the client has to know that object; but of its types it isn't told, and what it asks of it is left out. The fd that
//! came with the question is closed: whoever reads finds the end at once.

use crate::concern::{Role, role};
use crate::harmless::is_harmful;
use crate::policy::{Direction, Kind, Selections};
use crate::rate::{Rate, Rates};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_protocol::wayland::{Arg, Call, wire};

/// Most characters of a type that the log has: as many as a MIME type may have.
const MAX_LOGGED: usize = 255;

/// `wl_data_source.cancelled`.
const CANCELLED: u16 = 2;

/// A transfer that begins: its fd is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Where its fd stands among those of the batch.
    pub fd: usize,
    /// Which way the data go.
    pub direction: Direction,
    /// By which selection; `None` if that isn't known: the client asked too early, or has destroyed the source.
    pub kind: Option<Kind>,
    /// Of which type, for people.
    pub of: String,
    /// How many bytes it may have.
    pub bytes: u64,
    /// Whether the log tells of it. Of what others take, no more than the rate: each is a line.
    pub is_told: bool,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes as it is.
    Pass,
    /// These bytes pass in its place: whole messages.
    Replace(Vec<u8>),
    /// It passes, and with its fd a transfer begins.
    Begin(Begun),
    /// It is left out, as what concerns the client alone: it isn't told a type.
    Hide,
    /// It is left out, and its fd closed: this may not be.
    Refuse(&'static str),
}

/// Something that was offered to the client.
#[derive(Debug, Default)]
struct Offered {
    /// By which selection; known when the compositor has told all of its types.
    kind: Option<Kind>,
    /// Events that tell types, until then.
    held: Vec<u8>,
}

/// The selections of one client.
#[derive(Debug)]
pub(super) struct Exchange {
    policy: Arc<Selections>,
    rates: Arc<Rates>,
    /// By source: what it was used for.
    sources: BTreeMap<u32, Kind>,
    offers: BTreeMap<u32, Offered>,
    /// Bytes that are held in all offers.
    held: usize,
    /// Sources of drags that could not be, of which the client isn't told yet.
    cancelled: BTreeSet<u32>,
}

impl Exchange {
    pub(super) fn new(policy: Arc<Selections>, rates: Arc<Rates>) -> Self {
        Self {
            policy,
            rates,
            sources: BTreeMap::new(),
            offers: BTreeMap::new(),
            held: 0,
            cancelled: BTreeSet::new(),
        }
    }

    /// A request of the client, which was checked.
    pub(super) fn request(&mut self, call: &Call<'_>, now: Option<Instant>) -> Verdict {
        let (interface, request) = call.name();
        let Some((role, kinds)) = role(interface) else { return Verdict::Pass };
        match (role, request) {
            (Role::Source, "offer") => {
                let given = kinds.iter().any(|&kind| self.policy.allows(Direction::Give, kind));
                let allowed = given && self.policy.allows_type(text(call).unwrap_or_default());
                if allowed { Verdict::Pass } else { Verdict::Hide }
            }
            (Role::Source, "destroy") => {
                self.sources.remove(&call.object());
                self.cancelled.remove(&call.object());
                Verdict::Pass
            }
            (Role::Device, "set_selection") => self.give(call, kinds[0]),
            (Role::Device, "set_primary_selection") => self.give(call, Kind::Primary),
            (Role::Device, "start_drag") => self.give(call, Kind::Drag),
            (Role::Offer, "receive") => self.take(call, kinds, now),
            (Role::Offer, "accept") => self.accept(call),
            (Role::Offer, "destroy") => {
                self.forget(call.object());
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }

    /// An event of the compositor, which was checked.
    pub(super) fn event(&mut self, call: &Call<'_>, now: Option<Instant>) -> Verdict {
        let (interface, event) = call.name();
        let Some((role, kinds)) = role(interface) else { return Verdict::Pass };
        match (role, event) {
            (Role::Device, "data_offer") => {
                if let Some(id) = call.args().find_map(new_id) {
                    self.forget(id);
                    self.offers.insert(id, Offered::default());
                }
                Verdict::Pass
            }
            (Role::Offer, "offer") => self.tell(call, kinds),
            (Role::Device, "selection") => self.know(call, kinds[0]),
            (Role::Device, "primary_selection") => self.know(call, Kind::Primary),
            (Role::Device, "enter") => self.know(call, Kind::Drag),
            (Role::Source, "send") => {
                // The client may have made another source of the same id, which was used for something else.
                let kind = self.sources.get(&call.object()).copied();
                let kind = kind.filter(|kind| kinds.contains(kind));
                let allowed = self.may(Direction::Give, kind, kinds);
                self.begin(call, Direction::Give, kind, allowed, now)
            }
            _ => Verdict::Pass,
        }
    }

    /// What the client is to be told, beside what the compositor says: whole events.
    pub(super) fn replies(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for source in std::mem::take(&mut self.cancelled) {
            wire::encode(source, CANCELLED, &[], &mut bytes);
        }
        bytes
    }

    /// Whether there is something to tell.
    pub(super) fn has_replies(&self) -> bool {
        !self.cancelled.is_empty()
    }

    /// The client makes a source the selection, or takes it away, or drags it.
    fn give(&mut self, call: &Call<'_>, kind: Kind) -> Verdict {
        // The first object, which may be none.
        let source = call.args().find_map(object).unwrap_or(0);
        // What is dragged without a source nobody else gets anything of.
        if self.policy.allows(Direction::Give, kind) || kind == Kind::Drag && source == 0 {
            if source != 0 {
                self.sources.insert(source, kind);
            }
            return Verdict::Pass;
        }
        match kind {
            Kind::Clipboard => Verdict::Refuse("its clients give nothing to the clipboard"),
            Kind::Primary => Verdict::Refuse("its clients give nothing to the primary selection"),
            Kind::Drag => {
                self.cancelled.insert(source);
                Verdict::Refuse("its clients drag nothing to others")
            }
        }
    }

    /// The client wants what it was offered.
    fn take(&mut self, call: &Call<'_>, kinds: &[Kind], now: Option<Instant>) -> Verdict {
        let kind = self.offers.get(&call.object()).and_then(|offered| offered.kind);
        let allowed = self.may(Direction::Take, kind, kinds);
        self.begin(call, Direction::Take, kind, allowed, now)
    }

    fn begin(
        &mut self,
        call: &Call<'_>,
        direction: Direction,
        kind: Option<Kind>,
        allowed: bool,
        now: Option<Instant>,
    ) -> Verdict {
        let of = text(call).unwrap_or_default();
        if !allowed {
            return Verdict::Refuse(match direction {
                Direction::Give => "it asks its clients for what they don't give",
                Direction::Take => "its clients don't take this",
            });
        }
        if !self.policy.allows_type(of) {
            return Verdict::Refuse("the type is none of those that it may give and take");
        }
        let is_within = |rate: &Rate| now.is_none_or(|now| rate.take(now, self.policy.rate));
        let is_told = match direction {
            Direction::Take if !is_within(&self.rates.taken) => {
                return Verdict::Refuse("its clients take more in a minute than their `rate`");
            }
            Direction::Take => true,
            // Whoever takes it is bounded by its own rate. Were it bounded here, one VM could use up what others need of this.
            Direction::Give => is_within(&self.rates.given),
        };
        let bytes = self.policy.bytes;
        Verdict::Begin(Begun { fd: 0, direction, kind, of: shown(of), bytes, is_told })
    }

    /// Whether something may go this way. As long as its kind isn't known, all that it may be have to be allowed.
    fn may(&self, direction: Direction, kind: Option<Kind>, kinds: &[Kind]) -> bool {
        let may = |&kind: &Kind| self.policy.allows(direction, kind);
        kind.as_ref().map_or_else(|| kinds.iter().all(may), may)
    }

    /// The client says which type of what is dragged over it it would take. If it may not, it says that it takes none: a drop
    /// that nobody has taken must not look like one that was moved away.
    fn accept(&self, call: &Call<'_>) -> Verdict {
        let kind = self.offers.get(&call.object()).and_then(|offered| offered.kind);
        let Some(of) = text(call) else { return Verdict::Pass };
        let kind = kind.unwrap_or(Kind::Drag);
        if self.policy.allows(Direction::Take, kind) && self.policy.allows_type(of) {
            return Verdict::Pass;
        }
        let nothing = |arg| if let Arg::Str(_) = arg { Arg::Str(None) } else { arg };
        let args: Vec<Arg<'_>> = call.args().map(nothing).collect();
        let mut bytes = Vec::new();
        wire::encode(call.object(), call.message.opcode, &args, &mut bytes);
        Verdict::Replace(bytes)
    }

    /// The compositor tells a type of something offered.
    fn tell(&mut self, call: &Call<'_>, kinds: &[Kind]) -> Verdict {
        if !self.policy.allows_type(text(call).unwrap_or_default()) {
            return Verdict::Hide;
        }
        let kind = self.offers.get(&call.object()).and_then(|offered| offered.kind);
        if self.may(Direction::Take, kind, kinds) {
            return Verdict::Pass;
        }
        let may = |kind: &Kind| self.policy.allows(Direction::Take, *kind);
        let length = call.message.bytes.len();
        if kind.is_none()
            && kinds.iter().any(may)
            && self.held + length <= MAX_QUEUED
            && let Some(offered) = self.offers.get_mut(&call.object())
        {
            offered.held.extend_from_slice(call.message.bytes);
            self.held += length;
        }
        Verdict::Hide
    }

    /// The compositor says what something offered is. What was held goes ahead of that, if it may.
    fn know(&mut self, call: &Call<'_>, kind: Kind) -> Verdict {
        // wl_data_device.enter names a surface before it.
        let id = call.args().filter_map(object).last().unwrap_or(0);
        let Some(offered) = self.offers.get_mut(&id) else { return Verdict::Pass };
        offered.kind = Some(kind);
        let held = std::mem::take(&mut offered.held);
        self.held -= held.len();
        if held.is_empty() || !self.policy.allows(Direction::Take, kind) {
            return Verdict::Pass;
        }
        Verdict::Replace([&held, call.message.bytes].concat())
    }

    fn forget(&mut self, offer: u32) {
        if let Some(offered) = self.offers.remove(&offer) {
            self.held -= offered.held.len();
        }
    }
}

/// The type that a message names.
fn text<'a>(call: &Call<'a>) -> Option<&'a [u8]> {
    call.args().find_map(|arg| match arg {
        Arg::Str(text) => Some(text.map(|text| text.to_bytes())),
        _ => None,
    })?
}

fn object(arg: Arg<'_>) -> Option<u32> {
    if let Arg::Object(id) = arg { Some(id) } else { None }
}

fn new_id(arg: Arg<'_>) -> Option<u32> {
    if let Arg::NewId(id) = arg { Some(id) } else { None }
}

/// A type as the log has it.
fn shown(of: &[u8]) -> String {
    let text = String::from_utf8_lossy(of);
    text.chars().filter(|&c| !is_harmful(c)).take(MAX_LOGGED).collect()
}

#[cfg(test)]
mod tests;
