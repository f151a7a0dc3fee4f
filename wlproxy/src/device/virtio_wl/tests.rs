pub(in crate::device) mod driver;
mod haste;
mod hostile;
mod link;
mod neighbours;
mod reports;
mod selections;
mod shares;
mod trace;
mod visits;
pub(in crate::device) mod wayland;
mod zeroes;

use super::*;
use crate::device::opener::Role;
use crate::policy::Policy;
use crate::quota::vm::{MAX_WAITING_KIB, VmQuota};
use driver::{Driver, Event, event, new};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use wayland::{link, report, request};
use wlproxy_protocol::limits::{MAX_QUEUED, MAX_RECV, MAX_SEND};
use wlproxy_unix::{Stream, memory};

const LINK: Role = Role::Link { connection: 1 };
const OK: Option<u32> = Some(message::RESP_OK);
/// More than any socket or pipe holds.
const MOST_IN_FLIGHT: usize = 4 << 20;

fn drain(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Bytes and fds that came over a stream.
pub(in crate::device) fn take(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut stream = Stream::new(stream.try_clone().unwrap()).unwrap();
    let (mut bytes, mut fds) = (Vec::new(), Default::default());
    while let wlproxy_unix::Read::Bytes(_) = stream.read(&mut bytes, &mut fds, 65_536).unwrap() {}
    (bytes, fds.into())
}

pub(in crate::device) fn give(
    stream: &UnixStream,
    bytes: &[u8],
    fds: impl IntoIterator<Item = OwnedFd>,
) {
    let mut stream = Stream::new(stream.try_clone().unwrap()).unwrap();
    stream.queue(bytes, fds);
    assert!(stream.flush().unwrap());
}

fn pipe(driver: &mut Driver, id: u32, flags: u32) {
    let made = driver.new_vfd(VfdNew { flags, ..new(message::VFD_NEW_PIPE, id) });
    assert_eq!((made.header.kind, made.flags), (message::RESP_VFD_NEW, flags));
}

#[test]
fn bytes_and_memory_reach_the_socket() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let made = driver.new_vfd(VfdNew { size: 5000, ..new(message::VFD_NEW, 2) });
    assert_eq!(
        (made.header.kind, made.id, made.size, made.flags),
        (message::RESP_VFD_NEW, 2, 8192, 0)
    );
    assert!(driver.frontend.mapped.lock().unwrap().contains_key(&(made.pfn * 4096)));
    let create_pool = wayland::create_pool(wayland::FREE);
    assert_eq!(driver.sent(1, &create_pool, &[2]), OK);
    let (bytes, fds) = take(&peer);
    assert_eq!((bytes, fds.len()), (create_pool, 1));
    assert_eq!(memory::size_if_sealed(&fds[0]), Some(8192));
}

#[test]
fn vfds_are_announced_before_the_message_that_brings_them() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let sent = [wayland::keymap(), wayland::send("in"), wayland::send("out")].concat();
    give(&peer, &sent, [memory::allocate("test", 4096).unwrap(), reader, writer]);
    let events = driver.events();
    let [Event::New(memory), Event::New(reader), Event::New(writer), Event::Recv(1, vfds, bytes)] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(vfds, &[memory.id, reader.id, writer.id]);
    assert!(vfds.iter().all(|id| id & HOST_ID != 0));
    assert_eq!((memory.size, reader.flags, writer.flags), (4096, flags::READ, flags::WRITE));
    assert_eq!(bytes, &sent);
    // The pipe works: what is written to one vfd arrives at the other.
    assert_eq!(driver.sent(writer.id, b"text", &[]), OK);
    assert_eq!(driver.events(), [Event::Recv(reader.id, vec![], b"text".to_vec())]);
}

#[test]
fn the_same_memory_is_mapped_once() {
    let mut driver = Driver::new(Side::Compositor);
    let peer = driver.open(1, Role::Main);
    let fd = memory::allocate("test", 4096).unwrap();
    give(&peer, b"one", [fd.try_clone().unwrap(), fd]);
    let events = driver.events();
    let [Event::New(a), Event::New(b), Event::Recv(..)] = &events[..] else { panic!("{events:?}") };
    assert_ne!(a.id, b.id);
    assert_eq!(a.pfn, b.pfn);
    assert_eq!(driver.counters.maps.get(), 1);
}

