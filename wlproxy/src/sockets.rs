//! The runtime directory and the sockets in it: made for one wlproxy at a time, and gone with it.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use wlproxy_unix::connect;

/// The runtime directory, held by this process alone.
///
/// The lock is on the directory itself, so it leaves no file behind and ends with the process, however that ends.
#[derive(Debug)]
pub struct RuntimeDir {
    _lock: Flock<File>,
}

impl RuntimeDir {
    /// Makes `path` if it is missing, with access for this user only, and locks it.
    pub fn claim(path: &Path) -> Result<Self> {
        let shown = path.display();
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("can't make runtime_dir {shown}"));
            }
            _ => {}
        }
        let directory =
            File::open(path).with_context(|| format!("can't open runtime_dir {shown}"))?;
        let metadata = directory.metadata()?;
        if !metadata.is_dir() {
            bail!("runtime_dir {shown} is no directory; remove it or choose another");
        }
        if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            bail!(
                "runtime_dir {shown} is not this user's alone, so others could replace its sockets; \
                 run `chmod go-w` on it or choose another"
            );
        }
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => bail!(
                "another wlproxy runs with runtime_dir {shown}; stop it, or give this one another runtime_dir"
            ),
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("can't lock runtime_dir {shown}"))
            }
        }
    }
}

/// How long the workers of a wlproxy that was killed may hold its sockets: they end when it does, but not in the same
/// moment. Nobody tells when.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// Between two looks whether they do.
const LOOK: Duration = Duration::from_millis(10);

/// A listening socket whose file goes away with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// Listens at `path`. A socket that a dead process left there is replaced; one that somebody listens at is not.
    pub fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let listener = listener.with_context(|| format!("can't listen at {shown}"))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// The socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "can't remove the socket");
        }
    }
}

fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    let found = fs::symlink_metadata(path).with_context(|| format!("can't look at {shown}"))?;
    if !found.file_type().is_socket() {
        bail!("{shown} is in the way and is no socket; remove it or choose another path");
    }
    let deadline = Instant::now() + LAST_MOMENTS;
    loop {
        match connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return fs::remove_file(path)
                    .with_context(|| format!("can't remove the stale socket {shown}"));
            }
            Ok(_) if Instant::now() < deadline => thread::sleep(LOOK),
            Ok(_) => bail!("somebody listens at {shown} already; stop it or choose another path"),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("can't tell whether somebody listens at {shown}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn who_is_about_to_end_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let before = UnixListener::bind(&path).unwrap();
        // It ends when it was looked at.
        let ending = thread::spawn(move || drop(before.accept().unwrap()));
        Listening::bind(&path).unwrap();
        ending.join().unwrap();
    }

    #[test]
    fn a_runtime_dir_has_one_owner() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("wlproxy");
        let claimed = RuntimeDir::claim(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let error = message(RuntimeDir::claim(&path));
        assert!(
            error.contains("another wlproxy") && error.contains(path.to_str().unwrap()),
            "{error}"
        );
        drop(claimed);
        RuntimeDir::claim(&path).unwrap();
    }

    #[test]
    fn a_runtime_dir_that_others_may_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(message(RuntimeDir::claim(temp.path())).contains("chmod go-w"));
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(message(RuntimeDir::claim(&file)).contains("no directory"));
        assert!(message(RuntimeDir::claim(&temp.path().join("a/b"))).contains("can't make"));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("vm.sock");
        // Dropping std's listener leaves its file, as a dead process does.
        drop(UnixListener::bind(&path).unwrap());
        let first = Listening::bind(&path).unwrap();
        assert!(message(Listening::bind(&path)).contains("somebody listens"));
        connect(&path).unwrap();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_never_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("vm.sock");
        fs::write(&path, "precious").unwrap();
        assert!(message(Listening::bind(&path)).contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
