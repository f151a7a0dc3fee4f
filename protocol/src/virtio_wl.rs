//! Commands, responses and events of the virtio_wl device.
//!
//! Layouts from the ChromiumOS kernel's `include/uapi/linux/virtio_wl.h`; all fields are little-endian. Each request
//! on the OUT queue is one readable and one writable part; the response overwrites the request's header, and its
//! payload where it has one. Events arrive in buffers that the driver queued on IN.
//!
//! The structs only describe bytes. Whether an id, a size or a flag makes sense is for the device or driver to say.

use bytemuck::{Pod, Zeroable};

/// The device id of today's ChromiumOS kernels.
pub const DEVICE_ID: u32 = 63;
/// The legacy device id, which stock QEMU can carry (63 is beyond its table of names).
pub const DEVICE_ID_LEGACY: u32 = 30;

/// Queue index of events, device to driver.
pub const QUEUE_IN: usize = 0;
/// Queue index of requests, driver to device.
pub const QUEUE_OUT: usize = 1;
/// Number of queues.
pub const NUM_QUEUES: usize = 2;
/// Size of each queue, in descriptors (crosvm's choice).
pub const QUEUE_SIZE: u16 = 256;

/// Feature bit: vfd flags have the meaning of [`flags`], not that of [`legacy_flags`].
pub const F_TRANS_FLAGS: u32 = 1;
/// Feature bit: fences may be sent (not offered by our device).
pub const F_SEND_FENCES: u32 = 2;
/// Feature bit: pfns are relative to shared memory region 0 (crosvm's device; no public driver acks it).
pub const F_USE_SHMEM: u32 = 3;

/// Shared memory region id of the window.
pub const SHMID: u8 = 0;

/// First id that the host may allocate; a driver allocates below.
pub const HOST_ID: u32 = 0x4000_0000;
/// Bit that no id may have.
pub const ILLEGAL_ID: u32 = 0x8000_0000;
/// Largest id that a Linux driver allocates (2,047 live ones per device).
pub const MAX_DRIVER_ID: u32 = 0x7ff;

/// What a message is: commands, responses and events share one number space.
pub mod message {
    /// OUT: allocate shared memory. IN: announce a host vfd. Payload [`super::VfdNew`].
    pub const VFD_NEW: u32 = 0x100;
    /// OUT: close a vfd. Payload [`super::Vfd`].
    pub const VFD_CLOSE: u32 = 0x101;
    /// OUT: bytes and vfds for a context or pipe. Payload [`super::VfdTransfer`], ids, bytes.
    pub const VFD_SEND: u32 = 0x102;
    /// IN: bytes and vfds from a context or pipe. Payload [`super::VfdTransfer`], ids, bytes.
    pub const VFD_RECV: u32 = 0x103;
    /// OUT: connect to the default socket. Payload [`super::VfdNew`], of which the first 12 bytes count.
    pub const VFD_NEW_CTX: u32 = 0x104;
    /// OUT: a pipe, whose direction stands in the flags. Payload [`super::VfdNew`].
    pub const VFD_NEW_PIPE: u32 = 0x105;
    /// IN: the peer of a vfd hung up. Payload [`super::Vfd`].
    pub const VFD_HUP: u32 = 0x106;
    /// OUT: allocate a dmabuf (our device refuses it).
    pub const VFD_NEW_DMABUF: u32 = 0x107;
    /// OUT: synchronise access to a dmabuf (our device refuses it).
    pub const VFD_DMABUF_SYNC: u32 = 0x108;
    /// OUT: like SEND, with ids of other devices (our device refuses it).
    pub const VFD_SEND_FOREIGN_ID: u32 = 0x109;
    /// OUT: connect to a named socket. Payload [`super::VfdNew`] with its name.
    pub const VFD_NEW_CTX_NAMED: u32 = 0x10a;

    /// Done.
    pub const RESP_OK: u32 = 0x1000;
    /// Done, payload [`super::VfdNew`].
    pub const RESP_VFD_NEW: u32 = 0x1001;
    /// Failed for no reason of the driver's (`ENODEV` in Linux).
    pub const RESP_ERR: u32 = 0x1100;
    /// No memory, or a quota is used up (`ENOMEM`).
    pub const RESP_OUT_OF_MEMORY: u32 = 0x1101;
    /// No such vfd, or it exists already (`ENOENT`).
    pub const RESP_INVALID_ID: u32 = 0x1102;
    /// The vfd is not of a kind that can do that (`EINVAL`).
    pub const RESP_INVALID_TYPE: u32 = 0x1103;
    /// Flags out of range (`EPERM`).
    pub const RESP_INVALID_FLAGS: u32 = 0x1104;
    /// No such command (`ENOTTY`).
    pub const RESP_INVALID_CMD: u32 = 0x1105;
}

/// Flags of a vfd when [`F_TRANS_FLAGS`] was acked, seen from the guest.
pub mod flags {
    /// The guest may write or send.
    pub const WRITE: u32 = 1;
    /// The guest may read or receive.
    pub const READ: u32 = 2;
}

/// Flags of a vfd when [`F_TRANS_FLAGS`] was not acked.
pub mod legacy_flags {
    /// The guest may write.
    pub const WRITE: u32 = 1;
    /// The vfd can be mapped.
    pub const MAP: u32 = 2;
    /// The vfd is a context.
    pub const CONTROL: u32 = 4;
}

