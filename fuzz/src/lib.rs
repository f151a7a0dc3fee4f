//! What must hold whatever anybody says: a target for each border that hostile bytes cross.
//!
//! A target takes any bytes, reads a list of actions out of them, carries these out on the project's own code, and
//! compares what comes out with a naive model. libFuzzer looks for bytes that break it (`cargo xtask fuzz`); what it
//! found interesting is kept in `corpus/`, and an ordinary test says it again. [`seeded`] makes many more of those.
//!
//! | target | whose word it is |
//! |---|---|
//! | [`wire`] | anybody's: the Wayland codec |
//! | [`relay`] | a client's and a compositor's: a link |
//! | [`policy`] | the same, of a VM that may not have everything |
//! | [`accept`] | the compositor VM's: its main contexts |
//! | [`virtio_wl`], [`virtgpu`] | a driver's: commands in rings, right and wrong, over the real device |
//! | [`report`] | an agent's: its own numbers |
//! | [`control`] | a worker's, and whoever asks at the sockets |
//! | [`config`] | the user's |
//!
//! [`input`] is how bytes become decisions, [`wayland`] who makes up messages, [`device`] a driver that
//! does wrong, and [`stream`] the host's end of what it opens.

#![deny(unsafe_code)]

pub mod accept;
pub mod config;
pub mod control;
pub mod device;
pub mod input;
pub mod policy;
pub mod relay;
pub mod report;
pub mod seeded;
pub mod stream;
pub mod virtgpu;
pub mod virtio_wl;
pub mod wayland;
pub mod wire;

use std::sync::atomic::AtomicBool;

/// Whether targets show what they do, for somebody who wants to know how an input breaks something.
pub static SHOWN: AtomicBool = AtomicBool::new(false);

/// A target: its name, and what takes an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("accept", accept::run),
    ("config", config::run),
    ("control", control::run),
    ("policy", policy::run),
    ("relay", relay::run),
    ("report", report::run),
    ("virtgpu", virtgpu::run),
    ("virtio_wl", virtio_wl::run),
    ("wire", wire::run),
];
