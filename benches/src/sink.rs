//! The sink, a process of its own: the smallest compositor that a client can't tell from a real one.
//!
//! It maps the pools, answers syncs and frame callbacks at once, and releases a wl_buffer when another takes its place. It
//! never reads a pixel, but to tell what is shown when it is asked, between measurements.
//!
//! Each client has a display of its own. wayland-server looks through all clients of a display after every dispatch, and
//! that the sink is busy with idle clients must not look as if the path were.

mod protocol;

use crate::pixels::{Layout, Pool};
use anyhow::{Context, Error, Result};
use compositor_shim::Listener;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use protocol::Selection;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use wayland_server::protocol::wl_data_device::WlDataDevice;
use wayland_server::{Display, DisplayHandle};

/// Most bytes that wait for a client that doesn't read. As good as no bound: nobody here is hostile, and a compositor that
/// disconnects the slow would measure nothing.
const MAX_QUEUED: usize = 64 << 20;

/// The epoll token of stdin.
const STDIN: u64 = 0;
/// The epoll token of the listening socket. Those of clients follow.
const LISTENER: u64 = 1;

/// What the sink is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Tell what was shown last.
    Checksum,
    /// Accept clients of other VMs over this channel.
    Link(String),
}

/// A client, and the display that is there for it.
#[derive(Debug)]
struct Served {
    display: Display<State>,
    id: ClientId,
    gone: Arc<Gone>,
    /// The client's socket once more, for epoll.
    socket: UnixStream,
    /// Whether the socket was full, so that epoll tells when it no longer is.
    full: bool,
}

/// Whether wayland-server has forgotten a client.
#[derive(Debug, Default)]
struct Gone(AtomicBool);

impl ClientData for Gone {
    fn disconnected(&self, _: ClientId, _: DisconnectReason) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the clients share.
#[derive(Debug, Default)]
struct State {
    /// Whose requests are being handled.
    current: u64,
    /// Others that were sent something meanwhile.
    touched: Vec<u64>,
    /// What was committed last.
    shown: Option<(Arc<Pool>, Layout)>,
    /// What was copied last.
    selection: Option<Selection>,
    /// Everybody who wants to know.
    devices: Vec<(u64, DisplayHandle, WlDataDevice)>,
}

/// Serves clients at `socket` until stdin is closed.
pub(crate) fn main(socket: &Path) -> Result<()> {
    wlproxy_unix::fd_limit::raise().context("can't raise the limit of open files")?;
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("can't listen at {}", socket.display()))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(std::io::stdin(), EpollEvent::new(EpollFlags::EPOLLIN, STDIN))?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut sink = Sink {
        epoll,
        clients: HashMap::new(),
        next: LISTENER,
        spare: Some(display()?),
        state: State::default(),
        linked: HashMap::new(),
    };
    let mut told = Vec::new();
    let mut events = [EpollEvent::empty(); 32];
    loop {
        let idle = if sink.spare.is_some() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let count = match sink.epoll.wait(&mut events, idle) {
            Err(nix::errno::Errno::EINTR) => continue,
            count => count?,
        };
        if count == 0 {
            sink.spare = Some(display()?);
        }
        for event in &events[..count] {
            match event.data() {
                STDIN if !sink.hear(&mut told)? => return Ok(()),
                STDIN => {}
                LISTENER => sink.accept(&listener)?,
                linked if sink.linked.contains_key(&linked) => sink.accept_linked(linked)?,
                client => sink.serve(client)?,
            }
        }
    }
}

/// A display for the next client.
fn display() -> Result<Display<State>> {
    let display = Display::new()?;
    display.handle().set_default_max_buffer_size(MAX_QUEUED);
    protocol::advertise(&display.handle());
    Ok(display)
}

struct Sink {
    epoll: Epoll,
    clients: HashMap<u64, Served>,
    /// The token that was given last.
    next: u64,
    /// A display that was made while there was nothing to do: other compositors need none for each client.
    spare: Option<Display<State>>,
    state: State,
    /// Those that it has linked, by token.
    linked: HashMap<u64, Listener>,
}

impl Sink {
    fn accept(&mut self, listener: &UnixListener) -> Result<()> {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("can't accept a client"),
        };
        self.insert(stream)
    }

    /// Carries what there is over a channel, and takes the clients that came.
    fn accept_linked(&mut self, token: u64) -> Result<()> {
        let mut clients = Vec::new();
        if let Some(listener) = self.linked.get_mut(&token) {
            listener.dispatch(&mut clients)?;
        }
        clients.into_iter().try_for_each(|client| self.insert(client.stream))
    }

    fn insert(&mut self, stream: UnixStream) -> Result<()> {
        let socket = stream.try_clone()?;
        let display = self.spare.take().map_or_else(display, Ok)?;
        let gone = Arc::new(Gone::default());
        let id = display.handle().insert_client(stream, gone.clone())?.id();
        self.next += 1;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.clients.insert(self.next, Served { display, id, gone, socket, full: false });
        Ok(())
    }

    /// Does what a client asks for, and sends it and others what there is for them.
    fn serve(&mut self, token: u64) -> Result<()> {
        let Some(client) = self.clients.get_mut(&token) else { return Ok(()) };
        self.state.current = token;
        let backend = client.display.backend();
        let served = match backend.dispatch_single_client(&mut self.state, client.id.clone()) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.flush(token, served)?;
        for token in std::mem::take(&mut self.state.touched) {
            self.flush(token, true)?;
        }
        Ok(())
    }

    /// Sends a client what there is for it, or forgets it.
    fn flush(&mut self, token: u64, served: bool) -> Result<()> {
        let Some(client) = self.clients.get_mut(&token) else { return Ok(()) };
        let full = match client.display.backend().flush(Some(client.id.clone())) {
            Ok(()) => Some(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(true),
            Err(_) => None,
        };
        match full {
            Some(full) if served && !client.gone.0.load(Ordering::Relaxed) => {
                if full != client.full {
                    let out = if full { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
                    let mut event = EpollEvent::new(EpollFlags::EPOLLIN | out, token);
                    self.epoll.modify(&client.socket, &mut event)?;
                    client.full = full;
                }
            }
            _ => {
                self.epoll.delete(&client.socket)?;
                self.clients.remove(&token);
                self.state.devices.retain(|(of, ..)| *of != token);
            }
        }
        Ok(())
    }

    fn link(&mut self, channel: &str) -> Result<()> {
        let listener = Listener::new(channel.parse().map_err(Error::msg)?)?;
        self.next += 1;
        self.epoll.add(listener.poll_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.linked.insert(self.next, listener);
        Ok(())
    }

    /// Does what the harness asks for. `false` when there is no harness any more.
    fn hear(&mut self, told: &mut Vec<u8>) -> Result<bool> {
        let mut bytes = [0; 1024];
        let count = std::io::stdin().lock().read(&mut bytes)?;
        told.extend_from_slice(&bytes[..count]);
        while let Some(end) = told.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = told.drain(..=end).collect();
            let checksum = match serde_json::from_slice(&line)? {
                Order::Checksum => {
                    self.state.shown.as_ref().map(|(pool, layout)| pool.checksum(*layout))
                }
                Order::Link(channel) => {
                    self.link(&channel)?;
                    None
                }
            };
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{}", serde_json::to_string(&checksum)?)?;
            stdout.flush()?;
        }
        Ok(count > 0)
    }
}
