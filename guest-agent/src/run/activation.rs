//! A listening socket that systemd has made (socket activation, sd_listen_fds(3)).

#![expect(unsafe_code, reason = "fds come as numbers")]

use super::SocketError;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the socket was taken: then its number may be anybody's.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The socket that systemd has passed to this process, and its path. `None` if it passed nothing, or it was taken.
pub(super) fn take() -> Result<Option<(UnixListener, PathBuf)>, SocketError> {
    let mut fds = sd_notify::listen_fds().map_err(SocketError::Activation)?;
    let count = fds.len();
    let Some(fd) = fds.next() else { return Ok(None) };
    if count > 1 {
        return Err(SocketError::Several(count));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    // SAFETY: systemd has opened it for this process, by whose id it says so, and nothing else here has asked for it:
    // `TAKEN` was false.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let listens = getsockopt(&fd, sockopt::AcceptConn).is_ok_and(|listens| listens)
        && getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    let listener = UnixListener::from(fd);
    let address = listener.local_addr();
    let path = address.as_ref().ok().and_then(|address| address.as_pathname());
    let Some(path) = path.filter(|path| listens && path.is_absolute()) else {
        return Err(SocketError::NoWaylandSocket);
    };
    let path = path.to_owned();
    listener.set_nonblocking(true).map_err(SocketError::Activation)?;
    Ok(Some((listener, path)))
}
