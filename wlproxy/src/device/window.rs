//! The window: which memory is mapped where.
//!
//! Mapping is expensive and unmapping worse, and memory that came over a context is likely to come over it again. So
//! it stays mapped when no vfd uses it any more, as long as the context lives. All of it is forgotten when the rings
//! stop: the frontend drops its mappings then, and may not be asked to.

use super::frontend::Frontend;
use super::ranges::Ranges;
use crate::counters::Counters;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use wlproxy_protocol::limits::{MAX_ALLOCATION, PAGE_SIZE};
use wlproxy_unix::memory;

/// Most mappings that are kept though nobody uses them. A client's shadows of one size are a handful.
const MAX_IDLE: usize = 32;

/// Most bytes of them: two 4K-sized buffers. Idle memory counts for nobody, so this stays small.
const MAX_IDLE_BYTES: u64 = 64 << 20;

/// Why memory is not in the window.
#[derive(Debug, thiserror::Error)]
pub(super) enum MapError {
    /// Somebody could take its pages away, or it isn't memory.
    #[error("it is not a memfd that is sealed against shrinking")]
    NotSealed,
    /// QEMU refuses it, and a frontend's announcement of it can't be mapped.
    #[error("it can't be written: copy it into an allocation")]
    ReadOnly,
    /// Empty, or more than a driver can be told.
    #[error("its size of {0} bytes is not between 1 and {MAX_ALLOCATION}")]
    Size(u64),
    /// No free range is long enough.
    #[error("the window is full: the VM has too many or too large allocations")]
    Full,
    /// The driver chose where, and not well.
    #[error("the place {0:#x} in the window is not free, or no place")]
    Place(u64),
    /// The frontend said no.
    #[error("the frontend refused to map it: {0}")]
    Refused(#[from] io::Error),
    /// The driver needs guest addresses, and they can't be known.
    #[error("the window's guest address is not known")]
    NoBase,
}

/// One piece of memory: device and inode, and the length that is mapped.
///
/// The length is part of it because memory that is only sealed against shrinking may have grown since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Memory {
    file: (u64, u64),
    length: u64,
}

#[derive(Debug)]
struct Mapping {
    offset: u64,
    users: usize,
    /// The context that it came over last, if that lives: it is kept for its sake.
    kept_for: Option<u32>,
    /// Keeps the inode, by which it is found, from being used again.
    _fd: OwnedFd,
}

/// A use of a mapping. Has to be given back with [`Window::release`].
#[derive(Debug)]
pub(super) struct Lease(Memory);

impl Lease {
    /// Bytes that are mapped, whole pages.
    pub(super) fn length(&self) -> u64 {
        self.0.length
    }
}

/// What a page frame number counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// The start of the window.
    Window,
    /// The start of guest memory; where the window starts is learned from the first mapping.
    Unlearned,
    /// The start of guest memory, and the window starts there.
    Guest(u64),
    /// The start of guest memory, and the frontend didn't tell where the window is.
    Unknown,
}

/// The window in one run of the rings.
pub(super) struct Window {
    /// Name of the VM, for the log.
    vm: String,
    frontend: Box<dyn Frontend>,
    size: u64,
    base: Base,
    free: Ranges,
    mappings: HashMap<Memory, Mapping>,
    /// Those that nobody uses, the longest unused first.
    idle: VecDeque<Memory>,
    /// Where the driver chose, and the length.
    placed: BTreeMap<u64, u64>,
    counters: Arc<Counters>,
}

impl Window {
    /// An empty window of `size` bytes, of the VM called `vm`. `relative`: the driver counts pages from its start, not
    /// from that of guest memory.
    pub(super) fn new(
        vm: &str,
        frontend: Box<dyn Frontend>,
        size: u64,
        relative: bool,
        counters: Arc<Counters>,
    ) -> Self {
        // The first page stays free: some drivers take page frame 0 for no memory.
        let free = Ranges::new(PAGE_SIZE, size);
        let base = if relative { Base::Window } else { Base::Unlearned };
        Self {
            vm: vm.to_owned(),
            frontend,
            size,
            base,
            free,
            mappings: HashMap::new(),
            idle: VecDeque::new(),
            placed: BTreeMap::new(),
            counters,
        }
    }

    /// What stands for "no memory" where a page frame number is due.
    pub(super) fn no_pfn(&self) -> u64 {
        if self.base == Base::Window { self.size / PAGE_SIZE } else { 0 }
    }

    /// Maps the memory behind `fd`, or finds it mapped. Blocks until the guest can see it. It came over `context`, or
    /// was made for this VM.
    pub(super) fn map(
        &mut self,
        fd: BorrowedFd<'_>,
        context: Option<u32>,
    ) -> Result<Lease, MapError> {
        let memory = judge(fd)?;
        if self.base == Base::Unknown {
            return Err(MapError::NoBase);
        }
        if let Some(mapping) = self.mappings.get_mut(&memory) {
            if mapping.users == 0 {
                self.idle.retain(|&idle| idle != memory);
            }
            mapping.users += 1;
            mapping.kept_for = context.or(mapping.kept_for);
        } else {
            self.map_anew(memory, fd, context)?;
        }
        Ok(Lease(memory))
    }

