//! A driver that does everything wrong.

use super::driver::{Descriptor, Driver, IN, INDIRECT, NEXT, OUT, WRITE, avail, new, table, used};
use super::wayland::{link, report, request};
use super::{LINK, OK};
use crate::device::dialect::Device;
use crate::device::opener::{Opened, Role};
use crate::device::{MAX_CONTEXTS, Side};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use wlproxy_protocol::virtio_wl::{Header, VfdTransfer, message};

const ROOM: u64 = 0x20_0000;

/// The device still works for everyone else.
fn assert_alive(driver: &mut Driver) {
    assert_eq!(driver.sent(1, &request("still there"), &[]), OK);
}

fn chain(driver: &mut Driver, descriptors: &[Descriptor]) -> Option<u32> {
    for (index, &descriptor) in descriptors.iter().enumerate() {
        driver.describe(OUT, 200 + index as u16, descriptor);
    }
    driver.make_available(OUT, 200);
    driver.turn();
    let used = driver.take_used(OUT);
    assert!(used.len() <= 1, "{used:?}");
    used.first().map(|&(head, length)| {
        assert_eq!(head, 200);
        length
    })
}

fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor { address, length, flags, next }
}

#[test]
fn wrong_chains_come_back_and_harm_nobody() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    let command = new(message::VFD_CLOSE, 7);
    driver.write(ROOM, bytemuck::bytes_of(&command));
    let answer = descriptor(ROOM + 4096, 64, WRITE, 0);
    let cases: &[(&str, &[Descriptor], u32)] = &[
        ("a loop of one", &[descriptor(ROOM, 12, NEXT, 200)], 0),
        (
            "a loop of two",
            &[descriptor(ROOM, 12, NEXT, 201), descriptor(ROOM + 4096, 8, NEXT | WRITE, 200)],
            8,
        ),
        ("a next beyond the table", &[descriptor(ROOM, 12, NEXT, 999)], 0),
        ("no answer wanted", &[descriptor(ROOM, 12, 0, 0)], 0),
        ("nothing said", &[answer], 8),
        ("a command outside of the memory", &[descriptor(1 << 40, 12, NEXT, 201), answer], 8),
        (
            "an answer outside of the memory",
            &[descriptor(ROOM, 12, NEXT, 201), descriptor(1 << 40, 8, WRITE, 0)],
            0,
        ),
        ("an address that overflows", &[descriptor(u64::MAX - 4, 12, NEXT, 201), answer], 8),
        ("a command of almost 4 GiB", &[descriptor(0, u32::MAX - 64, NEXT, 201), answer], 8),
        (
            "room for half an answer",
            &[descriptor(ROOM, 12, NEXT, 201), descriptor(ROOM + 4096, 3, WRITE, 0)],
            3,
        ),
        ("a table that is none", &[descriptor(1 << 40, 32, INDIRECT, 0)], 0),
        ("a table of half a descriptor", &[descriptor(ROOM, 24, INDIRECT, 0)], 0),
        ("a table of nothing", &[descriptor(ROOM, 0, INDIRECT, 0)], 0),
        ("a table in itself", &[descriptor(table(OUT) + 16 * 200, 16, INDIRECT, 0)], 0),
    ];
    for &(what, descriptors, length) in cases {
        assert_eq!(chain(&mut driver, descriptors), Some(length), "{what}");
        assert_alive(&mut driver);
    }
    // A head beyond the table can't be given back.
    driver.make_available(OUT, 256);
    driver.turn();
    assert_eq!(driver.take_used(OUT), []);
    assert_alive(&mut driver);
}

#[test]
fn a_command_in_an_indirect_table_is_a_command() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    driver.write(ROOM, bytemuck::bytes_of(&new(message::VFD_CLOSE, 1)));
    let entry = |index: u64, address: u64, length: u32, flags: u16, next: u16| {
        driver.write(ROOM + 0x2000 + 16 * index, &address.to_le_bytes());
        driver.write(ROOM + 0x2008 + 16 * index, &length.to_le_bytes());
        driver
            .write(ROOM + 0x200c + 16 * index, &[flags.to_le_bytes(), next.to_le_bytes()].concat());
    };
    entry(0, ROOM, 12, NEXT, 1);
    entry(1, ROOM + 0x1000, 8, WRITE, 0);
    assert_eq!(chain(&mut driver, &[descriptor(ROOM + 0x2000, 32, INDIRECT, 0)]), Some(8));
    assert_eq!(driver.counters.contexts.get(), 0);
}

#[test]
fn commands_that_are_cut_short_are_refused() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    for kind in 0x100..=0x10a {
        let bytes = bytemuck::bytes_of(&new(kind, 1)).to_vec();
        for length in 0..12 {
            let code = driver.code(&bytes[..length], 64);
            assert!(
                (message::RESP_ERR..=message::RESP_INVALID_CMD).contains(&code),
                "{kind:#x}, {length} bytes: {code:#x}"
            );
        }
    }
    let many = VfdTransfer { header: Header::new(message::VFD_SEND), id: 1, vfd_count: u32::MAX };
    assert_eq!(driver.code(bytemuck::bytes_of(&many), 8), message::RESP_ERR);
    assert_alive(&mut driver);
}

