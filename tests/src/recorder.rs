//! A compositor of the harness's own, without a screen, that tells its clients what it sees: so a client alone can say
//! whether all of it has arrived, wherever the two run.
//!
//! | a client | and hears |
//! |---|---|
//! | commits a surface with a wl_buffer | its frame callbacks are done at once |
//! | commits one without attaching anything | they are done with the [`Digest`](crate::Digest) of what the surface shows, row by row |
//! | offers a type of what it copies | that this type is wanted |
//! | binds a seat | [who it is](seat) |
//! | gets a keyboard | [`keymap`], which is too long for a socket's message |
//!
//! Clients of other VMs come to its socket, through a `guest-agent serve`, or to itself: it can link the shim.
//!
//! It keeps the wl_buffer that a surface shows, and releases the one before. What is copied it offers to everybody,
//! whoever has the focus.

mod protocol;

use crate::Flood;
use anyhow::{Context, Result};
use calloop::generic::Generic;
use calloop::signals::{Signal, Signals};
use calloop::{EventLoop, Interest, LoopSignal, Mode, PostAction};
use compositor_shim::{ChannelSpec, Client, Listener, Peer};
use protocol::State;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use wayland_server::Display;
use wayland_server::backend::ClientData;

/// Bytes of the keymap: real ones have 40,000 to 70,000.
const KEYMAP: usize = 60_000;

/// What every keyboard gets. It isn't one that types anything.
pub fn keymap() -> Vec<u8> {
    let mut text = b"xkb_keymap ".to_vec();
    text.extend(
        Flood::new(5).take(KEYMAP - text.len() - 1).into_iter().map(|byte| b' ' + byte % 95),
    );
    text.push(0);
    text
}

/// Who a client is: one of another VM, which came over the compositor's own channel, or one at its socket.
#[derive(Debug)]
pub(crate) struct Who(Option<Peer>);

impl ClientData for Who {}

/// What its keyboard's seat is called: who the client is to the compositor.
pub fn seat(vm_and_connection: Option<(&str, u64)>) -> String {
    match vm_and_connection {
        Some((vm, connection)) => format!("of {vm}, connection {connection}"),
        None => "of the compositor's own".to_owned(),
    }
}

impl Who {
    fn seat(&self) -> String {
        seat(self.0.as_ref().map(|peer| (&*peer.vm, peer.connection)))
    }
}

/// What the event loop's sources share.
struct Server {
    display: Display<State>,
    state: State,
    signal: LoopSignal,
    /// Why it can't go on.
    failed: Option<io::Error>,
}

impl Server {
    fn insert(&mut self, stream: UnixStream, who: Who) {
        if let Err(error) = self.display.handle().insert_client(stream, Arc::new(who)) {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.signal.stop();
    }
}

/// Serves clients at `socket` until SIGTERM, and with a `channel` also those of other VMs.
///
/// # Errors
/// If it can't listen there.
pub fn main(socket: &Path, channel: Option<ChannelSpec>) -> Result<()> {
    wlproxy_unix::fd_limit::raise().context("can't raise the limit of open files")?;
    let mut events: EventLoop<'_, Server> = EventLoop::try_new()?;
    let handle = events.handle();
    let signals = Signals::new(&[Signal::SIGTERM])?;
    handle.insert_source(signals, |_, _, server| server.signal.stop()).map_err(|e| e.error)?;
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("can't listen at {}", socket.display()))?;
    listener.set_nonblocking(true)?;
    let listener = Generic::new(listener, Interest::READ, Mode::Level);
    handle
        .insert_source(listener, |_, listener, server| accept(listener, server))
        .map_err(|e| e.error)?;
    if let Some(channel) = channel {
        let listener = Listener::new(channel)?;
        let came = |client: Client, _: &mut (), server: &mut Server| {
            server.insert(client.stream, Who(Some(client.peer)));
        };
        handle.insert_source(listener, came).map_err(|e| e.error)?;
    }
    let mut display = Display::new()?;
    protocol::advertise(&display.handle());
    let requests = display.backend().poll_fd().try_clone_to_owned()?;
    let requests = Generic::new(requests, Interest::READ, Mode::Level);
    let dispatch = |_, _: &mut _, server: &mut Server| {
        server.display.dispatch_clients(&mut server.state)?;
        Ok(PostAction::Continue)
    };
    handle.insert_source(requests, dispatch).map_err(|e| e.error)?;
    let (state, signal) = (State::default(), events.get_signal());
    let mut server = Server { display, state, signal, failed: None };
    events.run(None, &mut server, |server| {
        if let Err(error) = server.display.flush_clients() {
            server.fail(error);
        }
    })?;
    fs::remove_file(socket).context("the socket is gone")?;
    server.failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Takes all clients that wait.
fn accept(listener: &UnixListener, server: &mut Server) -> io::Result<PostAction> {
    loop {
        match listener.accept() {
            Ok((client, _)) => server.insert(client, Who(None)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keymap_is_text_with_a_zero_at_its_end() {
        let keymap = keymap();
        assert_eq!(keymap.len(), KEYMAP);
        assert!(keymap.starts_with(b"xkb_keymap ") && keymap.ends_with(b"\0"));
        assert!(keymap[..KEYMAP - 1].iter().all(|byte| (b' '..=b'~').contains(byte)));
    }
}
