//! The harness of the whole-path tests: real compositors, real clients, real processes.
//!
//! A [`Desk`] is one of everything in one temporary directory. A scenario is a function over a [`Display`], so that it
//! runs the same directly on the compositor and through the path. Nothing here sleeps to synchronise: everything waits
//! for an event, with [`PATIENCE`] as its deadline.
//!
//! What a VM is, `machine.rs` alone knows, and `WLPROXY_TEST_CHANNEL` in the environment chooses: `process`, the only
//! channel so far that the suite runs over.
//!
//! The programs are those of this tree, built first if need be; with `WLPROXY_TEST_PROGRAMS=FOLDER` in the environment
//! those of `FOLDER`. With `WLPROXY_SLOW=1` some carry more, and take minutes. Needed besides: sway, weston, grim, setpriv
//! if the tests run as root, the applications that `cargo xtask test` installs, and a [`Suite`] or two.

#![deny(unsafe_code)]

mod app;
pub mod attacker;
mod binaries;
mod bystander;
mod client;
mod compositor;
mod desk;
mod digest;
mod display;
mod doorway;
mod dying;
mod example;
mod exchange;
mod flood;
mod footprint;
mod image;
mod input;
mod leak;
mod machine;
pub mod malformed;
mod map;
mod model;
mod party;
pub mod probe;
mod process;
mod puppet;
mod raw;
pub mod recorder;
mod requests;
mod sanitizer;
pub mod scenes;
mod seat;
mod suite;
mod sway;
mod tagger;
mod totals;
pub mod transfer;
mod vm;
mod wait;

pub use app::{App, Close, Effect, Step};
pub use attacker::Attacker;
pub use binaries::{binary, conformance, example, shim};
pub use bystander::Bystander;
pub use client::{Buffer, Client, Lock, Output, Pool, Popup, State, Toplevel, keymap, memfd, show};
pub use compositor::{Compositor, Kind};
pub use desk::{Desk, Part, Plan, Way};
pub use digest::Digest;
pub use display::Display;
pub use doorway::Doorway;
pub use dying::die_in_a_message;
pub use example::{BORDER, Example, Picture, Shown, TITLE_BAR, colour};
pub use exchange::{DATA_CONTROL, Drag, Exchange, Selection};
pub use flood::Flood;
pub use footprint::{anonymous, cpu, footprint};
pub use image::Image;
pub use input::Input;
pub use leak::{Count, Leaks};
pub use map::Mapping;
pub use model::{Dice, Model, Rect};
pub use party::{Party, Paste};
pub use process::Process;
pub use puppet::Puppet;
pub use raw::{Arg, Event, Fault, Raw, message};
pub use seat::{Scenario, Seat, compare};
pub use suite::Suite;
pub use sway::{Sway, Window};
pub use tagger::{Tag, Tagger};
pub use totals::Totals;
pub use vm::Vm;
pub use wait::{PATIENCE, slow, until};
