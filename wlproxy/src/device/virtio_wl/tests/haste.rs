//! Clients that send more than they may.

use super::driver::Driver;
use super::wayland::{self, link};
use super::{LINK, OK, clog, drain, filler};
use std::io::Read;
use wlproxy_protocol::limits::MAX_SEND;

/// More than anybody may send in these tests.
fn many() -> Vec<u8> {
    wayland::commit().repeat(1000)
}

/// It is not read from, and when it may send faster, it is.
#[test]
fn who_is_made_to_wait_goes_on_at_a_new_speed() {
    let mut driver = Driver::hasty(2 * wayland::REQUESTS as u32);
    let (mut peer, mut other) = (link(&mut driver, 1), link(&mut driver, 2));
    let [paused, late] = [many(), wayland::commit()].map(|bytes| driver.send(1, &bytes, &[]));
    assert_eq!([paused, late].map(|slot| driver.kind(slot)), [None; 2]);
    assert_eq!(drain(&mut peer), many());
    assert_eq!(driver.sent(2, &wayland::commit(), &[]), OK, "another one isn't");
    assert_eq!(drain(&mut other), wayland::commit());
    driver.wait();
    assert_eq!(driver.kind(late), None);
    driver.policy.set(driver.policy.get().with_haste(1_000_000));
    driver.wait();
    assert_eq!([paused, late].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!(drain(&mut peer), wayland::commit());
    let now = driver.counters.snapshot();
    assert_eq!(now.pauses, 1);
    for most in [now.most_client_messages, now.most_messages] {
        assert!((900..1000 + 2 * wayland::REQUESTS).contains(&most), "{most}");
    }
}

/// Who comes when its VM has sent too much isn't even read until that is paid. Or each new client would have as much as a SEND
/// brings.
#[test]
fn who_comes_to_a_vm_that_has_sent_too_much_waits_first() {
    let mut driver = Driver::hasty_together(2 * wayland::REQUESTS as u32);
    let _peer = link(&mut driver, 1);
    let paused = driver.send(1, &many(), &[]);
    let mut peer = driver.open(2, LINK);
    let waits = driver.send(2, &wayland::get_registry(), &[]);
    driver.wait();
    assert_eq!([paused, waits].map(|slot| driver.kind(slot)), [None; 2]);
    assert!(drain(&mut peer).is_empty());
    // One of those leaves again.
    let third = driver.open(3, LINK);
    let unread = driver.send(3, &wayland::get_registry(), &[]);
    let close = driver.close(3);
    assert_eq!([unread, close].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!((&third).read(&mut [0]).unwrap(), 0);
    driver.policy.set(driver.policy.get().with_haste_of_all(1_000_000));
    driver.wait();
    assert_eq!([paused, waits].map(|slot| driver.kind(slot)), [OK; 2]);
    assert_eq!(drain(&mut peer), wayland::get_registry());
}

/// A client that is made to wait for its haste leaves at once all the same, and what it was not read for is forgotten.
#[test]
fn who_leaves_owes_nothing() {
    let mut driver = Driver::hasty(2 * wayland::REQUESTS as u32);
    let mut peer = link(&mut driver, 1);
    let many = wayland::commit().repeat(1000);
    let paused = driver.send(1, &many, &[]);
    let late = driver.send(1, &wayland::commit(), &[]);
    assert_eq!([paused, late].map(|slot| driver.kind(slot)), [None; 2]);
    assert_eq!(driver.counters.pauses.get(), 1);
    let close = driver.close(1);
    assert_eq!([paused, late, close].map(|slot| driver.kind(slot)), [OK; 3]);
    assert_eq!(drain(&mut peer), many);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    assert_eq!(driver.counters.contexts.get(), 0);
}

/// The same if it is made to wait only when what it had said before has gone on.
#[test]
fn who_has_left_is_not_made_to_wait() {
    let mut driver = Driver::hasty(MAX_SEND as u32);
    let mut peer = link(&mut driver, 1);
    let (first, count) = clog(&mut driver, 1, filler);
    let many = wayland::commit().repeat(MAX_SEND / wayland::commit().len());
    let slots: Vec<u16> = (0..40).map(|_| driver.send(1, &many, &[])).collect();
    let close = driver.close(1);
    assert_eq!(driver.kind(close), None);
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(drain(&mut peer));
        driver.turn();
    }
    assert_eq!(driver.kind(first), OK);
    assert!(slots.into_iter().all(|slot| driver.kind(slot) == OK));
    assert_eq!(driver.kind(close), OK);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    let commits = got.len() - (1..=count).map(|n| filler(n).len()).sum::<usize>();
    assert!(commits > MAX_SEND && commits < 40 * many.len(), "{commits} bytes of {}", many.len());
}
