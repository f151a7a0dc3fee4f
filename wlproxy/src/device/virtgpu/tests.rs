mod driver;
mod garbage;
mod haste;
mod hostile;
mod reports;
mod zeroes;

use super::*;
use crate::device::opener::{OpenError, Role, Target};
use crate::device::virtio_wl::tests::wayland::{self, report, request};
use crate::device::virtio_wl::tests::{give, take};
use crate::policy::Policy;
use crate::quota::vm::VmQuota;
use driver::{Driver, Event, channel_ring, place, query_ring, send, write};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::accept::{CHANNEL_TYPES, Token};
use wlproxy_protocol::cross_domain::identifier::{BLOB, READ_PIPE, WRITE_PIPE};
use wlproxy_protocol::cross_domain::{HEARS_ENDS, Hold, Identifier, STREAM, receive_room};
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_unix::memory;

const OK: u32 = message::RESP_OK_NODATA;
const MALFORMED: u32 = message::RESP_ERR_INVALID_PARAMETER;
const RING: u8 = 0;
const HANG_UP: Event = Event::Receive(Vec::new(), Vec::new());
/// An id that a guest's program gives a pipe.
const PIPE: u32 = 0x8000_0001;

#[test]
fn a_driver_finds_one_capset_and_nothing_to_show() {
    let mut driver = Driver::new(Side::Client);
    let asked = |kind| Header { kind, fence: 9, flags: flags::FENCE, ..Default::default() };
    let display: DisplayInfo = driver.ask(bytemuck::bytes_of(&asked(message::GET_DISPLAY_INFO)));
    assert_eq!(display.header.kind, message::RESP_OK_DISPLAY_INFO);
    assert_eq!((display.header.flags, display.header.fence), (flags::FENCE, 9));
    assert!(display.scanouts.iter().all(|scanout| scanout.enabled == 0));
    let mut command =
        GetCapsetInfo { header: asked(message::GET_CAPSET_INFO), ..Default::default() };
    let info: CapsetInfo = driver.ask(bytemuck::bytes_of(&command));
    assert_eq!((info.id, info.max_version, info.max_size), (5, 1, 16));
    command.index = 1;
    assert_eq!(driver.code(bytemuck::bytes_of(&command)), MALFORMED);
    let command = GetCapset { header: asked(message::GET_CAPSET), id: 5, version: 1 };
    let slot = driver.submit(bytemuck::bytes_of(&command), 40);
    let answer = driver.answer(slot).unwrap();
    assert_eq!(answer[24..], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(driver.create_context(1, 0), OK);
    assert_eq!(driver.create_context(1, 5), message::RESP_ERR_INVALID_CONTEXT_ID);
    assert_eq!(driver.create_context(2, 2), MALFORMED);
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(driver.destroy_context(1), message::RESP_ERR_INVALID_CONTEXT_ID);
}

#[test]
fn bytes_pass_both_ways_and_an_event_signals_its_fence() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = driver.link(1);
    assert_eq!(driver.send(1, &request("text"), &[]), OK);
    assert_eq!(take(&peer).0, request("text"));
    let slot = driver.poll(1);
    assert_eq!(driver.header(slot), None);
    peer.write_all(&report("one")).unwrap();
    driver.wait();
    let header = driver.header(slot).unwrap();
    assert_eq!((header.kind, header.flags), (OK, flags::FENCE | flags::RING));
    assert_eq!((header.context, header.ring, header.fence > 0), (1, 1, true));
    assert_eq!(driver.event(1), Event::Receive(vec![], report("one")));
    // What nobody polls for waits.
    peer.write_all(&report("two")).unwrap();
    driver.wait();
    assert_eq!(driver.event(1), Event::Receive(vec![], report("one")));
    assert_eq!(driver.receive(1), Event::Receive(vec![], report("two")));
}

