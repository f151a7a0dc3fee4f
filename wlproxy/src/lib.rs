//! The host side: one process per VM carries its device, its relays and its policy; one small process joins them.

#![deny(unsafe_code)]

pub mod counters;
pub mod device;
pub mod relay;
