//! A Wayland stream: bytes and file descriptors over a Unix socket, non-blocking.

use crate::receive;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Most fds that we put into one `sendmsg`: receivers are only required to have room for these (libwayland,
/// `MAX_FDS_OUT`). Further ones follow one byte later, as libwayland does it.
const MAX_FDS_OUT: usize = 28;

/// Bytes of the buffer that are kept while nothing is queued. A frame of an application is 64 to 200 bytes; what goes on when
/// a connection begins, some KiB, comes once, and most connections are idle then.
const KEPT: usize = 256;

/// What [`Stream::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// The peer has closed its side; no bytes will come.
    Eof,
}

/// One end of a connected Wayland socket, with a queue for what the peer hasn't taken yet.
///
/// The queue has no bound of its own: whoever fills it looks at [`Stream::queued`] and [`Stream::queued_fds`] first. `F` is
/// what fds are queued as; each is dropped once it is written.
#[derive(Debug)]
pub struct Stream<F = OwnedFd> {
    socket: UnixStream,
    out: VecDeque<u8>,
    /// fds and the position of the byte that they go with, in bytes since the stream began.
    fds: VecDeque<(u64, F)>,
    written: u64,
    stuck: bool,
}

impl Stream {
    /// A stream over `socket`, which becomes non-blocking.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        Self::carrying(socket)
    }
}

