//! What becomes of an fd that came over a context: memory of the window, or a pipe.
//!
//! Another worker sends nothing but allocations and ends of pipes. A compositor on the host sends what it would send any
//! client; there this does what `guest-agent serve` does in a compositor VM.

use super::allocation::Allocation;
use super::made::Made;
use super::pipe::{Direction, Pipe};
use super::vfd_error::VfdError;
use super::window;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat, makedev};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use wlproxy_unix::memory;

/// Largest file that is copied, in bytes; keymaps and format tables have some 60 KB. `guest-agent` has the same bound.
const MAX_COPY: u64 = 16 << 20;

/// Device number of `/dev/null` (Linux, `Documentation/admin-guide/devices.txt`).
const NULL: u64 = makedev(1, 3);

/// What is made of it.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Memory, not mapped yet.
    Allocation(Allocation),
    /// What the guest does with it.
    Pipe(Direction, OwnedFd),
}

impl Arrival {
    /// Bytes of memory, if it is that.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Self::Allocation(allocation) => allocation.length(),
            Self::Pipe(..) => 0,
        }
    }

    /// Of an fd that another worker sent over `context`.
    pub(super) fn of_worker(fd: OwnedFd, context: u32) -> Result<Self, VfdError> {
        if let Some(size) = memory::size_if_sealed(&fd) {
            return Ok(Self::Allocation(Allocation::received(fd, size, context)));
        }
        match Pipe::direction_of(fd.as_fd()) {
            Some(direction) => Ok(Self::Pipe(direction, fd)),
            None => Err(VfdError::Kind("neither a sealed memfd nor one end of a pipe")),
        }
    }

    /// Of an fd that a compositor, or another worker, sent over the link `context`. What is copied counts in `made`.
    pub(super) fn of_compositor(
        fd: OwnedFd,
        context: u32,
        made: &Arc<Made>,
    ) -> Result<Self, VfdError> {
        if let Ok(length) = window::length(fd.as_fd()) {
            return Ok(Self::Allocation(Allocation::received(fd, length, context)));
        }
        let stat = fstat(&fd).map_err(io)?;
        let mode = fcntl(&fd, FcntlArg::F_GETFL).map_err(io)?;
        let mode = OFlag::from_bits_retain(mode) & OFlag::O_ACCMODE;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG if mode == OFlag::O_WRONLY => {
                Err(VfdError::Kind("a file that can't be read"))
            }
            SFlag::S_IFREG => copy(&fd.into(), stat.st_size, made),
            // What compositors send where there is no keymap.
            SFlag::S_IFCHR if stat.st_rdev == NULL => {
                Ok(Self::Allocation(Allocation::of(&[], made)?))
            }
            SFlag::S_IFIFO if mode == OFlag::O_RDONLY => Ok(Self::Pipe(Direction::Read, fd)),
            // A socket goes the way of the selection protocols, in which the fd is there to be written to.
            SFlag::S_IFIFO | SFlag::S_IFSOCK => Ok(Self::Pipe(Direction::Write, fd)),
            _ => Err(VfdError::Kind("neither memory nor a file, nor a pipe or a socket")),
        }
    }
}

/// Memory that begins with the file's content. Read, rather than mapped: nobody can take its pages away meanwhile.
fn copy(file: &File, size: i64, made: &Arc<Made>) -> Result<Arrival, VfdError> {
    let size = u64::try_from(size).ok().filter(|&size| size <= MAX_COPY);
    let mut content = vec![0; size.ok_or(VfdError::TooLong(MAX_COPY))? as usize];
    file.read_exact_at(&mut content, 0)?;
    Ok(Arrival::Allocation(Allocation::of(&content, made)?))
}

fn io(errno: Errno) -> VfdError {
    VfdError::Io(errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use wlproxy_protocol::limits::PAGE_SIZE;

    const LINK: u32 = 7;

    fn of_compositor(fd: OwnedFd) -> Result<Arrival, VfdError> {
        Arrival::of_compositor(fd, LINK, &Made::new(Arc::default()))
    }

    /// The content of memory that an fd has become, if it was copied.
    fn copied(fd: impl Into<OwnedFd>) -> Vec<u8> {
        match of_compositor(fd.into()).unwrap() {
            Arrival::Allocation(allocation) => {
                assert_eq!(allocation.context, None, "it never comes again");
                assert!(window::length(allocation.as_fd()).is_ok());
                let mut content = vec![0; memory::size_if_sealed(&allocation).unwrap() as usize];
                assert_eq!(content.len() as u64, allocation.length());
                let file = File::from(allocation.as_fd().try_clone_to_owned().unwrap());
                file.read_exact_at(&mut content, 0).unwrap();
                content
            }
            pipe => panic!("{pipe:?}"),
        }
    }

    fn refusal(fd: impl Into<OwnedFd>) -> String {
        of_compositor(fd.into()).unwrap_err().to_string()
    }

    fn padded(content: &[u8]) -> Vec<u8> {
        let mut padded = content.to_vec();
        padded.resize(content.len().max(1).next_multiple_of(PAGE_SIZE as usize), 0);
        padded
    }

    #[test]
    fn files_of_a_compositor_are_copied() {
        let keymap: Vec<u8> = (0..60_000).map(|n| n as u8).collect();
        let sealed = memory::constant("test", &keymap).unwrap();
        let mut growing = tempfile::tempfile().unwrap();
        growing.write_all(&keymap).unwrap();
        assert!(copied(sealed) == padded(&keymap));
        assert!(copied(growing) == padded(&keymap));
        assert_eq!(copied(tempfile::tempfile().unwrap()), padded(&[]));
        assert_eq!(copied(File::open("/dev/null").unwrap()), padded(&[]));
    }

    #[test]
    fn memory_that_can_be_mapped_is_not_copied() {
        let memory = memory::allocate("test", 4096).unwrap();
        let twin = memory.try_clone().unwrap();
        match of_compositor(memory).unwrap() {
            Arrival::Allocation(allocation) => {
                assert_eq!(allocation.context, Some(LINK));
                assert!(allocation.piece().is_none(), "it counts where it was made");
                assert!(memory::same_file(&allocation, &twin));
            }
            pipe => panic!("{pipe:?}"),
        }
    }

    #[test]
    fn pipes_and_sockets_are_pipes() {
        let direction = |fd| match of_compositor(fd).unwrap() {
            Arrival::Pipe(direction, _) => direction,
            memory => panic!("{memory:?}"),
        };
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert_eq!(
            [reader, writer, socket.into()].map(direction),
            [Direction::Read, Direction::Write, Direction::Write]
        );
    }

    #[test]
    fn what_cannot_cross_is_told() {
        let long = tempfile::tempfile().unwrap();
        long.set_len(MAX_COPY + 1).unwrap();
        assert!(refusal(long).contains("16777216 bytes"));
        assert!(refusal(File::open("/").unwrap()).contains("neither memory nor a file"));
        assert!(refusal(File::open("/dev/zero").unwrap()).contains("neither memory nor a file"));
        let temp = tempfile::NamedTempFile::new().unwrap();
        let write_only = File::options().write(true).open(temp.path()).unwrap();
        assert!(refusal(write_only).contains("can't be read"));
    }

    #[test]
    fn another_worker_sends_no_files() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        for fd in [socket.into(), tempfile::tempfile().unwrap().into()] {
            let error = Arrival::of_worker(fd, LINK).unwrap_err().to_string();
            assert!(error.contains("sealed memfd"), "{error}");
        }
    }
}
