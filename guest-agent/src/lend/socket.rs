//! The socket that applications connect to when they want to borrow.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Applications that may wait to be taken at a time. One that finds no room draws into files of its own.
const BACKLOG: i32 = 64;

/// A listening socket (`SOCK_SEQPACKET`) for this user's applications. Dropping it removes it.
#[derive(Debug)]
pub struct LendSocket {
    listener: OwnedFd,
    path: PathBuf,
    /// Stands for an fd when there is none left: then applications can still be turned away.
    spare: Option<File>,
}

impl LendSocket {
    /// Listens at `path`; what is there goes. Nobody but its owner may connect.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
        let spare = Some(File::open("/dev/null")?);
        let socket = Self { listener, path: path.to_owned(), spare };
        // Before it listens: until then nobody can connect.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&socket.listener, Backlog::new(BACKLOG)?)?;
        Ok(socket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one application, without waiting. If this process has no fd for it, it is turned away, and nobody waits in
    /// vain.
    pub fn accept(&mut self) -> io::Result<OwnedFd> {
        let accepted = self.try_accept();
        if let Err(Errno::EMFILE | Errno::ENFILE) = accepted {
            self.spare = None;
            drop(self.try_accept());
            self.spare = File::open("/dev/null").ok();
        }
        Ok(accepted?)
    }

    #[expect(unsafe_code, reason = "accept4 returns the fd as a number")]
    fn try_accept(&self) -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = accept4(self.listener.as_raw_fd(), flags)?;
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl AsFd for LendSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for LendSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
