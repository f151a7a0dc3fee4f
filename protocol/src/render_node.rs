//! The ioctls of a virtio-gpu's render node, `/dev/dri/renderD*`: a guest's side of that device.
//!
//! Structures and numbers from Linux' `include/uapi/drm/drm.h` and `virtgpu_drm.h`; all fields are in the byte order of
//! the machine. What a context of the cross-domain capset is told by EXECBUFFER stands in
//! [`cross_domain`](crate::cross_domain).
//!
//! Nearly all of them only queue commands for the device. How it answered shows in its fences, if anywhere: a command
//! that it refused signals its fence as any other.

use bytemuck::{Pod, Zeroable};

/// Name that the driver gives in [`VERSION`].
pub const DRIVER: &[u8] = b"virtio_gpu";

/// `_IOC` of DRM's ioctls: direction, size, the letter `d`, number.
const fn ioc(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | 0x64 << 8 | number
}

const WRITE: u32 = 1;
const READ_WRITE: u32 = 3;

/// Who the driver is. Takes a [`Version`].
pub const VERSION: u32 = ioc(READ_WRITE, 0x00, size_of::<Version>());
/// Gives a handle back. Takes a [`GemClose`].
pub const GEM_CLOSE: u32 = ioc(WRITE, 0x09, size_of::<GemClose>());
/// Makes a dma-buf. Takes a [`Prime`].
pub const PRIME_HANDLE_TO_FD: u32 = ioc(READ_WRITE, 0x2d, size_of::<Prime>());
/// Makes a handle of a dma-buf. Takes a [`Prime`].
pub const PRIME_FD_TO_HANDLE: u32 = ioc(READ_WRITE, 0x2e, size_of::<Prime>());
/// Where to mmap a handle. Takes a [`Map`].
pub const MAP: u32 = ioc(READ_WRITE, 0x41, size_of::<Map>());
/// Gives the context a command. Takes an [`ExecBuffer`].
pub const EXECBUFFER: u32 = ioc(READ_WRITE, 0x42, size_of::<ExecBuffer>());
/// What driver and device can do. Takes a [`GetParam`].
pub const GETPARAM: u32 = ioc(READ_WRITE, 0x43, size_of::<GetParam>());
/// The resource behind a handle. Takes a [`ResourceInfo`].
pub const RESOURCE_INFO: u32 = ioc(READ_WRITE, 0x45, size_of::<ResourceInfo>());
/// Waits until the device has done what was asked for with a handle. Takes a [`Wait`].
pub const WAIT: u32 = ioc(READ_WRITE, 0x48, size_of::<Wait>());
/// A capset of the device. Takes a [`GetCaps`].
pub const GET_CAPS: u32 = ioc(READ_WRITE, 0x49, size_of::<GetCaps>());
/// Makes a blob. Takes a [`CreateBlob`].
pub const RESOURCE_CREATE_BLOB: u32 = ioc(READ_WRITE, 0x4a, size_of::<CreateBlob>());
/// Makes the context of this file, once. Takes a [`ContextInit`].
pub const CONTEXT_INIT: u32 = ioc(READ_WRITE, 0x4b, size_of::<ContextInit>());

/// What [`GETPARAM`] can be asked.
pub mod param {
    /// Blobs.
    pub const RESOURCE_BLOB: u64 = 3;
    /// A window, in which blobs of the host appear.
    pub const HOST_VISIBLE: u64 = 4;
    /// Contexts of capsets.
    pub const CONTEXT_INIT: u64 = 6;
    /// Which capsets: bit n for the one of id n.
    pub const SUPPORTED_CAPSETS: u64 = 7;
}

/// What [`CONTEXT_INIT`] is told.
pub mod context_param {
    /// Which capset.
    pub const CAPSET_ID: u64 = 1;
    /// How many fence rings, at most [`super::MAX_RINGS`].
    pub const NUM_RINGS: u64 = 2;
    /// The fences of which rings are told as events of the file: bit n for ring n.
    pub const POLL_RINGS_MASK: u64 = 3;
}

/// Most fence rings of a context (`MAX_RINGS` of the driver).
pub const MAX_RINGS: u32 = 64;

/// What is done with a blob: flags of [`CreateBlob`].
pub mod blob {
    /// Programs map it.
    pub const MAPPABLE: u32 = 1;
    /// It becomes a dma-buf.
    pub const SHAREABLE: u32 = 2;
}

/// Flags of [`ExecBuffer`].
pub mod exec {
    /// Gives a sync_file, readable when the fence is signalled.
    pub const FENCE_FD_OUT: u32 = 2;
    /// The fence is of a ring of the context.
    pub const RING: u32 = 4;
}

