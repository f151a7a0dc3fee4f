//! The Wayland socket that clients of this VM connect to, and its lock file.

use super::activation;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Names that are tried: wayland-1 to this one. libwayland tries 0 to 32; 0 is left to a compositor of the VM's own.
const LAST_DISPLAY: u32 = 32;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nothing says where sockets belong.
    #[error(
        "XDG_RUNTIME_DIR is not set: log in through a session manager, or set it to a directory of your own"
    )]
    NoRuntimeDir,
    /// Another program has it.
    #[error("{0} is in use by another program: choose another name with --socket")]
    InUse(PathBuf),
    /// All names are taken.
    #[error(
        "wayland-1 to wayland-{LAST_DISPLAY} are all in use in {0}: choose a name with --socket"
    )]
    AllInUse(PathBuf),
    /// There are two.
    #[error("systemd passed a socket: don't name another with --socket")]
    Both,
    /// systemd passed more than one.
    #[error(
        "systemd passed {0} sockets, and one is served: keep one ListenStream= in the socket unit"
    )]
    Several(usize),
    /// What systemd passed isn't a socket that clients find.
    #[error(
        "what systemd passed is no listening Unix socket with a path: give the socket unit a ListenStream=%t/NAME, \
         and no Accept=yes"
    )]
    NoWaylandSocket,
    /// What systemd passed can't be used.
    #[error("can't take the socket that systemd passed: {0}")]
    Activation(io::Error),
    /// A system call failed.
    #[error("can't make {path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A listening Wayland socket. Dropping it removes it and its lock file, unless it is systemd's.
#[derive(Debug)]
pub struct Socket {
    /// Takes connections; non-blocking.
    pub listener: UnixListener,
    path: PathBuf,
    /// None if systemd made the socket: then it stays, and systemd sees that it has one owner.
    lock: Option<Lock>,
}

/// Held as long as the socket is ours; libwayland and wlroots look at it. Dropping it removes its file.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Socket {
    /// The socket that systemd has passed to this process, if it has; else one that is made by [`Socket::bind`].
    pub fn take_or_bind(name: Option<&Path>) -> Result<Self, SocketError> {
        match activation::take()? {
            Some(_) if name.is_some() => Err(SocketError::Both),
            Some((listener, path)) => Ok(Self { listener, path, lock: None }),
            None => Self::bind(name),
        }
    }

    /// Listens on `name` (in XDG_RUNTIME_DIR unless it is a path), or on the first free `wayland-N`.
    pub fn bind(name: Option<&Path>) -> Result<Self, SocketError> {
        if let Some(path) = name.filter(|name| name.is_absolute()) {
            return Self::bind_at(path.to_owned());
        }
        let directory = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .ok_or(SocketError::NoRuntimeDir)?;
        if let Some(name) = name {
            return Self::bind_at(directory.join(name));
        }
        for display in 1..=LAST_DISPLAY {
            match Self::bind_at(directory.join(format!("wayland-{display}"))) {
                Err(SocketError::InUse(_)) => {}
                result => return result,
            }
        }
        Err(SocketError::AllInUse(directory))
    }

    fn bind_at(path: PathBuf) -> Result<Self, SocketError> {
        let failed = |error| SocketError::Io { path: path.clone(), error };
        let lock = match Lock::take(lock_path(&path)) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(SocketError::InUse(path)),
            Err(error) => return Err(failed(error)),
        };
        // Whoever held the lock before is gone, so its socket is a leftover.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path, lock: Some(lock) })
    }

    /// Whether it ends with this object. One of systemd's doesn't: it takes clients for whoever is started next.
    pub fn is_ours(&self) -> bool {
        self.lock.is_some()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `WAYLAND_DISPLAY` has to be for clients to find it.
    pub fn display(&self) -> &Path {
        let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match directory.as_deref().and_then(|directory| self.path.strip_prefix(directory).ok()) {
            Some(name) => name,
            None => &self.path,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Lock {
    /// Locks the file at `path`, which is made if need be. `None` if somebody else has it.
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true).mode(0o660);
            let file = options.open(&path)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno.into()),
            };
            let ours = file.metadata()?;
            match std::fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Some(Self { path, _file: file }));
                }
                // Its owner removed it after we opened it: others would lock another file.
                _ => {}
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked, so that it isn't another's.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn a_socket_is_ours_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wayland-7");
        std::fs::write(&path, "a leftover").unwrap();
        let socket = Socket::bind(Some(&path)).unwrap();
        assert!(matches!(Socket::bind(Some(&path)), Err(SocketError::InUse(_))));
        drop(socket);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        Socket::bind(Some(&path)).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_leaves_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        // A socket's path has at most 107 bytes (Linux, `sun_path`).
        let path = directory.path().join("w".repeat(110));
        assert!(matches!(Socket::bind(Some(&path)), Err(SocketError::Io { .. })));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_never_has_two_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wayland-7");
        let owners = AtomicUsize::new(0);
        let bound = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Ok(socket) = Socket::bind(Some(&path)) else { continue };
                        assert_eq!(owners.fetch_add(1, SeqCst), 0);
                        bound.fetch_add(1, SeqCst);
                        std::thread::yield_now();
                        owners.fetch_sub(1, SeqCst);
                        drop(socket);
                    }
                });
            }
        });
        assert!(bound.into_inner() > 0);
    }
}
