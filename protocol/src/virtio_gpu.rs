//! Commands and responses of the virtio-gpu device, as far as contexts of the cross-domain capset need them.
//!
//! Layouts from the virtio specification 1.3, section 5.7, and Linux' `include/uapi/linux/virtio_gpu.h`; all fields are
//! little-endian. Each request on the control queue is one readable and one writable part. What the commands of a
//! context say stands in [`cross_domain`](crate::cross_domain).
//!
//! The structs only describe bytes. Whether an id, a size or a flag makes sense is for the device or driver to say.

use crate::limits::PAGE_SIZE;
use bytemuck::{Pod, Zeroable};

/// The device id.
pub const DEVICE_ID: u32 = 16;

/// Queue index of commands.
pub const QUEUE_CONTROL: usize = 0;
/// Queue index of cursor commands.
pub const QUEUE_CURSOR: usize = 1;
/// Number of queues.
pub const NUM_QUEUES: usize = 2;
/// Most descriptors of a queue: the most that QEMU gives one (`VIRTQUEUE_MAX_SIZE`). Every connection that waits for an
/// event takes one.
pub const QUEUE_SIZE: u16 = 1024;

/// Feature bit: contexts and capsets. Linux names it after the first of these.
pub const F_VIRGL: u32 = 0;
/// Feature bit: resources may have a UUID. Linux exports dma-bufs of HOST3D blobs to other devices only with it.
pub const F_RESOURCE_UUID: u32 = 2;
/// Feature bit: blob resources.
pub const F_RESOURCE_BLOB: u32 = 3;
/// Feature bit: CTX_CREATE says of which capset the context is, and fences have rings.
pub const F_CONTEXT_INIT: u32 = 4;

/// Shared memory region id of the window (`VIRTIO_GPU_SHM_ID_HOST_VISIBLE`).
pub const SHMID: u8 = 1;

/// The capset of cross-domain contexts (`VIRTIO_GPU_CAPSET_CROSS_DOMAIN`).
pub const CAPSET_CROSS_DOMAIN: u32 = 5;
/// The part of [`CtxCreate::context_init`] that names a capset (`VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK`).
pub const CONTEXT_INIT_CAPSET_MASK: u32 = 0xff;

/// Scanouts in a [`DisplayInfo`] (`VIRTIO_GPU_MAX_SCANOUTS`).
pub const MAX_SCANOUTS: usize = 16;

/// What a message is: commands and responses share one number space.
pub mod message {
    /// Payload [`super::Header`], response [`super::DisplayInfo`].
    pub const GET_DISPLAY_INFO: u32 = 0x100;
    /// A 2D resource, of which our device shows nothing.
    pub const RESOURCE_CREATE_2D: u32 = 0x101;
    /// Payload [`super::OfResource`].
    pub const RESOURCE_UNREF: u32 = 0x102;
    /// What a scanout shows.
    pub const SET_SCANOUT: u32 = 0x103;
    /// A scanout's resource has changed.
    pub const RESOURCE_FLUSH: u32 = 0x104;
    /// Copies guest memory into a 2D resource.
    pub const TRANSFER_TO_HOST_2D: u32 = 0x105;
    /// Gives guest memory to a 2D resource.
    pub const RESOURCE_ATTACH_BACKING: u32 = 0x106;
    /// Takes it away.
    pub const RESOURCE_DETACH_BACKING: u32 = 0x107;
    /// Payload [`super::GetCapsetInfo`], response [`super::CapsetInfo`].
    pub const GET_CAPSET_INFO: u32 = 0x108;
    /// Payload [`super::GetCapset`], response a header and the capset.
    pub const GET_CAPSET: u32 = 0x109;
    /// Payload [`super::OfResource`], response [`super::ResourceUuid`].
    pub const RESOURCE_ASSIGN_UUID: u32 = 0x10b;
    /// Payload [`super::CreateBlob`] and its [`super::MemEntry`]s.
    pub const RESOURCE_CREATE_BLOB: u32 = 0x10c;
    /// What a scanout shows.
    pub const SET_SCANOUT_BLOB: u32 = 0x10d;
    /// Payload [`super::CtxCreate`].
    pub const CTX_CREATE: u32 = 0x200;
    /// Payload [`super::Header`].
    pub const CTX_DESTROY: u32 = 0x201;
    /// Payload [`super::OfResource`].
    pub const CTX_ATTACH_RESOURCE: u32 = 0x202;
    /// Payload [`super::OfResource`].
    pub const CTX_DETACH_RESOURCE: u32 = 0x203;
    /// A 3D resource, of which our device shows nothing.
    pub const RESOURCE_CREATE_3D: u32 = 0x204;
    /// Copies guest memory into a 3D resource.
    pub const TRANSFER_TO_HOST_3D: u32 = 0x205;
    /// And back.
    pub const TRANSFER_FROM_HOST_3D: u32 = 0x206;
    /// Payload [`super::Submit`] and a command of the context.
    pub const SUBMIT_3D: u32 = 0x207;
    /// Payload [`super::MapBlob`], response [`super::MapInfo`].
    pub const RESOURCE_MAP_BLOB: u32 = 0x208;
    /// Payload [`super::OfResource`].
    pub const RESOURCE_UNMAP_BLOB: u32 = 0x209;
    /// On the cursor queue.
    pub const UPDATE_CURSOR: u32 = 0x300;
    /// On the cursor queue.
    pub const MOVE_CURSOR: u32 = 0x301;

