//! What a hostile VM says to wlproxy's virtio-gpu, made up from a seed.
//!
//! Nothing here does anything: the program of this crate says it in a real VM, and a test of the device without one.
//! Much of it is nearly right, since what is plainly wrong doesn't get far: numbers are small, so that they often name
//! something, lengths mostly fit, and most of what a context needs is made now and then.

#![deny(unsafe_code)]

mod chain;
mod command;
mod context;
mod random;

pub use chain::{Descriptor, Shape, descriptor_flags, shape};
pub use command::{CONTEXTS, Places, RESOURCES, command};
pub use context::{Names, context_command, is_poll};
pub use random::Random;
