//! A socket of packets between wlproxy and a worker, and how a worker takes over what it inherits.
//!
//! Packets (`SOCK_SEQPACKET`) keep messages apart, so a hostile peer can't make a reader wait for the rest of one.

#![allow(unsafe_code)] // One place where the parent process hands out fds as numbers.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, sendmsg, shutdown,
    socketpair,
};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Largest packet, in bytes. The longest message is a snapshot of all counters; with all numbers at their largest it
/// fits.
pub const MAX_PACKET: usize = 20 * 1024;

/// What is wrong with a packet. Its sender is broken or hostile.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
    /// It doesn't fit.
    #[error("a packet of more than {MAX_PACKET} bytes")]
    TooLong,
    /// More fds than one.
    #[error("a packet with more than one file descriptor")]
    TooManyFds,
}

/// What [`PacketSocket::receive`] found.
#[derive(Debug)]
pub enum Packet {
    /// One packet: its bytes, at least one, and the fd that came with it.
    Data(Vec<u8>, Option<OwnedFd>),
    /// One packet whose fd was lost: this process has no room for it.
    Lost(Vec<u8>),
    /// Nothing now.
    WouldBlock,
    /// The peer has closed its end. An empty packet counts as that too.
    Eof,
}

/// One end of the pair. Non-blocking, close-on-exec.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Makes two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one packet with at most one fd, or fails: also with [`io::ErrorKind::WouldBlock`], and nothing was sent.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        assert!((1..=MAX_PACKET).contains(&bytes.len()), "packet of {} bytes", bytes.len());
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
        loop {
            let slices = [IoSlice::new(bytes)];
            match sendmsg::<()>(
                self.0.as_raw_fd(),
                &slices,
                rights.as_slice(),
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Takes one packet.
    pub fn receive(&self) -> Result<Packet, PacketError> {
        // One byte more, so that a packet of the largest size is told from a longer one.
        let mut bytes = vec![0; MAX_PACKET + 1];
        let mut fds = Vec::new();
        let arrived = loop {
            match wlproxy_unix::receive_all(&self.0, &mut bytes, &mut fds) {
                Ok(arrived) => break arrived,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Packet::WouldBlock),
                Err(Errno::ECONNRESET) => return Ok(Packet::Eof),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        };
        if fds.len() > 1 {
            return Err(PacketError::TooManyFds);
        }
        match arrived.bytes {
            0 => Ok(Packet::Eof),
            length @ 1..=MAX_PACKET => {
                bytes.truncate(length);
                Ok(if arrived.lost { Packet::Lost(bytes) } else { Packet::Data(bytes, fds.pop()) })
            }
            _ => Err(PacketError::TooLong),
        }
    }

    /// Makes both ends see [`Packet::Eof`], whoever still holds them.
    pub fn shutdown(&self) {
        // It fails only when the peer is gone, which is what we want.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PacketSocket {
    /// `fd` must be an end that [`PacketSocket::pair`] made.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.0
    }
}

/// Takes over an fd that the parent process left open for this one, and closes it on any further exec.
///
/// Each number may be taken once, and before this process opens anything of its own.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("fd {number} is a standard stream"),
        ));
    }
    // SAFETY: borrowed for this one call, which fails cleanly if the number is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, as the call above showed; the parent opened it for us, and nobody else here knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::few_fds::alone;
    use std::fs::File;
    use std::io::Read as _;

    /// Most fds that one packet can bring (Linux, `SCM_MAX_FD`).
    const MAX_FDS: usize = 253;

    fn send_raw(socket: &PacketSocket, bytes: &[u8], fds: &[RawFd]) {
        let control = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &control[..] };
        let slices = [IoSlice::new(bytes)];
        sendmsg::<()>(socket.0.as_raw_fd(), &slices, control, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn a_packet_and_its_fd_arrive() {
        let (a, b) = PacketSocket::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        a.send(b"one", Some(null.as_fd())).unwrap();
        a.send(&[7; MAX_PACKET], None).unwrap();
        assert!(matches!(b.receive().unwrap(), Packet::Data(bytes, Some(_)) if bytes == b"one"));
        assert!(
            matches!(b.receive().unwrap(), Packet::Data(bytes, None) if bytes == [7; MAX_PACKET])
        );
        assert!(matches!(b.receive().unwrap(), Packet::WouldBlock));
        drop(a);
        assert!(matches!(b.receive().unwrap(), Packet::Eof));
    }

    #[test]
    fn an_fd_without_room_is_lost_alone() {
        alone("packet::tests::an_fd_without_room_is_lost_alone", || {
            let (a, b) = PacketSocket::pair().unwrap();
            let null = File::open("/dev/null").unwrap();
            a.send(b"one", Some(null.as_fd())).unwrap();
            a.send(b"two", Some(null.as_fd())).unwrap();
            let all: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).collect();
            assert!(matches!(b.receive().unwrap(), Packet::Lost(bytes) if bytes == b"one"));
            drop(all);
            assert!(
                matches!(b.receive().unwrap(), Packet::Data(bytes, Some(_)) if bytes == b"two")
            );
        });
    }

    #[test]
    fn hostile_packets_are_refused() {
        let (a, b) = PacketSocket::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send_raw(&a, &[7; MAX_PACKET + 1], &[]);
        assert!(matches!(b.receive(), Err(PacketError::TooLong)));
        for fds in [2, 3, 28, MAX_FDS] {
            send_raw(&a, b"x", &vec![writer.as_raw_fd(); fds]);
            assert!(matches!(b.receive(), Err(PacketError::TooManyFds)), "{fds} fds");
        }
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "refused fds are closed");
        send_raw(&a, b"", &[]);
        assert!(matches!(b.receive().unwrap(), Packet::Eof));
    }

    #[test]
    fn a_peer_that_does_not_read_blocks_nobody() {
        let (a, _b) = PacketSocket::pair().unwrap();
        let full = (0..100_000).find_map(|_| a.send(&[0; MAX_PACKET], None).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn shutdown_is_seen_at_both_ends() {
        let (a, b) = PacketSocket::pair().unwrap();
        a.shutdown();
        assert!(matches!(a.receive().unwrap(), Packet::Eof));
        assert!(matches!(b.receive().unwrap(), Packet::Eof));
        assert!(b.send(b"x", None).is_err());
    }

    #[test]
    fn only_open_fds_can_be_inherited() {
        assert!(inherit(1).is_err());
        assert!(inherit(-1).is_err());
        assert!(inherit(1_000_000).is_err());
        let fd = OwnedFd::from(File::open("/dev/null").unwrap());
        let fd = inherit(std::os::fd::IntoRawFd::into_raw_fd(fd)).unwrap();
        assert!(fcntl(&fd, FcntlArg::F_GETFD).unwrap() & FdFlag::FD_CLOEXEC.bits() != 0);
    }
}
