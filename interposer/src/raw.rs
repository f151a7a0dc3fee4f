//! System calls without the C library: what it exports is what we interpose, and would lead back here.
//!
//! A number that is given is an fd of this process, or the call fails; so what takes fds only is safe.

#![allow(unsafe_code)]

use core::arch::asm;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem::MaybeUninit;
use core::ptr;

/// Why a system call failed: an errno.
pub(crate) type Errno = c_int;

/// What a system call returns.
pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// Makes a system call. Returns what the kernel does: from -4095 to -1 it is an errno.
///
/// # Safety
/// As the system call.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(number: c_long, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps all registers but these; what it does to memory is the caller's business.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call. Returns what the kernel does: from -4095 to -1 it is an errno.
///
/// # Safety
/// As the system call.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(number: c_long, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps all registers but x0; what it does to memory is the caller's business.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

/// The result of a system call.
pub(crate) fn check(result: isize) -> Result<usize> {
    match result {
        -4095..0 => Err(-result as Errno),
        result => Ok(result as usize),
    }
}

/// A system call with up to six arguments, each a number or a pointer.
macro_rules! sys {
    ($number:expr $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut all = [0; 6];
        let mut at = 0;
        while at < given.len() {
            all[at] = given[at];
            at += 1;
        }
        call($number, all)
    }};
}
pub(crate) use sys;

/// Memory of this process: mapped whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: usize,
    /// In bytes.
    pub(crate) len: usize,
}

impl Range {
    pub(crate) fn end(self) -> usize {
        self.start.saturating_add(self.len)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

/// Sets the caller's `errno`.
pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: the C library returns the address of this thread's own.
    unsafe { *libc::__errno_location() = errno }
}

/// The caller's `errno`.
pub(crate) fn errno() -> Errno {
    // SAFETY: the C library returns the address of this thread's own.
    unsafe { *libc::__errno_location() }
}

/// What a C function returns for an error: -1, with `errno`.
pub(crate) fn fail(errno: Errno) -> isize {
    set_errno(errno);
    -1
}

/// What a C function returns for this.
pub(crate) fn to_c(result: isize) -> isize {
    check(result).map_or_else(fail, |value| value as isize)
}

pub(crate) fn getpid() -> c_int {
    // SAFETY: it has no arguments and no effect.
    unsafe { sys!(libc::SYS_getpid) as c_int }
}

/// Which file it is, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) file: FileId,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    /// Whether it has a name by which others can open it.
    pub(crate) has_name: bool,
}

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

pub(crate) fn fstat(fd: c_int) -> Result<Stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: on this architecture the C library's stat is the kernel's.
    check(unsafe { sys!(libc::SYS_fstat, fd, stat.as_mut_ptr()) })?;
    // SAFETY: the kernel has filled it in.
    Ok(unsafe { stat.assume_init_ref() }.into())
}

/// Of what is at a path.
pub(crate) fn stat(path: &CStr) -> Result<Stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let (folder, to) = (libc::AT_FDCWD, stat.as_mut_ptr());
    // SAFETY: the path is a string, and the C library's stat is the kernel's.
    check(unsafe { sys!(libc::SYS_newfstatat, folder, path.as_ptr(), to, 0) })?;
    // SAFETY: the kernel has filled it in.
    Ok(unsafe { stat.assume_init_ref() }.into())
}

impl From<&libc::stat> for Stat {
    fn from(stat: &libc::stat) -> Self {
        Self {
            file: FileId { device: stat.st_dev, inode: stat.st_ino },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            links: stat.st_nlink,
            has_name: stat.st_nlink > 0,
        }
    }
}

/// An operation of fcntl(2) that takes a number.
pub(crate) fn fcntl(fd: c_int, operation: c_int, arg: c_int) -> Result<c_int> {
    // SAFETY: with a number instead of a pointer it only changes what the kernel knows of the fd.
    check(unsafe { sys!(libc::SYS_fcntl, fd, operation, arg) }).map(|value| value as c_int)
}

/// The lowest free number, not close-on-exec.
pub(crate) fn dup(fd: c_int) -> Result<c_int> {
    // SAFETY: it takes a number.
    check(unsafe { sys!(libc::SYS_dup, fd) }).map(|fd| fd as c_int)
}

pub(crate) fn dup3(old: c_int, new: c_int, flags: c_int) -> Result<()> {
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_dup3, old, new, flags) }).map(drop)
}

pub(crate) fn close(fd: c_int) {
    // SAFETY: it takes a number.
    unsafe { sys!(libc::SYS_close, fd) };
}

pub(crate) fn close_range(first: u32, last: u32, flags: c_int) -> Result<()> {
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Whether two fds of this process are one open file.
pub(crate) fn is_same_open_file(a: c_int, b: c_int) -> Result<bool> {
    const KCMP_FILE: c_int = 0; // Linux, include/uapi/linux/kcmp.h
    let own = getpid();
    // SAFETY: it takes numbers, and compares.
    check(unsafe { sys!(libc::SYS_kcmp, own, own, KCMP_FILE, a, b) }).map(|order| order == 0)
}

pub(crate) fn memfd_create(name: &CStr, flags: c_uint) -> Result<c_int> {
    // SAFETY: the name is a string.
    check(unsafe { sys!(libc::SYS_memfd_create, name.as_ptr(), flags) }).map(|fd| fd as c_int)
}

pub(crate) fn ftruncate(fd: c_int, size: u64) -> Result<()> {
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_ftruncate, fd, size) }).map(drop)
}

