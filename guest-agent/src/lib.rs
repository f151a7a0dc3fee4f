//! The guests' side: channels out of a VM, the wrapper for applications, the accept side of a compositor VM.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line: `run` and `serve` |
//! | [`channel`] | a guest's way out: contexts, allocations and pipes over some device |
//! | [`agent`] | connections between local Wayland sockets and contexts, in one thread |
//! | [`run`] | the role of a client VM: shadows for its clients' buffers |
//! | [`shadow`] | which parts of a shadow are stale, and the copies |
//! | [`lend`] | allocations that applications draw into, so that nothing is copied |
//! | [`passage`] | the role of a compositor VM: bytes as they are, vfds as fds |
//! | [`listener`] | the accept side of a compositor VM |
//! | [`queue`] | clients that were announced and not accepted yet |
//! | [`serve`] | the role of a compositor VM: brings accepted streams to the compositor's socket |
//! | [`compositor`] | that compositor: whether it is there, and when it ends |

#![deny(unsafe_code)]

pub mod agent;
#[cfg(test)]
mod alone;
pub mod carry;
pub mod channel;
pub mod cli;
pub mod compositor;
pub mod connection;
mod constants;
pub mod lend;
pub mod listener;
pub mod mapped;
pub mod memory;
pub mod outbox;
mod outq;
pub mod passage;
mod pump;
pub mod queue;
pub mod recycler;
pub mod run;
pub mod serve;
pub mod shadow;
pub mod stats;
mod turns;
mod unread;
pub mod world;
