//! Noticing that a socket appears.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Watches the directory of a socket that isn't there, while it is armed. It is an object to poll.
#[derive(Debug)]
pub struct Watch {
    socket: PathBuf,
    inotify: Inotify,
    armed: Option<WatchDescriptor>,
}

impl Watch {
    /// A watch for `socket`, not armed.
    pub fn new(socket: PathBuf) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { socket, inotify, armed: None })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Becomes readable when the socket may have appeared.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// From now on [`Watch::poll_fd`] becomes readable when the socket is made. Whoever looks for it looks after this.
    ///
    /// Returns false if that can't be promised: there is no such directory yet, or the socket is a symbolic link to
    /// another one.
    pub fn arm(&mut self) -> bool {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        // What happens in a directory that has taken another's place would be missed.
        self.disarm();
        let folder = self.socket.parent().unwrap_or(Path::new("/"));
        self.armed = self.inotify.add_watch(folder, flags).ok();
        self.armed.is_some() && !self.socket.is_symlink()
    }

    /// Nobody looks for the socket any more: [`Watch::poll_fd`] needn't become readable.
    pub fn disarm(&mut self) {
        if let Some(watch) = self.armed.take() {
            // It is gone already if the directory is.
            let _ = self.inotify.rm_watch(watch);
            // That is told as well, and nobody would ever look at anything else.
            self.clear();
        }
    }

    /// Forgets what has happened. Whoever looks for the socket looks after this.
    pub fn clear(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::unix::net::UnixListener;

    /// Whether there is something to look at. inotify tells at once.
    fn told(watch: &Watch) -> bool {
        let told = poll(&mut [PollFd::new(watch.poll_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
            .unwrap();
        watch.clear();
        told > 0
    }

    #[test]
    fn a_socket_that_appears_is_told_of_while_armed() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path().join("wayland-1")).unwrap();
        let socket = UnixListener::bind(watch.socket()).unwrap();
        assert!(!told(&watch));
        drop(socket);
        std::fs::remove_file(watch.socket()).unwrap();
        assert!(watch.arm() && !told(&watch));
        // Looking again isn't a reason to look again.
        assert!(watch.arm() && watch.arm() && !told(&watch));
        let _socket = UnixListener::bind(watch.socket()).unwrap();
        assert!(told(&watch) && !told(&watch));
        std::fs::rename(watch.socket(), folder.path().join("other")).unwrap();
        std::fs::rename(folder.path().join("other"), watch.socket()).unwrap();
        assert!(told(&watch));
        watch.disarm();
        watch.clear();
        std::fs::write(folder.path().join("more"), "").unwrap();
        assert!(!told(&watch));
    }

    #[test]
    fn what_cannot_be_watched_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("run");
        let mut watch = Watch::new(inner.join("wayland-1")).unwrap();
        assert!(!watch.arm());
        std::fs::create_dir(&inner).unwrap();
        assert!(watch.arm());
        // The directory is another one than a moment ago.
        std::fs::remove_dir(&inner).unwrap();
        assert!(told(&watch));
        std::fs::create_dir(&inner).unwrap();
        assert!(watch.arm());
        watch.clear();
        std::fs::write(inner.join("wayland-1"), "").unwrap();
        assert!(told(&watch));
        std::fs::remove_file(inner.join("wayland-1")).unwrap();
        std::os::unix::fs::symlink("/elsewhere", inner.join("wayland-1")).unwrap();
        assert!(!watch.arm());
    }
}