#[test]
fn a_file_descriptor_that_cannot_cross_ends_that_context_only() {
    let mut driver = Driver::new(Side::Client);
    let (peer, other) = (link(&mut driver, 1), link(&mut driver, 2));
    give(&peer, &report("before"), []);
    assert_eq!(driver.events(), [Event::Recv(1, vec![], report("before"))]);
    let good = memory::allocate("test", 4096).unwrap();
    let sent = [wayland::keymap(), wayland::send("text")].concat();
    give(&peer, &sent, [good, File::open("/").unwrap().into()]);
    assert_eq!(driver.events(), [Event::Hup(1)]);
    assert_eq!(driver.counters.vfds.get(), 2, "nothing is left of the rest");
    assert_eq!(driver.counters.violations.get(), 0, "the client did nothing wrong");
    give(&other, &report("well"), []);
    assert_eq!(driver.events(), [Event::Recv(2, vec![], report("well"))]);
}

#[test]
fn a_file_of_a_compositor_on_the_host_becomes_an_allocation() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let keymap = memory::constant("keymap", b"xkb_keymap").unwrap();
    give(&peer, &wayland::keymap().repeat(2), [keymap.try_clone().unwrap(), keymap]);
    let events = driver.events();
    let [Event::New(a), Event::New(b), Event::Recv(1, vfds, _)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((vfds, a.size, b.size), (&vec![a.id, b.id], 4096, 4096));
    assert_ne!(a.pfn, b.pfn, "what one client writes no other client sees");
    assert_eq!(driver.counters.allocation_bytes.get(), 2 * 4096);
    assert_eq!(driver.sent(1, &wayland::create_pool(wayland::FREE), &[a.id]), OK);
    let (_, mut fds) = take(&peer);
    let mut content = String::new();
    File::from(fds.pop().unwrap()).read_to_string(&mut content).unwrap();
    assert_eq!(content.trim_end_matches('\0'), "xkb_keymap");
    for id in [a.id, b.id] {
        let slot = driver.close(id);
        assert_eq!(driver.kind(slot), OK);
    }
    assert_eq!(
        (driver.counters.allocation_bytes.get(), driver.counters.window_bytes.get()),
        (0, 0)
    );
}

#[test]
fn a_socket_of_a_compositor_on_the_host_is_written_to() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let (mut pasting, given) = UnixStream::pair().unwrap();
    pasting.set_nonblocking(true).unwrap();
    give(&peer, &wayland::send("text"), [given.into()]);
    let events = driver.events();
    let [Event::New(pipe), Event::Recv(1, ..)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(pipe.flags, flags::WRITE);
    assert_eq!(driver.sent(pipe.id, b"selection", &[]), OK);
    assert_eq!(drain(&mut pasting), b"selection");
    assert_eq!(driver.events(), []);
    let slot = driver.close(pipe.id);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(pasting.read(&mut [0]).unwrap(), 0, "the end is seen");

    let (pasting, given) = UnixStream::pair().unwrap();
    give(&peer, &wayland::send("text"), [given.into()]);
    let events = driver.events();
    let [Event::New(pipe), Event::Recv(1, ..)] = &events[..] else { panic!("{events:?}") };
    drop(pasting);
    assert_eq!(driver.events(), [Event::Hup(pipe.id)], "nobody reads any more");
}

