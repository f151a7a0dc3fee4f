//! The I/O that host and guests share: Wayland streams over Unix sockets, and memfds.

#![deny(unsafe_code)]

pub mod memory;
mod stream;

pub use stream::{Read, Stream};
