//! Links: what comes out was let in, in order, with its fds, but for what the policy says; and neither how the streams are
//! cut nor how slowly the client reads changes anything else.

mod backlog;
mod model;

use crate::input::Input;
use crate::wayland::Known;
use backlog::Waiting;
use model::Model;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use wlproxy::policy::{Current, Kind, Policy, Selections};
use wlproxy::relay::{Relay, Violation};
use wlproxy_protocol::limits::{MAX_EVENT, MAX_QUEUED};
use wlproxy_protocol::wayland::{Batch, wire};

/// Most fds beside one delivery: more than may wait, now and then.
const MOST_FDS: usize = 255;

/// Most messages of one delivery.
const MOST_MESSAGES: usize = 6;

/// Policies that links have: nothing is changed; names are; nothing is copied or pasted; some of it is.
static POLICIES: LazyLock<[Policy; 4]> = LazyLock::new(|| {
    let unchanging = Policy::unchanging();
    let all = Selections::clone(&unchanging.selections);
    let named = Policy { selections: Arc::new(all.clone()), ..Policy::of("work") };
    let (give, take) = Default::default();
    let nothing = Selections { give, take, ..all.clone() };
    let types = ["a*".to_owned(), "TEXT".to_owned()].map(|text| text.try_into().expect("a type"));
    let some = Selections {
        give: [Kind::Clipboard].into(),
        take: [Kind::Drag].into(),
        types: Some(types.into()),
        ..all
    };
    let of =
        |selections: Selections| Policy { selections: selections.into(), ..Policy::unchanging() };
    [unchanging, named, of(nothing), of(some)]
});

/// What a right client may still be told, as its numbers are anybody's.
const RIGHT_REASONS: [&str; 4] =
    ["the quota", "the size of", "above itself", "the surface is a subsurface"];

/// A link twice: the client of one may be slow to read, the other gets what is said in pieces.
struct Link {
    known: Known,
    relay: Relay<u32>,
    cut: Relay<u32>,
    model: Model,
    /// fds that each direction had.
    fds: [u32; 2],
    waiting: Waiting,
    /// What was taken late.
    late: Batch<u32>,
    out: Batch<u32>,
    cut_out: Batch<u32>,
    bytes: Vec<u8>,
}

/// One input.
pub fn run(data: &[u8]) {
    play(data);
}

/// The same; returns how many messages have passed.
fn play(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let current = Current::new(policy(&mut input));
    let mut link = Link::new(&mut input, &current);
    let mut passed = 0;
    while !input.is_empty() {
        let went_on = link.step(&mut input);
        if input.one_in(32) {
            // A link goes on as it began.
            current.set(policy(&mut input));
        }
        if !went_on || input.one_in(128) {
            passed += link.end();
            link = Link::new(&mut input, &current);
        }
    }
    passed + link.end()
}

fn policy(input: &mut Input<'_>) -> Policy {
    POLICIES[[0, 0, 1, 1, 2, 3][input.below(6)]].clone()
}

impl Link {
    fn new(input: &mut Input<'_>, current: &Current) -> Self {
        let policy = current.get();
        let right = !input.one_in(4);
        let relay = || Relay::with(&policy, current.rates(), current.census());
        let mut link = Self {
            known: Known::new(policy.offer.clone(), right),
            relay: relay(),
            cut: relay(),
            model: Model::new(&policy, *policy.selections == *POLICIES[3].selections),
            fds: [0; 2],
            waiting: Waiting::default(),
            late: Batch::default(),
            out: Batch::default(),
            cut_out: Batch::default(),
            bytes: Vec::new(),
        };
        link.relay.set_traced(input.one_in(16) || is_shown());
        link
    }