#[test]
fn an_unread_vfd_stalls_nobody_and_loses_nothing() {
    let mut driver = Driver::new(Side::Client);
    let (mut stuck, mut other) = (link(&mut driver, 1), link(&mut driver, 2));
    // Each of 100 bytes, which divides neither a read nor a RECV.
    let text = |n: usize| report(&format!("{n:0width$}", width = 100 - wayland::REPORT));
    let sent: Vec<u8> = (0..MOST_IN_FLIGHT / 100).flat_map(text).collect();
    let (mut written, mut unread) = (0, Vec::new());
    // Until the socket is full too.
    while let Ok(count) = stuck.write(&sent[written..]) {
        written += count;
        assert!(written < sent.len(), "all of it is taken, and nobody reads");
        unread.append(&mut driver.received());
    }
    unread.append(&mut driver.received());
    assert!(unread.len() <= 64, "{} of 256 buffers held by one vfd", unread.len());
    for _ in 0..1000 {
        other.write_all(&report("hello")).unwrap();
        assert_eq!(driver.events(), [Event::Recv(2, vec![], report("hello"))]);
    }
    let mut got = Vec::new();
    while !unread.is_empty() {
        for received in &unread {
            let Event::Recv(1, _, bytes) = event(&received.bytes) else { panic!("{received:?}") };
            got.extend(bytes);
        }
        driver.give_back(unread);
        unread = driver.received();
    }
    // The last message may have come in part.
    assert!(got == sent[..written / 100 * 100], "{} of {written} bytes", got.len());
}

/// The compositor says something to the only link until the guest, which gives no buffers back, gets no more and some waits in
/// the relay. What it has said.
fn fill(driver: &mut Driver, peer: &mut UnixStream) -> Vec<u8> {
    let mut sent = Vec::new();
    // What is on its way to a buffer is one read.
    while driver.counters.snapshot().connections[0].receiving_bytes <= 2 * MAX_RECV as u64 {
        assert!(sent.len() < MOST_IN_FLIGHT, "all of it is taken");
        let said = report(&sent.len().to_string());
        peer.write_all(&said).unwrap();
        sent.extend(said);
        driver.turn();
    }
    sent
}

#[test]
fn what_ends_a_stream_is_told_after_what_was_read_ahead() {
    for breaks_it in [false, true] {
        let mut driver = Driver::new(Side::Client);
        let mut peer = link(&mut driver, 1);
        let sent = fill(&mut driver, &mut peer);
        if breaks_it {
            peer.write_all(&wayland::bad_event()).unwrap();
        }
        drop(peer);
        let mut unread = driver.received();
        let (mut got, mut hung_up) = (Vec::new(), false);
        while !unread.is_empty() {
            assert!(!hung_up, "something comes after the hang-up");
            for received in &unread {
                match event(&received.bytes) {
                    Event::Recv(1, _, bytes) => got.extend(bytes),
                    Event::Hup(1) => hung_up = true,
                    other => panic!("{other:?}"),
                }
            }
            driver.give_back(unread);
            unread = driver.received();
        }
        let why = wayland::error(0, "object 99: event of an unknown object");
        let expected = if breaks_it { [sent, why].concat() } else { sent };
        assert!(hung_up && got == expected, "{} of {} bytes", got.len(), expected.len());
    }
}

#[test]
fn unread_pipes_stall_no_context() {
    let mut driver = Driver::new(Side::Client);
    let (peer, other) = (link(&mut driver, 1), link(&mut driver, 2));
    let (mut writers, mut unread) = (Vec::new(), Vec::new());
    // More than get a buffer each.
    for _ in 0..100 {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&writer, &[7; 32 << 10]).unwrap();
        writers.push(writer);
        give(&peer, &wayland::send("text"), [reader]);
        loop {
            let (pipes, others): (Vec<_>, Vec<_>) =
                driver.received().into_iter().partition(|received| {
                    matches!(event(&received.bytes), Event::Recv(id, ..) if id & HOST_ID != 0)
                });
            unread.extend(pipes);
            if others.is_empty() {
                break;
            }
            driver.give_back(others);
        }
    }
    assert!(unread.len() >= 128, "{} buffers are held by pipes", unread.len());
    for _ in 0..100 {
        give(&other, &report("hello"), []);
        assert_eq!(driver.events(), [Event::Recv(2, vec![], report("hello"))]);
    }
}

