//! Sockets: connecting, records with an fd, and what an application sends along.

#![allow(unsafe_code)]

use crate::raw::{Errno, Result, call, check, sys};
use core::ffi::{c_int, c_void};
use core::mem::{self, MaybeUninit};
use core::ptr;
use libc::{cmsghdr, msghdr, sockaddr, sockaddr_un};

/// Longest path of a Unix socket, and a zero (unix(7), `sun_path`).
pub(crate) const PATH: usize = 108;

/// A path, with zeros behind it.
pub(crate) type Path = [u8; PATH];

/// A new socket that keeps records apart; non-blocking, close-on-exec.
pub(crate) fn new() -> Result<c_int> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_socket, libc::AF_UNIX, kind, 0) }).map(|fd| fd as c_int)
}

/// Connects, if that is possible at once.
pub(crate) fn connect(socket: c_int, path: &Path) -> Result<()> {
    let mut address = sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; PATH] };
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as _;
    }
    let (at, len) = (&raw const address, size_of::<sockaddr_un>());
    // SAFETY: the kernel reads the address, which is as long.
    check(unsafe { sys!(libc::SYS_connect, socket, at, len) }).map(drop)
}

/// The path in an address of a Unix socket; `None` for any other.
///
/// # Safety
/// `address` is null or has `len` bytes.
pub(crate) unsafe fn path_of(address: *const sockaddr, len: usize) -> Option<Path> {
    const FAMILY: usize = mem::offset_of!(sockaddr_un, sun_path);
    if address.is_null() || !(FAMILY + 1..=size_of::<sockaddr_un>()).contains(&len) {
        return None;
    }
    // SAFETY: there are two bytes of a family at least (the caller).
    if i32::from(unsafe { address.cast::<u16>().read_unaligned() }) != libc::AF_UNIX {
        return None;
    }
    let mut path = [0; PATH];
    // SAFETY: so many bytes are there (the caller), and fit.
    unsafe {
        let from = address.cast::<u8>().add(FAMILY);
        ptr::copy_nonoverlapping(from, path.as_mut_ptr(), len - FAMILY);
    }
    // An abstract one begins with a zero; one without an end can't be opened by other means.
    (path[0] != 0 && path[PATH - 1] == 0).then_some(path)
}

/// Where the other end of a connected Unix socket listens, if it has a path.
pub(crate) fn peer(socket: c_int) -> Option<Path> {
    let mut address = MaybeUninit::<sockaddr_un>::zeroed();
    let mut len = size_of::<sockaddr_un>() as u32;
    let (at, size) = (address.as_mut_ptr(), &raw mut len);
    // SAFETY: the kernel writes as much as fits, and how much that is.
    check(unsafe { sys!(libc::SYS_getpeername, socket, at, size) }).ok()?;
    // SAFETY: it is all there.
    unsafe { path_of(at.cast(), len as usize) }
}

/// Which process the other end of a connected Unix socket belongs to: for one that was connected to, who listens.
pub(crate) fn peer_process(socket: c_int) -> Option<c_int> {
    let mut peer = MaybeUninit::<libc::ucred>::uninit();
    let mut len = size_of::<libc::ucred>() as u32;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let (to, size) = (peer.as_mut_ptr(), &raw mut len);
    // SAFETY: the kernel writes as much as fits, and how much that is.
    check(unsafe { sys!(libc::SYS_getsockopt, socket, level, option, to, size) }).ok()?;
    // SAFETY: it is all there.
    (len as usize == size_of::<libc::ucred>()).then(|| unsafe { peer.assume_init() }.pid)
}

/// Room for two fds, or a few that nobody asked for, aligned as a control message has to be.
type Control = [u64; 8];

/// Sends a record, with fds if there are any. It is taken at once or not at all.
pub(crate) fn send(socket: c_int, bytes: &[u8], fds: Option<[c_int; 2]>) -> Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control: Control = [0; 8];
    let mut message = message(&mut part, &mut control);
    match fds {
        None => message.msg_controllen = 0,
        // SAFETY: there is room for a header and the fds.
        Some(fds) => unsafe {
            let len = size_of_val(&fds) as u32;
            message.msg_controllen = libc::CMSG_SPACE(len) as usize;
            let head = libc::CMSG_FIRSTHDR(&message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(len) as usize;
            libc::CMSG_DATA(head).cast::<[c_int; 2]>().write_unaligned(fds);
        },
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that the message points at is here.
    let sent = check(unsafe { sys!(libc::SYS_sendmsg, socket, &raw const message, flags) })?;
    if sent == bytes.len() { Ok(()) } else { Err(libc::EPROTO) }
}

/// Waits up to `milliseconds` for a record. Returns its length, 0 if the other end is closed, and the fd that came along.
pub(crate) fn receive(
    socket: c_int,
    bytes: &mut [u8],
    milliseconds: u32,
) -> Result<(usize, Option<c_int>)> {
    wait(socket, libc::POLLIN, milliseconds)?;
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control: Control = [0; 8];
    let mut message = message(&mut part, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: all that the message points at is here.
    let len = check(unsafe { sys!(libc::SYS_recvmsg, socket, &raw mut message, flags) })?;
    let mut fd = None;
    // SAFETY: the kernel has just filled in the control messages.
    unsafe {
        each_fd(&message, |number| match fd {
            None => fd = Some(number),
            // Nobody has asked for more.
            Some(_) => crate::raw::close(number),
        });
    }
    Ok((len, fd))
}

/// Waits up to `milliseconds` until a socket is ready for something.
pub(crate) fn wait(socket: c_int, events: i16, milliseconds: u32) -> Result<()> {
    let mut poll = libc::pollfd { fd: socket, events, revents: 0 };
    let time = libc::timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    };
    let (polls, time) = (&raw mut poll, &raw const time);
    let none = ptr::null::<c_void>();
    // SAFETY: one entry and a time are here; no set of signals.
    match check(unsafe { sys!(libc::SYS_ppoll, polls, 1, time, none, 0) }) {
        Ok(0) => Err(libc::ETIMEDOUT),
        other => other.map(drop),
    }
}

fn message(part: &mut libc::iovec, control: &mut Control) -> msghdr {
    // SAFETY: numbers and pointers; zeros are no address.
    let mut message: msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    message
}

/// Calls `each` with every fd in a message's control messages.
///
/// # Safety
/// The message and what it points at are whole, as sendmsg(2) wants it or recvmsg(2) leaves it.
pub(crate) unsafe fn each_fd(message: *const msghdr, mut each: impl FnMut(c_int)) {
    // SAFETY: the message is whole (the caller).
    let mut head: *const cmsghdr = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header that is not null lies in the control messages.
    while let Some(control) = unsafe { head.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: it computes.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = control.cmsg_len.saturating_sub(empty) / size_of::<c_int>();
            // SAFETY: they stand behind the header.
            let first = unsafe { libc::CMSG_DATA(head) }.cast::<c_int>();
            // SAFETY: there are so many.
            (0..count).for_each(|at| each(unsafe { first.add(at).read_unaligned() }));
        }
        // SAFETY: `head` is a header in this message.
        head = unsafe { libc::CMSG_NXTHDR(message, head) };
    }
}

/// What a broken peer is worth.
pub(crate) const BROKEN: Errno = libc::EPROTO;
