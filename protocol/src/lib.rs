//! Every byte that crosses between a client VM, the host and the compositor VM.
//!
//! | module | what it describes |
//! |---|---|
//! | [`wayland`] | the Wayland wire: messages, interface tables, the objects of a connection |
//! | [`virtio_wl`] | commands and events of the virtio_wl device |
//! | [`wl0`] | the ioctls of `/dev/wl0`, a guest's side of that device |
//! | [`virtio_gpu`] | commands of the virtio-gpu device, as far as cross-domain contexts need them |
//! | [`cross_domain`] | commands and events of such contexts |
//! | [`render_node`] | the ioctls of its render node, a guest's side of that device |
//! | [`accept`] | hello, records and answers of a main context |
//! | [`report`] | what an agent tells of its own numbers |
//! | [`lend`] | how an application of a client VM borrows allocations from the agent |
//! | [`limits`] | every bound that both sides of a channel have to agree on |
//!
//! Nothing here does I/O, reads a clock or contains unsafe code.

#![forbid(unsafe_code)]

pub mod accept;
pub mod cross_domain;
pub mod lend;
pub mod limits;
pub mod render_node;
pub mod report;
pub mod virtio_gpu;
pub mod virtio_wl;
pub mod wayland;
pub mod wl0;