#[test]
fn an_event_brings_as_many_bytes_as_the_ring_holds() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.create_context(1, 5), OK);
    // In pieces, as a guest's memory is.
    let start = place(channel_ring(1));
    let pieces = [(start, 100), (start + 100, 3996), (start + 4096, 28 << 10)];
    assert_eq!(driver.guest_blob(channel_ring(1), &pieces), OK);
    assert_eq!(driver.guest_blob(query_ring(1), &[(place(query_ring(1)), 4096)]), OK);
    assert_eq!(driver.init(1, 1), OK);
    let (_, mut peer) = driver.open(Role::Accepted { connection: 1, vm: 0, token: token() });
    assert_eq!(driver.send(1, token().as_bytes(), &[]), OK);
    let room = receive_room(32 << 10).unwrap();
    let bytes: Vec<u8> = (0..room + 5).map(|n| n as u8).collect();
    peer.write_all(&bytes).unwrap();
    assert_eq!(driver.receive(1), Event::Receive(vec![], bytes[..room].to_vec()));
    assert_eq!(driver.receive(1), Event::Receive(vec![], bytes[room..].to_vec()));
}

fn token() -> Token {
    Token::new([7; 16])
}

#[test]
fn what_is_sent_before_the_stream_is_there_is_not_lost() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.begin(1, 1), OK);
    let early = driver.execute(1, &send(&wayland::get_registry(), &[]), Some(RING));
    assert_eq!(driver.header(early), None, "its bytes are not written");
    let (target, peer) = driver.open(Role::Link { connection: 1 });
    assert_eq!(target, Target::Default);
    assert_eq!(driver.header(early).unwrap().kind, OK);
    assert_eq!(take(&peer).0, wayland::get_registry());
}

#[test]
fn a_stream_that_cannot_be_had_is_a_hang_up() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.begin(1, 1), OK);
    let early = driver.execute(1, &send(&wayland::get_registry(), &[]), Some(RING));
    let (_, answer) = driver.opener.0.lock().unwrap().pop_front().unwrap();
    answer(Err(OpenError::Limit));
    assert_eq!(driver.receive(1), HANG_UP);
    assert_eq!(driver.header(early).unwrap().kind, OK);
    assert_eq!(driver.send(1, b"too late", &[]), OK, "a race, not an error");
    assert_eq!(driver.init(1, 1), MALFORMED, "a context connects once");
}

#[test]
fn the_compositor_vm_opens_what_a_record_announced() {
    let mut driver = Driver::new(Side::Compositor);
    assert_eq!(driver.begin(1, CHANNEL_TYPES.start), OK);
    let (target, mut peer) = driver.open(Role::Accepted { connection: 1, vm: 0, token: token() });
    assert_eq!(target, Target::Channel(CHANNEL_TYPES.start));
    assert_eq!(driver.send(1, &[token().as_bytes(), &b"text"[..]].concat(), &[]), OK);
    assert_eq!(take(&peer).0, b"text", "the token is for us");
    peer.write_all(b"back").unwrap();
    assert_eq!(driver.receive(1), Event::Receive(vec![], b"back".to_vec()));
    // Another one that doesn't know the token.
    assert_eq!(driver.begin(2, CHANNEL_TYPES.end - 1), OK);
    let _peer = driver.open(Role::Accepted { connection: 2, vm: 0, token: token() });
    assert_eq!(driver.send(2, &[8; 16], &[]), OK);
    assert_eq!(driver.receive(2), HANG_UP);
    for channel in [0, 2, CHANNEL_TYPES.end] {
        assert_eq!(driver.begin(3, channel), MALFORMED);
        assert_eq!(driver.destroy_context(3), OK);
        for resource in [query_ring(3), channel_ring(3)] {
            assert_eq!(driver.of_resource(message::RESOURCE_UNREF, resource), OK);
        }
    }
}

