//! Lets a Wayland compositor accept clients of other VMs by itself.
//!
//! A compositor that runs in a VM links this, rather than have `guest-agent serve` beside it: there is one process less
//! between a client and it, and it knows of each client which VM that is of. A [`Listener`] is an event source of calloop
//! that gives accepted clients, as a listening socket would:
//!
//! ```no_run
//! # struct State { display: wayland_server::DisplayHandle }
//! # impl wayland_server::backend::ClientData for Of {}
//! # struct Of(compositor_shim::Peer);
//! # fn insert(handle: calloop::LoopHandle<'_, State>) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = compositor_shim::Listener::new("auto".parse()?)?;
//! handle.insert_source(listener, |client, _, state| {
//!     let data = std::sync::Arc::new(Of(client.peer));
//!     if let Err(error) = state.display.insert_client(client.stream, data) {
//!         eprintln!("a client is lost: {error}");
//!     }
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here has a thread, a signal handler or a global, but for two channels: `virtio_wl`, where a send may have to
//! wait, and `process`, which plays a whole VM. What a client sends and gets passes through a socket pair, of
//! which the compositor has one end: both wayland-server and libwayland want a real socket. So the socket's credentials
//! are the compositor's own, and who the client is tells [`Peer`].

//!
//! With the feature `smithay` there is more for compositors that are made with that: clients' data, and rules about which
//! of them see a global.

#![deny(unsafe_code)]

#[cfg(feature = "capi")]
mod capi;
mod listener;
#[cfg(feature = "smithay")]
pub mod smithay;
mod source;

pub use guest_agent::channel::ChannelSpec;
pub use listener::{Client, Listener, Peer};
