//! The agent, which lends allocations.

use crate::raw::{self, FileId, Result};
use crate::socket::{self, BROKEN, Path};
use crate::table::{Fds, Kind};
use core::ffi::c_int;
use wlproxy_protocol::lend::{Answer, Parting, RECORD, Request};

/// How long the agent may take to answer, in milliseconds. It may wait five seconds for the host, and is lost then.
const PATIENCE: u32 = 10_000;

/// Where fds of ours are, if the limit allows it: above those that applications count on.
pub(crate) const HIGH: c_int = 512;

/// Most partings that wait until the agent takes them.
const MAX_PENDING: usize = 64;

/// A connection to the agent, when there is one.
pub(crate) struct Lender {
    /// Where it listens.
    path: Path,
    socket: Option<Socket>,
    /// Counts connections: what was borrowed over an earlier one can't be returned any more.
    connection: u32,
    pending: [Option<Parting>; MAX_PENDING],
}

/// An fd, and which socket it was: the application may have closed the number and used it again.
#[derive(Clone, Copy)]
struct Socket {
    fd: c_int,
    file: FileId,
}

/// Which allocation, and over which connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) id: u32,
    pub(crate) connection: u32,
}

impl Lender {
    pub(crate) const fn new() -> Self {
        let pending = [None; MAX_PENDING];
        Self { path: [0; socket::PATH], socket: None, connection: 0, pending }
    }

    /// From now on it listens at `path`.
    pub(crate) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    /// Asks for an allocation for a file of so many bytes. Returns its fd, close-on-exec.
    pub(crate) fn borrow(&mut self, size: u64, fds: &Fds) -> Option<(Name, c_int)> {
        self.connect(fds).ok()?;
        let request = Request::Lend { size };
        match self.ask(request, None, fds) {
            Ok((Answer::Lent { id }, Some(fd))) => {
                Some((Name { id, connection: self.connection }, fd))
            }
            Ok((Answer::Refused, None)) => None,
            Ok((_, fd)) => {
                fd.into_iter().for_each(raw::close);
                self.lose(fds);
                None
            }
            Err(_) => None,
        }
    }

    /// Tells that the application has no fd of it any more. Waits for nothing.
    pub(crate) fn close(&mut self, name: Name, sent: u32, fds: &Fds) {
        if name.connection != self.connection || self.socket.is_none() {
            return;
        }
        let parting = Parting { id: name.id, sent };
        match self.pending.iter_mut().find(|at| at.is_none()) {
            Some(free) => *free = Some(parting),
            // The agent hasn't read for a long time.
            None => return self.lose(fds),
        }
        if self.flush().is_err() {
            self.lose(fds);
        }
    }

    /// Tells that the application draws into `file` instead of `lent`, and waits until the agent knows. Nothing would be
    /// seen of what it draws, if the agent didn't; so if the connection is over, there is another attempt over a new one.
    pub(crate) fn demote(&mut self, parting: Parting, lent: c_int, file: c_int, fds: &Fds) {
        for _ in 0..2 {
            if self.connect(fds).is_err() {
                return;
            }
            match self.ask(Request::Demote(parting), Some([lent, file]), fds) {
                Ok((Answer::Demoted { .. }, None)) => return,
                Ok((_, fd)) => {
                    fd.into_iter().for_each(raw::close);
                    self.lose(fds);
                }
                // It has the record, and reads it as soon as it can.
                Err(libc::ETIMEDOUT) => return,
                Err(_) => {}
            }
        }
    }

    fn connect(&mut self, fds: &Fds) -> Result<()> {
        if self.socket.is_some_and(|socket| socket.is_there()) {
            return Ok(());
        }
        self.lose(fds);
        if self.path[0] == 0 {
            return Err(libc::ENOENT);
        }
        let fd = raise(socket::new()?);
        let connected = socket::connect(fd, &self.path).and_then(|()| raw::fstat(fd));
        match connected {
            Ok(stat) if Fds::has_room_for(fd) => {
                fds.set(fd, Kind::Ours);
                self.socket = Some(Socket { fd, file: stat.file });
                self.connection = self.connection.wrapping_add(1);
                self.pending = [None; MAX_PENDING];
                Ok(())
            }
            other => {
                raw::close(fd);
                Err(other.err().unwrap_or(libc::EMFILE))
            }
        }
    }

    fn ask(
        &mut self,
        request: Request,
        files: Option<[c_int; 2]>,
        fds: &Fds,
    ) -> Result<(Answer, Option<c_int>)> {
        let result = self.try_ask(request, files);
        if result.is_err() {
            self.lose(fds);
        }
        result
    }

    fn try_ask(
        &mut self,
        request: Request,
        files: Option<[c_int; 2]>,
    ) -> Result<(Answer, Option<c_int>)> {
        self.flush()?;
        let socket = self.socket.filter(|socket| socket.is_there()).ok_or(BROKEN)?;
        let request = request.to_bytes();
        while let Err(errno) = socket::send(socket.fd, &request, files) {
            match errno {
                libc::EAGAIN => socket::wait(socket.fd, libc::POLLOUT, PATIENCE)?,
                errno => return Err(errno),
            }
        }
        let mut bytes = [0; RECORD];
        let (len, fd) = socket::receive(socket.fd, &mut bytes, PATIENCE)?;
        match bytes.get(..len).and_then(Answer::from_bytes) {
            Some(answer) => Ok((answer, fd)),
            None => {
                fd.into_iter().for_each(raw::close);
                Err(BROKEN)
            }
        }
    }

    /// Sends partings that wait, as far as the agent takes them.
    fn flush(&mut self) -> Result<()> {
        let Some(socket) = self.socket.filter(|socket| socket.is_there()) else {
            return Err(BROKEN);
        };
        for at in &mut self.pending {
            let Some(parting) = *at else { continue };
            match socket::send(socket.fd, &Request::Close(parting).to_bytes(), None) {
                Ok(()) => *at = None,
                Err(libc::EAGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Ends the connection, if there is one.
    pub(crate) fn lose(&mut self, fds: &Fds) {
        if let Some(socket) = self.socket.take() {
            if socket.is_there() {
                raw::close(socket.fd);
            }
            fds.set(socket.fd, Kind::Other);
        }
    }

    /// The connection is another process's.
    pub(crate) fn forget(&mut self) {
        self.socket = None;
        self.pending = [None; MAX_PENDING];
    }

    /// Whether this is the fd of the connection.
    pub(crate) fn has(&self, fd: c_int) -> bool {
        self.socket.is_some_and(|socket| socket.fd == fd && socket.is_there())
    }

    /// The fd of the connection is now that one.
    pub(crate) fn moved(&mut self, from: c_int, to: c_int) {
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.fd == from) {
            socket.fd = to;
        }
    }
}

impl Socket {
    fn is_there(self) -> bool {
        raw::fstat(self.fd).is_ok_and(|stat| stat.file == self.file)
    }
}

/// Moves an fd of ours out of the application's way; close-on-exec.
pub(crate) fn raise(fd: c_int) -> c_int {
    match raw::fcntl(fd, libc::F_DUPFD_CLOEXEC, HIGH) {
        Ok(high) => {
            raw::close(fd);
            high
        }
        // The limit of open files is low.
        Err(_) => fd,
    }
}