    fn map_anew(
        &mut self,
        memory: Memory,
        fd: BorrowedFd<'_>,
        context: Option<u32>,
    ) -> Result<(), MapError> {
        let kept = fd.try_clone_to_owned()?;
        let offset = loop {
            match self.free.take(memory.length) {
                Some(offset) => break offset,
                None if self.evict() => {}
                None => return Err(MapError::Full),
            }
        };
        if let Err(error) = self.frontend.map(offset, memory.length, fd) {
            self.free.give(offset, memory.length);
            return Err(error.into());
        }
        self.counters.maps.add(1);
        self.counters.window_bytes.add(memory.length);
        self.mappings.insert(memory, Mapping { offset, users: 1, kept_for: context, _fd: kept });
        if self.base == Base::Unlearned {
            self.base = self.frontend.window_base(offset, fd).map_or(Base::Unknown, Base::Guest);
            if self.base == Base::Unknown {
                tracing::warn!(
                    vm = self.vm,
                    "the frontend did not announce a mapping as guest memory, so this driver gets no allocations: \
                     use a driver that acks USE_SHMEM, or give the VM fewer memory regions"
                );
                self.release(Lease(memory));
                return Err(MapError::NoBase);
            }
        }
        Ok(())
    }

    /// Maps the memory behind `fd`, whole, where the driver wants it: it does so with all memory, or with none. Blocks
    /// until the guest can see it.
    pub(super) fn place(&mut self, offset: u64, fd: BorrowedFd<'_>) -> Result<(), MapError> {
        let length = judge(fd)?.length;
        let end = offset.checked_add(length);
        let end = end
            .filter(|&end| end <= self.size && offset.is_multiple_of(PAGE_SIZE))
            .ok_or(MapError::Place(offset))?;
        let before = self.placed.range(..end).next_back();
        if before.is_some_and(|(&start, &length)| start + length > offset) {
            return Err(MapError::Place(offset));
        }
        self.frontend.map(offset, length, fd)?;
        self.counters.maps.add(1);
        self.counters.window_bytes.add(length);
        self.placed.insert(offset, length);
        Ok(())
    }

    /// Undoes what [`Window::place`] did at `offset`.
    pub(super) fn displace(&mut self, offset: u64) {
        let Some(&length) = self.placed.get(&offset) else { return };
        match self.frontend.unmap(offset, length) {
            Ok(()) => {
                self.placed.remove(&offset);
                self.counters.window_bytes.sub(length);
            }
            Err(error) => self.lost(&error),
        }
    }

    /// The page frame where the memory starts, as this driver counts.
    pub(super) fn pfn(&self, lease: &Lease) -> u64 {
        let offset = self.mappings.get(&lease.0).map_or(0, |mapping| mapping.offset);
        match self.base {
            Base::Guest(base) => base.saturating_add(offset) / PAGE_SIZE,
            _ => offset / PAGE_SIZE,
        }
    }

    /// The memory is not used any more, by whoever had this lease.
    pub(super) fn release(&mut self, lease: Lease) {
        let Some(mapping) = self.mappings.get_mut(&lease.0) else { return };
        mapping.users -= 1;
        if mapping.users > 0 {
            return;
        }
        if mapping.kept_for.is_none() {
            return self.unmap(lease.0);
        }
        self.idle.push_back(lease.0);
        while self.idle.len() > MAX_IDLE || self.idle_bytes() > MAX_IDLE_BYTES {
            self.evict();
        }
    }

    /// A context is gone: what came over it isn't kept any more.
    pub(super) fn end_context(&mut self, context: u32) {
        for mapping in
            self.mappings.values_mut().filter(|mapping| mapping.kept_for == Some(context))
        {
            mapping.kept_for = None;
        }
        let is_kept = |memory: &Memory| {
            self.mappings.get(memory).is_some_and(|mapping| mapping.kept_for.is_some())
        };
        let (kept, surplus): (Vec<_>, Vec<_>) = self.idle.drain(..).partition(is_kept);
        self.idle = kept.into();
        surplus.into_iter().for_each(|memory| self.unmap(memory));
    }

    /// Bytes of it.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn idle_bytes(&self) -> u64 {
        self.idle.iter().map(|memory| memory.length).sum()
    }

    /// Unmaps the memory that was unused the longest. `false` if there is none.
    fn evict(&mut self) -> bool {
        let longest = self.idle.pop_front();
        longest.map(|memory| self.unmap(memory)).is_some()
    }

    fn unmap(&mut self, memory: Memory) {
        let Some(mapping) = self.mappings.remove(&memory) else { return };
        self.counters.window_bytes.sub(memory.length);
        match self.frontend.unmap(mapping.offset, memory.length) {
            Ok(()) => self.free.give(mapping.offset, memory.length),
            Err(error) => self.lost(&error),
        }
    }

    fn lost(&self, error: &io::Error) {
        tracing::warn!(
            vm = self.vm,
            "a range of the window is lost until the device is reset: {error}"
        );
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mapped = self.mappings.keys().map(|memory| memory.length);
        self.counters.window_bytes.sub(mapped.chain(self.placed.values().copied()).sum());
    }
}

/// Bytes that are mapped of such memory, whole pages, if it may be.
pub(super) fn length(fd: BorrowedFd<'_>) -> Result<u64, MapError> {
    Ok(judge(fd)?.length)
}

/// Whether memory may be mapped, whoever sent it.
fn judge(fd: BorrowedFd<'_>) -> Result<Memory, MapError> {
    let size = memory::size_if_sealed(fd).ok_or(MapError::NotSealed)?;
    if !is_writable(fd) {
        return Err(MapError::ReadOnly);
    }
    let length = size
        .checked_next_multiple_of(PAGE_SIZE)
        .filter(|length| (1..=MAX_ALLOCATION).contains(length))
        .ok_or(MapError::Size(size))?;
    let stat = fstat(fd.as_fd()).map_err(io::Error::from)?;
    Ok(Memory { file: (stat.st_dev, stat.st_ino), length })
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    let read_only = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE;
    flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
        && seals.is_ok_and(|seals| !seals.intersects(read_only))
}

#[cfg(test)]
pub(super) mod tests;
