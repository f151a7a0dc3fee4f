//! Mappings: those of allocations are followed, since a file may have to be put in their place.

#![allow(unsafe_code)]

use crate::demote;
use crate::next::next;
use crate::raw::{self, Range, call, fail, sys, to_c};
use crate::state::{FDS, state};
use crate::table::{Kind, PIECES, Piece};
use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;
use libc::{off_t, size_t};

next! {
    mmap(at: *mut c_void, len: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off_t) -> *mut c_void =
        to_c(sys!(libc::SYS_mmap, at, len, protection, flags, fd, offset));
    mmap64(at: *mut c_void, len: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off_t) -> *mut c_void =
        to_c(sys!(libc::SYS_mmap, at, len, protection, flags, fd, offset));
    munmap(at: *mut c_void, len: size_t) -> c_int = to_c(sys!(libc::SYS_munmap, at, len));
    mremap(at: *mut c_void, len: size_t, new_len: size_t, flags: c_int, new: *mut c_void) -> *mut c_void =
        to_c(sys!(libc::SYS_mremap, at, len, new_len, flags, new));
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    match before_mapping(at, len, protection, flags, fd, offset) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::mmap(at, len, protection, flags, fd, offset) },
        Ok(Some(mapped)) => mapped,
        Err(errno) => fail(errno) as *mut c_void,
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    match before_mapping(at, len, protection, flags, fd, offset) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::mmap64(at, len, protection, flags, fd, offset) },
        Ok(Some(mapped)) => mapped,
        Err(errno) => fail(errno) as *mut c_void,
    }
}

/// An allocation is mapped here, if it is to be mapped whole; if otherwise, it becomes a file first.
fn before_mapping(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> raw::Result<Option<*mut c_void>> {
    if flags & libc::MAP_FIXED != 0 {
        forget(at, len);
    }
    if flags & libc::MAP_ANONYMOUS != 0 || !FDS.knows(fd) {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    if FDS.kind(fd) == Kind::Ours {
        return Err(libc::EBADF);
    }
    let Some(number) = state.lent(fd) else { return Ok(None) };
    let shared = matches!(flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
    let whole = state.table.record(number).map_or(0, |record| record.len);
    let pages = len.checked_next_multiple_of(crate::PAGE);
    let fits = shared && offset == 0 && pages == Some(whole) && protection & libc::PROT_EXEC == 0;
    if !fits || !state.table.has_room_for_piece() {
        return demote::demote(&mut state, number).map(|()| None);
    }
    // SAFETY: as the caller of mmap(3) wants it.
    let mapped = unsafe { sys!(libc::SYS_mmap, at, len, protection, flags, fd, offset) };
    let start = raw::check(mapped)?;
    state.table.map(Piece { record: number, range: Range { start, len: whole }, offset: 0 });
    Ok(Some(start as *mut c_void))
}

/// What is in this range won't be there any more.
fn forget(at: *mut c_void, len: size_t) {
    let start = at as usize;
    // What the kernel will refuse changes nothing.
    if PIECES.load(Relaxed) == 0 || len == 0 || !start.is_multiple_of(crate::PAGE) {
        return;
    }
    let Some(mut state) = state() else { return };
    let range = Range { start, len: pages(len) };
    while !state.table.unmap(range) {
        // It would fall into more pieces than there is room for.
        let Some(piece) = state.table.pieces().find(|piece| piece.range.overlaps(range)) else {
            return;
        };
        if demote::demote(&mut state, piece.record).is_err() {
            return;
        }
    }
}

fn pages(len: size_t) -> usize {
    len.checked_next_multiple_of(crate::PAGE).unwrap_or(usize::MAX)
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: size_t) -> c_int {
    forget(at, len);
    // SAFETY: the same call (the caller).
    unsafe { next::munmap(at, len) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(
    at: *mut c_void,
    len: size_t,
    new_len: size_t,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    match before_moving(at, len, new_len) {
        Err(errno) => fail(errno) as *mut c_void,
        Ok(moved) => {
            if flags & libc::MREMAP_FIXED != 0 {
                forget(new, new_len);
            }
            // SAFETY: the same call (the caller).
            let result = unsafe { next::mremap(at, len, new_len, flags, new) };
            if let Some(piece) = moved
                && let Some(mut state) = state()
            {
                let start = if result as isize == -1 { at } else { result } as usize;
                let range = Range { start, ..piece.range };
                state.table.map(Piece { range, ..piece });
            }
            result
        }
    }
}

/// A mapping of an allocation may be moved, in one piece; else it becomes that of a file first.
fn before_moving(at: *mut c_void, len: size_t, new_len: size_t) -> raw::Result<Option<Piece>> {
    if PIECES.load(Relaxed) == 0 {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    // Without a length, it is mapped once more.
    let range = Range { start: at as usize, len: pages(len.max(1)) };
    let Some(piece) = state.table.pieces().find(|piece| piece.range.overlaps(range)) else {
        return Ok(None);
    };
    if piece.range == range && pages(new_len) == range.len && len > 0 {
        state.table.unmap(range);
        return Ok(Some(piece));
    }
    demote::demote(&mut state, piece.record).map(|()| None)
}

pub(super) fn find() {
    next::find();
}
