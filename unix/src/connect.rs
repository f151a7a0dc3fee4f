//! Connecting without waiting.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to a listening socket, non-blocking. One whose queue is full is an error ([`io::ErrorKind::WouldBlock`]),
/// where a blocking `connect` would wait for whoever should accept.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, listen};
    use std::os::unix::net::UnixListener;

    #[test]
    fn connecting_never_waits() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("full.sock");
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut connected = Vec::new();
        let error =
            (0..1000).find_map(|_| connect(&path).map(|stream| connected.push(stream)).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
