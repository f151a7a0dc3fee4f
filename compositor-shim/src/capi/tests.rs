//! The interface as C calls it. That clients come is tried with the whole of it, in `tests/tests/shim_c.rs`.

use super::signals::{self, Blocked};
use super::*;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use wayland_sys::ffi_dispatch;
use wayland_sys::server::*;

/// Nobody listens there.
const NOWHERE: &CStr = c"process:/nowhere/gui.sock";

fn new() -> *mut Shim {
    let mut shim = ptr::null_mut();
    let done = unsafe { wlproxy_shim_create(NOWHERE.as_ptr(), &mut shim, ptr::null_mut(), 0) };
    assert_eq!(done, 0);
    shim
}

/// What is said where no shim is made.
fn refusal(channel: &CStr, why: &mut [u8]) -> c_int {
    let mut shim = ptr::dangling_mut();
    let done = unsafe {
        wlproxy_shim_create(channel.as_ptr(), &mut shim, why.as_mut_ptr().cast(), why.len())
    };
    assert!(shim.is_null());
    done
}

fn error(shim: *const Shim) -> String {
    unsafe { CStr::from_ptr(wlproxy_shim_error(shim)) }.to_str().unwrap().to_owned()
}

unsafe extern "C" fn nobody_comes(_data: *mut c_void, _fd: c_int, _peer: *const Peer) {
    unreachable!();
}

fn dispatch(shim: *mut Shim) -> c_int {
    unsafe { wlproxy_shim_dispatch(shim, Some(nobody_comes), ptr::null_mut()) }
}

fn add(shim: *mut Shim, display: *mut wl_display) -> c_int {
    unsafe { wlproxy_shim_add_to_display(shim, display, None, ptr::null_mut()) }
}

fn display() -> *mut wl_display {
    let display = unsafe { ffi_dispatch!(wayland_server_handle(), wl_display_create,) };
    assert!(!display.is_null());
    display
}

fn turn(display: *mut wl_display) {
    let events = unsafe { wl_display_get_event_loop(display) };
    assert_eq!(unsafe { wl_event_loop_dispatch(events, 0) }, 0);
}

#[test]
fn null_is_no_shim() {
    let (none, data) = (ptr::null_mut(), ptr::null_mut::<c_void>());
    unsafe {
        assert_eq!(wlproxy_shim_get_fd(none), -libc::EINVAL);
        assert_eq!(dispatch(none), -libc::EINVAL);
        assert_eq!(add(none, data.cast()), -libc::EINVAL);
        assert_eq!(wlproxy_shim_set_log(none, None, data), -libc::EINVAL);
        assert_eq!(error(none), "there is no shim");
        assert!(!wlproxy_shim_is_open(none));
        assert_eq!(wlproxy_shim_clients(none), 0);
        assert!(wlproxy_shim_peer_vm(ptr::null()).is_null());
        assert_eq!(wlproxy_shim_peer_connection(ptr::null()), 0);
        wlproxy_shim_destroy(none);
    }
}

#[test]
fn what_is_missing_is_told() {
    let mut why = [b'x'; 64];
    let to = why.as_mut_ptr().cast();
    assert_eq!(unsafe { wlproxy_shim_create(ptr::null(), ptr::null_mut(), to, 64) }, -libc::EINVAL);
    let why = CStr::from_bytes_until_nul(&why).unwrap();
    assert_eq!(why, c"there is no place for the shim");
    let shim = new();
    assert_eq!(error(shim), "");
    assert_eq!(unsafe { wlproxy_shim_dispatch(shim, None, ptr::null_mut()) }, -libc::EINVAL);
    assert_eq!(error(shim), "there is no function to call");
    assert_eq!(add(shim, ptr::null_mut()), -libc::EINVAL);
    assert_eq!(error(shim), "there is no display");
    unsafe { wlproxy_shim_destroy(shim) };
}

