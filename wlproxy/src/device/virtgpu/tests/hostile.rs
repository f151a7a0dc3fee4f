//! A driver that does everything wrong.

use super::driver::{Driver, channel_ring, place, send, write};
use super::{HANG_UP, MALFORMED, OK, PIPE};
use crate::device::Side;
use crate::device::opener::Role;
use crate::device::virtio_wl::tests::wayland::{self, report};
use proptest::prelude::*;
use std::io::Write;
use wlproxy_protocol::accept::{CHANNEL_TYPES, Token};
use wlproxy_protocol::cross_domain::identifier::{BLOB, READ_PIPE, WRITE_PIPE};
use wlproxy_protocol::virtio_gpu::{Header, Submit, message};

#[test]
fn memory_that_is_not_the_vms_is_no_resource() {
    let mut driver = Driver::new(Side::Client);
    for pieces in [
        &[(32 << 20, 4096)][..],
        &[((32 << 20) - 4095, 4096)],
        &[(u64::MAX - 4095, 4096)],
        &[(place(7), 4096), (1 << 40, 1)],
        &[(place(7), 0)],
    ] {
        assert_eq!(driver.guest_blob(7, pieces), MALFORMED, "{pieces:?}");
    }
    assert_eq!(driver.guest_blob(0, &[(place(7), 4096)]), message::RESP_ERR_INVALID_RESOURCE_ID);
    assert_eq!(driver.guest_blob(7, &[(place(7), 4096)]), OK);
    assert_eq!(driver.map(7, 0), MALFORMED, "it is the guest's already");
}

#[test]
fn a_ring_has_to_be_a_page_of_the_guests() {
    let mut driver = Driver::new(Side::Client);
    let ring = channel_ring(1);
    assert_eq!(driver.create_context(1, 5), OK);
    assert_eq!(driver.init(1, 1), message::RESP_ERR_INVALID_RESOURCE_ID);
    assert_eq!(driver.guest_blob(ring - 1, &[(place(ring - 1), 4096)]), OK);
    // So many pieces that none is left to write to.
    let crumbs: Vec<(u64, u32)> = (0..4096).map(|n| (place(ring) + n, 1)).collect();
    assert_eq!(driver.guest_blob(ring, &crumbs), OK);
    assert_eq!(driver.init(1, 1), MALFORMED);
    assert!(driver.opener.0.lock().unwrap().is_empty());
}

#[test]
fn a_ring_that_is_taken_away_ends_its_context_only() {
    let mut driver = Driver::new(Side::Client);
    let (mut peer, mut other) = (driver.link(1), driver.link(2));
    assert_eq!(driver.of_resource(message::RESOURCE_UNREF, channel_ring(1)), OK);
    let slot = driver.poll(1);
    peer.write_all(&report("lost")).unwrap();
    driver.turn();
    assert_eq!(driver.header(slot), None);
    assert_eq!(driver.counters.contexts.get(), 1);
    other.write_all(&report("well")).unwrap();
    assert_eq!(driver.receive(2), super::Event::Receive(vec![], report("well")));
    assert_eq!(driver.destroy_context(1), OK);
}

#[test]
fn what_cannot_be_sent_is_refused_and_leaves_nothing() {
    let mut driver = Driver::new(Side::Client);
    let _peer = driver.link(1);
    let pool = wayland::create_pool(wayland::FREE);
    for ids in [
        &[(BLOB, 99)][..],
        &[(BLOB, channel_ring(1))],
        &[(2, 1)],
        &[(READ_PIPE, 1)],
        &[(READ_PIPE, PIPE), (READ_PIPE, PIPE)],
        &[(READ_PIPE, PIPE), (BLOB, 99)],
    ] {
        let code = driver.send(1, &pool, ids);
        assert!(code >= message::RESP_ERR_UNSPEC, "{ids:?}: {code:#x}");
        assert_eq!(driver.counters.vfds.get(), 1, "{ids:?}");
    }
    assert_eq!(driver.send(1, b"", &[(READ_PIPE, PIPE)]), MALFORMED);
    assert_eq!(driver.send(9, &pool, &[]), message::RESP_ERR_INVALID_CONTEXT_ID);
}