#[test]
fn allocations_are_made_mapped_and_sent() {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    let image = driver.image(1, 30, 20);
    assert_eq!((image.strides[0], image.size), (128, 4096));
    assert_eq!(driver.host_blob(1, 50, image.blob_id, 8192), MALFORMED);
    assert_eq!(driver.host_blob(1, 50, image.blob_id, 4096), OK);
    assert_eq!(driver.host_blob(1, 50, image.blob_id, 4096), message::RESP_ERR_INVALID_RESOURCE_ID);
    assert_eq!(driver.host_blob(1, 51, image.blob_id, 4096), OK, "as often as wanted");
    assert_eq!(driver.map(50, 8192), message::RESP_OK_MAP_INFO);
    assert_eq!(driver.map(50, 0), MALFORMED, "mapped already");
    for offset in [8192, 1, 64 << 20, u64::MAX - 4095] {
        assert_eq!(driver.map(51, offset), MALFORMED, "{offset}");
    }
    assert_eq!(driver.map(51, 4096), message::RESP_OK_MAP_INFO);
    assert_eq!(*driver.frontend.mapped.lock().unwrap(), [(4096, 4096), (8192, 4096)].into());
    assert_eq!(driver.send(1, &wayland::create_pool(wayland::FREE), &[(BLOB, 50)]), OK);
    let (_, fds) = take(&peer);
    assert_eq!(memory::size_if_sealed(&fds[0]), Some(4096));
    assert_eq!(driver.of_resource(message::RESOURCE_UNMAP_BLOB, 50), OK);
    assert_eq!(driver.of_resource(message::RESOURCE_UNMAP_BLOB, 50), MALFORMED);
    for resource in [50, 51] {
        assert_eq!(driver.of_resource(message::RESOURCE_UNREF, resource), OK);
    }
    assert!(driver.frontend.mapped.lock().unwrap().is_empty());
    let counters = &driver.counters;
    assert_eq!((counters.window_bytes.get(), counters.allocation_bytes.get()), (0, 0));
}

#[test]
fn memory_that_comes_becomes_a_resource_once() {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    give(&peer, &wayland::keymap(), [memory::allocate("test", 8192).unwrap()]);
    let Event::Receive(ids, bytes) = driver.receive(1) else { panic!("a READ") };
    let [Identifier { id, kind: BLOB, size: 8192 }] = ids[..] else { panic!("{ids:?}") };
    assert_eq!(bytes, wayland::keymap());
    assert_eq!(driver.host_blob(1, 50, id, 4096), MALFORMED);
    assert_eq!(driver.create_context(2, 5), OK);
    assert_eq!(driver.host_blob(2, 50, id, 8192), MALFORMED, "another context's");
    assert_eq!(driver.host_blob(1, 50, id, 8192), OK);
    assert_eq!(driver.host_blob(1, 51, id, 8192), MALFORMED);
    assert_eq!(driver.map(50, 0), message::RESP_OK_MAP_INFO);
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(driver.counters.vfds.get(), 1, "a resource outlives its context");
    assert_eq!(driver.of_resource(message::RESOURCE_UNREF, 50), OK);
    assert_eq!(driver.counters.vfds.get(), 0);
}

#[test]
fn pipes_go_both_ways_and_several_with_a_message() {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    let bytes = wayland::receive().repeat(2);
    assert_eq!(driver.send(1, &bytes, &[(READ_PIPE, PIPE), (WRITE_PIPE, PIPE + 1)]), OK);
    let (_, fds) = take(&peer);
    let [pasting, copying] = <[_; 2]>::try_from(fds).unwrap().map(std::fs::File::from);
    (&pasting).write_all(b"selection").unwrap();
    assert_eq!(driver.receive(1), Event::Read(PIPE, false, b"selection".to_vec()));
    drop(pasting);
    assert_eq!(driver.receive(1), Event::Read(PIPE, true, vec![]));
    assert_eq!(driver.executed(1, &write(PIPE + 1, false, b"drag ")), OK);
    assert_eq!(driver.executed(1, &write(PIPE + 1, true, b"drop")), OK);
    let mut text = String::new();
    (&copying).read_to_string(&mut text).unwrap();
    assert_eq!(text, "drag drop");
    assert_eq!(driver.executed(1, &write(PIPE + 1, false, b"more")), MALFORMED);

    // And those that the other side brings.
    let (reader, far_writer) = nix::unistd::pipe().unwrap();
    let (far_reader, writer) = nix::unistd::pipe().unwrap();
    give(&peer, &wayland::send("text").repeat(2), [reader, writer]);
    let Event::Receive(ids, _) = driver.receive(1) else { panic!("a READ") };
    let [reads, writes] = ids[..] else { panic!("{ids:?}") };
    assert_eq!((reads.kind, writes.kind), (READ_PIPE, WRITE_PIPE));
    std::fs::File::from(far_writer).write_all(b"in").unwrap();
    assert_eq!(driver.receive(1), Event::Read(reads.id, false, b"in".to_vec()));
    assert_eq!(driver.receive(1), Event::Read(reads.id, true, vec![]));
    assert_eq!(driver.executed(1, &write(writes.id, true, b"out")), OK);
    text.clear();
    std::fs::File::from(far_reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "out");
    assert_eq!(driver.counters.vfds.get(), 1, "all pipes are closed");
}

