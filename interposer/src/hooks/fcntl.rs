//! fcntl(2): where libwayland takes a file, and where files are asked for their seals.

#![allow(unsafe_code)]

use super::fd::duplicate;
use crate::caller::is_libwayland;
use crate::demote;
use crate::next::next;
use crate::raw::{self, call, fail, sys, to_c};
use crate::state::{FDS, State, has_candidates, state};
use core::arch::naked_asm;
use core::ffi::{c_int, c_void};

next! {
    fcntl(fd: c_int, operation: c_int, arg: usize) -> c_int =
        to_c(sys!(libc::SYS_fcntl, fd, operation, arg));
    fcntl64(fd: c_int, operation: c_int, arg: usize) -> c_int =
        to_c(sys!(libc::SYS_fcntl, fd, operation, arg));
}

/// The same as [`fcntl_from`], with where the call comes from.
///
/// # Safety
/// As the C library's.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, operation: c_int, arg: usize) -> c_int {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("endbr64", "mov rcx, [rsp]", "jmp {hook}", hook = sym fcntl_from);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("bti c", "mov x3, x30", "b {hook}", hook = sym fcntl_from);
}

/// The same as [`fcntl`].
///
/// # Safety
/// As the C library's.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, operation: c_int, arg: usize) -> c_int {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("endbr64", "mov rcx, [rsp]", "jmp {hook}", hook = sym fcntl64_from);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("bti c", "mov x3, x30", "b {hook}", hook = sym fcntl64_from);
}

/// Without `caller` as the C library's.
///
/// # Safety
/// As that.
unsafe extern "C" fn fcntl_from(
    fd: c_int,
    operation: c_int,
    arg: usize,
    caller: *const c_void,
) -> c_int {
    match before_fcntl(fd, operation, arg, caller) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::fcntl(fd, operation, arg) },
        Ok(Some(result)) => result,
        Err(errno) => fail(errno) as c_int,
    }
}

/// The same.
///
/// # Safety
/// As that.
unsafe extern "C" fn fcntl64_from(
    fd: c_int,
    operation: c_int,
    arg: usize,
    caller: *const c_void,
) -> c_int {
    match before_fcntl(fd, operation, arg, caller) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::fcntl64(fd, operation, arg) },
        Ok(Some(result)) => result,
        Err(errno) => fail(errno) as c_int,
    }
}

fn before_fcntl(
    fd: c_int,
    operation: c_int,
    arg: usize,
    caller: *const c_void,
) -> raw::Result<Option<c_int>> {
    // So libwayland takes a file that a request carries, before it queues the request; and a memfd of some size is carried
    // by wl_shm.create_pool alone.
    if operation == libc::F_DUPFD_CLOEXEC
        && has_candidates()
        && is_libwayland(caller)
        && let Some(mut state) = state()
    {
        crate::lend::try_lend(&mut state, fd);
    }
    if !FDS.knows(fd) {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    if state.is_ours(fd) {
        return Err(libc::EBADF);
    }
    let Some(number) = state.lent(fd) else { return Ok(None) };
    match operation {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            duplicate(&mut state, number, || raw::fcntl(fd, operation, arg as c_int)).map(Some)
        }
        libc::F_GETFD | libc::F_SETFD => Ok(None),
        _ => told(&mut state, number, operation, arg as c_int),
    }
}

/// What a memfd would answer. If that isn't enough, it becomes one.
fn told(
    state: &mut State,
    number: usize,
    operation: c_int,
    arg: c_int,
) -> raw::Result<Option<c_int>> {
    const KEPT: c_int = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    let Some(record) = state.table.record(number) else { return Ok(None) };
    match operation {
        libc::F_GETFL => Ok(Some(record.flags)),
        libc::F_GET_SEALS => Ok(Some(record.seals)),
        libc::F_ADD_SEALS if record.seals & libc::F_SEAL_SEAL != 0 => Err(libc::EPERM),
        // An allocation neither shrinks nor grows, and a file that is to do so has these seals.
        libc::F_ADD_SEALS if arg & !KEPT == 0 => {
            record.seals |= arg;
            Ok(Some(0))
        }
        _ => demote::demote(state, number).map(|()| None),
    }
}

pub(super) fn find() {
    next::find();
}