#[test]
fn a_client_vm_has_one_channel() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.begin(1, CHANNEL_TYPES.start), MALFORMED);
    assert!(driver.opener.0.lock().unwrap().is_empty());
}

#[test]
fn idle_contexts_never_use_the_queue_up() {
    let mut driver = Driver::new(Side::Compositor);
    let (mut connected, mut streams) = (0, Vec::new());
    let code = loop {
        let id = connected + 1;
        assert_eq!(driver.create_context(id, 5), OK);
        for ring in [2 * id, 2 * id + 1] {
            // All in one place.
            assert_eq!(driver.guest_blob(ring, &[(place(0), 4096)]), OK);
        }
        match driver.init(id, 1) {
            OK => connected += 1,
            code => {
                // Who was refused hears of it.
                let slot = driver.poll(id);
                assert_eq!(driver.header(slot).unwrap().kind, OK);
                assert_eq!(driver.event_at(place(0)), HANG_UP);
                break code;
            }
        }
        streams.push(driver.open(Role::Main));
    };
    assert_eq!((code, connected), (message::RESP_ERR_OUT_OF_MEMORY, 192));
}

/// A client whose pipe nobody reads, though it is full and something waits for it.
fn with_full_pipe() -> (Driver, std::os::unix::net::UnixStream) {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    assert_eq!(driver.send(1, &wayland::create_pool(wayland::FREE), &[(WRITE_PIPE, PIPE)]), OK);
    while driver.waiting() == 0 {
        assert_eq!(driver.executed(1, &write(PIPE, false, &[7; 4096])), OK);
    }
    (driver, peer)
}

/// Each is kept by itself, and so costs more than its bytes.
#[test]
fn small_things_that_wait_cost_no_more_than_large_ones() {
    let (mut driver, _peer) = with_full_pipe();
    let mut most = 0;
    while driver.counters.vfds.get() > 1 {
        assert_eq!(driver.executed(1, &write(PIPE, false, b"x")), OK);
        most = most.max(driver.waiting());
        assert!(most <= 16 << 10, "{most} bytes, one by one, and it goes on");
    }
    assert!(most > 1000, "{most} wait");
    // What comes later says that there is no such pipe.
    assert_eq!(driver.executed(1, &write(PIPE, false, b"x")), MALFORMED);
}

#[test]
fn a_pipe_is_closed_once() {
    let (mut driver, _peer) = with_full_pipe();
    for _ in 0..10_000 {
        assert_eq!(driver.executed(1, &write(PIPE, true, b"")), OK);
    }
    assert!(driver.waiting() <= 2, "{} wait", driver.waiting());
}

/// There is room for 192.
#[test]
fn no_vm_has_all_contexts_of_the_compositor_vm() {
    let mut driver = Driver::new(Side::Compositor);
    let mut streams = Vec::new();
    let mut connect = |driver: &mut Driver, vm| {
        let id = 1 + streams.len() as u32;
        assert_eq!(driver.create_context(id, 5), OK);
        for ring in [2 * id, 2 * id + 1] {
            // All in one place.
            assert_eq!(driver.guest_blob(ring, &[(place(0), 4096)]), OK);
        }
        assert_eq!(driver.init(id, 1), OK);
        let token = Token::new([7; 16]);
        streams.push(driver.open(Role::Accepted { connection: id.into(), vm, token }));
        driver.counters.contexts.get()
    };
    let greedy = (1..200).take_while(|&count| connect(&mut driver, 0) == count).count() as u64;
    assert_eq!(greedy, 144);
    assert_eq!(driver.counters.contexts_refused.get(), 1);
    assert_eq!(connect(&mut driver, 1), greedy + 1, "another VM's client");
    // There is room when two leave: one has that of the other VM's.
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(driver.destroy_context(2), OK);
    assert_eq!(connect(&mut driver, 0), greedy);
}