#[test]
fn a_hang_up_comes_after_everything_else() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = link(&mut driver, 1);
    let bytes: Vec<u8> = (0..3 * MAX_RECV / 20).flat_map(|n| report(&n.to_string())).collect();
    peer.write_all(&bytes).unwrap();
    drop(peer);
    let mut got = Vec::new();
    let mut events = driver.events();
    assert_eq!(events.pop(), Some(Event::Hup(1)));
    for event in events {
        let Event::Recv(1, _, bytes) = event else { panic!("{event:?}") };
        got.extend(bytes);
    }
    assert_eq!(got, bytes);
    assert_eq!(driver.sent(1, &request("too late"), &[]), OK, "a race, not an error");
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
}

/// One request that fills a SEND; `count` tells it from others.
fn filler(count: usize) -> Vec<u8> {
    let letter = char::from(b'a' + (count % 26) as u8);
    request(&letter.to_string().repeat(MAX_SEND - wayland::REQUEST))
}

/// Sends until an answer is held back. Returns its slot, and how many messages were sent.
fn clog(driver: &mut Driver, id: u32, message: impl Fn(usize) -> Vec<u8>) -> (u16, usize) {
    for count in 1..=MOST_IN_FLIGHT / MAX_SEND {
        let slot = driver.send(id, &message(count), &[]);
        if driver.kind(slot).is_none() {
            return (slot, count);
        }
    }
    panic!("{MOST_IN_FLIGHT} bytes are taken, and nothing is held back");
}

#[test]
fn the_compositor_vm_never_waits_and_its_queue_is_bounded() {
    let client = Role::Accepted { connection: 1, vm: 0, token: Token::new([7; Token::LEN]) };
    queued_within(Role::Main, MAX_WAITING_KIB, MAX_QUEUED);
    queued_within(client, MAX_WAITING_KIB, MAX_QUEUED);
    queued_within(client, 64, 64 << 10);
    // That isn't of what it says to the host.
    queued_within(Role::Main, 64, MAX_QUEUED);
}

fn queued_within(role: Role, events_kib: u32, most: usize) {
    let mut driver = Driver::new(Side::Compositor);
    let policy = driver.policy.get();
    let vm_quota = VmQuota { events_kib, ..policy.vm_quota };
    driver.policy.set(Policy { vm_quota, ..policy });
    let mut peer = driver.open(1, role);
    let mut sent = 0;
    if let Role::Accepted { token, .. } = role {
        assert_eq!(driver.sent(1, token.as_bytes(), &[]), OK);
    }
    while driver.counters.contexts.get() == 1 && sent < 4 * MAX_QUEUED {
        assert_eq!(driver.sent(1, &[1; MAX_SEND], &[]), OK);
        sent += MAX_SEND;
        if driver.events().contains(&Event::Hup(1)) {
            break;
        }
    }
    // What the socket takes comes on top.
    assert!((most..most + 2 * MAX_QUEUED).contains(&sent), "ended after {sent} bytes");
    let waited = driver.counters.snapshot().most_sending_bytes as usize;
    assert!(
        waited <= most && waited + MAX_SEND > most || role == Role::Main,
        "{waited} bytes waited"
    );
    // What was queued is still delivered, and then the stream is closed.
    let mut got = 0;
    for _ in 0..1000 {
        got += drain(&mut peer).len();
        driver.turn();
    }
    assert_eq!(got, sent);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_closed_context_of_the_compositor_vm_says_its_last_words() {
    let mut driver = Driver::new(Side::Compositor);
    let mut peer = driver.open(1, Role::Main);
    let words = vec![3; 512 << 10];
    for part in words.chunks(MAX_SEND) {
        assert_eq!(driver.sent(1, part, &[]), OK);
    }
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(drain(&mut peer));
        driver.turn();
    }
    assert!(got == words, "{} bytes", got.len());
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_pipe_that_the_guest_reads() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    pipe(&mut driver, 2, flags::READ);
    assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
    assert_eq!(
        driver.sent(1, &wayland::receive(), &[2]),
        Some(message::RESP_INVALID_TYPE),
        "its end is given away"
    );
    assert_eq!(driver.sent(2, b"wrong way", &[]), Some(message::RESP_INVALID_TYPE));
    let (_, mut fds) = take(&peer);
    let mut writer = File::from(fds.pop().unwrap());
    writer.write_all(b"selection").unwrap();
    assert_eq!(driver.events(), [Event::Recv(2, vec![], b"selection".to_vec())]);
    drop(writer);
    assert_eq!(driver.events(), [Event::Hup(2)]);
}

