//! Links: what the relay's verdicts mean for the guest and for the compositor, and SENDs that are held back.

use super::driver::{Driver, Event, event, new};
use super::wayland::{self, link, request};
use super::{OK, clog, drain, fill, filler, give, take};
use crate::counters::ConnectionSnapshot;
use crate::device::Side;
use crate::device::opener::Role;
use crate::few_fds::{self, alone};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::{MAX_EVENT, MAX_RECV, MAX_SEND};
use wlproxy_protocol::virtio_wl::{VfdNew, flags, message};
use wlproxy_unix::memory;

#[test]
fn a_bad_request_ends_its_link_alone() {
    let mut driver = Driver::new(Side::Client);
    let (mut peer, other) = (link(&mut driver, 1), link(&mut driver, 2));
    let good = request("good");
    let sent = [good.clone(), wayland::bad_request(), request("never")].concat();
    assert_eq!(driver.sent(1, &sent, &[]), OK, "the hang-up tells it");
    assert_eq!(drain(&mut peer), good);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed after what came before");
    let complaint = Event::Recv(1, vec![], wayland::complaint());
    assert_eq!(driver.events(), [complaint, Event::Hup(1)]);
    assert_eq!(driver.counters.violations.get(), 1);
    assert_eq!(driver.sent(1, &good, &[]), OK, "a race, not an error");
    assert_eq!(driver.counters.violations.get(), 1);

    assert_eq!(driver.sent(2, &good, &[]), OK);
    assert_eq!(take(&other).0, good);
    give(&other, &wayland::report("well"), []);
    assert_eq!(driver.events(), [Event::Recv(2, vec![], wayland::report("well"))]);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
}

#[test]
fn what_came_before_a_bad_request_reaches_a_slow_compositor() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = link(&mut driver, 1);
    let (_, count) = clog(&mut driver, 1, filler);
    drain(&mut peer);
    driver.turn();
    drain(&mut peer);
    let mut expected: Vec<u8> = (1..count).flat_map(filler).collect();
    for part in expected.chunks(MAX_SEND) {
        assert_eq!(driver.sent(1, part, &[]), OK, "the socket takes as much as before");
    }
    let more: Vec<u8> = (0..8).flat_map(filler).collect();
    let bad = driver.send(1, &[more.clone(), wayland::bad_request()].concat(), &[]);
    assert_eq!(driver.kind(bad), OK);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    expected.extend(more);
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(drain(&mut peer));
        driver.turn();
    }
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_bad_request_that_waits_is_found_when_its_turn_comes() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = link(&mut driver, 1);
    let (first, count) = clog(&mut driver, 1, filler);
    let bad = driver.send(1, &wayland::bad_request(), &[]);
    let late = driver.send(1, &request("late"), &[]);
    assert_eq!([first, bad, late].map(|slot| driver.kind(slot)), [None; 3]);
    assert_eq!(driver.events(), []);
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(drain(&mut peer));
        driver.turn();
    }
    assert!(got == (1..=count).flat_map(filler).collect::<Vec<_>>(), "{} bytes", got.len());
    assert_eq!([first, bad, late].map(|slot| driver.kind(slot)), [OK; 3]);
    let complaint = Event::Recv(1, vec![], wayland::complaint());
    assert_eq!(driver.events(), [complaint, Event::Hup(1)]);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_bad_event_ends_the_link() {
    let mut driver = Driver::new(Side::Client);
    let (mut peer, _other) = (link(&mut driver, 1), link(&mut driver, 2));
    let good = wayland::report("good");
    peer.write_all(&[good.clone(), wayland::bad_event()].concat()).unwrap();
    let complaint = wayland::error(0, "object 99: event of an unknown object");
    let expected = [good, complaint].map(|bytes| Event::Recv(1, vec![], bytes));
    let [good, complaint] = expected;
    assert_eq!(driver.events(), [good, complaint, Event::Hup(1)]);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    assert_eq!(driver.counters.violations.get(), 1);
    assert_eq!(driver.sent(2, &request("free"), &[]), OK);
}

/// What waited for a guest that takes nothing is forgotten when its stream is ended here.
#[test]
fn nothing_comes_after_the_hang_up() {
    for leaves in [false, true] {
        let mut driver = Driver::new(Side::Client);
        let mut peer = link(&mut driver, 1);
        fill(&mut driver, &mut peer);
        let peer = (!leaves).then_some(peer);
        let mut unread = driver.received();
        assert_eq!(driver.sent(1, &wayland::bad_request(), &[]), OK);
        let mut events = Vec::new();
        while !unread.is_empty() {
            events.extend(unread.iter().map(|received| event(&received.bytes)));
            driver.give_back(unread);
            unread = driver.received();
        }
        let complaint = Event::Recv(1, vec![], wayland::complaint());
        assert!(events.ends_with(&[complaint, Event::Hup(1)]), "{:?}", events.last());
        let hang_ups = events.iter().filter(|&event| *event == Event::Hup(1));
        assert_eq!(hang_ups.count(), 1);
        drop(peer);
    }
}