fn command() -> impl Strategy<Value = (u32, u32, u8, Vec<u8>)> {
    let kind = prop_oneof![
        0x100..0x10eu32,
        0x200..0x20au32,
        Just(message::SUBMIT_3D),
        Just(message::RESOURCE_CREATE_BLOB),
        any::<u32>(),
    ];
    let words = prop::collection::vec(prop_oneof![0..8u32, any::<u32>()], 0..120);
    let bytes = words.prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect());
    (kind, 0..4u32, 0..3u8, bytes)
}

fn context_command() -> impl Strategy<Value = (u32, u32, u8, Vec<u8>)> {
    let ids = prop::collection::vec((0..6u32, prop_oneof![0..8u32, PIPE..PIPE + 3]), 0..28);
    let sent = (ids, prop::collection::vec(any::<u8>(), 0..64));
    let sent = sent.prop_map(|(ids, bytes)| send(&bytes, &ids));
    let first = (0..9u8, prop::collection::vec(prop_oneof![0..8u32, any::<u32>()], 0..20));
    let other = first.prop_map(|(command, words)| {
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        [command, 0, 0, 0, 0, 0, 0, 0].into_iter().chain(words).collect()
    });
    (0..4u32, 0..3u8, prop_oneof![sent, other]).prop_map(
        |(context, ring, bytes): (_, _, Vec<u8>)| {
            (
                message::SUBMIT_3D,
                context,
                ring,
                [&(bytes.len() as u32).to_le_bytes(), &[0; 4][..], &bytes].concat(),
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_command_harms_the_others(
        commands in prop::collection::vec((prop_oneof![command(), context_command()], 0..2u32, any::<bool>()), 0..60),
    ) {
        let mut driver = Driver::new(Side::Client);
        // Out of reach of what is made up here.
        let mut peer = driver.link(20);
        let mut streams = Vec::new();
        for id in 1..3 {
            driver.create_context(id, 5);
            for ring in [2 * id, 2 * id + 1] {
                driver.guest_blob(ring, &[(place(ring), 4096)]);
            }
        }
        for ((kind, context, ring, rest), fenced, opens) in commands {
            let header = Header { kind, flags: 3 * fenced, fence: 1, context, ring, ..Default::default() };
            driver.submit(&[bytemuck::bytes_of(&header), &rest].concat(), 24);
            if opens && !driver.opener.0.lock().unwrap().is_empty() {
                streams.push(driver.open(Role::Link { connection: 7 }));
            }
        }
        streams.clear();
        driver.turn();
        peer.write_all(&report("well")).unwrap();
        prop_assert_eq!(driver.receive(20), super::Event::Receive(vec![], report("well")));
        prop_assert!(driver.counters.vfds.get() < 500);
        drop(peer);
        prop_assert_eq!(driver.receive(20), HANG_UP);
    }
}

#[test]
fn commands_that_are_cut_short_are_refused() {
    let mut driver = Driver::new(Side::Client);
    let _peer = driver.link(1);
    let header = Header { kind: message::SUBMIT_3D, context: 1, ..Default::default() };
    let sent = send(b"", &[]);
    let submit = Submit { header, size: sent.len() as u32, padding: 0 };
    let whole = [bytemuck::bytes_of(&submit), &sent[..]].concat();
    for length in [0, 4, 23, 24, 31, 32, 40, whole.len() - 1] {
        let code = driver.code(&whole[..length]);
        assert!(code >= message::RESP_ERR_UNSPEC, "{length} bytes: {code:#x}");
    }
    assert_eq!(driver.code(&whole), OK);
    // Longer than anything.
    let slot = driver.submit(&vec![0; 67_000], 24);
    assert_eq!(driver.header(slot).unwrap().kind, message::RESP_ERR_OUT_OF_MEMORY);
    // No room for an answer.
    let slot = driver.submit(&whole, 3);
    assert_eq!(driver.answer(slot).unwrap().len(), 3);
}