#[test]
fn a_pipe_that_the_guest_writes() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    pipe(&mut driver, 2, flags::WRITE);
    assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
    let (slot, count) = clog(&mut driver, 2, |count| vec![count as u8; MAX_SEND]);
    let close = driver.close(2);
    assert_eq!(driver.sent(1, &request("free"), &[]), OK);
    let (_, mut fds) = take(&peer);
    let reader = File::from(fds.pop().unwrap());
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
        .unwrap();
    let mut got = Vec::new();
    for _ in 0..100 {
        let _ = (&reader).read_to_end(&mut got);
        driver.turn();
    }
    let sent: Vec<u8> = (1..=count).flat_map(|n| vec![n as u8; MAX_SEND]).collect();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    assert_eq!([slot, close].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!((&reader).read(&mut [0]).unwrap(), 0, "the writer is gone");
}

/// Pipes that hold back one SEND each, and who could read them.
fn clogged_pipes(driver: &mut Driver, peer: &UnixStream, ids: &[u32]) -> Vec<(u16, File)> {
    let mut pipes = Vec::new();
    for &id in ids {
        pipe(driver, id, flags::WRITE);
        assert_eq!(driver.sent(1, b"x", &[id]), OK);
        let reader = File::from(take(peer).1.pop().unwrap());
        let (slot, _) = clog(driver, id, |count| vec![count as u8; MAX_SEND]);
        pipes.push((slot, reader));
    }
    pipes
}

#[test]
fn unread_pipes_hold_back_a_share_of_the_ring_and_no_more() {
    let mut driver = Driver::new(Side::Compositor);
    let peer = driver.open(1, Role::Main);
    let held = 256 / 8;
    let ids: Vec<u32> = (2..2 + held).collect();
    let mut pipes = clogged_pipes(&mut driver, &peer, &ids);
    assert!(pipes.iter().all(|(slot, _)| driver.kind(*slot).is_none()));
    assert_eq!(driver.events(), []);
    // The first one is merely slow: it is read from before one has to go.
    let mut got = vec![0; 32 << 10];
    pipes[0].1.read_exact(&mut got).unwrap();
    driver.turn();
    let (slow, _) = clog(&mut driver, 2, |_| vec![0; MAX_SEND]);
    assert_eq!(driver.events(), []);
    let more = clogged_pipes(&mut driver, &peer, &[100]);
    assert_eq!(driver.events(), [Event::Hup(3)]);
    assert_eq!(driver.kind(pipes[1].0), OK);
    for (slot, _) in pipes[2..].iter().chain(&more) {
        assert_eq!(driver.kind(*slot), None);
    }
    // A CLOSE that is held back takes room as well.
    driver.close(100);
    assert_eq!(driver.events(), [Event::Hup(4)]);
    // The slow one has lost nothing.
    let reader = &pipes[0].1;
    nix::fcntl::fcntl(reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
        .unwrap();
    let close = driver.close(2);
    for _ in 0..100 {
        let _ = (&*reader).read_to_end(&mut got);
        driver.turn();
    }
    assert_eq!([slow, close].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!(got.len() % MAX_SEND, 0, "{} bytes", got.len());
}

#[test]
fn a_writer_learns_that_nobody_reads() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    pipe(&mut driver, 2, flags::WRITE);
    assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
    drop(take(&peer));
    assert_eq!(driver.events(), [Event::Hup(2)]);
    assert_eq!(driver.sent(2, b"text", &[]), OK);
}

/// What happened to a vfd is not told of another one that gets its id at the same moment.
#[test]
fn an_id_that_is_used_again_starts_anew() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    pipe(&mut driver, 5, flags::READ);
    assert_eq!(driver.sent(1, &wayland::receive(), &[5]), OK);
    let (_, mut fds) = take(&peer);
    let mut writer = File::from(fds.pop().unwrap());
    writer.write_all(b"text").unwrap();
    let close = VfdMessage { header: Header::new(message::VFD_CLOSE), id: 5 };
    let close = driver.put(bytemuck::bytes_of(&close), 8);
    let made = VfdNew { flags: flags::WRITE, ..new(message::VFD_NEW_PIPE, 5) };
    let made = driver.put(bytemuck::bytes_of(&made), 64);
    driver.turn();
    assert_eq!([close, made].map(|slot| driver.kind(slot)), [OK, Some(message::RESP_VFD_NEW)]);
    // The old one's bytes may have come before it was closed.
    assert!(!driver.events().contains(&Event::Hup(5)));
    assert_eq!(driver.sent(1, &wayland::receive(), &[5]), OK);
    assert_eq!(driver.sent(5, b"more", &[]), OK);
    let mut reader = File::from(take(&peer).1.pop().unwrap());
    let slot = driver.close(5);
    assert_eq!(driver.kind(slot), OK);
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    assert_eq!(got, "more");
}

