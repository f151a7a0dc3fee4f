//! Sockets: when this process connects to the agent's Wayland socket, lending begins; and what is sent over others is
//! never an allocation.

#![allow(unsafe_code)]

use crate::demote;
use crate::environment;
use crate::lend;
use crate::next::next;
use crate::raw::{self, Result, call, fail, sys, to_c};
use crate::socket::{self, Path};
use crate::state::{FDS, State, has_records, set_connected, start, state};
use crate::table::{CANDIDATES, Kind};
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_uint};
use core::sync::atomic::Ordering::Relaxed;
use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t, timespec};

next! {
    connect(socket: c_int, address: *const sockaddr, len: socklen_t) -> c_int =
        to_c(sys!(libc::SYS_connect, socket, address, len));
    sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t =
        to_c(sys!(libc::SYS_sendmsg, socket, message, flags));
    recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> ssize_t =
        to_c(sys!(libc::SYS_recvmsg, socket, message, flags));
    recvmmsg(socket: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int =
        to_c(sys!(libc::SYS_recvmmsg, socket, messages, count, flags, timeout));
    sendmmsg(socket: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int =
        to_c(sys!(libc::SYS_sendmmsg, socket, messages, count, flags));
}

/// The path of the agent's Wayland socket; empty if nobody lends.
static DISPLAY: Display = Display(UnsafeCell::new([0; socket::PATH]));

struct Display(UnsafeCell<Path>);

// SAFETY: it is written once, when this library is loaded, before there can be another thread; then it is only read.
unsafe impl Sync for Display {}

impl Display {
    fn get(&self) -> &Path {
        // SAFETY: nobody writes it any more.
        unsafe { &*self.0.get() }
    }
}

/// Reads what `guest-agent run` has put into the environment.
pub(super) fn prepare() {
    let (Some(display), Some(lender)) =
        (environment::path(environment::DISPLAY), environment::path(environment::LENDER))
    else {
        return;
    };
    // SAFETY: there is one thread, and it hasn't read it.
    unsafe { *DISPLAY.0.get() = display };
    start();
    if let Some(mut state) = state() {
        state.lender.set_path(lender);
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(socket: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the same call (the caller).
    let result = unsafe { next::connect(socket, address, len) };
    if result == 0 && DISPLAY.get()[0] != 0 {
        // SAFETY: the caller passes an address of that length.
        let path = unsafe { socket::path_of(address, len as usize) };
        if path.is_some_and(|path| is_display(&path)) {
            set_connected();
            // What this process starts from now on is no client that we know of.
            environment::clean();
        }
    }
    result
}

/// Whether a path is that of the agent's Wayland socket, however it is written.
fn is_display(path: &Path) -> bool {
    let stat = |path: &Path| {
        let path = CStr::from_bytes_until_nul(path).ok()?;
        raw::stat(path).ok().map(|stat| stat.file)
    };
    path == DISPLAY.get() || stat(path).is_some_and(|file| stat(DISPLAY.get()) == Some(file))
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller passes a whole message.
    if let Err(errno) = unsafe { before_sending(socket, message) } {
        return fail(errno);
    }
    // SAFETY: the same call (the caller).
    let sent = unsafe { next::sendmsg(socket, message, flags) };
    // SAFETY: as above.
    unsafe { after_sending(socket, message, sent >= 0) };
    sent
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmmsg(
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let message = |at: c_uint| {
        let at = messages.wrapping_add(at as usize);
        // SAFETY: the caller passes so many messages.
        unsafe { &raw const (*at).msg_hdr }
    };
    for at in 0..count {
        // SAFETY: the caller passes whole messages.
        if let Err(errno) = unsafe { before_sending(socket, message(at)) } {
            // SAFETY: as above.
            (0..at).for_each(|at| unsafe { after_sending(socket, message(at), false) });
            return fail(errno) as c_int;
        }
    }
    // SAFETY: the same call (the caller).
    let sent = unsafe { next::sendmmsg(socket, messages, count, flags) };
    for at in 0..count {
        let was_sent = c_uint::try_from(sent).is_ok_and(|sent| at < sent);
        // SAFETY: as above.
        unsafe { after_sending(socket, message(at), was_sent) };
    }
    sent
}

/// Whether messages have to be looked at.
fn matters() -> bool {
    has_records() || CANDIDATES.load(Relaxed) > 0
}

/// Who gets what is sent over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It is the agent's Wayland socket.
    Agent,
    /// This process: Firefox has a thread that stands between it and the compositor.
    Own,
    Other,
}

impl Peer {
    fn of(socket: c_int) -> Self {
        // Without a path it may be one of a pair: any process that was made by fork(2) may have the other.
        let Some(path) = socket::peer(socket) else { return Self::Other };
        if is_display(&path) {
            Self::Agent
        } else if socket::peer_process(socket) == Some(raw::getpid()) {
            Self::Own
        } else {
            Self::Other
        }
    }
}

/// What others get of this process is a file, and never an allocation; but the agent gets it over a Wayland socket. And
/// what others have got as a file stays one.
///
/// # Safety
/// The message is null or whole.
unsafe fn before_sending(socket: c_int, message: *const msghdr) -> Result<()> {
    // SAFETY: as the caller of sendmsg(3) has it.
    if !matters() || message.is_null() || unsafe { (*message).msg_controllen } == 0 {
        return Ok(());
    }
    let Some(mut state) = state() else { return Ok(()) };
    let peer = Peer::of(socket);
    let mut result = Ok(());
    let mut look = |fd| {
        let mut number = state.lent(fd);
        if number.is_none() && peer == Peer::Agent {
            // A client without libwayland, as far as it uses the C library: here its pool goes.
            lend::try_lend(&mut state, fd);
            number = state.lent(fd);
        }
        match (number, peer) {
            (Some(number), Peer::Other) => {
                result = result.and_then(|()| demote::demote(&mut state, number));
            }
            // Noted before it is sent: another thread may receive it at once, or close the last fd.
            (Some(number), peer) => {
                if let Some(count) = count(&mut state, number, peer) {
                    *count = count.saturating_add(1);
                }
            }
            // What is a file still is known to others as that.
            (None, _) => no_candidate(&mut state, fd),
        }
    };
    // SAFETY: the message is whole (the caller).
    unsafe { socket::each_fd(message, &mut look) };
    result
}

/// What is sent is others', too. That may be before this process connects to the agent's Wayland socket.
fn no_candidate(state: &mut State, fd: c_int) {
    if CANDIDATES.load(Relaxed) > 0
        && let Ok(stat) = raw::fstat(fd)
    {
        state.candidates.remove(stat.file);
    }
}

/// How often an allocation was sent to the agent, or is on its way to this process: until it has arrived there, it isn't
/// parted from.
fn count(state: &mut State, number: usize, peer: Peer) -> Option<&mut u32> {
    let record = state.table.record(number)?;
    match peer {
        Peer::Agent => Some(&mut record.sent),
        Peer::Own => Some(&mut record.on_the_way),
        Peer::Other => None,
    }
}

/// Takes back what was noted of a message that wasn't sent.
///
/// # Safety
/// The message is null or whole.
unsafe fn after_sending(socket: c_int, message: *const msghdr, was_sent: bool) {
    // SAFETY: as the caller of sendmsg(3) has it.
    if was_sent || !has_records() || message.is_null() || unsafe { (*message).msg_controllen } == 0
    {
        return;
    }
    // The C library's errno is the caller's, who wants to know why it wasn't sent: nothing here sets it.
    let Some(mut state) = state() else { return };
    let peer = Peer::of(socket);
    let mut take_back = |fd| {
        if let Kind::Lent(number) = FDS.kind(fd)
            && let Some(count) = count(&mut state, number, peer)
        {
            *count = count.saturating_sub(1);
        }
    };
    // SAFETY: the message is whole (the caller).
    unsafe { socket::each_fd(message, &mut take_back) };
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the same call (the caller).
    let received = unsafe { next::recvmsg(socket, message, flags) };
    if received >= 0 {
        // SAFETY: it was just filled in.
        unsafe { after_receiving(message) };
    }
    received
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmmsg(
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: the same call (the caller).
    let received = unsafe { next::recvmmsg(socket, messages, count, flags, timeout) };
    for at in 0..usize::try_from(received).unwrap_or(0) {
        // SAFETY: so many were just filled in.
        unsafe { after_receiving(&raw const (*messages.add(at)).msg_hdr) };
    }
    received
}

/// Notes the fds that came along.
///
/// # Safety
/// The message is whole.
unsafe fn after_receiving(message: *const msghdr) {
    // SAFETY: the message is whole (the caller).
    let has_control = unsafe { (*message).msg_controllen } > 0;
    if has_control
        && has_records()
        && let Some(mut state) = state()
    {
        // SAFETY: as above.
        unsafe { socket::each_fd(message, |fd| state.received(fd)) };
    }
}

pub(super) fn find() {
    next::find();
}
