//! The I/O that host and guests share: Wayland streams over Unix sockets, memfds, the limit of open files.

#![deny(unsafe_code)]

mod connect;
pub mod fd_limit;
pub mod memory;
mod receive;
mod stream;

pub use connect::connect;
pub use receive::{Arrived, receive, receive_all};
pub use stream::{Read, Stream};
