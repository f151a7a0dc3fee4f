//! What a visitor does in a device, and what it leaves.

use super::driver::{Driver, Event, IN};
use super::give;
use super::wayland::{self, link, report};
use crate::device::Side;
use wlproxy_protocol::virtio_wl::flags;
use wlproxy_unix::memory;

fn is_delivered(driver: &mut Driver) -> bool {
    !driver.take_used(IN).is_empty()
}

fn maps(driver: &Driver) -> usize {
    driver.frontend.mapped.lock().unwrap().len()
}

#[test]
fn a_visitor_takes_bytes_to_the_guest() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    give(&peer, &report("hello"), []);
    driver.visit(1);
    assert!(is_delivered(&mut driver));
}

#[test]
fn what_has_to_be_mapped_is_left_to_the_devices_own_thread_and_stays_in_order() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    give(&peer, &wayland::keymap(), [memory::allocate("test", 4096).unwrap()]);
    driver.visit(1);
    assert_eq!(maps(&driver), 0);
    assert!(!is_delivered(&mut driver));
    give(&peer, &report("later"), []);
    driver.visit(1);
    assert!(!is_delivered(&mut driver), "nothing overtakes it");
    driver.wait();
    assert_eq!(maps(&driver), 1);
    let events = driver.events();
    let [Event::New(memory), Event::Recv(1, vfds, bytes), Event::Recv(1, _, later)] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((vfds, bytes), (&vec![memory.id], &wayland::keymap()));
    assert_eq!(later, &report("later"));
}

#[test]
fn a_hang_up_and_commands_wait_for_the_devices_own_thread() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let command = super::new(super::message::VFD_NEW_PIPE, 2);
    let slot = driver.put(
        bytemuck::bytes_of(&super::VfdNew { flags: flags::READ, ..command }),
        size_of::<super::VfdNew>() as u32,
    );
    drop(peer);
    driver.visit(1);
    assert!(!is_delivered(&mut driver) && driver.answer(slot).is_none());
    driver.wait();
    assert!(driver.answer(slot).is_some());
    assert_eq!(driver.events(), [Event::Hup(1)]);
}

#[test]
fn a_fault_is_left_with_what_came_before_it() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    // An event of an object that doesn't exist, behind memory.
    let sent = [wayland::keymap(), wayland::bad_event()].concat();
    give(&peer, &sent, [memory::allocate("test", 4096).unwrap()]);
    driver.visit(1);
    assert_eq!(maps(&driver), 0);
    assert!(!is_delivered(&mut driver));
    driver.wait();
    assert_eq!(maps(&driver), 1);
    let events = driver.events();
    assert!(
        matches!(&events[..], [Event::New(_), Event::Recv(1, ..), .., Event::Hup(1)]),
        "{events:?}"
    );
}

#[test]
fn nothing_is_read_behind_a_fault_that_is_left() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    give(&peer, &wayland::bad_event(), []);
    driver.visit(1);
    give(&peer, &report("never"), []);
    driver.visit(1);
    driver.wait();
    let complaint = wayland::error(0, "object 99: event of an unknown object");
    assert_eq!(driver.events(), [Event::Recv(1, vec![], complaint), Event::Hup(1)]);
}

/// A call may be for a context that had a pipe's number before; and to read a pipe that is written is to end it.
#[test]
fn a_stale_call_ends_no_pipe() {
    let mut driver = Driver::new(Side::Client);
    super::pipe(&mut driver, 3, flags::WRITE);
    driver.turn_for(3);
    driver.visit(3);
    driver.turn();
    assert!(driver.events().is_empty());
}