#[test]
fn a_reason_fits_into_what_there_is_for_it() {
    let mut whole = [b'x'; 1024];
    assert_eq!(refusal(c"ether", &mut whole), -libc::EINVAL);
    let whole = CStr::from_bytes_until_nul(&whole).unwrap().to_str().unwrap();
    assert!(whole.starts_with("there is no such channel. `auto` takes"), "{whole}");
    let mut cut = [b'x'; 9];
    assert_eq!(refusal(c"ether", &mut cut[..8]), -libc::EINVAL);
    assert_eq!(&cut, b"there i\0x");
    assert_eq!(refusal(c"ether", &mut []), -libc::EINVAL);
    assert_eq!(refusal(c"\xff", &mut []), -libc::EINVAL);
    let mut cut = [b'x'; 4];
    unsafe { write("äöü", cut.as_mut_ptr().cast(), 4) };
    assert_eq!(&cut, "ä\0x".as_bytes());
}

/// Lines, as they came.
type Lines = RefCell<Vec<(LogLevel, String)>>;

unsafe extern "C" fn note(data: *mut c_void, level: LogLevel, text: *const c_char) {
    let (lines, text) = unsafe { (&*data.cast::<Lines>(), CStr::from_ptr(text)) };
    lines.borrow_mut().push((level, text.to_str().unwrap().to_owned()));
}

#[test]
fn what_was_logged_before_anybody_heard_is_not_lost() {
    let (shim, lines) = (new(), Lines::default());
    let data = (&raw const lines).cast_mut().cast();
    assert_eq!(unsafe { wlproxy_shim_set_log(shim, Some(note), data) }, 0);
    let noted = lines.take();
    let [(LogLevel::WLPROXY_SHIM_LOG_INFO, line)] = &noted[..] else { panic!("{noted:?}") };
    assert!(line.starts_with("waiting for the host: the channel is lost: "), "{line}");
    assert!(line.contains("/nowhere/gui.sock"), "{line}");
    // Once it is told.
    assert_eq!(unsafe { wlproxy_shim_set_log(shim, Some(note), data) }, 0);
    assert_eq!(lines.take(), []);
    unsafe { wlproxy_shim_destroy(shim) };
}

#[test]
fn a_line_says_what_it_is_about() {
    let (shim, lines) = (new(), Lines::default());
    let data = (&raw const lines).cast_mut().cast();
    let say = |log| unsafe {
        wlproxy_shim_set_log(shim, log, data);
        lines.take();
        enter(shim, |_| {
            tracing::warn!(connection = "work:7", number = 3, "it\0 can't be {}", "watched");
            tracing::trace!("nobody's");
            Ok(0)
        })
    };
    assert_eq!(say(Some(note)), 0);
    // A text of C's ends there.
    assert_eq!(lines.take(), [(LogLevel::WLPROXY_SHIM_LOG_WARNING, "it".to_owned())]);
    unsafe {
        enter(shim, |_| {
            tracing::debug!(connection = "work:7", number = 3, "it is {}", "watched");
            Ok(0)
        });
    }
    let line = "it is watched connection=work:7 number=3".to_owned();
    assert_eq!(lines.take(), [(LogLevel::WLPROXY_SHIM_LOG_DEBUG, line)]);
    assert_eq!(say(None), 0);
    assert_eq!(lines.take(), []);
    unsafe { wlproxy_shim_destroy(shim) };
}

unsafe extern "C" fn ask(data: *mut c_void, _level: LogLevel, _text: *const c_char) {
    let shim: *mut Shim = data.cast();
    unsafe {
        assert!(wlproxy_shim_get_fd(shim) >= 0);
        assert!(!wlproxy_shim_is_open(shim));
        assert_eq!(wlproxy_shim_clients(shim), 0);
        assert_eq!(dispatch(shim), 0);
        assert_eq!(wlproxy_shim_dispatch(shim, None, data), -libc::EINVAL);
    }
}

