//! What the driver does for a channel.

use crate::memory::Mapping;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Fence ring of SENDs, apart from the queries and events that the protocol has rings for: its fences wait for the other
/// side.
pub(super) const RING_SEND: u32 = 2;

/// The first fence ring of what is written to pipes. Each of those waits for a reader of its own.
pub(super) const RING_PIPES: u32 = 3;

/// A blob, as one file knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    /// The file's name of it.
    pub(super) handle: u32,
    /// The device's.
    pub(super) resource: u32,
}

/// The driver, or in tests what stands in for it.
pub(super) trait Device {
    /// Opens a file, with a cross-domain context of its own that isn't connected.
    fn open(&self) -> nix::Result<Box<dyn File>>;
}

/// A file of the driver's. What it is asked for is queued, and waits only where that is full, unless it is said here.
///
/// Dropping it closes its context, and all handles.
pub(super) trait File {
    /// Readable when [`File::fences`] isn't 0.
    fn poll_fd(&self) -> BorrowedFd<'_>;

    /// How many fences of [`RING_CHANNEL`](wlproxy_protocol::cross_domain::RING_CHANNEL) were signalled since the last
    /// time.
    fn fences(&self) -> nix::Result<usize>;

    /// Gives the context a command, whose fence is one of `ring`. [`File::wait`] for the handle waits for it.
    fn submit(&self, command: &[u8], ring: u32, handle: Option<u32>) -> nix::Result<()>;

    /// The same. The fence is readable once it is signalled.
    fn submit_fenced(&self, command: &[u8], ring: u32) -> nix::Result<OwnedFd>;

    /// Waits for the device. `EBUSY` if it doesn't answer for 15 seconds.
    fn wait(&self, handle: u32) -> nix::Result<()>;

    /// Makes memory of this VM that the host writes into, and maps it.
    fn ring(&self, size: u64) -> io::Result<(Blob, Mapping)>;

    /// Makes a blob of memory of the host.
    fn blob(&self, id: u32, size: u64) -> nix::Result<Blob>;

    /// Makes a dma-buf of a blob.
    fn export(&self, handle: u32) -> nix::Result<OwnedFd>;

    /// Makes a handle of a dma-buf, which may be of another file of the device.
    fn import(&self, memory: BorrowedFd<'_>) -> nix::Result<Blob>;

    /// Gives a handle back.
    fn close(&self, handle: u32);
}
