//! `/dev/wl0` itself: the ioctls.

#![allow(unsafe_code)]

use super::device::Device;
use super::{Error, errno};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::OpenOptions;
use std::io;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use wlproxy_protocol::limits::{MAX_FDS, MAX_RECV, MAX_SEND, PAGE_SIZE};
use wlproxy_protocol::wl0::{NEW, NewIoctl, RECV, SEND, TxnIoctl};

/// Room for the bytes of one SEND or RECV.
const ROOM: usize = if MAX_SEND > MAX_RECV { MAX_SEND } else { MAX_RECV };

/// A kind of vfd that doesn't exist.
const NO_KIND: u32 = u32::MAX;

/// A vfd that doesn't exist.
const NO_FD: i32 = -1;

/// What SEND and RECV take: the bytes follow the header at once.
#[repr(C)]
struct Transaction {
    header: TxnIoctl,
    bytes: [u8; ROOM],
}

const _: () = assert!(offset_of!(Transaction, bytes) == size_of::<TxnIoctl>());

impl Transaction {
    /// What SEND takes. `EMSGSIZE` if there is more than fits.
    fn send(bytes: &[u8], vfds: &[BorrowedFd<'_>]) -> nix::Result<Self> {
        if bytes.len() > ROOM || vfds.len() > MAX_FDS {
            return Err(Errno::EMSGSIZE);
        }
        let header = TxnIoctl { fds: [NO_FD; MAX_FDS], len: bytes.len() as u32 };
        let mut transaction = Self { header, bytes: [0; ROOM] };
        transaction.bytes[..bytes.len()].copy_from_slice(bytes);
        for (place, vfd) in transaction.header.fds.iter_mut().zip(vfds) {
            *place = vfd.as_raw_fd();
        }
        Ok(transaction)
    }

    /// What RECV takes: room.
    ///
    /// Never none at all: the driver would spin if there are bytes and no vfds. And zeroed, not merely reserved: some
    /// drivers copy without faulting pages in, so these have to be there.
    fn receive() -> Self {
        let header = TxnIoctl { fds: [NO_FD; MAX_FDS], len: MAX_RECV as u32 };
        Self { header, bytes: [0; ROOM] }
    }

    /// Appends what RECV brought.
    ///
    /// # Safety
    /// The fds must be open, and nobody else's.
    unsafe fn received(self, bytes: &mut Vec<u8>, vfds: &mut Vec<OwnedFd>) {
        bytes.extend_from_slice(&self.bytes[..(self.header.len as usize).min(MAX_RECV)]);
        for fd in self.header.fds.into_iter().take_while(|&fd| fd >= 0) {
            // SAFETY: the caller vouches for it.
            vfds.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// The open device node.
#[derive(Debug)]
pub(super) struct Node(OwnedFd);

impl Node {
    /// Opens the node at `path`, and makes sure that a virtio_wl driver is behind it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let node = Self(file.map_err(|error| unopened(path, &error))?.into());
        // The driver knows no such kind, and says so without asking its device.
        match node.create(NewIoctl::plain(NO_KIND)) {
            Err(Errno::EINVAL) => Ok(node),
            Err(Errno::ENOTTY) | Ok(_) => Err(Error::Refused(format!(
                "{} isn't the node of a virtio_wl device: name the one that is, /dev/wl0 unless it was renamed",
                path.display()
            ))),
            Err(errno) => Err(errno::refusal(errno)),
        }
    }
}

/// Why the node can't be opened, and what to do.
fn unopened(path: &Path, error: &io::Error) -> Error {
    let node = path.display();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => Error::Lost(format!(
            "there is no device {node}: give this VM a virtio_wl device, and load its driver (modprobe virtio_wl)"
        )),
        Some(Errno::EACCES | Errno::EPERM) => Error::Refused(format!(
            "this user may not read and write {node}: join the group that may, or make one by a udev rule such as \
             `KERNEL==\"wl0\", GROUP=\"users\", MODE=\"0660\"`"
        )),
        _ => Error::Lost(format!("{node} can't be opened: {error}")),
    }
}

/// Calls the driver, with `argument` for it to read and write.
///
/// # Safety
/// `request` must be one of [`wlproxy_protocol::wl0`] that takes a `T`.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: u32, argument: &mut T) -> nix::Result<()> {
    // SAFETY: the caller vouches for the type. The reference is valid and exclusive for the length of the call, and the
    // driver keeps no pointer.
    let result = unsafe {
        libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, std::ptr::from_mut(argument))
    };
    Errno::result(result).map(drop)
}

impl Device for Node {
    fn create(&self, mut new: NewIoctl) -> nix::Result<OwnedFd> {
        new.fd = NO_FD;
        // SAFETY: NEW takes a NewIoctl.
        unsafe { ioctl(self.0.as_fd(), NEW, &mut new) }?;
        if new.fd < 0 {
            return Err(Errno::ENOTTY);
        }
        // SAFETY: the driver just opened it for this process, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(new.fd) })
    }

    fn send(&self, vfd: BorrowedFd<'_>, bytes: &[u8], vfds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        let mut transaction = Transaction::send(bytes, vfds)?;
        // SAFETY: SEND takes a TxnIoctl and the bytes that it counts, all of which are there.
        unsafe { ioctl(vfd, SEND, &mut transaction) }
    }

    fn receive(
        &self,
        vfd: BorrowedFd<'_>,
        bytes: &mut Vec<u8>,
        vfds: &mut Vec<OwnedFd>,
    ) -> nix::Result<()> {
        let mut transaction = Transaction::receive();
        // SAFETY: RECV takes a TxnIoctl and room for the bytes that it counts, all of which is there.
        unsafe { ioctl(vfd, RECV, &mut transaction) }?;
        // SAFETY: the driver just opened them for this process, and nobody else knows their numbers.
        unsafe { transaction.received(bytes, vfds) }
        Ok(())
    }

    fn map_page(&self, vfd: BorrowedFd<'_>, page: u64) -> nix::Result<()> {
        const PAGE: NonZeroUsize = NonZeroUsize::new(PAGE_SIZE as usize).expect("not 0");
        let offset = page.checked_mul(PAGE_SIZE).and_then(|offset| offset.try_into().ok());
        let offset = offset.ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping where the kernel finds room changes nothing that exists.
        let mapped =
            unsafe { mmap(None, PAGE, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, vfd, offset) }?;
        // SAFETY: this is the mapping that was just made, and nobody has a pointer into it.
        unsafe { munmap(mapped, PAGE.get()) }
    }
}

#[cfg(test)]
mod tests;
