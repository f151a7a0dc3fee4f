//! Memory that others can change while we use it: allocations, and the pools of clients.
//!
//! A client may cut its file short at any time, and who then reads the mapping gets a SIGBUS. So whoever reads a
//! [`ClientPool`] is guarded: the signal handler puts zeros where the file was, the reader goes on, and learns about
//! it afterwards.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap, mmap_anonymous, mremap, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use std::ffi::{c_int, c_void};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, compiler_fence};

/// An allocation, mapped whole, for reading and writing. Another VM may see and change it.
#[derive(Debug)]
pub struct Mapping(Area);

impl Mapping {
    /// Maps all `len` bytes of an allocation.
    pub fn new(fd: impl AsFd, len: u64) -> io::Result<Self> {
        Self::at(fd, 0, len)
    }

    /// Maps `len` bytes of a file from `offset` on, where a driver that has several pieces of memory says so.
    pub(crate) fn at(fd: impl AsFd, offset: u64, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new).ok_or(Errno::EINVAL)?;
        Area::new(fd, offset, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).map(Self)
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.len.get()
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If they don't fit.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let to = self.0.at(offset, bytes.len());
        // SAFETY: `at` checked that so many bytes are mapped there; they belong to no Rust object, so not to `bytes`.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Copies `len` bytes out, from `offset` on.
    ///
    /// # Panics
    /// If there aren't so many.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let from = self.0.at(offset, len);
        let mut bytes = Vec::with_capacity(len);
        // SAFETY: `at` checked that so many bytes are mapped there; the vector has room for them, and after the copy
        // they are initialised.
        unsafe {
            from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
            bytes.set_len(len);
        }
        bytes
    }
}

/// The first `len` bytes of an allocation of `size`: mapped whole, copied, unmapped.
///
/// # Panics
/// If there aren't so many.
pub fn read_allocation(fd: impl AsFd, size: u64, len: usize) -> io::Result<Vec<u8>> {
    Ok(Mapping::new(fd, size)?.read(0, len))
}

/// Equally spaced runs of bytes in a [`ClientPool`]: the rows of a rectangle.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Where the first begins.
    pub offset: usize,
    /// Bytes of each.
    pub len: usize,
    /// Bytes from the beginning of one to that of the next, at least `len`.
    pub stride: usize,
    /// How many.
    pub count: usize,
}

impl Rows {
    /// Bytes from the beginning of the first to the end of the last. `None` if there are none, or more than fit.
    fn extent(&self) -> Option<usize> {
        self.stride.checked_mul(self.count.checked_sub(1)?)?.checked_add(self.len)
    }
}

/// A client has cut its file shorter than its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file is shorter than its pool: the client has truncated it")]
pub struct Truncated;

/// A client's wl_shm pool, mapped for reading. It needs no fd.
#[derive(Debug)]
pub struct ClientPool {
    area: Area,
    /// As the client said. An allocation is mapped whole, and may be larger.
    size: NonZeroUsize,
    is_allocation: bool,
    truncated: bool,
}

impl ClientPool {
    /// Maps `size` bytes of a file, which need not be that long yet. `fd` may be closed afterwards.
    ///
    /// Refuses what can't be opened for writing, as compositors do, and huge pages, which can't be guarded in part.
    pub fn new(fd: impl AsFd, size: NonZeroUsize) -> io::Result<Self> {
        install_guard();
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        if flags & OFlag::O_ACCMODE != OFlag::O_RDWR {
            return Err(Errno::EACCES.into());
        }
        if fstatfs(&fd)?.filesystem_type() == HUGETLBFS_MAGIC {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let area = Area::new(fd, 0, size, ProtFlags::PROT_READ)?;
        Ok(Self { area, size, is_allocation: false, truncated: false })
    }

    /// A pool of `size` bytes at the beginning of an allocation of `len`, which is mapped whole.
    pub fn of_allocation(fd: impl AsFd, len: u64, size: NonZeroUsize) -> io::Result<Self> {
        install_guard();
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new);
        let len = len.filter(|&len| size <= len).ok_or(Errno::EINVAL)?;
        let area = Area::new(fd, 0, len, ProtFlags::PROT_READ)?;
        Ok(Self { area, size, is_allocation: true, truncated: false })
    }

