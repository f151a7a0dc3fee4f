//! The window: the shared memory region in which the device's mappings appear.
//!
//! As strict as QEMU (its vhost-user frontend from 11.1 on). Nothing is mapped here, as nothing in this VM runs that
//! would look there; what a mapping reaches is its file, and that is what users of an allocation get.

use super::duplicate::duplicate;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::fstat;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vhost::vhost_user::message::VhostUserMMap;
use vhost::vhost_user::{HandlerResult, VhostUserFrontendReqHandler};
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::virtio_wl::SHMID;

/// Guest address of the window, in bytes: behind RAM, and above 4 GiB, as a 64-bit BAR.
pub(super) const BASE: u64 = 0x8_0000_0000;

/// Why a request of the device is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// QEMU crashes on these.
    #[error("the VM isn't running: map only between the start and the stop of the rings")]
    Stopped,
    #[error("there is only shared memory region {SHMID}")]
    Region,
    #[error("offsets and length must be whole pages, and the length not 0")]
    Unaligned,
    #[error("the range isn't in the window")]
    OutOfRange,
    #[error("the range overlaps another mapping")]
    Overlap,
    #[error("the file can't be mapped shared and writable")]
    NotWritable,
    #[error("the file is shorter than the range")]
    Short,
    #[error("no mapping has exactly this range")]
    NotMapped,
    #[error("no fds are left")]
    NoFds,
}

impl Refused {
    fn errno(self) -> Errno {
        match self {
            Self::NotWritable => Errno::EACCES,
            Self::NotMapped => Errno::ENOENT,
            Self::NoFds => Errno::EMFILE,
            _ => Errno::EINVAL,
        }
    }
}

/// One mapping.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    /// Length in bytes.
    pub(super) len: u64,
    /// Offset in the file, in bytes.
    pub(super) file_offset: u64,
    /// The file.
    pub(super) file: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    changed: bool,
    mappings: BTreeMap<u64, Mapping>,
}

/// What the device mapped.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    state: Mutex<State>,
}

impl Window {
    /// An empty window of `size` bytes of a VM that doesn't run.
    pub(super) fn new(size: u64) -> Self {
        Self { size, state: Mutex::default() }
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// From now on the device may map: its rings start.
    pub(super) fn start(&self) {
        self.lock().running = true;
    }

    /// Its rings have stopped: the VM drops all mappings by itself.
    pub(super) fn stop(&self) {
        *self.lock() = State::default();
    }

    /// Whether there is a mapping at `offset` of exactly `len` bytes that shows its file from the start.
    pub(super) fn contains(&self, offset: u64, len: u64) -> bool {
        self.find(offset, len).is_some()
    }

    /// A duplicate of the file that is mapped there, as [`Window::contains`] has it.
    pub(super) fn file(&self, offset: u64, len: u64) -> io::Result<OwnedFd> {
        let file = self.find(offset, len).ok_or(io::ErrorKind::NotFound)?;
        file.try_clone()
    }

    fn find(&self, offset: u64, len: u64) -> Option<Arc<OwnedFd>> {
        let state = self.lock();
        let mapping = state.mappings.get(&offset)?;
        (mapping.len == len && mapping.file_offset == 0).then(|| mapping.file.clone())
    }

    /// All mappings and their offsets, if there was a change since this was last asked.
    pub(super) fn changed(&self) -> Option<Vec<(u64, Mapping)>> {
        let mut state = self.lock();
        std::mem::take(&mut state.changed).then(|| {
            state.mappings.iter().map(|(offset, mapping)| (*offset, mapping.clone())).collect()
        })
    }

    fn map(
        &self,
        request: &VhostUserMMap,
        file: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> Result<(), Refused> {
        let mut state = self.lock();
        let (offset, len) = self.range(&state, request)?;
        let file_offset = request.fd_offset;
        if !file_offset.is_multiple_of(PAGE_SIZE) {
            return Err(Refused::Unaligned);
        }
        let before = state.mappings.range(..offset + len).next_back();
        if before.is_some_and(|(start, mapping)| start + mapping.len > offset) {
            return Err(Refused::Overlap);
        }
        let file = Arc::new(file().map_err(|_| Refused::NoFds)?);
        check(&file, file_offset.checked_add(len).ok_or(Refused::Short)?)?;
        state.mappings.insert(offset, Mapping { len, file_offset, file });
        state.changed = true;
        Ok(())
    }

    fn unmap(&self, request: &VhostUserMMap) -> Result<(), Refused> {
        let mut state = self.lock();
        let (offset, len) = self.range(&state, request)?;
        if state.mappings.get(&offset).is_none_or(|mapping| mapping.len != len) {
            return Err(Refused::NotMapped);
        }
        state.mappings.remove(&offset);
        state.changed = true;
        Ok(())
    }

    /// Offset and length of a request, whose end is in the window.
    fn range(&self, state: &State, request: &VhostUserMMap) -> Result<(u64, u64), Refused> {
        let (offset, len) = (request.shm_offset, request.len);
        if !state.running {
            return Err(Refused::Stopped);
        }
        if request.shmid != SHMID {
            return Err(Refused::Region);
        }
        if len == 0 || !offset.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
            return Err(Refused::Unaligned);
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(Refused::OutOfRange);
        }
        Ok((offset, len))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `file` can be guest memory up to `end`: QEMU maps it shared and writable, whatever the request's flags.
fn check(file: impl AsFd, end: u64) -> Result<(), Refused> {
    let mode = fcntl(file.as_fd(), FcntlArg::F_GETFL).map_err(|_| Refused::NotWritable)?;
    if OFlag::from_bits_retain(mode) & OFlag::O_ACCMODE != OFlag::O_RDWR {
        return Err(Refused::NotWritable);
    }
    // Files that know no seals have none.
    let seals = fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).unwrap_or(0);
    let write = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE;
    if SealFlag::from_bits_retain(seals).intersects(write) {
        return Err(Refused::NotWritable);
    }
    let size = fstat(file).map_or(0, |stat| stat.st_size);
    if u64::try_from(size).is_ok_and(|size| size >= end) { Ok(()) } else { Err(Refused::Short) }
}

impl VhostUserFrontendReqHandler for Window {
    fn shmem_map(&self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        answer("map", request, self.map(request, || duplicate(fd)))
    }

    fn shmem_unmap(&self, request: &VhostUserMMap) -> HandlerResult<u64> {
        answer("unmap", request, self.unmap(request))
    }
}

fn answer(what: &str, request: &VhostUserMMap, result: Result<(), Refused>) -> HandlerResult<u64> {
    let Err(refused) = result else {
        return Ok(0);
    };
    let (offset, len) = (request.shm_offset, request.len);
    tracing::warn!("refused to {what} {len:#x} bytes at {offset:#x} in the window: {refused}");
    Err(refused.errno().into())
}

#[cfg(test)]
mod tests;
