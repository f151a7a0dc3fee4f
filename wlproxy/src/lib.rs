//! The host side: one process per VM carries its device, its relays and its policy; one small process joins them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | the configuration file |
//! | [`supervisor`] | `wlproxy run`: the small process that starts and joins the workers |
//! | [`links`] | pairs client contexts with compositor contexts |
//! | [`accept`] | how the compositor VM learns of clients (pure) |
//! | [`sandbox`] | what a process gives up before it reads what a VM sends |
//! | [`worker`] | one VM: its device and what it asks of wlproxy |
//! | [`control`] | what wlproxy and a worker say to each other |
//! | [`services`], [`ask`] | the sockets where others ask, and what can be asked |
//! | [`status`] | what `wlproxy status` shows |
//! | [`top`], [`trace`] | `wlproxy top`, `wlproxy trace` |
//! | [`metrics`] | the same for Prometheus |
//! | [`log`] | how much a worker writes to the log |
//! | [`device`] | the devices: vhost-user backends |
//! | `concern`, `impossible` | whom a message concerns, and requests that compositors don't survive (pure) |
//! | [`quota`] | what a client and a VM may have at once (pure) |
//! | [`pace`], [`bucket`] | how fast they may be (pure) |
//! | [`relay`] | the state machine of a link (pure) |
//! | [`policy`] | what a VM's clients may do (pure) |
//! | [`counters`], [`counter`], [`histogram`] | what a worker counts, and how long things take |

#![deny(unsafe_code)]

pub mod accept;
pub mod ask;
pub mod backoff;
pub mod bucket;
#[cfg(test)]
mod child;
pub mod cli;
mod concern;
pub mod config;
pub mod control;
pub mod counter;
pub mod counters;
pub mod device;
#[cfg(test)]
mod few_fds;
mod harmless;
pub mod histogram;
mod impossible;
pub mod launch;
pub mod links;
pub mod log;
pub mod metrics;
pub mod pace;
pub mod packet;
pub mod policy;
pub mod quota;
pub mod rate;
pub mod relay;
pub mod sandbox;
pub mod services;
pub mod slot;
pub mod sockets;
pub mod status;
pub mod supervisor;
pub mod top;
pub mod trace;
pub mod worker;