    /// Done.
    pub const RESP_OK_NODATA: u32 = 0x1100;
    /// Done, payload [`super::DisplayInfo`].
    pub const RESP_OK_DISPLAY_INFO: u32 = 0x1101;
    /// Done, payload [`super::CapsetInfo`].
    pub const RESP_OK_CAPSET_INFO: u32 = 0x1102;
    /// Done, the capset follows.
    pub const RESP_OK_CAPSET: u32 = 0x1103;
    /// Done, payload [`super::ResourceUuid`].
    pub const RESP_OK_RESOURCE_UUID: u32 = 0x1105;
    /// Done, payload [`super::MapInfo`].
    pub const RESP_OK_MAP_INFO: u32 = 0x1106;
    /// Failed for no reason of the driver's, or unknown.
    pub const RESP_ERR_UNSPEC: u32 = 0x1200;
    /// No memory, or a limit is reached.
    pub const RESP_ERR_OUT_OF_MEMORY: u32 = 0x1201;
    /// No such resource, or it exists already.
    pub const RESP_ERR_INVALID_RESOURCE_ID: u32 = 0x1203;
    /// No such context, or it exists already.
    pub const RESP_ERR_INVALID_CONTEXT_ID: u32 = 0x1204;
    /// Something else out of range.
    pub const RESP_ERR_INVALID_PARAMETER: u32 = 0x1205;
}

/// Flags of a [`Header`].
pub mod flags {
    /// The response is the signal of a fence, and has its id.
    pub const FENCE: u32 = 1;
    /// The fence is one of the context's ring [`super::Header::ring`], not of the device.
    pub const RING: u32 = 2;
}

/// Where a blob's memory is.
pub mod blob_mem {
    /// In the guest: the command lists where.
    pub const GUEST: u32 = 1;
    /// On the host: [`super::CreateBlob::blob_id`] says what.
    pub const HOST3D: u32 = 2;
}

/// How the guest is to map a blob ([`MapInfo::info`]): write-back cached, as all memory of ours.
pub const MAP_CACHED: u32 = 1;

/// The start of every message, and all of most responses. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// One of [`message`].
    pub kind: u32,
    /// [`flags`].
    pub flags: u32,
    /// Number of the fence, which grows along its timeline.
    pub fence: u64,
    /// The context, where there is one.
    pub context: u32,
    /// The context's ring that the fence is of, with [`flags::RING`].
    pub ring: u8,
    /// Always 0.
    pub padding: [u8; 3],
}