#[test]
fn the_largest_event_arrives_whole() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let mime: String = ('a'..='z').cycle().take(MAX_EVENT - wayland::REQUEST).collect();
    let event = wayland::send(&mime);
    assert_eq!(event.len(), MAX_EVENT);
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    give(&peer, &event[..MAX_RECV], [writer]);
    assert_eq!(driver.events(), [], "the rest is not there");
    give(&peer, &event[MAX_RECV..], []);
    let mut events = driver.events().into_iter();
    let Some(Event::New(pipe)) = events.next() else { panic!("the pipe comes first") };
    assert_eq!(pipe.flags, flags::WRITE);
    let mut brought = vec![pipe.id];
    let mut got = Vec::new();
    for event in events {
        let Event::Recv(1, vfds, bytes) = event else { panic!("{event:?}") };
        assert_eq!(vfds, std::mem::take(&mut brought), "with the first piece");
        assert!(bytes.len() <= MAX_RECV, "{} bytes", bytes.len());
        got.extend(bytes);
    }
    assert!(got == event, "{} of {MAX_EVENT} bytes", got.len());
}

#[test]
fn what_passes_is_counted() {
    let mut driver = Driver::new(Side::Client);
    let (peer, _other) = (link(&mut driver, 1), link(&mut driver, 2));
    let count = |driver: &Driver| {
        let now = driver.counters.snapshot();
        let before = (2 * wayland::REQUESTS, 2 * wayland::EVENTS);
        (now.requests - before.0, now.events - before.1, now.commits, now.violations)
    };
    assert_eq!(count(&driver), (0, 0, 0, 0));
    let sent = [wayland::commit(), request("text"), wayland::commit()].concat();
    assert_eq!(driver.sent(1, &sent[..sent.len() - 1], &[]), OK);
    assert_eq!(count(&driver), (2, 0, 1, 0), "the last one is cut short");
    assert_eq!(driver.sent(1, &sent[sent.len() - 1..], &[]), OK);
    assert_eq!(count(&driver), (3, 0, 2, 0));
    give(&peer, &[wayland::report("one"), wayland::report("two")].concat(), []);
    driver.events();
    assert_eq!(count(&driver), (3, 2, 2, 0));
    let sent = [wayland::commit(), wayland::bad_request(), wayland::commit()].concat();
    assert_eq!(driver.sent(1, &sent, &[]), OK);
    assert_eq!(count(&driver), (4, 2, 3, 1), "only what was passed on");
}

#[test]
fn a_connection_is_counted_by_itself() {
    let mut driver = Driver::new(Side::Client);
    let (peer, mut other) = (link(&mut driver, 1), link(&mut driver, 2));
    let one = |driver: &Driver, at: usize| {
        let one = driver.counters.snapshot().connections.swap_remove(at);
        // It falls by itself.
        ConnectionSnapshot { messages: 0, ..one }
    };
    let before = one(&driver, 1);
    assert_eq!((before.requests, before.events), (wayland::REQUESTS, wayland::EVENTS));
    assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK);
    give(&peer, &wayland::report("one"), []);
    driver.turn();
    let now = one(&driver, 0);
    assert_eq!((now.requests, now.commits), (wayland::REQUESTS + 1, 1));
    let sent = before.sent_bytes + wayland::commit().len() as u64;
    let received = before.received_bytes + wayland::report("one").len() as u64;
    assert_eq!((now.sent_bytes, now.received_bytes), (sent, received));
    assert_eq!(one(&driver, 1), before);
    assert_eq!(driver.counters.snapshot().objects, now.objects + before.objects);

    let (_, count) = clog(&mut driver, 2, filler);
    let held = driver.send(2, &request("held"), &[]);
    let all: usize = (1..=count).map(|n| filler(n).len()).sum::<usize>() + request("held").len();
    let read = drain(&mut other).len();
    assert_eq!(one(&driver, 1).sending_bytes, (all - read) as u64);
    for _ in 0..1000 {
        driver.turn();
        drain(&mut other);
    }
    assert_eq!((driver.kind(held), one(&driver, 1).sending_bytes), (OK, 0));
    let slot = driver.close(2);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(driver.counters.snapshot().connections.len(), 1);
}

#[test]
fn a_commit_is_timed_until_it_is_written() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = link(&mut driver, 1);
    let timed = |driver: &Driver| driver.counters.snapshot().commit_in;
    assert_eq!(driver.sent(1, &request("no commit"), &[]), OK);
    assert_eq!(timed(&driver).count(), 0);
    assert_eq!(driver.sent(1, &[wayland::commit(), wayland::commit()].concat(), &[]), OK);
    assert_eq!(timed(&driver).count(), 2);
    drain(&mut peer);
    clog(&mut driver, 1, filler);
    let sent = driver.send(1, &wayland::commit(), &[]);
    assert_eq!((driver.kind(sent), timed(&driver).count()), (None, 2));
    let begin = Instant::now();
    assert_eq!(driver.events(), []);
    let waited = begin.elapsed();
    for _ in 0..1000 {
        drain(&mut peer);
        driver.turn();
    }
    assert_eq!((driver.kind(sent), timed(&driver).count()), (OK, 3));
    let total = Duration::from_micros(timed(&driver).total_us);
    assert!(total >= waited, "all the time that it waited: {total:?} of {waited:?}");
    assert_eq!(driver.counters.snapshot().commit_out.count(), 0);
}

