//! Connections that the compositor knows to be another VM's (wp_security_context_v1).
//!
//! The protocol tags a listening socket, and whoever is accepted from it. So each client gets one of its own, which
//! has no other client: it is made in a directory that only we may enter, and its name is gone once we have connected.

use super::State;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use tempfile::TempDir;
use wayland_client::QueueHandle;
use wayland_protocols::wp::security_context::v1::client::wp_security_context_manager_v1::WpSecurityContextManagerV1;
use wlproxy_unix::Stream;

/// Who has tagged the client, as compositors' rules name it: the sandbox engine of a security context.
pub const ENGINE: &str = "wlproxy";

/// Keeps a listener of a client's own open. To be dropped when the compositor has accepted, which nobody tells: a
/// compositor that finds it closed may stop listening with the client still in the queue.
#[derive(Debug)]
pub struct Door {
    /// As the compositor has it: the queue is the same.
    listener: UnixListener,
    _close: OwnedFd,
}

impl Door {
    /// Whether the client is still in the queue.
    pub fn is_waited_at(&self) -> bool {
        let mut fd = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fd, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

/// A connection tagged with `vm` and `connection`. What the compositor is to be told is queued.
pub(super) fn connect(
    manager: &WpSecurityContextManagerV1,
    handle: &QueueHandle<State>,
    vm: &str,
    connection: u64,
) -> io::Result<(UnixStream, Door)> {
    if vm.contains('\0') {
        return Err(io::Error::other("a NUL in the VM's name"));
    }
    let folder = private_folder()?;
    let path = folder.path().join("client");
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let stream = wlproxy_unix::connect(&path)?;
    folder.close()?;
    let (hung_up, close) = pipe2(OFlag::O_CLOEXEC)?;
    try_to_send([listener.as_fd(), hung_up.as_fd()])?;
    let context = manager.create_listener(listener.as_fd(), hung_up.as_fd(), handle, ());
    context.set_sandbox_engine(ENGINE.to_owned());
    context.set_app_id(vm.to_owned());
    context.set_instance_id(connection.to_string());
    context.commit();
    context.destroy();
    Ok((stream, Door { listener, _close: close }))
}

/// Sends fds to nobody. With too many in flight (unix(7), `ETOOMANYREFS`) that fails, as what would block: it passes. On
/// the compositor's connection the same failure would be its end, since wayland-client keeps it.
fn try_to_send(fds: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    let (ours, _theirs) = UnixStream::pair()?;
    let mut stream = Stream::new(ours)?;
    for fd in fds {
        stream.queue(&[], [fd.try_clone_to_owned()?]);
    }
    stream.queue(&[0], []);
    if stream.flush()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// A directory that nobody else may enter.
fn private_folder() -> io::Result<TempDir> {
    let parent = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, Into::into);
    // Without XDG_RUNTIME_DIR, the parent is everybody's.
    let mode = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("wlproxy-").permissions(mode).tempdir_in(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, umask};

    #[test]
    fn a_private_folder_is_private_whatever_the_umask() {
        let before = umask(Mode::empty());
        let folder = private_folder();
        umask(before);
        let mode = folder.unwrap().path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