/// A command about one resource: UNREF, ATTACH, DETACH, UNMAP_BLOB, ASSIGN_UUID. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct OfResource {
    /// What it is.
    pub header: Header,
    /// The resource, chosen by the driver.
    pub resource: u32,
    /// Always 0.
    pub padding: u32,
}

/// One scanout. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Scanout {
    /// x, y, width, height in pixels.
    pub rectangle: [u32; 4],
    /// Whether anything is connected.
    pub enabled: u32,
    /// Always 0.
    pub flags: u32,
}

/// What is connected. 408 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct DisplayInfo {
    /// What it is.
    pub header: Header,
    /// As many as may be, used or not.
    pub scanouts: [Scanout; MAX_SCANOUTS],
}

/// Asks for a capset by its number, counted from 0. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GetCapsetInfo {
    /// What it is.
    pub header: Header,
    /// The number.
    pub index: u32,
    /// Always 0.
    pub padding: u32,
}

/// Which capset that is. 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CapsetInfo {
    /// What it is.
    pub header: Header,
    /// Its id.
    pub id: u32,
    /// Its newest version.
    pub max_version: u32,
    /// Its size, in bytes.
    pub max_size: u32,
    /// Always 0.
    pub padding: u32,
}

/// Asks for a capset. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GetCapset {
    /// What it is.
    pub header: Header,
    /// Its id.
    pub id: u32,
    /// Its version.
    pub version: u32,
}

/// Makes a context. 96 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CtxCreate {
    /// What it is; the context's id, chosen by the driver, stands there.
    pub header: Header,
    /// Bytes of the name that count.
    pub name_length: u32,
    /// The capset, under [`CONTEXT_INIT_CAPSET_MASK`].
    pub context_init: u32,
    /// For people.
    pub name: [u8; 64],
}

/// A command of a context, which follows. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Submit {
    /// What it is.
    pub header: Header,
    /// Size of the command, in bytes.
    pub size: u32,
    /// Always 0.
    pub padding: u32,
}

/// Makes a blob; `entries` [`MemEntry`]s follow. 56 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CreateBlob {
    /// What it is.
    pub header: Header,
    /// The resource, chosen by the driver.
    pub resource: u32,
    /// One of [`blob_mem`].
    pub memory: u32,
    /// What the guest wants to do with it. Not looked at.
    pub flags: u32,
    /// How many entries follow.
    pub entries: u32,
    /// Which memory of the host.
    pub blob_id: u64,
    /// Size, in bytes.
    pub size: u64,
}

/// One piece of guest memory. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct MemEntry {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// Always 0.
    pub padding: u32,
}

/// Maps a blob into the window. 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct MapBlob {
    /// What it is.
    pub header: Header,
    /// The resource.
    pub resource: u32,
    /// Always 0.
    pub padding: u32,
    /// Where in the window, chosen by the driver.
    pub offset: u64,
}

/// It is mapped. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct MapInfo {
    /// What it is.
    pub header: Header,
    /// How: [`MAP_CACHED`].
    pub info: u32,
    /// Always 0.
    pub padding: u32,
}

/// The UUID that a resource has from now on. 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ResourceUuid {
    /// What it is.
    pub header: Header,
    /// The UUID.
    pub uuid: [u8; 16],
}

/// The configuration space. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// Which events wait to be read: none, ever.
    pub events_read: u32,
    /// Written by the driver.
    pub events_clear: u32,
    /// Scanouts. Linux before 6.2 refuses a device without.
    pub num_scanouts: u32,
    /// Capsets.
    pub num_capsets: u32,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Header>() == 24 && offset_of!(Header, ring) == 20);
    assert!(size_of::<OfResource>() == 32 && size_of::<Submit>() == 32);
    assert!(size_of::<DisplayInfo>() == 408);
    assert!(size_of::<CapsetInfo>() == 40 && size_of::<CtxCreate>() == 96);
    assert!(size_of::<CreateBlob>() == 56 && offset_of!(CreateBlob, blob_id) == 40);
    assert!(size_of::<MapBlob>() == 40 && offset_of!(MapBlob, offset) == 32);
    assert!(size_of::<MapInfo>() == 32 && size_of::<ResourceUuid>() == 40);
    assert!(size_of::<Config>() == 16 && size_of::<MemEntry>() == 16);
};

