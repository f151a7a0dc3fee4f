//! The I/O that host and guests share: Wayland streams over Unix sockets, and memfds.

#![deny(unsafe_code)]

pub mod memory;
mod receive;
mod stream;

pub use receive::receive;
pub use stream::{Read, Stream};
