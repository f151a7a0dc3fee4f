//! Where the files come from that may become allocations: memfds, and shared memory that has a name for a moment, which is
//! how sway's own clients do it.

#![allow(unsafe_code)]

use crate::next::next;
use crate::raw::{self, call, fail, sys, to_c};
use crate::state::state;
use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_long, c_uint};

next! {
    memfd_create(name: *const c_char, flags: c_uint) -> c_int =
        to_c(sys!(libc::SYS_memfd_create, name, flags));
    shm_open(name: *const c_char, flags: c_int, mode: c_uint) -> c_int =
        fail(libc::ENOSYS);
    syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long =
        to_c(call(number, [a, b, c, d, e, f]));
}

/// A file was made: it may become an allocation.
fn made(fd: c_int) {
    if fd >= 0
        && let Ok(stat) = raw::fstat(fd)
        && let Some(mut state) = state()
    {
        state.candidates.add(stat.file);
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memfd_create(name: *const c_char, flags: c_uint) -> c_int {
    // SAFETY: the same call (the caller).
    let fd = unsafe { next::memfd_create(name, flags) };
    // Huge pages can't be mapped in part.
    if flags & libc::MFD_HUGETLB == 0 {
        made(fd);
    }
    fd
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn shm_open(name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    const NEW: c_int = libc::O_CREAT | libc::O_EXCL;
    // It is the only one that no system call can stand for: before this library was initialised, or where the library that
    // has it was loaded later, it is looked for now.
    if next::found::shm_open.address().is_null() {
        next::found::shm_open.find();
    }
    // SAFETY: the same call (the caller).
    let fd = unsafe { next::shm_open(name, flags, mode) };
    if flags & NEW == NEW {
        made(fd);
    }
    fd
}

/// Of all system calls that are made this way, only memfd_create(2) matters: GTK 3 makes it so. All others go straight on,
/// with a stack and registers as they came: some, such as clone(2), would notice.
///
/// # Safety
/// As the C library's.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(number: c_long) -> c_long {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "endbr64",
        "cmp rdi, {memfd_create}",
        "je {ours}",
        "mov rax, [rip + {next}]",
        "test rax, rax",
        "jz {without}",
        "jmp rax",
        memfd_create = const libc::SYS_memfd_create,
        ours = sym memfd_create_by_number,
        next = sym next::found::syscall,
        without = sym syscall_without_next,
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "bti c",
        "cmp x0, {memfd_create}",
        "b.eq {ours}",
        "adrp x16, {next}",
        "ldr x16, [x16, :lo12:{next}]",
        "cbz x16, {without}",
        "br x16",
        memfd_create = const libc::SYS_memfd_create,
        ours = sym memfd_create_by_number,
        next = sym next::found::syscall,
        without = sym syscall_without_next,
    );
}

unsafe extern "C" fn memfd_create_by_number(
    _: c_long,
    name: *const c_char,
    flags: c_uint,
) -> c_long {
    // SAFETY: the same call (the caller).
    c_long::from(unsafe { memfd_create(name, flags) })
}

unsafe extern "C" fn syscall_without_next(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: the same call (the caller).
    unsafe { next::syscall(number, a, b, c, d, e, f) }
}

pub(super) fn find() {
    next::find();
}
