//! The harness of the benchmarks.
//!
//! A [`Sink`] is a compositor that does as little as a compositor can; a [`Route`] is a client and one of the ways to it,
//! every part of which is a process of its own. All that is compared runs at the same time and has its turns in rounds
//! ([`rounds`]). BENCHMARKS.md tells what that does and doesn't show.
//!
//! | module | what it is |
//! |---|---|
//! | [`path`] | the ways from a client to the sink; [`route`]: one that runs |
//! | [`cell`] | what is measured: size, damage, content, pace |
//! | [`rounds`] | who is measured when |
//! | [`samples`] | what many measurements say; [`report`]: what is kept of it; [`summary`]: what all of it says |
//! | [`mod@bench`] | what every benchmark program does |
//! | [`part`] | the helper program: sink, bare relay, client |

#![deny(unsafe_code)]

pub mod bench;
pub mod cell;
mod client;
mod compositor;
mod connection;
mod copier;
mod cpu;
mod crowd;
mod flood;
mod libwayland;
pub mod machine;
mod opcode;
mod order;
pub mod part;
pub mod path;
mod pixels;
mod relay;
pub mod report;
pub mod resident;
pub mod rounds;
pub mod route;
pub mod samples;
mod scatter;
mod sink;
pub mod summary;
pub mod talk;
mod task;
mod waypipe;
mod window;
pub mod workload;

pub use route::{Extras, Route, Sink};
