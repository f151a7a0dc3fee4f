//! Shows who would be accepted: plays the compositor VM, prints each client that is announced, and refuses it.
//!
//! Start wlproxy with a compositor VM `gui`, then
//!
//! ```sh
//! cargo run --example listen -- $XDG_RUNTIME_DIR/wlproxy/gui.sock
//! ```
//!
//! and any application with `guest-agent run` in a client VM.

use anyhow::{Context, Result};
use guest_agent::channel::Channel;
use guest_agent::channel::process::{Options, ProcessChannel};
use guest_agent::listener::Listener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::path::Path;
use wlproxy_protocol::accept::Refusal;

fn main() -> Result<()> {
    let socket = std::env::args_os().nth(1).context("usage: listen SOCKET")?;
    // The VM: its device listens at the socket.
    let mut channel = ProcessChannel::connect(Path::new(&socket), Options::default())?;
    // The main context, over which clients are announced.
    let mut listener = Listener::new(&mut channel)?;
    println!("waiting for clients");
    loop {
        poll(&mut [PollFd::new(channel.poll_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        // The channel takes in what arrived; the listener makes records of what arrived on its context.
        channel.dispatch(&mut Vec::new())?;
        let mut records = Vec::new();
        listener.dispatch(&mut channel, &mut records)?;
        for record in records {
            println!("connection {} of VM {}", record.connection, record.vm);
            // `listener.accept` would open its stream instead.
            listener.refuse(&mut channel, &record, Refusal::NoCompositor)?;
        }
    }
}