#[test]
fn who_made_a_pipe_learns_that_nobody_reads_it() {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    assert_eq!(driver.send(1, &wayland::receive(), &[(WRITE_PIPE, PIPE)]), OK);
    drop(take(&peer));
    assert_eq!(driver.receive(1), Event::Read(PIPE, true, vec![]));
    // A reader says so itself.
    assert_eq!(driver.send(1, &wayland::receive(), &[(READ_PIPE, PIPE)]), OK);
    let (_, fds) = take(&peer);
    assert_eq!(driver.executed(1, &write(PIPE, true, b"")), OK);
    let error = std::fs::File::from(fds.into_iter().next().unwrap()).write(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn who_is_given_a_pipe_learns_that_nobody_reads_it_if_it_wants_to() {
    for padding in [0, HEARS_ENDS] {
        let mut driver = Driver::new(Side::Compositor);
        assert_eq!(driver.begin_with(1, CHANNEL_TYPES.start, padding), OK);
        let (_, peer) = driver.open(Role::Accepted { connection: 1, vm: 0, token: token() });
        assert_eq!(driver.send(1, token().as_bytes(), &[]), OK);
        let (reader, writer) = nix::unistd::pipe().unwrap();
        // As a program has it that is alive: it waits for the next event.
        let waits = driver.poll(1);
        give(&peer, b"take it", [writer]);
        driver.wait();
        assert!(driver.header(waits).is_some());
        let Event::Receive(ids, _) = driver.event(1) else { panic!("a READ") };
        let [Identifier { id, kind: WRITE_PIPE, .. }] = ids[..] else { panic!("{ids:?}") };
        drop(reader);
        driver.wait();
        give(&peer, b"more", []);
        let expected = if padding == HEARS_ENDS {
            Event::Read(id, true, vec![])
        } else {
            Event::Receive(vec![], b"more".to_vec())
        };
        assert_eq!(driver.receive(1), expected);
        assert_eq!(driver.executed(1, &write(id, false, b"for nobody")), MALFORMED);
    }
}

#[test]
fn a_pipe_that_is_held_waits_and_the_stream_goes_on() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = driver.link(1);
    let hold = |id, held| Hold { id, held }.encode();
    for malformed in
        [hold(PIPE, true), write(STREAM, false, &[0; 7]), write(STREAM, false, &[2; 8])]
    {
        assert_eq!(driver.executed(1, &malformed), MALFORMED);
    }
    let bytes = wayland::receive().repeat(2);
    assert_eq!(driver.send(1, &bytes, &[(READ_PIPE, PIPE), (WRITE_PIPE, PIPE + 1)]), OK);
    assert_eq!(driver.executed(1, &hold(PIPE + 1, true)), MALFORMED, "nothing is read from it");
    let (_, fds) = take(&peer);
    let [pasting, _copying] = <[_; 2]>::try_from(fds).unwrap().map(std::fs::File::from);
    for _ in 0..2 {
        assert_eq!(driver.executed(1, &hold(PIPE, true)), OK);
        (&pasting).write_all(b"selection").unwrap();
        peer.write_all(&report("on")).unwrap();
        assert_eq!(driver.receive(1), Event::Receive(vec![], report("on")));
        let waits = driver.poll(1);
        driver.turn();
        assert_eq!(driver.header(waits), None);
        assert_eq!(driver.executed(1, &hold(PIPE, false)), OK);
        driver.turn();
        assert!(driver.header(waits).is_some());
        assert_eq!(driver.event(1), Event::Read(PIPE, false, b"selection".to_vec()));
    }
    // As much as the ring holds, and its end.
    let much = vec![7; 6000];
    (&pasting).write_all(&much).unwrap();
    drop(pasting);
    let mut read = Vec::new();
    while let Event::Read(PIPE, false, bytes) = driver.receive(1) {
        assert!(bytes.len() > 4000 || read.len() > 4000, "{}", bytes.len());
        read.extend(bytes);
    }
    assert!(read == much && driver.event(1) == Event::Read(PIPE, true, vec![]));
}

#[test]
fn a_context_that_hangs_up_carries_its_pipes_on() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = driver.link(1);
    assert_eq!(driver.send(1, &wayland::receive(), &[(READ_PIPE, PIPE)]), OK);
    let (_, fds) = take(&peer);
    assert_eq!(driver.executed(1, &write(STREAM, false, b"")), MALFORMED, "that says nothing");
    assert_eq!(driver.executed(1, &write(STREAM, true, b"")), OK);
    peer.set_nonblocking(false).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    let writer = std::fs::File::from(fds.into_iter().next().unwrap());
    (&writer).write_all(b"selection").unwrap();
    assert_eq!(driver.receive(1), Event::Read(PIPE, false, b"selection".to_vec()));
    drop(writer);
    assert_eq!(driver.receive(1), Event::Read(PIPE, true, vec![]));
    assert_eq!(driver.executed(1, &write(STREAM, true, b"")), OK, "once more is no harm");
    assert_eq!(driver.counters.contexts.get(), 0);
    // One that isn't connected has none.
    assert_eq!(driver.create_context(2, 5), OK);
    assert_eq!(driver.executed(2, &write(STREAM, true, b"")), MALFORMED);
}

