//! Mappings: those of allocations are followed, since a file may have to be put in their place.

#![allow(unsafe_code)]

use crate::demote;
use crate::next::next;
use crate::raw::{self, Range, call, fail, sys, to_c};
use crate::state::{FDS, State, state};
use crate::table::{PIECES, Piece};
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
    // SAFETY: as the caller of mmap(3) wants it.
    let map = || unsafe { sys!(libc::SYS_mmap, at, len, protection, flags, fd, offset) };
    let place = (flags & libc::MAP_FIXED != 0).then(|| range(at, len));
    if flags & libc::MAP_ANONYMOUS == 0
        && FDS.knows(fd)
        && let Some(mut state) = state()
    {
        if state.is_ours(fd) {
            return Err(libc::EBADF);
        }
        if let Some(number) = state.lent(fd) {
            let whole = state.table.record(number).map_or(0, |record| record.len);
            let shared =
                matches!(flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
            let all = offset == 0 && range(at, len).len == whole;
            // One for itself, and one if it is mapped in the middle of another.
            let has_room = state.table.free_pieces() > 1;
            if shared && all && has_room && protection & libc::PROT_EXEC == 0 {
                let start = raw::check(map())?;
                place.map(|place| state.table.unmap(place));
                let range = Range { start, len: whole };
                state.table.map(Piece { record: number, range, offset: 0 });
                return Ok(Some(start as *mut c_void));
            }
            demote::demote(&mut state, number)?;
        }
    }
    let Some(place) = place else { return Ok(None) };
    Ok(unmapping(place, map)?.map(|start| start as *mut c_void))
}

/// Makes a system call after which nothing is in this range any more, or something else. `None` if no allocation is
/// there: then it isn't made.
fn unmapping(range: Range, call: impl FnOnce() -> isize) -> raw::Result<Option<usize>> {
    if PIECES.load(Relaxed) == 0 {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    make_room(&mut state, range)?;
    if state.table.piece_in(range).is_none() {
        return Ok(None);
    }
    let result = raw::check(call())?;
    state.table.unmap(range);
    Ok(Some(result))
}

/// Before something is unmapped: if mappings would fall into more pieces than there is room for, what they are of becomes a
/// file first.
fn make_room(state: &mut State, range: Range) -> raw::Result<()> {
    while !state.table.can_unmap(range)
        && let Some(piece) = state.table.piece_in(range)
    {
        demote::demote(state, piece.record)?;
    }
    Ok(())
}

/// Whole pages.
fn range(at: *mut c_void, len: size_t) -> Range {
    let len = len.checked_next_multiple_of(crate::PAGE).unwrap_or(usize::MAX);
    Range { start: at as usize, len }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: size_t) -> c_int {
    // SAFETY: the same call (the caller).
    match unmapping(range(at, len), || unsafe { sys!(libc::SYS_munmap, at, len) }) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::munmap(at, len) },
        Ok(Some(_)) => 0,
        Err(errno) => fail(errno) as c_int,
    }
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
    match moving(at, len, new_len, flags, new) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::mremap(at, len, new_len, flags, new) },
        Ok(Some(start)) => start,
        Err(errno) => fail(errno) as *mut c_void,
    }
}

/// A mapping of an allocation is moved here, if it is in one piece; else it becomes that of a file first.
fn moving(
    at: *mut c_void,
    len: size_t,
    new_len: size_t,
    flags: c_int,
    new: *mut c_void,
) -> raw::Result<Option<*mut c_void>> {
    const MOVES: c_int = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    if PIECES.load(Relaxed) == 0 {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    let place = (flags & libc::MREMAP_FIXED != 0).then(|| range(new, new_len));
    if let Some(place) = place {
        make_room(&mut state, place)?;
    }
    // Without a length, it is mapped once more.
    let from = range(at, len.max(1));
    let is_whole = len > 0 && range(at, new_len).len == from.len && flags & !MOVES == 0;
    let mut moved = None;
    while let Some(piece) = state.table.piece_in(from) {
        if is_whole && piece.range == from {
            moved = Some(piece);
            break;
        }
        demote::demote(&mut state, piece.record)?;
    }
    let covered = place.and_then(|place| state.table.piece_in(place));
    if moved.is_none() && covered.is_none() {
        return Ok(None);
    }
    // SAFETY: as the caller of mremap(3) wants it.
    let start = raw::check(unsafe { sys!(libc::SYS_mremap, at, len, new_len, flags, new) })?;
    place.map(|place| state.table.unmap(place));
    if let Some(piece) = moved {
        state.table.unmap(from);
        state.table.map(Piece { range: Range { start, ..from }, ..piece });
    }
    Ok(Some(start as *mut c_void))
}

pub(super) fn find() {
    next::find();
}
