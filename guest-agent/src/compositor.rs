//! The compositor of this VM, as one of its clients sees it: whether it is there, and when it ends.

mod tag;
mod watch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::{
    Connection, Dispatch, DispatchError, EventQueue, Proxy, QueueHandle, delegate_noop,
};
use wayland_protocols::wp::security_context::v1::client::wp_security_context_manager_v1::WpSecurityContextManagerV1;
use wayland_protocols::wp::security_context::v1::client::wp_security_context_v1::WpSecurityContextV1;

pub use tag::{Door, ENGINE};
pub use watch::Watch;

/// Why there is no compositor.
#[derive(Debug, thiserror::Error)]
pub enum CompositorError {
    /// Nobody takes connections.
    #[error("nobody takes clients on {socket}: {error}")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The connection is over.
    #[error("the compositor has closed the connection: {0}")]
    Closed(#[from] DispatchError),
}

impl CompositorError {
    /// Whether there isn't even a socket.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Connect { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// A connection of our own to the compositor, which lasts as long as the compositor does. It is an object to poll.
#[derive(Debug)]
pub struct Compositor {
    socket: PathBuf,
    queue: EventQueue<State>,
    connection: Connection,
    state: State,
}

/// What the compositor has told.
#[derive(Debug, Default)]
struct State {
    complete: bool,
    /// Whether clients are to be tagged, if the compositor knows how.
    tags: bool,
    manager: Option<WpSecurityContextManagerV1>,
}

impl Compositor {
    /// Connects to a socket and asks what the compositor offers. Doesn't wait. `tags`: clients are to be tagged with
    /// their VM by wp_security_context_v1, if the compositor offers it.
    pub fn connect(socket: &Path, tags: bool) -> Result<Self, CompositorError> {
        let failed = |error| CompositorError::Connect { socket: socket.to_owned(), error };
        let stream = wlproxy_unix::connect(socket).map_err(failed)?;
        let connection = Connection::from_socket(stream)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        let queue = connection.new_event_queue();
        let display = connection.display();
        display.get_registry(&queue.handle(), ());
        display.sync(&queue.handle(), ());
        // Nothing is read yet: what the compositor says is still to make `poll_fd` readable.
        let _ = queue.flush();
        Ok(Self {
            socket: socket.to_owned(),
            queue,
            connection,
            state: State { tags, ..State::default() },
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Becomes readable when [`Compositor::dispatch`] has something to do.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Takes in what the compositor has told, without blocking. Fails when it has ended.
    pub fn dispatch(&mut self) -> Result<(), CompositorError> {
        loop {
            self.queue.dispatch_pending(&mut self.state)?;
            // What can't be written now goes the next time; that the other side has closed shows when reading.
            let _ = self.queue.flush();
            let Some(guard) = self.queue.prepare_read() else { continue };
            match guard.read() {
                Ok(_) => {}
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(DispatchError::from(error).into()),
            }
        }
    }

    /// Whether it has answered: it serves clients.
    pub fn is_complete(&self) -> bool {
        self.state.complete
    }

    /// Whether clients are tagged with their VM.
    pub fn tags(&self) -> bool {
        self.state.manager.is_some()
    }

    /// A new connection to it, for a client of the VM `vm`, whose number is `connection`. Doesn't wait.
    ///
    /// # Errors
    /// Of the kind of what connect(2) says, if nobody listens. A client that can't be tagged isn't taken without; if it
    /// can't be for want of fds in flight, that is like a full queue.
    pub fn client(&mut self, vm: &str, connection: u64) -> io::Result<(UnixStream, Option<Door>)> {
        let Some(manager) = &self.state.manager else {
            return Ok((wlproxy_unix::connect(&self.socket)?, None));
        };
        // What is to be said has room then, since it is less than the connection's buffer takes (4 KiB).
        flushed(self.queue.flush())?;
        let tagged = tag::connect(manager, &self.queue.handle(), vm, connection);
        let (stream, door) = tagged.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => error,
            // Of another kind it would say something of the compositor.
            _ => io::Error::other(format!("it can't be tagged: {error}")),
        })?;
        match flushed(self.queue.flush()) {
            // The rest goes when the compositor reads.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => result?,
        }
        Ok((stream, Some(door)))
    }
}

fn would_block(error: &WaylandError) -> bool {
    matches!(error, WaylandError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn flushed(result: Result<(), WaylandError>) -> io::Result<()> {
    result.map_err(|error| match error {
        WaylandError::Io(error) => error,
        error @ WaylandError::Protocol(_) => io::Error::other(error),
    })
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &(),
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        let wl_registry::Event::Global { name, interface, .. } = event else { return };
        if state.tags && interface == WpSecurityContextManagerV1::interface().name {
            state.manager = Some(registry.bind(name, 1, handle, ()));
        }
    }
}

delegate_noop!(State: WpSecurityContextManagerV1);
delegate_noop!(State: WpSecurityContextV1);

impl Dispatch<WlCallback, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        _: wl_callback::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.complete = true;
    }
}
