//! What only works with a file. If it is an allocation, the application gets a file of its own first.

#![allow(unsafe_code)]

use crate::demote::before;
use crate::fds;
use crate::next::next;
use crate::raw::{self, c_str, call, fail, sys, to_c};
use crate::state::{has_candidates, has_records, state};
use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use libc::{c_ulong, iovec, off_t, size_t, ssize_t, stat, timespec};

/// Functions that take an fd first, and return -1 with `errno` for an error.
macro_rules! hooks {
    ($($name:ident(fd: c_int $(, $arg:ident: $type:ty)*) -> $result:ty = $number:expr;)*) => {
        next! { $($name(fd: c_int $(, $arg: $type)*) -> $result = to_c(sys!($number, fd $(, $arg)*));)* }
        $(
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(fd: c_int $(, $arg: $type)*) -> $result {
                match before(fd) {
                    // SAFETY: the same call (the caller).
                    Ok(()) => unsafe { next::$name(fd $(, $arg)*) },
                    Err(errno) => fail(errno) as $result,
                }
            }
        )*
    };
}

hooks! {
    read(fd: c_int, to: *mut c_void, len: size_t) -> ssize_t = libc::SYS_read;
    write(fd: c_int, from: *const c_void, len: size_t) -> ssize_t = libc::SYS_write;
    readv(fd: c_int, to: *const iovec, count: c_int) -> ssize_t = libc::SYS_readv;
    writev(fd: c_int, from: *const iovec, count: c_int) -> ssize_t = libc::SYS_writev;
    pread(fd: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t = libc::SYS_pread64;
    pread64(fd: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t = libc::SYS_pread64;
    pwrite(fd: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t = libc::SYS_pwrite64;
    pwrite64(fd: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t = libc::SYS_pwrite64;
    preadv(fd: c_int, to: *const iovec, count: c_int, at: off_t) -> ssize_t = libc::SYS_preadv;
    preadv64(fd: c_int, to: *const iovec, count: c_int, at: off_t) -> ssize_t = libc::SYS_preadv;
    pwritev(fd: c_int, from: *const iovec, count: c_int, at: off_t) -> ssize_t = libc::SYS_pwritev;
    pwritev64(fd: c_int, from: *const iovec, count: c_int, at: off_t) -> ssize_t = libc::SYS_pwritev;
    lseek(fd: c_int, at: off_t, whence: c_int) -> off_t = libc::SYS_lseek;
    lseek64(fd: c_int, at: off_t, whence: c_int) -> off_t = libc::SYS_lseek;
    ftruncate(fd: c_int, size: off_t) -> c_int = libc::SYS_ftruncate;
    ftruncate64(fd: c_int, size: off_t) -> c_int = libc::SYS_ftruncate;
    fstat(fd: c_int, to: *mut stat) -> c_int = libc::SYS_fstat;
    fstat64(fd: c_int, to: *mut stat) -> c_int = libc::SYS_fstat;
    fchmod(fd: c_int, mode: c_uint) -> c_int = libc::SYS_fchmod;
    fsync(fd: c_int) -> c_int = libc::SYS_fsync;
    fdatasync(fd: c_int) -> c_int = libc::SYS_fdatasync;
    flock(fd: c_int, operation: c_int) -> c_int = libc::SYS_flock;
    ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int = libc::SYS_ioctl;
}

mod more {
    use super::*;

    next! {
        __fxstat(version: c_int, fd: c_int, to: *mut stat) -> c_int =
            to_c(if version < 0 { -1 } else { sys!(libc::SYS_fstat, fd, to) });
        __fxstat64(version: c_int, fd: c_int, to: *mut stat) -> c_int =
            to_c(if version < 0 { -1 } else { sys!(libc::SYS_fstat, fd, to) });
        fstatat(fd: c_int, path: *const c_char, to: *mut stat, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_newfstatat, fd, path, to, flags));
        fstatat64(fd: c_int, path: *const c_char, to: *mut stat, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_newfstatat, fd, path, to, flags));
        statx(fd: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int =
            to_c(sys!(libc::SYS_statx, fd, path, flags, mask, to));
        fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
            to_c(sys!(libc::SYS_fallocate, fd, mode, at, len));
        fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
            to_c(sys!(libc::SYS_fallocate, fd, mode, at, len));
        posix_fallocate(fd: c_int, at: off_t, len: off_t) -> c_int =
            raw::check(sys!(libc::SYS_fallocate, fd, 0, at, len)).map_or_else(|errno| errno, |_| 0);
        posix_fallocate64(fd: c_int, at: off_t, len: off_t) -> c_int =
            raw::check(sys!(libc::SYS_fallocate, fd, 0, at, len)).map_or_else(|errno| errno, |_| 0);
        sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t =
            to_c(sys!(libc::SYS_sendfile, to, from, at, len));
        sendfile64(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t =
            to_c(sys!(libc::SYS_sendfile, to, from, at, len));
        copy_file_range(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t, flags: c_uint) -> ssize_t =
            to_c(sys!(libc::SYS_copy_file_range, from, at, to, there, len, flags));
        splice(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t, flags: c_uint) -> ssize_t =
            to_c(sys!(libc::SYS_splice, from, at, to, there, len, flags));
        open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
            to_c(sys!(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode));
        open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
            to_c(sys!(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode));
        openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
            to_c(sys!(libc::SYS_openat, folder, path, flags, mode));
        openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
            to_c(sys!(libc::SYS_openat, folder, path, flags, mode));
        __open_2(path: *const c_char, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0));
        __open64_2(path: *const c_char, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0));
        __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_openat, folder, path, flags, 0));
        __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int =
            to_c(sys!(libc::SYS_openat, folder, path, flags, 0));
        __read_chk(fd: c_int, to: *mut c_void, len: size_t, room: size_t) -> ssize_t =
            to_c(sys!(libc::SYS_read, fd, to, len.min(room)));
        __pread_chk(fd: c_int, to: *mut c_void, len: size_t, at: off_t, room: size_t) -> ssize_t =
            to_c(sys!(libc::SYS_pread64, fd, to, len.min(room), at));
        __pread64_chk(fd: c_int, to: *mut c_void, len: size_t, at: off_t, room: size_t) -> ssize_t =
            to_c(sys!(libc::SYS_pread64, fd, to, len.min(room), at));
        // The kernel takes the offset in two halves, of which this architecture's first is all.
        preadv2(fd: c_int, to: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
            to_c(sys!(libc::SYS_preadv2, fd, to, count, at, 0, flags));
        preadv64v2(fd: c_int, to: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
            to_c(sys!(libc::SYS_preadv2, fd, to, count, at, 0, flags));
        pwritev2(fd: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
            to_c(sys!(libc::SYS_pwritev2, fd, from, count, at, 0, flags));
        pwritev64v2(fd: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
            to_c(sys!(libc::SYS_pwritev2, fd, from, count, at, 0, flags));
        futimens(fd: c_int, times: *const timespec) -> c_int =
            to_c(sys!(libc::SYS_utimensat, fd, 0, times, 0));
    }

    pub(super) fn find() {
        next::find();
    }

    /// Functions that name an fd or two somewhere.
    macro_rules! hooks {
        ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty, $before:expr, $failed:expr;)*) => {$(
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $result {
                match $before {
                    // SAFETY: the same call (the caller).
                    Ok(()) => unsafe { next::$name($($arg),*) },
                    Err(errno) => $failed(errno) as $result,
                }
            }
        )*};
    }

    hooks! {
        __fxstat(version: c_int, fd: c_int, to: *mut stat) -> c_int, before(fd), fail;
        __fxstat64(version: c_int, fd: c_int, to: *mut stat) -> c_int, before(fd), fail;
        fstatat(fd: c_int, path: *const c_char, to: *mut stat, flags: c_int) -> c_int, before(fd), fail;
        fstatat64(fd: c_int, path: *const c_char, to: *mut stat, flags: c_int) -> c_int, before(fd), fail;
        statx(fd: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int, before(fd), fail;
        fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int, before_allocating(fd, mode, at, len), fail;
        fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int, before_allocating(fd, mode, at, len), fail;
        posix_fallocate(fd: c_int, at: off_t, len: off_t) -> c_int, before(fd), |errno| errno;
        posix_fallocate64(fd: c_int, at: off_t, len: off_t) -> c_int, before(fd), |errno| errno;
        sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t, before(to).and(before(from)), fail;
        sendfile64(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t, before(to).and(before(from)), fail;
        copy_file_range(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t, flags: c_uint) -> ssize_t,
            before(from).and(before(to)), fail;
        splice(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t, flags: c_uint) -> ssize_t,
            before(from).and(before(to)), fail;
        open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int, before_opening(path), fail;
        open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int, before_opening(path), fail;
        openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int, before_opening(path), fail;
        openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int, before_opening(path), fail;
        // As programs call them that are built with _FORTIFY_SOURCE.
        __open_2(path: *const c_char, flags: c_int) -> c_int, before_opening(path), fail;
        __open64_2(path: *const c_char, flags: c_int) -> c_int, before_opening(path), fail;
        __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, before_opening(path), fail;
        __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, before_opening(path), fail;
        __read_chk(fd: c_int, to: *mut c_void, len: size_t, room: size_t) -> ssize_t, before(fd), fail;
        __pread_chk(fd: c_int, to: *mut c_void, len: size_t, at: off_t, room: size_t) -> ssize_t, before(fd), fail;
        __pread64_chk(fd: c_int, to: *mut c_void, len: size_t, at: off_t, room: size_t) -> ssize_t, before(fd), fail;
        preadv2(fd: c_int, to: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t, before(fd), fail;
        preadv64v2(fd: c_int, to: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t, before(fd), fail;
        pwritev2(fd: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t, before(fd), fail;
        pwritev64v2(fd: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t, before(fd), fail;
        futimens(fd: c_int, times: *const timespec) -> c_int, before(fd), fail;
    }
}

/// foot asks whether holes can be punched, by one of a byte at the beginning of its first pool. In what may become an
/// allocation they can't: then foot makes pools of the size of its window, rather than one of 512 MiB. Who really punches
/// holes, such as QEMU in the memory of its guest, keeps a file.
fn before_allocating(fd: c_int, mode: c_int, at: off_t, len: off_t) -> raw::Result<()> {
    const PUNCHES: c_int = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    if mode == PUNCHES
        && has_candidates()
        && let Ok(stat) = raw::fstat(fd)
        && let Some(mut state) = state()
        && state.candidates.has(stat.file)
    {
        if (at, len) == (0, 1) {
            return Err(libc::EOPNOTSUPP);
        }
        state.candidates.remove(stat.file);
    }
    before(fd)
}

/// Opening a file anew by its fd, as in `/proc/self/fd/7`.
fn before_opening(path: *const c_char) -> raw::Result<()> {
    if !has_records() || path.is_null() {
        return Ok(());
    }
    // SAFETY: the caller of open(3) passes a string, or null.
    let path = unsafe { c_str(path) };
    let rest = path.strip_prefix(b"/proc/").and_then(|path| {
        let slash = path.iter().position(|&byte| byte == b'/')?;
        path.get(slash..)?.strip_prefix(b"/fd/")
    });
    let rest = rest.or(path.strip_prefix(b"/dev/fd/"));
    rest.and_then(fds::number).map_or(Ok(()), before)
}

pub(super) fn find() {
    next::find();
    more::find();
}

const _: () = assert!(size_of::<c_long>() == size_of::<off_t>());
