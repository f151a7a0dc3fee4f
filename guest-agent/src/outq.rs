//! Whether what was written to a socket was read.

#![expect(unsafe_code)]

use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// What Linux says of a socket whose last bytes are being freed just now (`sock_wfree`: it tells of the room before it counts
/// the last byte of it). Bytes that wait take hundreds.
const FREEING: libc::c_int = 1;

/// Whether the peer of a Unix stream has read all that was written to it. If that can't be known, it has.
pub(crate) fn is_read(socket: impl AsFd) -> bool {
    let mut memory: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SIOCOUTQ, which has the same number (Linux, include/uapi/linux/sockios.h).
    let request = libc::TIOCOUTQ as libc::Ioctl;
    // SAFETY: the fd is open as long as `socket` is borrowed, and SIOCOUTQ writes one int to its argument, which is one.
    let result = unsafe { libc::ioctl(fd, request, &raw mut memory) };
    result < 0 || memory <= FREEING
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_lies_in_a_socket_is_seen_until_it_is_read_or_dropped() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(is_read(&ours));
        ours.write_all(b"a").unwrap();
        ours.write_all(&[0; 5000]).unwrap();
        assert!(!is_read(&ours) && is_read(&theirs));
        theirs.read_exact(&mut [0; 5000]).unwrap();
        assert!(!is_read(&ours));
        theirs.read_exact(&mut [0; 1]).unwrap();
        assert!(is_read(&ours));
        ours.write_all(b"a").unwrap();
        drop(theirs);
        assert!(is_read(&ours));
    }
}