#[test]
fn what_a_client_sent_is_timed_until_it_is_in_the_ring() {
    let mut driver = Driver::new(Side::Compositor);
    let token = Token::new(*b"0123456789abcdef");
    let (main, client) = (
        driver.open(1, Role::Main),
        driver.open(2, Role::Accepted { connection: 7, vm: 0, token }),
    );
    assert_eq!(driver.sent(2, token.as_bytes(), &[]), OK);
    give(&main, b"a record", []);
    assert_eq!(driver.events().len(), 1);
    assert_eq!(driver.counters.snapshot().commit_out.count(), 0);
    give(&client, &wayland::commit(), []);
    assert_eq!(driver.events().len(), 1);
    let now = driver.counters.snapshot();
    assert_eq!((now.commit_out.count(), now.commit_in.count()), (1, 0));
    let [one] = &now.connections[..] else { panic!("the main context is none") };
    assert_eq!((one.connection, one.received_bytes), (7, wayland::commit().len() as u64));
}

#[test]
fn a_link_holds_a_send_back_and_nobody_else() {
    let mut driver = Driver::new(Side::Client);
    let (mut full, other) = (link(&mut driver, 1), link(&mut driver, 2));
    let (first, count) = clog(&mut driver, 1, filler);
    let second = driver.send(1, &request("second"), &[]);
    let close = driver.close(1);
    assert_eq!((driver.kind(second), driver.kind(close)), (None, None));
    assert_eq!(driver.sent(2, &request("free"), &[]), OK);
    assert_eq!(take(&other).0, request("free"));

    let mut got = drain(&mut full);
    for _ in 0..1000 {
        driver.turn();
        got.extend(drain(&mut full));
    }
    let mut expected: Vec<u8> = (1..=count).flat_map(filler).collect();
    expected.extend(request("second"));
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    assert_eq!([first, second, close].map(|slot| driver.kind(slot)), [OK; 3]);
    assert_eq!(full.read(&mut [0]).unwrap(), 0, "closed after its last byte");
}

#[test]
fn memory_of_a_held_send_may_be_closed() {
    let mut driver = Driver::new(Side::Client);
    let full = link(&mut driver, 1);
    let (_, count) = clog(&mut driver, 1, filler);
    driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 2) });
    driver.send(1, &wayland::create_pool(wayland::FREE), &[2]);
    let slot = driver.close(2);
    assert_eq!(driver.kind(slot), OK);
    let mut fds = Vec::new();
    for _ in 0..=count {
        fds.extend(take(&full).1);
        driver.turn();
    }
    let [fd] = &fds[..] else { panic!("{fds:?}") };
    assert_eq!(memory::size_if_sealed(fd), Some(4096));
}

#[test]
fn held_sends_are_answered_when_the_peer_dies() {
    let mut driver = Driver::new(Side::Client);
    let full = link(&mut driver, 1);
    let (first, _) = clog(&mut driver, 1, filler);
    let second = driver.send(1, &request("second"), &[]);
    drop(full);
    driver.turn();
    assert_eq!([first, second].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!(driver.events(), [Event::Hup(1)]);
}

/// Too many fds in flight are no full socket: that one is writable all the time.
#[test]
fn streams_whose_fds_cannot_be_sent_wait_and_do_not_spin() {
    let name = "streams_whose_fds_cannot_be_sent_wait_and_do_not_spin";
    alone(&format!("device::virtio_wl::tests::link::{name}"), || {
        let mut driver = Driver::new(Side::Client);
        let (peer, mut ended) = (link(&mut driver, 1), link(&mut driver, 2));
        driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 3) });
        let full = few_fds::fill();
        let create_pool = wayland::create_pool(wayland::FREE);
        let slot = driver.send(1, &create_pool, &[3]);
        assert_eq!(driver.kind(slot), None);
        // This one is closed when it has written what came before.
        let bad = [create_pool.clone(), wayland::bad_request()].concat();
        assert_eq!(driver.sent(2, &bad, &[3]), OK);
        driver.wait();
        assert_eq!(driver.kind(slot), None, "it was tried again, in vain");
        drop(full);
        driver.wait();
        assert_eq!(driver.kind(slot), OK);
        for stream in [&peer, &ended] {
            let (bytes, fds) = take(stream);
            assert_eq!((bytes, fds.len()), (create_pool.clone(), 1));
        }
        assert_eq!(ended.read(&mut [0]).unwrap(), 0);
    });
}