#[test]
fn a_driver_that_takes_more_than_a_ring_holds_waits() {
    let mut driver = Driver::new(Side::Client);
    // 256 descriptors make 256 chains at most; this driver uses the same ones again and again.
    let bytes = bytemuck::bytes_of(&new(message::VFD_NEW_CTX, 0)).to_vec();
    for id in 1..=300u32 {
        driver.write(ROOM, &bytes);
        driver.write(ROOM + 8, &id.to_le_bytes());
        driver.describe(OUT, 200, descriptor(ROOM, 12, NEXT, 201));
        driver.describe(OUT, 201, descriptor(ROOM + 4096, 64, WRITE, 0));
        driver.make_available(OUT, 200);
        driver.turn();
    }
    assert_eq!(driver.opener.0.lock().unwrap().len(), 256);
}

#[test]
fn a_ring_that_jumps_is_left_alone() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    driver.write(table(OUT) + 0x4002, &9000u16.to_le_bytes());
    driver.turn();
    assert_eq!(driver.take_used(OUT), []);
}

#[test]
fn a_client_vm_has_no_more_contexts_than_it_may() {
    let mut driver = Driver::new(Side::Client);
    let mut peers: Vec<_> = (1..=MAX_CONTEXTS as u32).map(|id| driver.open(id, LINK)).collect();
    let one_more = bytemuck::bytes_of(&new(message::VFD_NEW_CTX, 2000)).to_vec();
    assert_eq!(driver.code(&one_more, 64), message::RESP_OUT_OF_MEMORY);
    drop(peers.pop());
    driver.events();
    let slot = driver.close(MAX_CONTEXTS as u32);
    assert_eq!(driver.kind(slot), OK);
    peers.push(driver.open(2000, LINK));

    let mut driver = Driver::new(Side::Compositor);
    let _peers: Vec<_> =
        (0..=MAX_CONTEXTS as u32).map(|id| driver.open(id + 1, Role::Main)).collect();
}

#[test]
fn receive_buffers_that_are_too_small_come_back_empty() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let mut held = Vec::new();
    for count in 1..=64 {
        super::give(&peer, &report("x"), []);
        held.append(&mut driver.received());
        assert_eq!(held.len(), count);
    }
    super::give(&peer, &report("y"), []);
    driver.turn();
    driver.describe(super::driver::IN, 0, descriptor(ROOM, 100, WRITE, 0));
    driver.make_available(super::driver::IN, 0);
    driver.turn();
    assert_eq!(driver.take_used(super::driver::IN), [(0, 0)]);
}

#[test]
fn a_driver_that_queues_useless_buffers_all_the_time_does_not_keep_the_device() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    // Until something waits for a buffer: 64 are held, 192 are with the device.
    for _ in 0..=64 {
        super::give(&peer, &report("x"), []);
        driver.turn();
    }
    driver.describe(IN, 0, descriptor(ROOM, 100, WRITE, 0));
    driver.write(avail(IN) + 4, &[0; 2 * 256]);
    let memory = driver.memory.memory();
    let used = || memory.read_obj::<u16>(GuestAddress(used(IN) + 2)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let next = used().wrapping_add(256);
                memory.write_obj(next, GuestAddress(avail(IN) + 2)).unwrap();
            }
        });
        let (mut most, mut all) = (0, 0);
        while most <= 256 && all < 20_000 {
            let before = used();
            driver.device.as_mut().unwrap().turn(&[]);
            let count = used().wrapping_sub(before);
            (most, all) = (most.max(count), all + usize::from(count));
        }
        done.store(true, Ordering::Relaxed);
        assert!(most <= 256, "{most} buffers came back in one turn");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn no_commands_panic(
        commands in prop::collection::vec((0xfe..0x10cu32, 0..6u32, prop::collection::vec(0..6u8, 0..60)), 0..40)
    ) {
        let mut driver = Driver::new(Side::Compositor);
        let mut peers = Vec::new();
        for (kind, id, rest) in commands {
            let mut bytes = bytemuck::bytes_of(&Header::new(kind)).to_vec();
            bytes.extend(id.to_le_bytes());
            bytes.extend(&rest);
            driver.submit(&bytes, 64);
            let asked = driver.opener.0.lock().unwrap().pop_front();
            if let Some((_, answer)) = asked {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                let role = [LINK, Role::Main][peers.len() % 2];
                answer(Ok(Opened { stream: ours, role }));
                peers.push(theirs);
            }
            driver.turn();
        }
        drop(peers);
        let _ = driver.events();
        driver.device = None;
        let snapshot = driver.counters.snapshot();
        prop_assert_eq!((snapshot.vfds, snapshot.contexts, snapshot.allocation_bytes, snapshot.window_bytes), (0, 0, 0, 0));
    }

    #[test]
    fn no_chains_panic(
        chains in prop::collection::vec(
            (prop::collection::vec((0..5u8, 0..0x3000u32, 0..8u16, 0..6u16), 1..5), 0..260u16), 0..30)
    ) {
        let mut driver = Driver::new(Side::Client);
        let _peer = link(&mut driver, 1);
        for (descriptors, head) in chains {
            for (index, &(place, length, flags, next)) in descriptors.iter().enumerate() {
                let address = [0, ROOM, table(OUT), 32 << 20, u64::MAX - 100][usize::from(place)];
                driver.describe(OUT, head.wrapping_add(index as u16) % 256, descriptor(address, length, flags, next));
            }
            driver.make_available(OUT, head);
            let _ = driver.take_used(OUT);
            driver.device.as_mut().unwrap().turn(&[]);
        }
    }
}