/// The start of every message. Eight bytes, and all of most responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// One of [`message`].
    pub kind: u32,
    /// Always 0.
    pub flags: u32,
}

/// A message about one vfd: CLOSE, HUP. 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Vfd {
    /// What it is.
    pub header: Header,
    /// The vfd.
    pub id: u32,
}

/// A message that makes a vfd, and its response. 64 bytes; 12 of them count for a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct VfdNew {
    /// What it is.
    pub header: Header,
    /// The vfd, chosen by whoever makes it.
    pub id: u32,
    /// [`flags`] or [`legacy_flags`], by the acked features.
    pub flags: u32,
    /// Page frame where the memory stands: of the window with [`F_USE_SHMEM`], else of the guest. Unit: 4 KiB.
    pub pfn: u64,
    /// Size of the memory, in bytes.
    pub size: u32,
    /// NEW_CTX_NAMED: the name, padded with zeros. Otherwise a dmabuf's geometry.
    pub name: [u8; crate::limits::CONTEXT_NAME],
    /// The rest of the dmabuf's geometry.
    pub rest: [u8; 4],
}

/// Names are 32 bytes of a 36-byte union.
impl Default for VfdNew {
    fn default() -> Self {
        Self::zeroed()
    }
}

/// The fixed part of SEND and RECV; `vfd_count` ids (u32) and then bytes follow. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct VfdTransfer {
    /// What it is.
    pub header: Header,
    /// The context or pipe.
    pub id: u32,
    /// How many ids follow, at most [`crate::limits::MAX_FDS`].
    pub vfd_count: u32,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Header>() == 8);
    assert!(size_of::<Vfd>() == 12 && offset_of!(Vfd, id) == 8);
    assert!(size_of::<VfdNew>() == 64);
    assert!(offset_of!(VfdNew, id) == 8 && offset_of!(VfdNew, flags) == 12);
    assert!(offset_of!(VfdNew, pfn) == 16 && offset_of!(VfdNew, size) == 24);
    assert!(offset_of!(VfdNew, name) == 28);
    assert!(size_of::<VfdTransfer>() == 16);
    assert!(offset_of!(VfdTransfer, id) == 8 && offset_of!(VfdTransfer, vfd_count) == 12);
};

impl Header {
    /// A header of `kind`.
    pub fn new(kind: u32) -> Self {
        Self { kind, flags: 0 }
    }
}

/// Reads a struct from the start of `bytes`, or `None` if they are too few.
pub fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// A RECV or SEND taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The context or pipe.
    pub id: u32,
    /// The vfds that travel along.
    pub vfds: Vec<u32>,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Transfer<'a> {
    /// Takes a whole SEND or RECV apart. `None` if it is cut short or lists more vfds than may travel.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let fixed: VfdTransfer = read(message)?;
        let count =
            usize::try_from(fixed.vfd_count).ok().filter(|&n| n <= crate::limits::MAX_FDS)?;
        let rest = &message[size_of::<VfdTransfer>()..];
        let (ids, bytes) = rest.split_at_checked(4 * count)?;
        let vfds = ids.chunks_exact(4).map(bytemuck::pod_read_unaligned::<u32>).collect();
        Some(Self { id: fixed.id, vfds, bytes })
    }

    /// Appends the whole message to `out`, as a command or event of `kind`.
    ///
    /// # Panics
    /// If there are more than [`crate::limits::MAX_FDS`] vfds: the caller made them.
    pub fn encode(&self, kind: u32, out: &mut Vec<u8>) {
        assert!(self.vfds.len() <= crate::limits::MAX_FDS, "too many vfds for one message");
        let vfd_count = self.vfds.len() as u32;
        let fixed = VfdTransfer { header: Header::new(kind), id: self.id, vfd_count };
        out.extend_from_slice(bytemuck::bytes_of(&fixed));
        out.extend_from_slice(bytemuck::cast_slice(&self.vfds));
        out.extend_from_slice(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_transfer_that_is_cut_short_is_refused() {
        let mut bytes = Vec::new();
        Transfer { id: 7, vfds: vec![1, 2], bytes: b"abcd" }.encode(message::VFD_SEND, &mut bytes);
        for len in 0..24 {
            assert_eq!(Transfer::parse(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(Transfer::parse(&bytes).unwrap().bytes, b"abcd");
    }

    #[test]
    fn more_vfds_than_may_travel_are_refused() {
        let fixed = VfdTransfer { header: Header::new(message::VFD_SEND), id: 1, vfd_count: 29 };
        let mut bytes = bytemuck::bytes_of(&fixed).to_vec();
        bytes.resize(16 + 29 * 4, 0);
        assert_eq!(Transfer::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn transfers_survive(id: u32, vfds in prop::collection::vec(any::<u32>(), 0..=28), bytes: Vec<u8>) {
            let transfer = Transfer { id, vfds, bytes: &bytes };
            let mut message = Vec::new();
            transfer.encode(message::VFD_RECV, &mut message);
            prop_assert_eq!(Transfer::parse(&message), Some(transfer));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Transfer::parse(&bytes);
            let _ = read::<VfdNew>(&bytes);
        }
    }
}