unsafe extern "C" fn destroy_it(data: *mut c_void, _level: LogLevel, _text: *const c_char) {
    unsafe { wlproxy_shim_destroy(data.cast()) };
}

/// Something is logged twice in a call.
fn say_twice(shim: *mut Shim) -> c_int {
    let say = |_: &Shim| {
        tracing::info!("something");
        tracing::info!("something else");
        Ok(7)
    };
    unsafe { enter(shim, say) }
}

#[test]
fn what_logs_may_ask_and_destroy() {
    let shim = new();
    assert_eq!(unsafe { wlproxy_shim_set_log(shim, Some(ask), shim.cast()) }, 0);
    assert_eq!(say_twice(shim), 7);
    assert_eq!(error(shim), "there is no function to call");
    // The line after that has nobody to go to.
    assert_eq!(unsafe { wlproxy_shim_set_log(shim, Some(destroy_it), shim.cast()) }, 0);
    assert_eq!(say_twice(shim), 7);
}

#[test]
fn no_panic_crosses_and_the_shim_is_over() {
    let (shim, display) = (new(), display());
    assert_eq!(add(shim, display), 0);
    let fd = unsafe { wlproxy_shim_get_fd(shim) };
    assert_eq!(unsafe { enter(shim, |_| panic!("on purpose")) }, -libc::ENOTRECOVERABLE);
    assert!(error(shim).ends_with("only be destroyed: on purpose"), "{}", error(shim));
    unsafe {
        assert_eq!(wlproxy_shim_get_fd(shim), -libc::ENOTRECOVERABLE);
        assert_eq!(dispatch(shim), -libc::ENOTRECOVERABLE);
        assert_eq!(add(shim, display), -libc::ENOTRECOVERABLE);
        assert_eq!(wlproxy_shim_set_log(shim, None, ptr::null_mut()), -libc::ENOTRECOVERABLE);
        assert!(!wlproxy_shim_is_open(shim));
        assert_eq!(wlproxy_shim_clients(shim), 0);
        // Whoever polls it isn't to poll somebody else's.
        fcntl(BorrowedFd::borrow_raw(fd), FcntlArg::F_GETFD).unwrap();
        assert!((*shim).attached.get().is_null());
        turn(display);
        wlproxy_shim_destroy(shim);
        wl_display_destroy(display);
    }
}

#[test]
fn the_display_may_end_first() {
    let (shim, first) = (new(), display());
    assert_eq!(add(shim, first), 0);
    assert_eq!(add(shim, first), -libc::EALREADY);
    turn(first);
    unsafe { wl_display_destroy(first) };
    let second = display();
    assert_eq!(add(shim, second), 0);
    turn(second);
    unsafe {
        wlproxy_shim_destroy(shim);
        turn(second);
        wl_display_destroy(second);
    }
}

#[test]
fn whose_reader_has_left_gets_no_sigpipe() {
    let sigpipe = SigSet::from(Signal::SIGPIPE);
    let pending = || signals::is_pending();
    let write = || {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        assert_eq!(nix::unistd::write(writer, b"x"), Err(nix::errno::Errno::EPIPE));
    };
    // What is blocked waits, even if it is ignored otherwise, as in this process.
    let before = sigpipe.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    {
        let _blocked = Blocked::new();
        write();
        assert!(pending());
    }
    assert!(!pending());
    // One of the compositor's own still waits.
    write();
    drop(Blocked::new());
    assert!(pending());
    before.thread_set_mask().unwrap();
    let blocked = Blocked::new();
    assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGPIPE));
    drop(blocked);
    assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGPIPE));
}

#[test]
fn threads_of_a_channel_get_none_of_the_compositors_signals() {
    let mask = {
        let _blocked = Blocked::new();
        std::thread::spawn(SigSet::thread_get_mask).join().unwrap().unwrap()
    };
    for signal in [Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGUSR1] {
        assert!(mask.contains(signal), "{signal}");
    }
    assert!(!mask.contains(Signal::SIGBUS));
    assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
}
