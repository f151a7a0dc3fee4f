//! A small compositor that accepts clients of other VMs by itself: it is made with smithay, and links `compositor-shim`.
//!
//! It is for compositor authors to read. What makes it serve other VMs is in three places, and the rest is as in any
//! compositor that is made with smithay:
//!
//! | where | what |
//! |---|---|
//! | [`serve_vms`] | a channel's clients become the compositor's, with a `ClientState` as their data |
//! | `state.rs` | a global that only local clients see |
//! | `owner.rs` | whose a window is: its border has the VM's colour, its title is the VM's name |
//!
//! It has no screen and no input devices. At SIGUSR1 it writes what it shows as a PNG, and tells on its standard output
//! where the windows are:
//!
//! ```sh
//! smithay-shim --socket example --channel auto --picture screen.png
//! ```

#![deny(unsafe_code)]

mod canvas;
mod handlers;
mod options;
mod owner;
mod picture;
mod state;
mod windows;

use anyhow::{Context, Result};
use calloop::generic::Generic;
use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction};
use clap::Parser;
use compositor_shim::smithay::ClientState;
use compositor_shim::{ChannelSpec, Listener};
use options::Options;
use smithay::reexports::wayland_server::{Display, DisplayHandle};
use smithay::wayland::socket::ListeningSocketSource;
use state::State;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How often clients are told to draw.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

type Events = LoopHandle<'static, State>;

fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let options = Options::parse();

    let mut events: EventLoop<'static, State> = EventLoop::try_new()?;
    let handle = events.handle();
    let display = Display::<State>::new()?;
    // First of all: whatever has threads leaves these signals to us then.
    obey_signals(&handle)?;
    let mut state = State::new(&display.handle(), &options, events.get_signal())?;
    serve_locals(&handle, &options.socket, display.handle())?;
    if let Some(channel) = options.channel {
        serve_vms(&handle, channel, &display.handle())?;
    }
    read_clients(&handle, display)?;
    tell_frames(&handle)?;

    events.run(None, &mut state, State::after_events)?;
    // The socket is removed as the event loop is dropped, and all clients are disconnected with the display.
    Ok(())
}

/// Takes clients of other VMs from a channel. This is all that there is to it: the listener is an event source, which
/// carries what the host and these clients send in this very loop.
///
/// The host needn't be there yet, and may come and go.
fn serve_vms(events: &Events, channel: ChannelSpec, display: &DisplayHandle) -> Result<()> {
    let listener = Listener::new(channel).context("can't accept clients of other VMs")?;
    compositor_shim::smithay::insert(events, listener, display)?;
    Ok(())
}

/// Takes local clients from a socket. They have the same client data, in which no VM stands.
fn serve_locals(events: &Events, socket: &str, mut display: DisplayHandle) -> Result<()> {
    let listening = ListeningSocketSource::with_name(socket)
        .with_context(|| format!("can't listen at {socket}"))?;
    let inserted = events.insert_source(listening, move |client, (), _| {
        if let Err(error) = display.insert_client(client, Arc::new(ClientState::local())) {
            tracing::warn!("a local client is lost: {error}");
        }
    });
    inserted.map_err(|error| error.error)?;
    Ok(())
}

/// Reads and handles what clients request, wherever they are: what the shim has carried is read like any other's.
fn read_clients(events: &Events, mut display: Display<State>) -> Result<()> {
    let requests = display.backend().poll_fd().try_clone_to_owned()?;
    let requests = Generic::new(requests, Interest::READ, Mode::Level);
    let inserted = events.insert_source(requests, move |_, _, state| {
        display.dispatch_clients(state)?;
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| error.error)?;
    Ok(())
}

/// Answers frame callbacks. A compositor with a screen does so when it has shown a frame.
fn tell_frames(events: &Events) -> Result<()> {
    let inserted = events.insert_source(Timer::from_duration(FRAME), |deadline, (), state| {
        state.windows.answer_frames(state.started.elapsed());
        // Not from now on: the rate stays what it is if a frame comes late.
        TimeoutAction::ToInstant(deadline + FRAME)
    });
    inserted.map_err(|error| error.error)?;
    Ok(())
}

/// Ends at SIGTERM and SIGINT, and takes a picture at SIGUSR1.
fn obey_signals(events: &Events) -> Result<()> {
    let signals = Signals::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1])?;
    let inserted = events.insert_source(signals, |event, (), state| match event.signal() {
        Signal::SIGUSR1 => state.take_picture(),
        _ => state.signal.stop(),
    });
    inserted.map_err(|error| error.error)?;
    Ok(())
}