impl Header {
    /// The header of a response of `kind` to this command. It repeats what names the fence, or no one waits for it.
    pub fn response(self, kind: u32) -> Self {
        let flags = self.flags & (flags::FENCE | flags::RING);
        Self { kind, flags, padding: [0; 3], ..self }
    }
}

impl CreateBlob {
    /// The entries in a whole RESOURCE_CREATE_BLOB. `None` if it is cut short.
    pub fn entries(message: &[u8]) -> Option<(Self, Vec<MemEntry>)> {
        let fixed: Self = crate::virtio_wl::read(message)?;
        let length = usize::try_from(fixed.entries).ok()?.checked_mul(size_of::<MemEntry>())?;
        let entries = message[size_of::<Self>()..].get(..length)?;
        let entries = entries.chunks_exact(size_of::<MemEntry>()).map(bytemuck::pod_read_unaligned);
        Some((fixed, entries.collect()))
    }

    /// Its size in whole pages, in bytes. `None` if that is nothing, or too much for any number.
    pub fn pages(&self) -> Option<u64> {
        self.size.checked_next_multiple_of(PAGE_SIZE).filter(|&size| size > 0)
    }
}

impl Submit {
    /// The context's command in a whole SUBMIT_3D. `None` if it is cut short.
    pub fn command(message: &[u8]) -> Option<(Self, &[u8])> {
        let fixed: Self = crate::virtio_wl::read(message)?;
        let command = message[size_of::<Self>()..].get(..usize::try_from(fixed.size).ok()?)?;
        Some((fixed, command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_response_names_the_fence_and_nothing_else() {
        let command = Header {
            kind: message::SUBMIT_3D,
            flags: flags::FENCE | flags::RING | 4,
            fence: 7,
            context: 3,
            ring: 1,
            padding: [9; 3],
        };
        let response = command.response(message::RESP_OK_NODATA);
        assert_eq!(
            bytemuck::bytes_of(&response),
            [0, 0x11, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]
        );
    }

    #[test]
    fn a_submit_that_is_cut_short_is_refused() {
        let fixed = Submit { size: 4, ..Default::default() };
        let message = [bytemuck::bytes_of(&fixed), b"abcd"].concat();
        for length in 0..message.len() {
            assert_eq!(Submit::command(&message[..length]), None, "{length} bytes");
        }
        assert_eq!(Submit::command(&message), Some((fixed, &b"abcd"[..])));
    }

    proptest! {
        #[test]
        fn entries_survive(pieces in prop::collection::vec(any::<(u64, u32)>(), 0..40), cut in 1..16usize) {
            let entry = |&(address, length): &(u64, u32)| MemEntry { address, length, padding: 0 };
            let entries: Vec<_> = pieces.iter().map(entry).collect();
            let fixed = CreateBlob { entries: entries.len() as u32, ..Default::default() };
            let message = [bytemuck::bytes_of(&fixed), bytemuck::cast_slice(&entries)].concat();
            prop_assert_eq!(CreateBlob::entries(&message), Some((fixed, entries)));
            prop_assert_eq!(CreateBlob::entries(&message[..message.len() - cut]), None);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, count: u32) {
            let fixed = CreateBlob { entries: count, ..Default::default() };
            let submit = Submit { size: count, ..Default::default() };
            for start in [bytemuck::bytes_of(&fixed), bytemuck::bytes_of(&submit), &[]] {
                let message = [start, &bytes].concat();
                let _ = CreateBlob::entries(&message);
                let _ = Submit::command(&message);
            }
        }
    }
}
