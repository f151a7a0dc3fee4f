//! One frontend connection, from its start to its end.

use super::Options;
use super::backend::Backend;
use super::poller::ENDING;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::Epoll;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

/// Ends [`serve`] from another thread, now and for ever. Clones stop the same.
#[derive(Clone)]
pub struct Stop(Arc<StopState>);

struct StopState {
    event: EventFd,
    /// `Err` once stopped, otherwise the connection that is served.
    connection: Mutex<Result<Option<ShutdownHandle>, Stopped>>,
}

#[derive(Clone, Copy)]
struct Stopped;

impl Stop {
    /// Not stopped yet.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(StopState { event, connection: Mutex::new(Ok(None)) })))
    }

    /// Ends the connection that is served and the wait for the next one.
    pub fn stop(&self) {
        let before = std::mem::replace(&mut *self.connection(), Err(Stopped));
        // The only error is a counter at its maximum, and then it is readable already.
        let _ = self.0.event.write(1);
        if let Ok(Some(connection)) = before {
            connection.shutdown();
        }
    }

    /// Readable once it was called.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// Says which connection is served. `false` if it isn't to be.
    fn serves(&self, connection: Option<ShutdownHandle>) -> bool {
        let mut guard = self.connection();
        if guard.is_ok() {
            *guard = Ok(connection);
        }
        guard.is_ok()
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Result<Option<ShutdownHandle>, Stopped>> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why [`serve`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The frontend went, or broke the protocol, which is logged. It may come again.
    Disconnected,
    /// [`Stop::stop`] was called.
    Stopped,
}

/// Waits for a frontend, serves it until it goes, and forgets everything about that VM.
///
/// The listener must be in blocking mode. Fails if the listener does, or if this process is out of fds or threads.
pub fn serve(listener: &mut Listener, options: &Options, stop: &Stop) -> io::Result<Ended> {
    if !wait_for_frontend(listener, stop)? {
        return Ok(Ended::Stopped);
    }
    // Everything is new for each connection: the crate never forgets who owned a device.
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let backend = Backend::new(options.clone(), memory.clone())?;
    let mut daemon = VhostUserDaemon::new(format!("vhost-{}", options.vm), backend.clone(), memory)
        .map_err(broken)?;
    // Dropped before the daemon, which waits for the vring worker.
    let worker = EndWorker(backend);
    for handler in daemon.get_epoll_handlers() {
        // Takes no fd. Without it, and if there are none for what follows, the vring worker would wait for ever.
        handler.register_listener(worker.0.ending(), EventSet::IN, ENDING)?;
        worker.0.join(epoll_of(&*handler)?)?;
    }
    daemon.start(listener).map_err(broken)?;
    if !stop.serves(daemon.shutdown_handle()) {
        daemon.request_shutdown();
    }
    tracing::info!(vm = options.vm, "a frontend connected");
    options.counters.frontends.add(1);
    let result = daemon.wait();
    options.counters.frontends.sub(1);
    let stopped = !stop.serves(None);
    match result {
        Ok(()) => {}
        Err(DaemonError::HandleRequest(
            VhostUserError::Disconnected | VhostUserError::PartialMessage,
        )) => {}
        Err(error @ DaemonError::WaitDaemon(_)) => return Err(broken(error)),
        Err(error) => {
            tracing::warn!(vm = options.vm, "the frontend broke the vhost-user protocol: {error}")
        }
    }
    tracing::info!(vm = options.vm, "the frontend is gone");
    Ok(if stopped { Ended::Stopped } else { Ended::Disconnected })
}

struct EndWorker(Arc<Backend>);

impl Drop for EndWorker {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The crate's errors don't implement `Error`.
fn broken(error: DaemonError) -> io::Error {
    io::Error::other(error.to_string())
}

/// What a vring worker waits for.
#[expect(unsafe_code, reason = "an epoll handler has an fd, but doesn't lend it out")]
fn epoll_of(handler: &impl AsRawFd) -> io::Result<Epoll> {
    // SAFETY: the handler's epoll stays open while it is borrowed.
    let epoll = unsafe { BorrowedFd::borrow_raw(handler.as_raw_fd()) };
    Ok(Epoll(epoll.try_clone_to_owned()?))
}

/// Waits until a frontend is there. `false` if [`Stop::stop`] was called.
#[expect(unsafe_code, reason = "a Listener has an fd, but doesn't lend it out")]
fn wait_for_frontend(listener: &Listener, stop: &Stop) -> io::Result<bool> {
    // SAFETY: the listener stays open while it is borrowed.
    let listener = unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) };
    loop {
        let mut fds = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener, PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        if fds[0].any() == Some(true) {
            return Ok(false);
        }
        if fds[1].any() == Some(true) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