/// The compositor says something until all is full: the socket, and what is kept here. What it has said.
fn fill(driver: &mut Driver, peer: &mut UnixStream) -> Vec<u8> {
    let mut sent = Vec::new();
    // Until the socket is full, and what is kept here is.
    let mut patience = 10;
    while patience > 0 {
        let bytes = report(&"a".repeat(sent.len() % 7));
        match peer.write(&bytes) {
            Ok(written) => {
                assert_eq!(written, bytes.len());
                sent.extend(bytes);
                patience = 10;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                driver.turn();
                patience -= 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn who_takes_something_is_read_for_again() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = driver.link(1);
    fill(&mut driver, &mut peer);
    let mut taken = 0;
    while taken < VmQuota::default().waiting_events() / 2 {
        let Event::Receive(_, bytes) = driver.receive(1) else { panic!("no bytes") };
        taken += bytes.len();
    }
    driver.turn();
    peer.write_all(&report("more")).unwrap();
}

#[test]
fn what_nobody_polls_for_is_read_ahead_within_a_bound() {
    read_ahead_within(VmQuota::default());
    read_ahead_within(VmQuota { events_kib: 20, ..VmQuota::default() });
}

fn read_ahead_within(quota: VmQuota) {
    let mut driver = Driver::with(Side::Client, policy(quota));
    let mut peer = driver.link(1);
    let sent = fill(&mut driver, &mut peer);
    let waits = driver.counters.snapshot().connections[0].receiving_bytes as usize;
    let most = quota.waiting_events();
    // One read on top.
    assert!((most..most + (64 << 10)).contains(&waits), "{waits} bytes");
    assert_eq!(driver.counters.snapshot().most_receiving_bytes as usize, waits);
    drop(peer);
    let mut got = Vec::new();
    loop {
        match driver.receive(1) {
            event if event == HANG_UP => break,
            Event::Receive(_, bytes) => got.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

/// Requests of one SEND.
fn filler() -> Vec<u8> {
    request(&"a".repeat(3000))
}

#[test]
fn a_send_that_is_held_back_holds_back_one_fence() {
    let mut driver = Driver::new(Side::Client);
    let (mut peer, other) = (driver.link(1), driver.link(2));
    let mut sent = 0;
    let held = loop {
        let slot = driver.execute(1, &send(&filler(), &[]), Some(RING));
        sent += filler().len();
        if driver.header(slot).is_none() {
            break slot;
        }
        assert!(sent < 8 << 20, "nobody reads, and all is taken");
    };
    // A later fence of that ring would signal this one too.
    let follows = driver.execute(1, &send(b"", &[]), Some(RING));
    assert_eq!(driver.header(follows), None);
    let elsewhere = driver.execute(1, &send(b"", &[]), Some(5));
    assert_eq!(driver.header(elsewhere).unwrap().kind, OK);
    assert_eq!(driver.send(2, &request("other"), &[]), OK);
    assert_eq!(take(&other).0, request("other"));
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < sent {
        match peer.read(&mut buffer) {
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => driver.wait(),
            Err(error) => panic!("{error}"),
        }
    }
    driver.turn();
    assert_eq!(driver.header(held).unwrap().kind, OK);
    assert_eq!(driver.header(follows).unwrap().kind, OK);
}

#[test]
fn who_waits_for_no_fence_is_bounded() {
    let default = bounded_within(VmQuota::default());
    let small = bounded_within(VmQuota { requests_kib: 64, ..VmQuota::default() });
    // What the socket takes comes on top of both.
    assert!(default > MAX_QUEUED && small < default / 2, "{default} and {small} bytes");
}

fn policy(vm_quota: VmQuota) -> Policy {
    Policy { vm_quota, ..Policy::of("test") }
}

/// How many bytes a client can say that nobody reads.
fn bounded_within(quota: VmQuota) -> usize {
    let mut driver = Driver::with(Side::Client, policy(quota));
    let (_peer, other) = (driver.link(1), driver.link(2));
    let mut sent = 0;
    let slot = driver.poll(1);
    while driver.header(slot).is_none() {
        assert_eq!(driver.send(1, &filler(), &[]), OK);
        sent += filler().len();
        assert!(sent < 8 << 20, "it goes on for ever");
    }
    let most = driver.counters.snapshot().most_sending_bytes as usize;
    assert!((quota.waiting_requests() / 2..2 * MAX_QUEUED).contains(&most), "{most} bytes");
    assert_eq!(driver.event(1), HANG_UP);
    assert_eq!(driver.send(2, &request("other"), &[]), OK);
    assert_eq!(take(&other).0, request("other"));
    sent
}

#[test]
fn a_violation_is_told_before_the_hang_up() {
    let mut driver = Driver::new(Side::Client);
    let _peer: UnixStream = driver.link(1);
    assert_eq!(driver.send(1, &wayland::bad_request(), &[]), OK);
    assert_eq!(driver.receive(1), Event::Receive(vec![], wayland::complaint()));
    assert_eq!(driver.receive(1), HANG_UP);
    assert_eq!(driver.counters.violations.get(), 1);
}

#[test]
fn a_context_that_is_destroyed_leaves_nothing() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = driver.link(1);
    let waits = driver.poll(1);
    assert_eq!(driver.send(1, &wayland::receive(), &[(READ_PIPE, PIPE)]), OK);
    assert_eq!(driver.begin(2, 1), OK);
    let early = driver.execute(2, &send(&wayland::get_registry(), &[]), Some(RING));
    for id in [1, 2] {
        assert_eq!(driver.destroy_context(id), OK);
    }
    for slot in [waits, early] {
        assert!(driver.header(slot).is_some(), "a command is never answered");
    }
    peer.set_nonblocking(false).unwrap();
    peer.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!((driver.counters.vfds.get(), driver.counters.contexts.get()), (0, 0));
    let (_, mut late) = driver.open(Role::Link { connection: 2 });
    late.set_nonblocking(false).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap(), 0, "nobody wants that stream any more");
}
