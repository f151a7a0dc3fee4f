//! Two devices in one process, at the ends of one link.

use super::driver::{Driver, Event, IN};
use super::wayland::{self, report, request};
use super::{LINK, OK};
use crate::device::neighbours::tests::{Notebook, presence};
use crate::device::opener::Role;
use crate::device::{Neighbours, Side};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use wlproxy_protocol::accept::Token;

/// The client's context, and the compositor VM's.
const LEFT: u32 = 1;
const RIGHT: u32 = 2;
const BITS: [u8; Token::LEN] = [7; Token::LEN];

/// A client VM's device and the compositor VM's. The notebooks have what each was called for.
struct Street {
    left: Driver,
    right: Driver,
    calls_left: Arc<Notebook>,
    calls_right: Arc<Notebook>,
}

impl Street {
    /// Both have their end of the link, and the compositor VM's isn't proven.
    fn unproven() -> Self {
        let neighbours = Arc::new(Neighbours::default());
        let (left, calls_left) = presence(&neighbours, Side::Client);
        let (right, calls_right) = presence(&neighbours, Side::Compositor);
        let (mut left, mut right) =
            (Driver::among(Side::Client, left), Driver::among(Side::Compositor, right));
        let (client, compositor) = UnixStream::pair().unwrap();
        left.open_with(LEFT, client, LINK);
        let role = Role::Accepted { connection: 1, vm: 0, token: Token::new(BITS) };
        right.open_with(RIGHT, compositor, role);
        Self { left, right, calls_left, calls_right }
    }

    /// Something went each way, and each has read all of it.
    fn settled() -> Self {
        let mut street = Self::unproven();
        let Self { left, right, .. } = &mut street;
        assert_eq!(right.sent(RIGHT, &BITS, &[]), OK);
        assert_eq!(left.sent(LEFT, &wayland::get_registry(), &[]), OK);
        assert_eq!(right.events(), [Event::Recv(RIGHT, vec![], wayland::get_registry())]);
        assert_eq!(right.sent(RIGHT, &wayland::globals(), &[]), OK);
        assert_eq!(left.events().len(), 1);
        assert_eq!(left.sent(LEFT, &wayland::objects(), &[]), OK);
        right.turn_for(RIGHT);
        assert_eq!(right.events(), [Event::Recv(RIGHT, vec![], wayland::objects())]);
        street.forget();
        street
    }

    /// As if everybody had been visited.
    fn forget(&mut self) {
        self.left.calls();
        self.right.calls();
        self.calls_left.take();
        self.calls_right.take();
    }
}

fn bytes(events: Vec<Event>) -> (Vec<u8>, bool) {
    let (mut bytes, mut hung_up) = (Vec::new(), false);
    for event in events {
        match event {
            Event::Recv(_, _, more) => bytes.extend(more),
            Event::Hup(_) => hung_up = true,
            Event::New(new) => panic!("{new:?}"),
        }
    }
    (bytes, hung_up)
}

#[test]
fn a_message_and_its_answer_wake_no_other_thread() {
    let Street { mut left, mut right, calls_left, calls_right } = Street::settled();
    for _ in 0..3 {
        assert_eq!(left.sent(LEFT, &request("text"), &[]), OK);
        assert!(!right.is_woken());
        assert_eq!((left.calls().len(), calls_right.take()), (1, (vec![RIGHT], 0)));
        right.visit(RIGHT);
        assert_eq!(right.take_used(IN).len(), 1, "the guest has it");
        assert!(!right.is_woken());

        assert_eq!(right.sent(RIGHT, &report("text"), &[]), OK);
        assert!(!left.is_woken());
        assert_eq!((right.calls().len(), calls_left.take()), (1, (vec![LEFT], 0)));
        left.visit(LEFT);
        assert_eq!(left.take_used(IN).len(), 1, "the guest has it");
        assert!(!left.is_woken());
    }
}

