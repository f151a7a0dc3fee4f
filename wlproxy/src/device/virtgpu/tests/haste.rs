//! Clients that send more than they may.

use super::driver::{Driver, send};
use super::{OK, RING};
use crate::device::Side;
use crate::device::opener::Role;
use crate::device::virtio_wl::tests::{take, wayland};
use crate::policy::Policy;
use std::io::Read;

/// A client that is made to wait for its haste leaves at once all the same.
#[test]
fn who_leaves_owes_nothing() {
    let mut driver = Driver::hasty(2 * wayland::REQUESTS as u32);
    let mut peer = driver.link(1);
    let many = wayland::commit().repeat(1000);
    let paused = driver.execute(1, &send(&many, &[]), Some(RING));
    assert_eq!((driver.header(paused), driver.counters.pauses.get()), (None, 1));
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(driver.header(paused).unwrap().kind, OK);
    assert_eq!(take(&peer).0, many);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

/// Who comes when its VM has sent too much isn't even read until that is paid, whatever it has said while it was connected.
#[test]
fn who_comes_to_a_vm_that_has_sent_too_much_waits_first() {
    let policy = Policy::of("test").with_haste_of_all(2 * wayland::REQUESTS as u32);
    let mut driver = Driver::with(Side::Client, policy);
    let _peer = driver.link(1);
    let paused = driver.execute(1, &send(&wayland::commit().repeat(1000), &[]), Some(RING));
    let mut waiting = vec![paused];
    let peers = [2, 3].map(|id| {
        assert_eq!(driver.begin(id, 1), OK);
        let mut say = |driver: &mut Driver| {
            waiting.push(driver.execute(id, &send(&wayland::get_registry(), &[]), Some(RING)));
        };
        if id == 2 {
            say(&mut driver);
        }
        let (_, peer) = driver.open(Role::Link { connection: id.into() });
        if id == 3 {
            say(&mut driver);
        }
        peer
    });
    driver.wait();
    assert!(waiting.iter().all(|&slot| driver.header(slot).is_none()));
    assert!(peers.iter().all(|peer| take(peer).0.is_empty()));
    driver.policy.set(driver.policy.get().with_haste_of_all(1_000_000));
    driver.wait();
    assert!(
        waiting.iter().all(|&slot| driver.header(slot).is_some_and(|header| header.kind == OK))
    );
    assert!(peers.iter().all(|peer| take(peer).0 == wayland::get_registry()));
}
