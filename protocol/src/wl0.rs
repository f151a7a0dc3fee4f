//! The ioctls of `/dev/wl0`, a Linux guest's side of the virtio_wl device.
//!
//! From the ChromiumOS kernel's `include/uapi/linux/virtwl.h`. NEW works on the device, SEND and RECV on the vfds
//! that NEW and RECV return. The direction bits of SEND and RECV are the wrong way round in that header; they are
//! ABI now.

use crate::limits::{CONTEXT_NAME, MAX_FDS};
use bytemuck::{Pod, Zeroable};

/// Makes a vfd: [`NewIoctl`].
pub const NEW: u32 = iowr(b'w', 0, size_of::<NewIoctl>());
/// Sends bytes and vfds: [`TxnIoctl`] and the bytes after it.
pub const SEND: u32 = ior(b'w', 1, size_of::<TxnIoctl>());
/// Receives bytes and vfds: [`TxnIoctl`] and room for the bytes after it.
pub const RECV: u32 = iow(b'w', 2, size_of::<TxnIoctl>());
/// Begins or ends a CPU's access to a dmabuf vfd: one u32 of flags.
pub const DMABUF_SYNC: u32 = ior(b'w', 3, size_of::<u32>());

/// [`NewIoctl::kind`]: a context to the default socket.
pub const NEW_CTX: u32 = 0;
/// [`NewIoctl::kind`]: an allocation of so many bytes, which stand first in [`NewIoctl::payload`].
pub const NEW_ALLOC: u32 = 1;
/// [`NewIoctl::kind`]: a pipe that the guest reads.
pub const NEW_PIPE_READ: u32 = 2;
/// [`NewIoctl::kind`]: a pipe that the guest writes.
pub const NEW_PIPE_WRITE: u32 = 3;
/// [`NewIoctl::kind`]: a linear dmabuf, [`NewDmabuf`].
pub const NEW_DMABUF: u32 = 4;
/// [`NewIoctl::kind`]: a context to the socket that [`NewIoctl::payload`] names.
pub const NEW_CTX_NAMED: u32 = 5;

/// `struct virtwl_ioctl_new`, for what we ask of it. 48 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct NewIoctl {
    /// One of the `NEW_*` kinds.
    pub kind: u32,
    /// Returned: the vfd, opened with `O_CLOEXEC`.
    pub fd: i32,
    /// Always 0.
    pub flags: u32,
    /// A union: the first four bytes are an allocation's size in bytes, or all 32 are a name.
    pub payload: [u8; CONTEXT_NAME],
    /// The rest of the union, a dmabuf's.
    pub rest: [u8; 4],
}

impl NewIoctl {
    /// Asks for a vfd that is told by its kind alone: a context to the default socket, a pipe.
    pub fn plain(kind: u32) -> Self {
        Self { kind, ..Self::zeroed() }
    }

    /// Asks for an allocation of `size` bytes.
    pub fn allocation(size: u32) -> Self {
        let mut new = Self::plain(NEW_ALLOC);
        new.payload[..4].copy_from_slice(&size.to_ne_bytes());
        new
    }

    /// Asks for a context to the socket called `name`.
    pub fn named(name: [u8; CONTEXT_NAME]) -> Self {
        Self { payload: name, ..Self::plain(NEW_CTX_NAMED) }
    }
}

/// What the union of a [`NewIoctl`] holds for [`NEW_DMABUF`]. 36 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NewDmabuf {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// A DRM fourcc.
    pub format: u32,
    /// Returned: bytes from one row to the next, by plane.
    pub strides: [u32; 3],
    /// Returned: where each plane begins, in bytes.
    pub offsets: [u32; 3],
}

/// `struct virtwl_ioctl_txn`, without the bytes that follow it. 116 bytes.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct TxnIoctl {
    /// vfds; the first negative one ends the list.
    pub fds: [i32; MAX_FDS],
    /// How many bytes follow (SEND), may follow and did (RECV).
    pub len: u32,
}

const fn ioc(direction: u32, group: u8, nr: u8, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (group as u32) << 8 | nr as u32
}
const fn iow(group: u8, nr: u8, size: usize) -> u32 {
    ioc(1, group, nr, size)
}
const fn ior(group: u8, nr: u8, size: usize) -> u32 {
    ioc(2, group, nr, size)
}
const fn iowr(group: u8, nr: u8, size: usize) -> u32 {
    ioc(3, group, nr, size)
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<NewIoctl>() == 48 && offset_of!(NewIoctl, payload) == 12);
    assert!(size_of::<TxnIoctl>() == 116 && offset_of!(TxnIoctl, len) == 112);
    assert!(size_of::<NewDmabuf>() == size_of::<NewIoctl>() - offset_of!(NewIoctl, payload));
    assert!(offset_of!(NewDmabuf, strides) == 12 && offset_of!(NewDmabuf, offsets) == 24);
    assert!(NEW == 0xC030_7700 && SEND == 0x8074_7701 && RECV == 0x4074_7702);
    assert!(DMABUF_SYNC == 0x8004_7703);
};
