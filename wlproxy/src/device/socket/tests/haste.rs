//! Clients that send more than they may.

use super::*;

/// A client that is made to wait for its haste leaves at once all the same, and what it was not read for is forgotten.
#[test]
fn who_leaves_owes_nothing() {
    let policy = Policy::of("test").with_haste(2 * wayland::REQUESTS as u32);
    let mut rig = Rig::with(Side::Client, policy);
    let (mut guest, peer) = rig.link();
    let many = wayland::commit().repeat(1000);
    guest.write_all(&many).unwrap();
    rig.turn();
    assert_eq!(rig.counters.pauses.get(), 1);
    guest.write_all(&wayland::commit()).unwrap();
    rig.turn();
    drop(guest);
    rig.turn();
    assert_eq!(take(&peer).0, many);
    assert!(is_closed(&peer));
    rig.assert_empty();
}

/// Who comes when its VM has sent too much isn't even read until that is paid.
#[test]
fn who_comes_to_a_vm_that_has_sent_too_much_waits_first() {
    let policy = Policy::of("test").with_haste_of_all(2 * wayland::REQUESTS as u32);
    let mut rig = Rig::with(Side::Client, policy);
    let (mut guest, _peer) = rig.link();
    guest.write_all(&wayland::commit().repeat(1000)).unwrap();
    rig.turn();
    let mut other = rig.dial();
    let (_, peer) = rig.open(LINK);
    other.write_all(&wayland::get_registry()).unwrap();
    rig.turn();
    assert!(take(&peer).0.is_empty());
    let policy = &rig.connections.policy;
    policy.set(policy.get().with_haste_of_all(1_000_000));
    rig.connections.turn(&[(RETRY, EpollFlags::EPOLLIN)]);
    rig.turn();
    assert_eq!(take(&peer).0, wayland::get_registry());
}
