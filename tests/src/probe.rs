//! A program of the harness's own, for both ends of the path: a compositor that tells what it sees, and clients that play
//! scenarios on it and say whether all has arrived.
//!
//! It needs nobody beside it, so it runs in VMs as well as on the host. In the suite that is `tests/probe.rs`, where
//! [`Kind::Recorder`](crate::Kind::Recorder) is the compositor.
//!
//! | part | what is in it |
//! |---|---|
//! | `scenarios.rs` | what a client does and expects |
//! | `painter.rs` | a window in memory that its client maps, as toolkits draw |
//! | `agent.rs` | what the client's agent has counted meanwhile |
//! | `bulk.rs` | something large is copied and pasted |
//! | `figure.rs` | how long something took, in a line |

mod agent;
mod bulk;
mod figure;
mod painter;
mod scenarios;

use crate::{Display, recorder};
use agent::Agent;
use anyhow::{Context, Error, Result, bail};
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Its name, as a program.
pub const PROGRAM: &str = "wlproxy-probe";

/// What makes it the compositor, at the socket that follows. With a channel after that it links the shim.
pub const COMPOSITOR: &str = "compositor";

/// What makes it a client; the file of its agent's numbers, or `-`, and names of scenarios follow.
pub const CLIENT: &str = "client";

/// What makes it copy something large, and wait until it was pasted as often as is said.
pub const COPY: &str = "copy";

/// What makes it paste that.
pub const PASTE: &str = "paste";

/// Where a client has no agent whose numbers it could ask for.
pub const NO_AGENT: &str = "-";

/// Does what the command line says. A client finds its compositor as any other does, by `WAYLAND_DISPLAY`.
///
/// # Errors
/// If something isn't as it has to be.
pub fn main() -> Result<()> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    match args[..] {
        [part, socket] if part == COMPOSITOR => recorder::main(Path::new(socket), None),
        [part, socket, channel] if part == COMPOSITOR => {
            let channel = channel.to_str().context("a channel is text")?;
            recorder::main(Path::new(socket), Some(channel.parse().map_err(Error::msg)?))
        }
        [part, stats, ref names @ ..] if part == CLIENT && !names.is_empty() => {
            let display = display()?;
            let agent = (stats != NO_AGENT).then(|| Agent::of(&display, stats)).transpose()?;
            scenarios::play(&display, agent.as_ref(), names)
        }
        [part, times] if part == COPY => {
            let times = times.to_str().and_then(|times| times.parse().ok());
            bulk::copy(&display()?, times.context("how often?")?)
        }
        [part] if part == PASTE => bulk::paste(&display()?),
        _ => bail!(
            "usage: {PROGRAM} {COMPOSITOR} SOCKET [CHANNEL] | {CLIENT} STATS|{NO_AGENT} SCENARIO... | {COPY} TIMES | {PASTE}; \
             scenarios: {}",
            scenarios::names().collect::<Vec<_>>().join(" ")
        ),
    }
}

/// Where the compositor is, or who brings it there.
fn display() -> Result<Display> {
    let name = env::var_os("WAYLAND_DISPLAY").context("WAYLAND_DISPLAY isn't set")?;
    let folder = env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
    // An absolute name stands for itself.
    Ok(Display::here(&PathBuf::from(folder).join(name)))
}
