//! Receives bytes and file descriptors from a Unix socket, and leaves no fd behind.

#![allow(unsafe_code)] // The system hands out fds as numbers in a buffer; all of it is here.

use nix::errno::Errno;
use nix::libc::{self, c_uint, msghdr};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most fds that one message can bring (Linux, `SCM_MAX_FD`): with this room none is ever cut off.
const MAX_FDS_IN: usize = 253;

/// Bytes of a control message with so many fds.
const fn control_space(fds: usize) -> usize {
    // SAFETY: it computes, and touches no memory.
    unsafe { libc::CMSG_SPACE((fds * size_of::<RawFd>()) as c_uint) as usize }
}

/// Words of it: they are aligned as a control message has to be.
const CONTROL: usize = control_space(MAX_FDS_IN).div_ceil(size_of::<u64>());
const _: () = assert!(align_of::<u64>() >= align_of::<libc::cmsghdr>());

/// Receives once, without waiting, up to `bytes.len()` bytes; appends the fds that came along, close-on-exec, to `fds`.
/// Returns how many bytes came.
///
/// # Errors
/// As recvmsg(2), with `EAGAIN` if nothing is there. `EMFILE`: fds were lost for want of room in this process; those that
/// did find room are closed, and the bytes are gone too.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    fds: &mut impl Extend<OwnedFd>,
) -> nix::Result<usize> {
    match receive_all(socket, bytes, fds)? {
        Arrived { bytes, lost: false } => Ok(bytes),
        Arrived { lost: true, .. } => Err(Errno::EMFILE),
    }
}

/// What [`receive_all`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// How many bytes came.
    pub bytes: usize,
    /// Whether fds were lost for want of room in this process. Those that did find room are closed then.
    pub lost: bool,
}

/// The same for who can do something with a message of which the fds were lost.
///
/// # Errors
/// As recvmsg(2), with `EAGAIN` if nothing is there.
pub fn receive_all(
    socket: impl AsFd,
    bytes: &mut [u8],
    fds: &mut impl Extend<OwnedFd>,
) -> nix::Result<Arrived> {
    receive_with(socket.as_fd(), bytes, fds, &mut [0; CONTROL])
}

fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut impl Extend<OwnedFd>,
    control: &mut [u64],
) -> nix::Result<Arrived> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is numbers and pointers; zeros are no parts, no control messages, no address.
    let mut header: msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(control);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: each pointer in the header is to memory of the length beside it, borrowed by this function until its end.
    let count = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) })?;
    // SAFETY: recvmsg has just filled in this header, and `control` is still there and as it left it.
    let received = unsafe { take_fds(&header) };
    // There is room for all that a message can bring, so this process is out of fds.
    let lost = header.msg_flags & libc::MSG_CTRUNC != 0;
    if !lost {
        fds.extend(received);
    }
    Ok(Arrived { bytes: count as usize, lost })
}

/// The fds that came with a message, also if others of it were lost.
///
/// # Safety
/// recvmsg has filled in `header`, its control buffer has not been touched since, and this is the first call for it.
unsafe fn take_fds(header: &msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the control buffer is as the kernel left it (the caller).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the macros return null, or a whole header within the control buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: it computes, and touches no memory.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = message.cmsg_len.saturating_sub(head) / size_of::<RawFd>();
            // SAFETY: a pointer behind the header, in the same buffer.
            let first = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            // SAFETY: the kernel has written so many numbers there, of fds that it has just installed for us, also if
            // it had to stop after them; nothing else knows them.
            fds.extend(
                (0..count)
                    .map(|at| unsafe { OwnedFd::from_raw_fd(first.add(at).read_unaligned()) }),
            );
        }
        // SAFETY: `next` is the header of a message in this buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::unix::net::UnixStream;

    /// A byte with `count` times the same fd.
    fn send(socket: &UnixStream, fd: &impl AsRawFd, count: usize) {
        let fds = vec![fd.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&fds)];
        let slices = [IoSlice::new(b"x")];
        let sent = sendmsg::<()>(socket.as_raw_fd(), &slices, &rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(1));
    }

    /// Whether every fd of a pipe's other end is closed.
    fn is_closed(reader: &impl AsFd) -> bool {
        let mut fd = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        poll(&mut fd, PollTimeout::ZERO).unwrap();
        fd[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))
    }

    #[test]
    fn as_many_as_a_message_can_bring_arrive() {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send(&a, &writer, MAX_FDS_IN);
        drop(writer);
        let mut fds = Vec::new();
        assert_eq!(receive(&b, &mut [0; 9], &mut fds), Ok(1));
        assert_eq!(fds.len(), MAX_FDS_IN);
        assert_eq!(receive(&b, &mut [0; 9], &mut fds), Err(Errno::EAGAIN));
        assert!(!is_closed(&reader));
        drop(fds);
        assert!(is_closed(&reader));
    }

    /// Without room for numbers the kernel stops as it does without room for fds: those before are installed.
    #[test]
    fn fds_that_came_before_others_were_lost_are_closed() {
        for room in [0, 1, 2, 4] {
            let (a, b) = UnixStream::pair().unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            send(&a, &writer, 6);
            drop(writer);
            let mut control = vec![0; control_space(room) / size_of::<u64>()];
            let mut fds = Vec::new();
            let result = receive_with(b.as_fd(), &mut [0; 9], &mut fds, &mut control);
            let arrived = Arrived { bytes: 1, lost: true };
            assert_eq!((result, fds.len()), (Ok(arrived), 0), "room for {room}");
            assert!(is_closed(&reader), "room for {room}");
        }
    }
}
