//! Bounds that both sides of a channel have to agree on, each with its origin.

/// Largest Wayland request, in bytes with its header.
///
/// libwayland's classic buffer size; a longer one makes libwayland-server 1.23 spin.
pub const MAX_REQUEST: usize = 4096;

/// Largest Wayland event, in bytes with its header: the size field has 16 bits, and sizes are multiples of four.
pub const MAX_EVENT: usize = 65_532;

/// Most file descriptors in one `sendmsg` of a Wayland stream (libwayland, `MAX_FDS_OUT`) and
/// most vfds in one virtio_wl SEND or RECV (`VIRTWL_SEND_MAX_ALLOCS`).
pub const MAX_FDS: usize = 28;

/// Size of a page, and of a pfn's unit on virtio_wl (`VIRTWL_PFN_SHIFT` 12), in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Size of one receive buffer that a virtio_wl driver queues, in bytes (the driver allocates one page).
pub const IN_BUFFER: usize = 4096;

/// Most Wayland bytes in one virtio_wl RECV: a receive buffer less the header and a full list of vfds.
pub const MAX_RECV: usize = IN_BUFFER - 16 - 4 * MAX_FDS;

/// Most Wayland bytes that an agent puts into one virtio_wl SEND. The driver and the ABI set no limit; every known
/// client stays below one page, so devices may count on it.
pub const MAX_SEND: usize = MAX_RECV;

/// Largest virtio_wl SEND payload that our device takes, in bytes. Generous for drivers that batch more than ours.
pub const MAX_SEND_ACCEPTED: usize = 64 * 1024;

/// Size of the names that NEW_CTX_NAMED carries, in bytes with the padding.
pub const CONTEXT_NAME: usize = 32;

/// Largest name of a VM, in bytes. It stands in records, logs and app ids.
pub const MAX_VM_NAME: usize = 64;

/// Bytes of a buffer that a connection keeps while nothing is in it. A frame of an application is 64 to 200 bytes; what goes on
/// when one begins, some KiB, comes once, and most connections are idle then.
pub const KEPT: usize = 256;

/// Most bytes that wait for a peer that does not read, per context and direction.
///
/// The field's consensus for a compositor's own client buffer (sway, labwc: 1 MiB).
pub const MAX_QUEUED: usize = 1024 * 1024;

/// Largest allocation, in bytes: `size` is a u32 on virtio_wl, and a wl_shm pool's size is an i32.
pub const MAX_ALLOCATION: u64 = i32::MAX as u64 / PAGE_SIZE * PAGE_SIZE;