    /// Size in bytes, as the client said.
    pub fn size(&self) -> usize {
        self.size.get()
    }

    /// Maps more of the file. Fails without any change if there is no room, or after a [`Truncated`].
    pub fn grow(&mut self, size: NonZeroUsize) -> io::Result<()> {
        if size <= self.area.len {
            self.size = self.size.max(size);
            return Ok(());
        }
        if self.is_allocation {
            return Err(Errno::EINVAL.into());
        }
        let Area { address, len } = self.area;
        // SAFETY: the area is one whole mapping of ours, and nobody keeps a pointer into it between two calls.
        let address =
            unsafe { mremap(address, len.get(), size.get(), MRemapFlags::MREMAP_MAYMOVE, None) }?;
        self.area.address = address;
        self.area.len = size;
        self.size = size;
        Ok(())
    }

    /// Copies `rows` to `offset` of an allocation, with the same stride there.
    ///
    /// After an error some of what was copied is zeros, and all later copies fail as well.
    ///
    /// # Panics
    /// If they don't lie in the pool, or don't fit.
    pub fn copy(&mut self, rows: Rows, to: &mut Mapping, offset: usize) -> Result<(), Truncated> {
        if self.truncated {
            return Err(Truncated);
        }
        // No rows at all are no bytes; rows beyond all numbers are beyond every mapping.
        let extent = if rows.count == 0 { 0 } else { rows.extent().unwrap_or(usize::MAX) };
        let (from, to) = (self.area.at(rows.offset, extent), to.0.at(offset, extent));
        let guard = Guarded::new(&self.area);
        if rows.len == rows.stride {
            // SAFETY: `at` checked both sides; two mappings don't overlap; missing pages are the guard's.
            unsafe { to.copy_from_nonoverlapping(from, extent) }
        } else {
            for row in 0..rows.count {
                let at = row * rows.stride;
                // SAFETY: as above, and each row ends within the extent.
                unsafe { to.add(at).copy_from_nonoverlapping(from.add(at), rows.len) }
            }
        }
        self.truncated = guard.hit();
        if self.truncated { Err(Truncated) } else { Ok(()) }
    }
}

/// A mapping that is unmapped on drop.
#[derive(Debug)]
struct Area {
    address: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: mapped memory belongs to no thread, and only `&mut` and `&` methods that copy touch it.
unsafe impl Send for Area {}

impl Area {
    fn new(
        fd: impl AsFd,
        offset: u64,
        len: NonZeroUsize,
        protection: ProtFlags,
    ) -> io::Result<Self> {
        let offset = offset.try_into().map_err(|_| Errno::EINVAL)?;
        // SAFETY: a new mapping where the kernel finds room changes nothing that exists.
        let address = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Self { address, len })
    }