/// Flags of [`Prime`]: the fd may be mapped for writing, and closes on exec (`DRM_RDWR | DRM_CLOEXEC`).
pub const PRIME_FLAGS: u32 = 0o2 | 0o2_000_000;

/// An event that can be read from the file: a fence of a ring in the mask was signalled. 8 bytes, these and the length.
pub const EVENT_FENCE: u32 = 0x9000_0000;
/// Size of that event, in bytes.
pub const EVENT: usize = 8;

/// Who the driver is. 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Version {
    /// Major, minor, patch level.
    pub version: [u32; 3],
    /// Not looked at.
    pub padding: u32,
    /// In: room, in bytes. Out: the name's length.
    pub name_length: u64,
    /// Where the name goes.
    pub name: u64,
    /// Of a date and a description, which nobody asks for: lengths and addresses.
    pub more: [u64; 4],
}

/// A handle that isn't needed any more. 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GemClose {
    /// The handle.
    pub handle: u32,
    /// Always 0.
    pub padding: u32,
}

/// A handle as a dma-buf. 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Prime {
    /// The handle.
    pub handle: u32,
    /// [`PRIME_FLAGS`].
    pub flags: u32,
    /// The dma-buf.
    pub fd: i32,
}

/// Where to map a handle. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Map {
    /// Out: as an offset in the file.
    pub offset: u64,
    /// The handle.
    pub handle: u32,
    /// Always 0.
    pub padding: u32,
}

/// A command. 40 bytes; newer ones add fields for syncobjs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ExecBuffer {
    /// [`exec`].
    pub flags: u32,
    /// Size of the command, in bytes.
    pub size: u32,
    /// Where it is.
    pub command: u64,
    /// Where handles are that [`WAIT`] then waits for.
    pub handles: u64,
    /// How many.
    pub num_handles: u32,
    /// Out: the fence.
    pub fence: i32,
    /// Which ring.
    pub ring: u32,
    /// Always 0.
    pub padding: u32,
}

/// A question. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GetParam {
    /// [`param`].
    pub param: u64,
    /// Where the answer goes: 4 bytes.
    pub value: u64,
}

/// What is behind a handle. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ResourceInfo {
    /// The handle.
    pub handle: u32,
    /// Out: the device's name of it.
    pub resource: u32,
    /// Out: size in bytes.
    pub size: u32,
    /// Out: one of [`blob_mem`](crate::virtio_gpu::blob_mem).
    pub memory: u32,
}

/// A handle to wait for. 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Wait {
    /// The handle.
    pub handle: u32,
    /// 0: up to 15 s, then `EBUSY`.
    pub flags: u32,
}

/// A capset to copy. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GetCaps {
    /// Which.
    pub id: u32,
    /// Of which version: 0 is in all of them.
    pub version: u32,
    /// Where it goes.
    pub address: u64,
    /// Room there, in bytes.
    pub size: u32,
    /// Always 0.
    pub padding: u32,
}

/// A new blob. 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CreateBlob {
    /// One of [`blob_mem`](crate::virtio_gpu::blob_mem).
    pub memory: u32,
    /// [`blob`].
    pub flags: u32,
    /// Out: the handle.
    pub handle: u32,
    /// Out: the device's name of it.
    pub resource: u32,
    /// Size in bytes.
    pub size: u64,
    /// Always 0.
    pub padding: u32,
    /// Size of a command that comes first: 0.
    pub command_size: u32,
    /// Where that would be.
    pub command: u64,
    /// Which memory of the host.
    pub blob_id: u64,
}

/// What a context is to be. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ContextInit {
    /// How many [`context_param`]s.
    pub count: u32,
    /// Always 0.
    pub padding: u32,
    /// Where they are: pairs of a param and its value, 8 bytes each.
    pub params: u64,
}

const _: () = {
    assert!(VERSION == 0xc040_6400 && GEM_CLOSE == 0x4008_6409);
    assert!(PRIME_HANDLE_TO_FD == 0xc00c_642d && PRIME_FD_TO_HANDLE == 0xc00c_642e);
    assert!(MAP == 0xc010_6441 && EXECBUFFER == 0xc028_6442 && GETPARAM == 0xc010_6443);
    assert!(RESOURCE_INFO == 0xc010_6445 && WAIT == 0xc008_6448 && GET_CAPS == 0xc018_6449);
    assert!(RESOURCE_CREATE_BLOB == 0xc030_644a && CONTEXT_INIT == 0xc010_644b);
};