#[test]
fn ids_are_checked() {
    let mut driver = Driver::new(Side::Client);
    let _peer = driver.open(1, LINK);
    let mut made =
        |id| driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, id) }).header.kind;
    for id in [0, 1, HOST_ID, HOST_ID + 7, 0x8000_0001] {
        assert_eq!(made(id), message::RESP_INVALID_ID, "{id:#x}");
    }
    assert_eq!(made(2), message::RESP_VFD_NEW);
    let unknown = Some(message::RESP_INVALID_ID);
    assert_eq!(driver.sent(3, b"x", &[]), unknown);
    assert_eq!(driver.sent(1, b"x", &[3]), unknown);
    assert_eq!(
        driver.sent(1, b"x", &[1]),
        Some(message::RESP_INVALID_TYPE),
        "a context can't be sent"
    );
    assert_eq!(
        driver.sent(1, b"", &[2]),
        Some(message::RESP_INVALID_TYPE),
        "nothing could carry it"
    );
    assert_eq!(
        driver.sent(2, b"x", &[]),
        Some(message::RESP_INVALID_TYPE),
        "memory takes no bytes"
    );
    for (answer, id) in [(OK, 2), (unknown, 2), (unknown, 99)] {
        let slot = driver.close(id);
        assert_eq!(driver.kind(slot), answer);
    }
    assert_eq!(driver.sent(1, b"x", &[2]), unknown);
    assert_eq!(
        driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 2) }).header.kind,
        message::RESP_VFD_NEW
    );
}

#[test]
fn sizes_and_flags_are_checked() {
    let mut driver = Driver::new(Side::Client);
    let mut made = |size| driver.new_vfd(VfdNew { size, ..new(message::VFD_NEW, 1) }).header.kind;
    assert_eq!(made(0), message::RESP_INVALID_TYPE);
    assert_eq!(made(u32::MAX), message::RESP_OUT_OF_MEMORY);
    assert_eq!(made(65 << 20), message::RESP_OUT_OF_MEMORY, "more than the window");
    for flags in [0, 3, 4] {
        let made = driver.new_vfd(VfdNew { flags, ..new(message::VFD_NEW_PIPE, 1) });
        assert_eq!(made.header.kind, message::RESP_INVALID_FLAGS);
    }
    *driver.frontend.refuse.lock().unwrap() = true;
    assert_eq!(
        driver.new_vfd(VfdNew { size: 1, ..new(message::VFD_NEW, 1) }).header.kind,
        message::RESP_ERR
    );
    assert_eq!((driver.counters.vfds.get(), driver.counters.allocation_bytes.get()), (0, 0));
    *driver.frontend.refuse.lock().unwrap() = false;
    assert_eq!(
        driver.new_vfd(VfdNew { size: 1, ..new(message::VFD_NEW, 1) }).header.kind,
        message::RESP_VFD_NEW
    );
}

