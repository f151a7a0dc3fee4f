//! Wayland messages for tests of links: the relay passes nothing else. For both dialects.

use super::driver::Driver;
use super::{LINK, OK, take};
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::unix::net::UnixStream;
use wlproxy_protocol::wayland::objects::SERVER_IDS;
use wlproxy_protocol::wayland::{Arg, WL_DISPLAY, WL_DISPLAY_ERROR, wire};

const REGISTRY: u32 = 2;
const SHM: u32 = 4;
const SURFACE: u32 = 7;
const SOURCE: u32 = 8;
const DEVICE: u32 = 9;
const KEYBOARD: u32 = 10;
/// First id that the client of [`link`] has not used.
pub(in crate::device) const FREE: u32 = 11;
const OFFER: u32 = SERVER_IDS;

/// Messages that passed when [`link`] is done.
pub(in crate::device) const REQUESTS: u64 = 9;
pub(in crate::device) const EVENTS: u64 = 5;

/// Bytes of a [`request`] or [`report`] beside its text: header, fixed arguments, the text's length and its NUL.
pub(in crate::device) const REQUEST: usize = 8 + 4 + 1;
pub(in crate::device) const REPORT: usize = 8 + 8 + 4 + 1;

fn message(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(object, opcode, args, &mut bytes);
    bytes
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A request that carries any text: `wl_data_source.offer`.
pub(in crate::device) fn request(mime: &str) -> Vec<u8> {
    message(SOURCE, 0, &[Arg::Str(Some(&text(mime)))])
}

/// A request of an object that never was.
pub(in crate::device) fn bad_request() -> Vec<u8> {
    message(99, 0, &[])
}

/// The event that tells what is wrong with [`bad_request`].
pub(in crate::device) fn complaint() -> Vec<u8> {
    error(0, "object 99: no such object")
}

/// An event of an object that never was.
pub(in crate::device) fn bad_event() -> Vec<u8> {
    message(99, 0, &[])
}

/// `wl_surface.commit`.
pub(in crate::device) fn commit() -> Vec<u8> {
    message(SURFACE, 6, &[])
}

/// A request that brings memory: `wl_shm.create_pool`.
pub(in crate::device) fn create_pool(id: u32) -> Vec<u8> {
    message(SHM, 0, &[Arg::NewId(id), Arg::Fd, Arg::Int(4096)])
}

/// A request that brings the end of a pipe: `wl_data_offer.receive`.
pub(in crate::device) fn receive() -> Vec<u8> {
    message(OFFER, 1, &[Arg::Str(Some(c"text/plain")), Arg::Fd])
}

/// An event that carries any text: `wl_display.error`.
pub(in crate::device) fn report(text: &str) -> Vec<u8> {
    error(3, text)
}

pub(in crate::device) fn error(code: u32, reason: &str) -> Vec<u8> {
    let args = [Arg::Object(WL_DISPLAY), Arg::Uint(code), Arg::Str(Some(&text(reason)))];
    message(WL_DISPLAY, WL_DISPLAY_ERROR, &args)
}

/// An event that brings memory: `wl_keyboard.keymap`.
pub(in crate::device) fn keymap() -> Vec<u8> {
    message(KEYBOARD, 0, &[Arg::Uint(1), Arg::Fd, Arg::Uint(4096)])
}

/// An event that brings the end of a pipe, and text: `wl_data_source.send`.
pub(in crate::device) fn send(mime: &str) -> Vec<u8> {
    message(SOURCE, 1, &[Arg::Str(Some(&text(mime))), Arg::Fd])
}

/// `wl_data_device.start_drag`, of the source.
pub(in crate::device) fn start_drag() -> Vec<u8> {
    let [source, surface, icon] = [SOURCE, SURFACE, 0].map(Arg::Object);
    message(DEVICE, 0, &[source, surface, icon, Arg::Uint(1)])
}

/// `wl_data_source.cancelled`.
pub(in crate::device) fn cancelled() -> Vec<u8> {
    message(SOURCE, 2, &[])
}

/// A link's first request.
pub(in crate::device) fn get_registry() -> Vec<u8> {
    message(WL_DISPLAY, 1, &[Arg::NewId(REGISTRY)])
}

const GLOBALS: [&CStr; 4] = [c"wl_compositor", c"wl_shm", c"wl_data_device_manager", c"wl_seat"];

/// The events that answer it.
pub(in crate::device) fn globals() -> Vec<u8> {
    let globals = (1..).zip(GLOBALS).map(|(name, interface)| {
        message(REGISTRY, 0, &[Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(1)])
    });
    globals.flatten().collect()
}

/// The requests that come then: they make an object of each kind that the messages here need.
pub(in crate::device) fn objects() -> Vec<u8> {
    let binds = (1..).zip(GLOBALS).map(|(name, interface)| {
        let new = Arg::NewId(REGISTRY + name);
        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(1), new];
        message(REGISTRY, 0, &args)
    });
    let [compositor, manager, seat] = [3, 5, 6];
    let objects = [
        message(compositor, 0, &[Arg::NewId(SURFACE)]),
        message(manager, 0, &[Arg::NewId(SOURCE)]),
        message(manager, 1, &[Arg::NewId(DEVICE), Arg::Object(seat)]),
        message(seat, 1, &[Arg::NewId(KEYBOARD)]),
    ];
    binds.chain(objects).flatten().collect()
}

/// The event that comes last.
pub(in crate::device) fn offer() -> Vec<u8> {
    message(DEVICE, 0, &[Arg::NewId(OFFER)])
}

/// Opens context `id` as a link, on which the client then has an object of each kind that the messages here need.
/// Returns the compositor's end.
pub(super) fn link(driver: &mut Driver, id: u32) -> UnixStream {
    let mut peer = driver.open(id, LINK);
    assert_eq!(driver.sent(id, &get_registry(), &[]), OK);
    peer.write_all(&globals()).unwrap();
    driver.events();
    assert_eq!(driver.sent(id, &objects(), &[]), OK);
    assert_eq!(take(&peer).0, [get_registry(), objects()].concat());
    peer.write_all(&offer()).unwrap();
    assert_eq!(driver.events().len(), 1);
    peer
}
