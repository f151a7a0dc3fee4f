//! fds: duplicated, and closed.

#![allow(unsafe_code)]

use crate::demote;
use crate::next::next;
use crate::raw::{self, call, fail, set_errno, sys, to_c};
use crate::state::{FDS, State, state};
use crate::table::{Fds, Kind};
use core::ffi::{c_int, c_uint};

next! {
    dup(fd: c_int) -> c_int = to_c(sys!(libc::SYS_dup, fd));
    dup2(fd: c_int, to: c_int) -> c_int = to_c(match fd == to {
        // aarch64 has no dup2(2).
        true => match sys!(libc::SYS_fcntl, fd, libc::F_GETFD) {
            0.. => fd as isize,
            error => error,
        },
        false => sys!(libc::SYS_dup3, fd, to, 0),
    });
    dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = to_c(sys!(libc::SYS_dup3, fd, to, flags));
    close(fd: c_int) -> c_int = to_c(sys!(libc::SYS_close, fd));
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int =
        to_c(sys!(libc::SYS_close_range, first, last, flags));
}

/// Makes one more fd of an allocation. If its number is too high to be followed, the allocation becomes a file first.
pub(super) fn duplicate(
    state: &mut State,
    number: usize,
    make: impl Fn() -> raw::Result<c_int>,
) -> raw::Result<c_int> {
    let fd = make()?;
    if Fds::has_room_for(fd) {
        state.add_fd(fd, number);
        return Ok(fd);
    }
    raw::close(fd);
    demote::demote(state, number)?;
    make()
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    match before_duplicating(fd) {
        // SAFETY: the same call (the caller).
        Ok(None) => unsafe { next::dup(fd) },
        Ok(Some(duplicate)) => duplicate,
        Err(errno) => fail(errno) as c_int,
    }
}

fn before_duplicating(fd: c_int) -> raw::Result<Option<c_int>> {
    if !FDS.knows(fd) {
        return Ok(None);
    }
    let Some(mut state) = state() else { return Ok(None) };
    if state.is_ours(fd) {
        return Err(libc::EBADF);
    }
    match state.lent(fd) {
        Some(number) => duplicate(&mut state, number, || raw::dup(fd)).map(Some),
        None => Ok(None),
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    match onto(fd, to, 0) {
        // SAFETY: the same call (the caller).
        Ok(false) => unsafe { next::dup2(fd, to) },
        Ok(true) => to,
        Err(errno) => fail(errno) as c_int,
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    match onto(fd, to, flags) {
        // SAFETY: the same call (the caller).
        Ok(false) => unsafe { next::dup3(fd, to, flags) },
        Ok(true) => to,
        Err(errno) => fail(errno) as c_int,
    }
}

/// Duplicates an fd to a number that is given, and notes what becomes of both. `false` if neither is our business.
fn onto(fd: c_int, to: c_int, flags: c_int) -> raw::Result<bool> {
    if fd == to || !FDS.knows(fd) && !FDS.knows(to) {
        return Ok(false);
    }
    let Some(mut state) = state() else { return Ok(false) };
    if state.is_ours(fd) {
        return Err(libc::EBADF);
    }
    let mut number = state.lent(fd);
    state.vacate(to)?;
    if let Some(too_high) = number.take_if(|_| !Fds::has_room_for(to)) {
        demote::demote(&mut state, too_high)?;
    }
    raw::dup3(fd, to, flags)?;
    // If it was one of the same allocation before, it is one still.
    if number.map(Kind::Lent) != Some(FDS.kind(to)) {
        state.forget(to);
        number.into_iter().for_each(|number| state.add_fd(to, number));
    }
    Ok(true)
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if FDS.knows(fd)
        && let Some(mut state) = state()
    {
        if state.is_ours(fd) {
            // It isn't there, as far as the application knows.
            return fail(libc::EBADF) as c_int;
        }
        state.forget(fd);
    }
    // SAFETY: the same call (the caller).
    unsafe { next::close(fd) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    match close_others(first, last, flags) {
        // SAFETY: the same call (the caller).
        Ok(false) => unsafe { next::close_range(first, last, flags) },
        Ok(true) => 0,
        Err(errno) => fail(errno) as c_int,
    }
}

/// Closes all in a range but what is ours. `false` if nothing in it is our business.
fn close_others(first: c_uint, last: c_uint, flags: c_int) -> raw::Result<bool> {
    let closes = flags.cast_unsigned() & libc::CLOSE_RANGE_CLOEXEC == 0;
    if !closes || first > last || FDS.known(first, last).next().is_none() {
        return Ok(false);
    }
    let Some(mut state) = state() else { return Ok(false) };
    let mut from = first;
    for ours in FDS.known(first, last).filter(|&fd| state.is_ours(fd)) {
        let ours = ours.unsigned_abs();
        if ours > from {
            raw::close_range(from, ours - 1, flags)?;
        }
        from = ours + 1;
    }
    if from <= last {
        raw::close_range(from, last, flags)?;
    }
    FDS.known(first, last).for_each(|fd| state.forget(fd));
    Ok(true)
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn closefrom(first: c_int) {
    let first = first.max(0);
    let errno = raw::errno();
    // SAFETY: the same, as far as the kernel can (the caller).
    if unsafe { close_range(first.cast_unsigned(), c_uint::MAX, 0) } != 0 {
        // A kernel before 5.9 can't, or a sandbox doesn't let it. One that doesn't show the fds closes none.
        let _ = crate::fds::each(|fd| {
            if fd >= first {
                // SAFETY: as above.
                unsafe { close(fd) };
            }
        });
    }
    set_errno(errno);
}

pub(super) fn find() {
    next::find();
}