#[test]
fn a_driver_of_old_gets_guest_addresses_and_old_flags() {
    let mut driver = Driver::with_features(Side::Client, 0);
    let made = driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 1) });
    let offset = *driver.frontend.mapped.lock().unwrap().keys().next().unwrap();
    assert_eq!(made.pfn, ((1 << 36) + offset) / 4096);
    assert_eq!(made.flags, legacy_flags::WRITE | legacy_flags::MAP);
}

#[test]
fn every_command_of_dmabufs_is_unknown() {
    let mut driver = Driver::new(Side::Client);
    for kind in [
        message::VFD_NEW_DMABUF,
        message::VFD_DMABUF_SYNC,
        message::VFD_SEND_FOREIGN_ID,
        0,
        0x10b,
        u32::MAX,
    ] {
        assert_eq!(driver.code(bytemuck::bytes_of(&new(kind, 1)), 64), message::RESP_INVALID_CMD);
    }
}

#[test]
fn a_stream_is_opened_by_name_in_the_compositor_vm_only() {
    let token = Token::new([5; 16]);
    let named = |name| VfdNew { name, ..new(message::VFD_NEW_CTX_NAMED, 1) };
    let mut client = Driver::new(Side::Client);
    assert_eq!(client.new_vfd(named(token.to_name())).header.kind, message::RESP_INVALID_ID);
    let mut driver = Driver::new(Side::Compositor);
    assert_eq!(
        driver
            .new_vfd(named(*b"wayland-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"))
            .header
            .kind,
        message::RESP_INVALID_ID
    );
    for (error, code) in [
        (OpenError::Unknown, message::RESP_INVALID_ID),
        (OpenError::Limit, message::RESP_OUT_OF_MEMORY),
        (OpenError::Failed, message::RESP_ERR),
    ] {
        let slot = driver.submit(bytemuck::bytes_of(&named(token.to_name())), 64);
        let (target, answer) = driver.opener.0.lock().unwrap().pop_front().unwrap();
        assert_eq!(target, Target::Accepted(token));
        answer(Err(error));
        driver.turn();
        assert_eq!(driver.kind(slot), Some(code));
    }
}

#[test]
fn an_accepted_stream_begins_with_its_token() {
    let token = Token::new(*b"0123456789abcdef");
    let role = Role::Accepted { connection: 9, vm: 0, token };
    let mut driver = Driver::new(Side::Compositor);
    let (mut right, mut wrong) = (driver.open(1, role), driver.open(2, role));
    right.write_all(b"early").unwrap();
    assert_eq!(driver.sent(1, b"0123", &[]), OK);
    assert_eq!(driver.events(), [], "nothing for one who isn't known yet");
    assert_eq!(driver.sent(1, b"456789abcdefhello", &[]), OK);
    assert_eq!(drain(&mut right), b"hello");
    assert_eq!(driver.events(), [Event::Recv(1, vec![], b"early".to_vec())]);
    assert_eq!(driver.sent(2, b"0123456789abcdeg", &[]), OK);
    assert_eq!(driver.events(), [Event::Hup(2)]);
    assert_eq!(wrong.read(&mut [0]).unwrap(), 0, "nothing passed, and it is closed");
}

#[test]
fn nothing_is_touched_after_a_stop_and_nothing_is_left() {
    let mut driver = Driver::new(Side::Client);
    let (mut peer, full) = (link(&mut driver, 1), link(&mut driver, 2));
    driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 3) });
    let slot = driver.submit(bytemuck::bytes_of(&new(message::VFD_NEW_CTX, 4)), 64);
    let (_, late) = driver.opener.0.lock().unwrap().pop_front().unwrap();
    clog(&mut driver, 2, filler);
    driver.stop();
    peer.write_all(&report("event")).unwrap();
    let _ = take(&full);
    driver.turn();
    assert_eq!((driver.take_used(driver::IN), driver.answer(slot)), (vec![], None));
    driver.device = None;
    assert_eq!(
        driver.frontend.mapped.lock().unwrap().len(),
        1,
        "the frontend drops its mappings by itself"
    );
    let snapshot = driver.counters.snapshot();
    let left = [snapshot.contexts, snapshot.vfds, snapshot.allocation_bytes, snapshot.window_bytes];
    assert_eq!(left, [0; 4]);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    late(Ok(Opened { stream: ours, role: LINK }));
    theirs.set_nonblocking(true).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "a late answer is closed at once");
    let closed = match peer.read(&mut [0]) {
        Ok(count) => count == 0,
        // With the event unread.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(closed, "and so are those that were open");
}