pub(crate) fn fchmod(fd: c_int, mode: u32) -> Result<()> {
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_fchmod, fd, mode) }).map(drop)
}

pub(crate) fn lseek(fd: c_int, offset: u64, whence: c_int) -> Result<u64> {
    // SAFETY: it takes numbers.
    check(unsafe { sys!(libc::SYS_lseek, fd, offset, whence) }).map(|at| at as u64)
}

/// Opens for reading; close-on-exec.
pub(crate) fn open(path: &CStr) -> Result<c_int> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a string.
    let fd = unsafe { sys!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) };
    check(fd).map(|fd| fd as c_int)
}

pub(crate) fn read(fd: c_int, bytes: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes only into the bytes, which are ours.
    check(unsafe { sys!(libc::SYS_read, fd, bytes.as_mut_ptr(), bytes.len()) })
}

/// Entries of a directory, as `struct linux_dirent64`.
pub(crate) fn getdents(fd: c_int, bytes: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes only into the bytes, which are ours.
    check(unsafe { sys!(libc::SYS_getdents64, fd, bytes.as_mut_ptr(), bytes.len()) })
}

/// What a symbolic link says; as much as fits.
pub(crate) fn readlink<'a>(path: &CStr, bytes: &'a mut [u8]) -> Result<&'a [u8]> {
    let (to, len) = (bytes.as_mut_ptr(), bytes.len());
    // SAFETY: the path is a string, and the kernel writes only into the bytes.
    let len = unsafe { sys!(libc::SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), to, len) };
    check(len).map(|len| &bytes[..len.min(bytes.len())])
}

/// Maps an open file, `MAP_SHARED`, where there is room.
pub(crate) fn map(fd: c_int, len: usize, protection: c_int) -> Result<Range> {
    // SAFETY: where there is room nothing is replaced.
    let start = unsafe { sys!(libc::SYS_mmap, 0, len, protection, libc::MAP_SHARED, fd, 0) };
    check(start).map(|start| Range { start, len })
}

/// Maps an open file in place of what is there, `MAP_SHARED`.
///
/// # Safety
/// What is there is memory of a file, and the same bytes are at this offset of the other.
pub(crate) unsafe fn replace(at: Range, fd: c_int, protection: c_int, offset: usize) -> Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: whoever uses this memory finds the same there (the caller).
    check(unsafe { sys!(libc::SYS_mmap, at.start, at.len, protection, flags, fd, offset) })
        .map(drop)
}

/// # Safety
/// It is a mapping of ours, and nobody uses it any more.
pub(crate) unsafe fn unmap(range: Range) {
    // SAFETY: nobody misses it (the caller).
    unsafe { sys!(libc::SYS_munmap, range.start, range.len) };
}

/// Copies whole pages from one mapping to another; one of zeros is left out, so that a file keeps its holes.
///
/// # Safety
/// Both are mapped, `from` for reading and `to` for writing; `to` is new, all zeros, and as long.
pub(crate) unsafe fn copy_pages(from: Range, to: Range) {
    const WORDS: usize = crate::PAGE / size_of::<u64>();
    for at in (0..from.len.min(to.len)).step_by(crate::PAGE) {
        let (source, target) = ((from.start + at) as *const u64, (to.start + at) as *mut u64);
        // Volatile, since other threads and another VM may write there meanwhile.
        // SAFETY: a word of this page, which is mapped.
        let word = |i: usize| unsafe { source.add(i).read_volatile() };
        if (0..WORDS).any(|i| word(i) != 0) {
            // SAFETY: as above.
            (0..WORDS).for_each(|i| unsafe { target.add(i).write_volatile(word(i)) });
        }
    }
}

/// Blocks every signal in this thread. Returns which were blocked before.
pub(crate) fn block_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0_u64);
    let (set, old, size) = (&raw const all, &raw mut before, size_of::<u64>());
    // SAFETY: the kernel's sets have 64 bits; it reads one and writes the other.
    unsafe { sys!(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, old, size) };
    before
}

/// The other way round.
pub(crate) fn restore_signals(before: u64) {
    let (set, size) = (&raw const before, size_of::<u64>());
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the kernel reads a set of 64 bits.
    unsafe { sys!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, set, none, size) };
}

/// Sleeps while a futex has a value, or is woken for no reason.
pub(crate) fn futex_wait(futex: &core::sync::atomic::AtomicU32, value: u32) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel only reads the futex; no deadline.
    unsafe { sys!(libc::SYS_futex, futex.as_ptr(), operation, value, 0) };
}

/// Wakes one who sleeps.
pub(crate) fn futex_wake(futex: &core::sync::atomic::AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel uses the address as a name.
    unsafe { sys!(libc::SYS_futex, futex.as_ptr(), operation, 1) };
}

/// The bytes of a C string, without its end.
///
/// # Safety
/// It is null or a C string that stays as long as the result is used.
pub(crate) unsafe fn c_str<'a>(text: *const c_char) -> &'a [u8] {
    match text.is_null() {
        true => &[],
        // SAFETY: it is a C string (the caller).
        false => unsafe { CStr::from_ptr(text) }.to_bytes(),
    }
}
