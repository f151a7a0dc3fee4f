//! What one VM may have of what there is for all: of the host's memory, and of the compositor VM's device.

use super::driver::{Driver, Event, event, new};
use super::{LINK, OK, give};
use crate::device::Side;
use crate::device::opener::Role;
use crate::quota::vm::VmQuota;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::MAX_FDS;
use wlproxy_protocol::virtio_wl::{VfdNew, message};
use wlproxy_unix::memory;

const MIB: u32 = 1 << 20;

/// Who has sent an allocation may close it; but the host has it as long as its message isn't whole.
#[test]
fn memory_counts_as_long_as_anything_here_has_it() {
    let mut driver = Driver::within(VmQuota { memory_mib: 4, ..VmQuota::default() });
    let _peer = driver.open(1, LINK);
    let allocate = |driver: &mut Driver, id| {
        let command = VfdNew { size: MIB, ..new(message::VFD_NEW, id) };
        driver.code(bytemuck::bytes_of(&command), 64)
    };
    for _ in 0..4 {
        assert_eq!(allocate(&mut driver, 2), message::RESP_VFD_NEW);
        // Of a header.
        assert_eq!(driver.sent(1, b"x", &[2]), OK);
        let slot = driver.close(2);
        assert_eq!(driver.kind(slot), OK);
    }
    assert_eq!(allocate(&mut driver, 2), message::RESP_OUT_OF_MEMORY);
    assert_eq!(driver.counters.allocation_bytes.get(), 4 << 20);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(driver.counters.allocation_bytes.get(), 0);
    assert_eq!(allocate(&mut driver, 2), message::RESP_VFD_NEW);
}

/// A client of this VM, of which the driver has context `id`.
fn accept(driver: &mut Driver, id: u32, vm: u32) -> UnixStream {
    let token = Token::new([7; 16]);
    let peer = driver.open(id, Role::Accepted { connection: id.into(), vm, token });
    assert_eq!(driver.sent(id, token.as_bytes(), &[]), OK);
    peer
}

/// Whether this client can send so much memory of so many bytes.
fn brings(driver: &mut Driver, id: u32, peer: &UnixStream, count: usize, bytes: u64) -> bool {
    give(peer, b"x", (0..count).map(|_| memory::allocate("test", bytes).unwrap()));
    !driver.events().contains(&Event::Hup(id))
}

/// Each of its clients has no more than any client may, and the compositor keeps all of that.
#[test]
fn no_vm_has_all_vfds_of_the_compositor_vm() {
    // Each is an fd of this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mut driver = Driver::new(Side::Compositor);
    let mut peers = Vec::new();
    for id in 1..200 {
        let peer = accept(&mut driver, id, 0);
        let both = (0..2).all(|_| brings(&mut driver, id, &peer, MAX_FDS, 4096));
        peers.push(peer);
        if !both {
            break;
        }
    }
    // What they have brought is still there when they have left.
    for id in 1..peers.len() as u32 {
        driver.close(id);
    }
    let last = 1000;
    let again = accept(&mut driver, last, 0);
    assert!(!(0..3).all(|_| brings(&mut driver, last, &again, MAX_FDS, 4096)));
    assert!((50..60).contains(&peers.len()), "{} clients", peers.len());
    let other = accept(&mut driver, last + 1, 1);
    for _ in 0..2 {
        assert!(brings(&mut driver, last + 1, &other, MAX_FDS, 4096), "another VM's client ends");
    }
}

#[test]
fn no_vm_has_all_of_the_window_of_the_compositor_vm() {
    let mut driver = Driver::new(Side::Compositor);
    let greedy = accept(&mut driver, 1, 0);
    let other = accept(&mut driver, 2, 1);
    let taken = (0..100).take_while(|_| brings(&mut driver, 1, &greedy, 1, 4 << 20)).count();
    assert_eq!(taken, 12, "of 64 MiB");
    assert!(brings(&mut driver, 2, &other, 1, 4 << 20), "another VM's client ends");
    let more = accept(&mut driver, 3, 0);
    assert!(!brings(&mut driver, 3, &more, 1, 4 << 20));
}

/// More clients of one VM than there are receive buffers have always something to say, and the compositor VM takes one message
/// after the other.
#[test]
fn no_vm_has_all_receive_buffers() {
    const FLOODING: u32 = 300;
    let mut driver = Driver::new(Side::Compositor);
    let flood: Vec<_> = (1..=FLOODING).map(|id| (id, accept(&mut driver, id, 0))).collect();
    let other = FLOODING + 1;
    let peer = accept(&mut driver, other, 1);
    let mut held = std::collections::VecDeque::new();
    for (_, client) in &flood {
        give(client, &[7; 64], []);
    }
    held.extend(driver.received());
    give(&peer, b"hello", []);
    let mut returned = 0;
    loop {
        let taken = driver.received();
        let is_there = taken
            .iter()
            .any(|one| event(&one.bytes) == Event::Recv(other, vec![], b"hello".to_vec()));
        held.extend(taken);
        if is_there {
            break;
        }
        let oldest = held.pop_front().expect("all buffers are held");
        let of = event(&oldest.bytes);
        if let Event::Recv(id, ..) = of
            && let Some((_, client)) = flood.get(id as usize - 1)
        {
            give(client, &[7; 64], []);
        }
        driver.give_back(vec![oldest]);
        returned += 1;
        assert!(returned < 5_000, "another VM's client waits for ever");
    }
    assert!(returned <= 2, "after {returned} messages");
}