#[test]
fn sixty_fds_at_once_arrive_in_order() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let fds: Vec<OwnedFd> = (1..=60).map(|n| memory::allocate("test", 4096 * n).unwrap()).collect();
    let mut stream = Stream::new(peer).unwrap();
    let sent = wayland::keymap().repeat(60);
    stream.queue(&sent, fds);
    assert!(stream.flush().unwrap());
    let (mut sizes, mut order, mut bytes) =
        (std::collections::HashMap::new(), Vec::new(), Vec::new());
    for event in driver.events() {
        match event {
            Event::New(new) => drop(sizes.insert(new.id, new.size)),
            Event::Recv(1, vfds, part) => {
                assert!(vfds.len() <= MAX_FDS);
                order.extend(vfds.iter().map(|id| sizes[id]));
                bytes.extend(part);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, (1..=60).map(|n| 4096 * n).collect::<Vec<_>>());
    assert_eq!(bytes, sent);
}

#[test]
fn who_brings_too_many_vfds_ends_before_others_do() {
    // Each is an fd of this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mut driver = Driver::new(Side::Compositor);
    let (hog, other) = (driver.open(1, Role::Main), driver.open(2, Role::Main));
    let memory = memory::allocate("test", 4096).unwrap();
    let bring = |driver: &mut Driver, peer, count| {
        give(peer, b"x", (0..count).map(|_| memory.try_clone().unwrap()));
        driver.events()
    };
    // Nobody closes any of them.
    let brought = (0..).map(|_| bring(&mut driver, &hog, MAX_FDS));
    let rounds = brought.take_while(|events| events.last() != Some(&Event::Hup(1))).count();
    assert!((2000..2100).contains(&(rounds * MAX_FDS)), "ended after {rounds} rounds");
    for _ in 0..2 {
        let events = bring(&mut driver, &other, MAX_FDS);
        assert!(matches!(events.last(), Some(Event::Recv(2, vfds, _)) if vfds.len() == MAX_FDS));
    }
    assert_eq!(bring(&mut driver, &other, 1), [Event::Hup(2)], "now it has many too");
    assert_eq!(driver.new_vfd(VfdNew { size: 1, ..new(message::VFD_NEW, 3) }).id, 3);
    // The guest closes what the first one brought: there is room again.
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    for id in HOST_ID..HOST_ID + 1000 {
        let slot = driver.close(id);
        assert_eq!(driver.kind(slot), OK);
    }
    let next = driver.open(1, Role::Main);
    for _ in 0..10 {
        let events = bring(&mut driver, &next, MAX_FDS);
        assert!(matches!(events.last(), Some(Event::Recv(1, vfds, _)) if vfds.len() == MAX_FDS));
    }
}

#[test]
fn fds_that_a_closed_context_still_had_to_bring_are_gone() {
    let mut driver = Driver::new(Side::Client);
    let (peer, _other) = (link(&mut driver, 1), link(&mut driver, 2));
    let mut held = Vec::new();
    // Two more buffers and the context holds all that it may: its announcements are cut off in the middle.
    for count in 1..=62 {
        give(&peer, &report("x"), []);
        held.append(&mut driver.received());
        assert_eq!(held.len(), count);
    }
    give(
        &peer,
        &wayland::keymap().repeat(5),
        (0..5).map(|_| memory::allocate("test", 4096).unwrap()),
    );
    held.append(&mut driver.received());
    assert_eq!(held.len(), 64);
    assert_eq!(driver.counters.vfds.get(), 2 + 5);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(driver.counters.vfds.get(), 1);
}