    /// Where `len` bytes at `offset` are.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len.get()),
            "{len} bytes at {offset} of {}",
            self.len
        );
        // SAFETY: that is within the mapping, or at its end.
        unsafe { self.address.cast::<u8>().as_ptr().add(offset) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the area is one whole mapping of ours, and nobody keeps a pointer into it.
        let unmapped = unsafe { munmap(self.address, self.len.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// What a thread reads under guard. Atomics, because the signal handler runs in the middle of anything.
struct Guard {
    address: AtomicPtr<c_void>,
    /// 0 while nothing is guarded.
    len: AtomicUsize,
    hit: AtomicBool,
}

thread_local! {
    static GUARD: Guard = const {
        Guard { address: AtomicPtr::new(ptr::null_mut()), len: AtomicUsize::new(0), hit: AtomicBool::new(false) }
    };
}

/// While it lives, this thread may read the area whatever becomes of the file.
struct Guarded;

impl Guarded {
    fn new(area: &Area) -> Self {
        GUARD.with(|guard| {
            guard.hit.store(false, Ordering::Relaxed);
            guard.address.store(area.address.as_ptr(), Ordering::Relaxed);
            guard.len.store(area.len.get(), Ordering::Relaxed);
        });
        compiler_fence(Ordering::SeqCst);
        Self
    }

    /// Ends the guard. Whether there were pages missing.
    fn hit(self) -> bool {
        compiler_fence(Ordering::SeqCst);
        GUARD.with(|guard| guard.hit.load(Ordering::Relaxed))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        GUARD.with(|guard| guard.len.store(0, Ordering::Relaxed));
    }
}

/// What was done about SIGBUS before us.
static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

fn install_guard() {
    PREVIOUS.get_or_init(|| {
        let handler = SigHandler::SigAction(on_sigbus);
        let action =
            SigAction::new(handler, SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: the handler only makes system calls and uses atomics. Handlers that others installed before are
        // theirs to answer for, as without us.
        unsafe { sigaction(Signal::SIGBUS, &action) }.expect("SIGBUS can be caught")
    });
}

/// Async-signal-safe: system calls, atomics, and thread-locals that need neither set-up nor destructor.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel hands a valid siginfo to handlers that are installed with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Codes up to 0 come from kill(2) and the like, and have no address.
    let fault = code > 0;
    if !(fault && GUARD.with(|guard| guard.mend(address))) {
        pass_on(fault, signal, info, context);
    }
    Errno::set_raw(errno);
}

impl Guard {
    /// Puts zeros in place of the guarded area if `address` lies in it.
    ///
    /// All of it, not a page: that is one fault however much is missing, and splits no mapping, so that a process at
    /// its limit of mappings survives as well.
    fn mend(&self, address: usize) -> bool {
        let area = NonNull::new(self.address.load(Ordering::Relaxed));
        let len = NonZeroUsize::new(self.len.load(Ordering::Relaxed));
        let (Some(area), Some(len)) = (area, len) else { return false };
        let start = area.addr();
        if !(start.get()..start.get() + len.get()).contains(&address) {
            return false;
        }
        self.hit.store(true, Ordering::Relaxed);
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: this replaces a mapping of ours, of which the thread that is interrupted here reads bytes only.
        if unsafe {
            mmap_anonymous(Some(start), len, ProtFlags::PROT_READ, flags | MapFlags::MAP_FIXED)
        }
        .is_ok()
        {
            return true;
        }
        // One mapping beyond the limit: give back ours first.
        // SAFETY: the same mapping; if something else takes its place meanwhile, MAP_FIXED_NOREPLACE fails.
        unsafe {
            munmap(area, len.get()).is_ok()
                && mmap_anonymous(
                    Some(start),
                    len,
                    ProtFlags::PROT_READ,
                    flags | MapFlags::MAP_FIXED_NOREPLACE,
                )
                .is_ok()
        }
    }
}

/// Does what would have been done without us.
fn pass_on(fault: bool, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    match PREVIOUS.get().map(SigAction::handler) {
        Some(SigHandler::SigAction(handler)) => handler(signal, info, context),
        Some(SigHandler::Handler(handler)) => handler(signal),
        // The kernel doesn't let faults be ignored.
        Some(SigHandler::SigIgn) if !fault => {}
        Some(SigHandler::SigIgn | SigHandler::SigDfl) | None => {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            // SAFETY: no handler at all is always sound. The raised signal comes when this handler returns.
            let _ = unsafe { sigaction(Signal::SIGBUS, &default) };
            let _ = raise(Signal::SIGBUS);
        }
    }
}

#[cfg(test)]
mod tests;
