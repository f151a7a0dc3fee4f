//! What the driver does for a channel.

use std::os::fd::{BorrowedFd, OwnedFd};
use wlproxy_protocol::wl0::NewIoctl;

/// The driver, or in tests what stands in for it.
///
/// All of it may be called by several threads at once.
pub(super) trait Device: Send + Sync {
    /// NEW: makes a vfd. Waits for the device's answer.
    ///
    /// If the OUT ring is full, it waits for room for a second, then fails with `EBUSY`.
    fn create(&self, new: NewIoctl) -> nix::Result<OwnedFd>;

    /// SEND: up to [`wlproxy_protocol::limits::MAX_SEND`] bytes and [`wlproxy_protocol::limits::MAX_FDS`] vfds. Waits
    /// for the device's answer, which the device holds back while the other side doesn't read; no signal ends that.
    ///
    /// `EAGAIN` if the vfd is non-blocking and the OUT ring is full. The vfd polls `POLLOUT` once it isn't.
    fn send(&self, vfd: BorrowedFd<'_>, bytes: &[u8], vfds: &[BorrowedFd<'_>]) -> nix::Result<()>;

    /// RECV: appends up to [`wlproxy_protocol::limits::MAX_RECV`] bytes, and up to
    /// [`wlproxy_protocol::limits::MAX_FDS`] vfds that came with them or with what is still to be read. Neither is
    /// the end.
    ///
    /// `EAGAIN` if the vfd is non-blocking and nothing waits. After any other error what waited may be lost.
    fn receive(
        &self,
        vfd: BorrowedFd<'_>,
        bytes: &mut Vec<u8>,
        vfds: &mut Vec<OwnedFd>,
    ) -> nix::Result<()>;

    /// mmap: whether one page of a vfd can be mapped, counted from 0. `EACCES` if it isn't memory, `EINVAL` if it is
    /// shorter.
    fn map_page(&self, vfd: BorrowedFd<'_>, page: u64) -> nix::Result<()>;
}