impl<F: AsFd> Stream<F> {
    /// The same, of which it follows from its use what fds are queued as.
    pub fn carrying(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, out: VecDeque::new(), fds: VecDeque::new(), written: 0, stuck: false })
    }

    /// Reads once: appends up to `max` bytes to `bytes`, and the fds that came with them to `fds`.
    ///
    /// A peer that died with our bytes unread is an [`Read::Eof`] like any other. `EMFILE` means that fds were lost.
    pub fn read(
        &mut self,
        bytes: &mut Vec<u8>,
        fds: &mut VecDeque<OwnedFd>,
        max: usize,
    ) -> io::Result<Read> {
        let start = bytes.len();
        bytes.resize(start + max, 0);
        let read = loop {
            match receive(&self.socket, &mut bytes[start..], fds) {
                Err(Errno::EINTR) => {}
                read => break read,
            }
        };
        bytes.truncate(start + read.as_ref().map_or(0, |&n| n));
        match read {
            Ok(0) | Err(Errno::ECONNRESET) => Ok(Read::Eof),
            Ok(n) => Ok(Read::Bytes(n)),
            Err(Errno::EAGAIN) => Ok(Read::WouldBlock),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Queues bytes, and fds that go with the first of them; or with the next that are queued, if there are none.
    pub fn queue(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>) {
        let position = self.written + self.out.len() as u64;
        self.fds.extend(fds.into_iter().map(|fd| (position, fd)));
        self.out.extend(bytes);
    }

    /// Bytes that are queued and not written.
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    /// fds that are queued and not written.
    pub fn queued_fds(&self) -> usize {
        self.fds.len()
    }

    /// Bytes that were written since the stream began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes what the socket takes. `true` if nothing is left; if not, it takes more when it is writable, unless the
    /// stream [is stuck](Stream::is_stuck).
    pub fn flush(&mut self) -> io::Result<bool> {
        self.flush_at_most(usize::MAX)
    }

    /// The same, but no more than `most` bytes. If so many were written, the socket may take more at any time.
    pub fn flush_at_most(&mut self, most: usize) -> io::Result<bool> {
        self.stuck = false;
        let end = self.written.saturating_add(most as u64);
        while !self.out.is_empty() {
            let most = (end - self.written) as usize;
            if most == 0 {
                return Ok(false);
            }
            let due = self.fds.iter().take_while(|(position, _)| *position <= self.written).count();
            let now = self.fds.iter().take(due.min(MAX_FDS_OUT));
            let now: Vec<RawFd> = now.map(|(_, fd)| fd.as_fd().as_raw_fd()).collect();
            let until = match self.fds.get(now.len()) {
                // Later fds wait for their byte; overdue ones for the next.
                Some((position, _)) => (position.saturating_sub(self.written) as usize).max(1),
                None => self.out.len(),
            }
            .min(most);
            let (front, back) = self.out.as_slices();
            let front = &front[..front.len().min(until)];
            let slices =
                [IoSlice::new(front), IoSlice::new(&back[..back.len().min(until - front.len())])];
            let rights = [ControlMessage::ScmRights(&now)];
            let control = if now.is_empty() { &[][..] } else { &rights[..] };
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match sendmsg::<()>(self.socket.as_raw_fd(), &slices, control, flags, None) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.fds.drain(..now.len());
                    self.written += n as u64;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM) => {
                    self.stuck = true;
                    return Ok(false);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        self.out.shrink_to(KEPT);
        Ok(true)
    }

    /// Whether the last flush was stopped by a shortage, not by a full socket: too many fds of this user are in flight
    /// (unix(7), `ETOOMANYREFS`), or the kernel is out of memory.
    ///
    /// It passes, and nothing tells when; the socket may be writable all the time. Flush again after a while.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }
}

impl<F> AsFd for Stream<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn pair() -> (Stream, Stream) {
        let (a, b) = UnixStream::pair().unwrap();
        (Stream::new(a).unwrap(), Stream::new(b).unwrap())
    }

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn fds_arrive_with_their_byte_and_not_later() {
        let (mut a, mut b) = pair();
        a.queue(b"one", [null()]);
        a.queue(b"two", [null(), null()]);
        assert!(a.flush().unwrap());
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        while bytes.len() < 6 {
            b.read(&mut bytes, &mut fds, 4096).unwrap();
            assert!(bytes.len() <= 3 || fds.len() == 3, "{} bytes, {} fds", bytes.len(), fds.len());
        }
        assert_eq!((&bytes[..], fds.len()), (&b"onetwo"[..], 3));
    }

    #[test]
    fn no_more_is_written_than_may_be() {
        let (mut a, mut b) = pair();
        a.queue(b"one", [null()]);
        a.queue(b"two", [null()]);
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        for (most, whole, so_far, fds_so_far) in [
            (0, false, "", 0),
            (2, false, "on", 1),
            (1, false, "one", 1),
            (1, false, "onet", 2),
            (9, true, "onetwo", 2),
        ] {
            assert_eq!(a.flush_at_most(most).unwrap(), whole);
            while b.read(&mut bytes, &mut fds, 4096).unwrap() != Read::WouldBlock {}
            assert_eq!((&bytes[..], fds.len()), (so_far.as_bytes(), fds_so_far));
            assert_eq!(a.written(), so_far.len() as u64);
        }
    }

    #[test]
    fn what_was_large_once_is_not_kept() {
        let (mut a, _b) = pair();
        a.queue(&[7; 16 * KEPT], []);
        assert!(a.flush().unwrap());
        assert!(a.out.capacity() <= KEPT, "{} bytes", a.out.capacity());
    }

    #[test]
    fn a_hundred_fds_all_arrive() {
        let (mut a, mut b) = pair();
        a.queue(b"abcdefgh", (0..100).map(|_| null()));
        assert!(a.flush().unwrap());
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        while b.read(&mut bytes, &mut fds, 4096).unwrap() != Read::WouldBlock {}
        assert_eq!((&bytes[..], fds.len()), (&b"abcdefgh"[..], 100));
    }

    #[test]
    fn what_does_not_fit_waits_and_nothing_is_lost() {
        let (mut a, mut b) = pair();
        let sent: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
        a.queue(&sent, []);
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        while !a.flush().unwrap() {
            assert!(a.queued() > 0);
            while let Read::Bytes(_) = b.read(&mut bytes, &mut fds, 65_536).unwrap() {}
        }
        while let Read::Bytes(_) = b.read(&mut bytes, &mut fds, 65_536).unwrap() {}
        assert!(bytes == sent);
    }

    #[test]
    fn the_end_is_seen() {
        let (mut a, b) = pair();
        (&b.socket).write_all(b"bye").unwrap();
        drop(b);
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        assert_eq!(a.read(&mut bytes, &mut fds, 4096).unwrap(), Read::Bytes(3));
        assert_eq!(a.read(&mut bytes, &mut fds, 4096).unwrap(), Read::Eof);
    }
}
