//! What arrives at a vfd: bytes, and fds that have to be told apart.

use super::PipeEnd;
use super::device::Device;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{BorrowedFd, OwnedFd};
use wlproxy_protocol::limits::{MAX_ALLOCATION, MAX_FDS, PAGE_SIZE};
use wlproxy_protocol::wayland::inbox::MAX_PENDING_FDS;

/// What an fd that arrived is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Memory of so many bytes.
    Memory(u64),
    /// The end of a pipe that this VM has.
    Pipe(PipeEnd),
}

/// Receives what waits, as much as one RECV takes. `false` at the end.
///
/// One RECV may take the bytes of several messages but not all of their vfds; then there are more, until no byte is
/// ahead of its vfds. If that takes more vfds than may wait for their message anywhere ([`MAX_PENDING_FDS`]), it fails
/// with `EMSGSIZE`.
pub(super) fn receive(
    device: &dyn Device,
    vfd: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    vfds: &mut Vec<OwnedFd>,
) -> nix::Result<bool> {
    let before = bytes.len();
    device.receive(vfd, bytes, vfds)?;
    if bytes.len() == before && vfds.is_empty() {
        return Ok(false);
    }
    let mut new = vfds.len();
    while new == MAX_FDS {
        if vfds.len() > MAX_PENDING_FDS {
            return Err(Errno::EMSGSIZE);
        }
        let before = vfds.len();
        match device.receive(vfd, bytes, vfds) {
            Err(Errno::EAGAIN) => break,
            result => result?,
        }
        new = vfds.len() - before;
    }
    Ok(true)
}

/// What an fd is; `None` if it is none of what arrives. See the text of [`super`].
pub(super) fn tell(device: &dyn Device, fd: BorrowedFd<'_>) -> nix::Result<Option<Arrival>> {
    match device.map_page(fd, 0) {
        Ok(()) => return Ok(Some(Arrival::Memory(pages(device, fd)? * PAGE_SIZE))),
        Err(Errno::EACCES) => {}
        Err(errno) => return Err(errno),
    }
    let mode = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    Ok(match mode {
        OFlag::O_RDONLY => Some(Arrival::Pipe(PipeEnd::Read)),
        OFlag::O_WRONLY => Some(Arrival::Pipe(PipeEnd::Write)),
        _ => None,
    })
}

/// How many pages of memory there are, at least one.
fn pages(device: &dyn Device, fd: BorrowedFd<'_>) -> nix::Result<u64> {
    // So many there are, and more than so many there aren't.
    let (mut least, mut most) = (1, MAX_ALLOCATION / PAGE_SIZE);
    while least < most {
        let middle = most - (most - least) / 2;
        match device.map_page(fd, middle - 1) {
            Ok(()) => least = middle,
            Err(Errno::EINVAL) => most = middle - 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(least)
}