#[test]
fn the_stream_tells_of_what_a_visitor_has_left() {
    let Street { mut left, mut right, .. } = Street::settled();
    let sent: Vec<u8> = (0..100).flat_map(|n| request(&"x".repeat(100 + n))).collect();
    assert_eq!(left.sent(LEFT, &sent, &[]), OK);
    assert!(!right.is_woken());
    right.visit(RIGHT);
    assert!(right.is_woken(), "a visitor reads once");
    let mut got = Vec::new();
    while got.len() < sent.len() {
        right.wait();
        got.extend(bytes(right.events()).0);
    }
    assert!(got == sent && !right.is_woken());
    // Now it is called again.
    assert_eq!(left.sent(LEFT, &request("text"), &[]), OK);
    assert!(!right.is_woken());
}

#[test]
fn a_stream_that_is_full_tells_when_it_is_not() {
    let Street { mut left, mut right, calls_right, .. } = Street::settled();
    let part: Vec<u8> = (0..50).flat_map(|n| request(&"x".repeat(1000 + n))).collect();
    let mut sent = Vec::new();
    let held = loop {
        sent.extend_from_slice(&part);
        let slot = left.send(LEFT, &part, &[]);
        if left.kind(slot).is_none() {
            break slot;
        }
    };
    left.calls();
    calls_right.take();
    let mut got = Vec::new();
    right.visit(RIGHT);
    while got.len() < sent.len() {
        got.extend(bytes(right.events()).0);
        if left.is_woken() {
            left.turn();
            assert_eq!((left.calls().len(), calls_right.take()), (1, (vec![RIGHT], 0)));
            right.visit(RIGHT);
        }
    }
    assert!(got == sent);
    assert_eq!(left.kind(held), OK);
}

#[test]
fn who_leaves_says_so_and_what_it_still_writes_arrives() {
    let Street { mut left, mut right, calls_left, .. } = Street::settled();
    let part: Vec<u8> = (0..50).flat_map(|n| report(&"x".repeat(1000 + n))).collect();
    let mut sent = Vec::new();
    // More than a socket takes: the rest waits at the device.
    while sent.len() < 600_000 {
        sent.extend_from_slice(&part);
        assert_eq!(right.sent(RIGHT, &part, &[]), OK);
    }
    right.calls();
    calls_left.take();
    let slot = right.close(RIGHT);
    assert_eq!((right.kind(slot), calls_left.take()), (OK, (vec![LEFT], 1)));
    left.turn_for(LEFT);
    let (mut got, mut over) = (Vec::new(), false);
    while !over {
        let (more, hung_up) = bytes(left.events());
        // What was read ahead follows as the guest takes what came before.
        let goes_on = !more.is_empty();
        got.extend(more);
        over = hung_up;
        right.turn();
        assert!(over || goes_on || left.is_woken(), "nobody tells of the rest");
    }
    assert!(got == sent);
}

#[test]
fn the_end_of_a_device_is_seen() {
    let Street { left, mut right, calls_right, .. } = Street::settled();
    drop(left);
    assert_eq!(calls_right.take(), (vec![RIGHT], 1));
    right.turn_for(RIGHT);
    assert_eq!(right.events(), [Event::Hup(RIGHT)]);
}

#[test]
fn a_violation_ends_both_ends() {
    let Street { mut left, mut right, calls_right, .. } = Street::settled();
    assert_eq!(left.sent(LEFT, &wayland::bad_request(), &[]), OK);
    assert!(matches!(left.events()[..], [Event::Recv(..), Event::Hup(LEFT)]));
    // The client's vfd is still there.
    assert_eq!(calls_right.take(), (vec![RIGHT], 1));
    right.turn_for(RIGHT);
    assert_eq!(right.events(), [Event::Hup(RIGHT)]);
}

#[test]
fn a_call_brings_nothing_to_a_context_that_is_not_proven() {
    let Street { mut left, mut right, calls_right, .. } = Street::unproven();
    assert_eq!(left.sent(LEFT, &wayland::get_registry(), &[]), OK);
    assert_eq!((left.calls().len(), calls_right.take()), (1, (vec![RIGHT], 0)));
    right.visit(RIGHT);
    assert!(right.take_used(IN).is_empty() && !right.is_woken());
    assert_eq!(right.sent(RIGHT, &BITS, &[]), OK);
    assert_eq!(right.events(), [Event::Recv(RIGHT, vec![], wayland::get_registry())]);
}