    /// Somebody says something. `false` if that ends the link.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let is_request = input.one_in(2);
        let fds = self.say(input, is_request);
        let first = self.fds[usize::from(is_request)];
        self.fds[usize::from(is_request)] += fds;
        let result = if is_request {
            self.requests(input, first..first + fds)
        } else {
            self.events(input, first..first + fds)
        };
        self.show();
        if let Err(violation) = &result {
            let event = violation.to_event();
            let mut rest = &event[..];
            assert!(wire::split(&mut rest, MAX_EVENT).expect("a size").is_some());
            assert!(rest.is_empty(), "the client can't be told why");
            let reason = &violation.reason;
            let may_be = RIGHT_REASONS.iter().any(|right| reason.contains(right));
            assert!(!self.known.is_right() || may_be, "{violation}: nothing is wrong");
        }
        assert_eq!(self.cut.objects(), self.relay.objects());
        self.model.check_replies(self.relay.has_replies());
        if self.relay.has_replies() && input.one_in(2) {
            let replies = self.relay.take_replies();
            assert_eq!(self.cut.take_replies(), replies);
            self.model.replies(&replies);
        }
        result.is_ok()
    }

    /// What has passed can be read.
    fn show(&mut self) {
        let lines = self.relay.take_lines();
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
        if is_shown() {
            lines.iter().for_each(|line| println!("{line}"));
        }
    }

    /// Makes up some messages. Returns how many fds come with them.
    fn say(&mut self, input: &mut Input<'_>, is_request: bool) -> u32 {
        self.bytes.clear();
        let mut fds = 0;
        for _ in 0..=input.below(MOST_MESSAGES) {
            fds += self.known.message(input, is_request, &mut self.bytes);
        }
        if !self.known.is_right() {
            match input.byte() {
                240..243 => fds = input.below(MOST_FDS + 1),
                243..246 => self.bytes.extend(input.bytes(40)),
                246..248 => self.bytes.truncate(input.below(256)),
                248 => fds = fds.saturating_sub(1),
                _ => {}
            }
        }
        fds as u32
    }

    fn requests(&mut self, input: &mut Input<'_>, fds: Range<u32>) -> Result<(), Violation> {
        clear(&mut self.out);
        let result = self.relay.from_client(&self.bytes, fds.clone(), &mut self.out);
        self.in_pieces(input, true, fds.clone(), &result);
        assert_eq!(self.cut_out.bytes, self.out.bytes, "it matters how requests are cut");
        assert_eq!(self.cut_out.fds, self.out.fds);
        let tally = self.relay.take_tally();
        assert_eq!(self.cut.take_tally(), tally);
        let begun = self.relay.take_begun();
        assert_eq!(self.cut.take_begun(), begun);
        self.show();
        self.model.requests(&self.bytes, fds, tally.requests, &self.out, &begun, result.is_ok());
        result
    }

    fn events(&mut self, input: &mut Input<'_>, fds: Range<u32>) -> Result<(), Violation> {
        if self.relay.held() > 0 && (input.one_in(4) || !self.relay.has_room()) {
            self.take(input);
        }
        // What waits goes first.
        let is_held = self.relay.held() > 0 || input.one_in(4);
        clear(&mut self.out);
        let before = self.relay.held();
        let result = if is_held {
            self.relay.hold(&self.bytes, fds.clone())
        } else {
            self.relay.from_compositor(&self.bytes, fds.clone(), &mut self.out)
        };
        assert!(!is_held || self.out.bytes.is_empty() && self.out.fds.is_empty());
        self.in_pieces(input, false, fds.clone(), &result);
        self.show();
        let (tally, begun) = (self.relay.take_tally(), self.relay.take_begun());
        assert_eq!(self.cut.take_tally(), tally);
        let cut_begun = self.cut.take_begun();
        let passed = self.model.events(
            &self.bytes,
            fds,
            tally.events,
            &self.cut_out,
            &cut_begun,
            result.is_ok(),
        );
        if is_held {
            assert!(self.relay.held() <= before + self.cut_out.bytes.len(), "more waits than came");
            let fds = begun.iter().map(|begun| self.relay.held_fd(begun.fd).copied());
            let of_cut = cut_begun.iter().map(|begun| Some(self.cut_out.fds[begun.fd]));
            assert!(fds.collect::<Vec<_>>().into_iter().eq(of_cut), "another transfer's fd");
            self.waiting.push(passed);
        } else {
            assert_eq!(begun, cut_begun);
            assert_eq!(self.cut_out.bytes, self.out.bytes, "it matters how events are cut");
            assert_eq!(self.cut_out.fds, self.out.fds);
        }
        result
    }

    /// The same in pieces, to the other relay.
    fn in_pieces(
        &mut self,
        input: &mut Input<'_>,
        is_request: bool,
        fds: Range<u32>,
        expected: &Result<(), Violation>,
    ) {
        clear(&mut self.cut_out);
        let (mut rest, mut fds) = (&self.bytes[..], Some(fds));
        let result = loop {
            let piece = input.piece(&mut rest);
            // As on a socket: they come with the first byte.
            let fds = fds.take().unwrap_or(0..0);
            let result = if is_request {
                self.cut.from_client(piece, fds, &mut self.cut_out)
            } else {
                self.cut.from_compositor(piece, fds, &mut self.cut_out)
            };
            if result.is_err() || rest.is_empty() {
                break result;
            }
        };
        assert_eq!(result, *expected, "it matters how the stream is cut");
    }

    /// The client reads some of what waits, or all.
    fn take(&mut self, input: &mut Input<'_>) {
        loop {
            let limit = if input.one_in(2) { MAX_QUEUED } else { input.number() as usize % 5000 };
            let (before, held) = (self.late.bytes.len(), self.relay.held());
            self.relay.take_held(limit, &mut self.late);
            let taken = &self.late.bytes[before..];
            assert!(!taken.is_empty() && taken.len() + self.relay.held() == held, "bytes are lost");
            let mut rest = taken;
            let first = wire::split(&mut rest, MAX_EVENT).expect("a size").expect("whole");
            assert!(taken.len() <= limit.max(first.bytes.len()), "more than was asked for");
            self.waiting.check_fds(&self.late);
            if self.relay.held() == 0 {
                break;
            }
            if input.one_in(2) {
                return;
            }
        }
        self.waiting.check(&self.late);
        clear(&mut self.late);
    }

    /// The end: what waits is still for the client. Returns how many messages have passed.
    fn end(mut self) -> u64 {
        if self.relay.held() > 0 {
            let mut rest = Input::new(&[]);
            while self.relay.held() > 0 {
                self.take(&mut rest);
            }
        }
        self.model.passed
    }
}

fn is_shown() -> bool {
    crate::SHOWN.load(Ordering::Relaxed)
}

fn clear(batch: &mut Batch<u32>) {
    batch.bytes.clear();
    batch.fds.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Maker;

    /// Some of these are a few bytes long.
    const INPUTS: u64 = 500;

    #[test]
    fn what_is_made_up_goes_deep() {
        let maker = Maker::new(1, &[]).expect("nothing is read");
        let (mut input, mut passed) = (Vec::new(), 0);
        for number in 0..INPUTS {
            maker.make(number, &mut input);
            passed += play(&input);
        }
        assert!(passed > 12 * INPUTS, "{} messages of each input pass", passed / INPUTS);
    }
}
