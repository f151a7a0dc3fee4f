//! Makes a file of the application an allocation: it is about to become a wl_shm pool.

#![allow(unsafe_code)]

use crate::lender::{Name, raise};
use crate::list::List;
use crate::maps::{self, Mapped};
use crate::raw::{self, Range, Stat};
use crate::state::{self, FDS, State};
use crate::table::{Fds, Kind, NAME, Piece, Record};
use core::ffi::c_int;
use wlproxy_protocol::lend::{MAX_LENT, MIN_LENT};

/// Most mappings that a file has which is about to become a pool. All clients that were looked at have one.
const MAX_MAPPINGS: usize = 8;

/// Most fds that it has. A second one is libwayland's, when a pool was made of it before.
const MAX_FDS: usize = 16;

/// What there is of a file that can become an allocation.
#[derive(PartialEq)]
struct Found {
    stat: Stat,
    /// Where it is read or written next, in bytes.
    position: u64,
    flags: c_int,
    seals: c_int,
    /// Whole pages, in bytes.
    len: usize,
    mappings: List<Mapped, MAX_MAPPINGS>,
    fds: List<c_int, MAX_FDS>,
}

/// Makes the file of an fd an allocation, if it can be one and the agent lends one. If not, all stays as it is.
pub(crate) fn try_lend(state: &mut State, fd: c_int) {
    if !state::has_candidates() {
        return;
    }
    let Some(found) = look(state, fd) else { return };
    if !state.table.has_room(found.mappings.len()) {
        return;
    }
    // Until all is done: to put it back, should something fail.
    let Ok(file) = raw::fcntl(fd, libc::F_DUPFD_CLOEXEC, crate::lender::HIGH) else { return };
    if Fds::has_room_for(file) {
        FDS.set(file, Kind::Ours);
        if let Some((name, allocation)) = state.lender.borrow(found.stat.size, &FDS) {
            let kept = raise(allocation);
            if !take_place(state, &found, fd, file, (name, kept)) {
                raw::close(kept);
                state.lender.close(name, 0, &FDS);
            }
        } else {
            // It isn't asked for again.
            state.candidates.remove(found.stat.file);
        }
        FDS.set(file, Kind::Other);
    }
    raw::close(file);
}

/// Gives the allocation the file's content, and its place everywhere; unless another thread has done something with the
/// file while the agent was waited for. If it can't be, all is as before.
fn take_place(
    state: &mut State,
    found: &Found,
    fd: c_int,
    file: c_int,
    (name, kept): (Name, c_int),
) -> bool {
    let is_unchanged = raw::fstat(file) == Ok(found.stat);
    if !Fds::has_room_for(kept) || !is_unchanged || !copy(found, file, kept) {
        return false;
    }
    // From here on other threads' calls about it wait for us. What they did before shows.
    let Some(number) = note(state, found, name, kept, crate::fds::name(file)) else { return false };
    let lent = look(state, fd).as_ref() == Some(found) && replace(found, file, kept);
    if lent {
        state.candidates.remove(found.stat.file);
    } else {
        found.fds.iter().for_each(|&fd| FDS.set(fd, Kind::Other));
        FDS.set(kept, Kind::Other);
        state.table.remove(number);
    }
    lent
}

/// Looks whether a file can become an allocation: memory of this process alone, of a suitable size, that nobody maps or
/// has opened but in the way in which an allocation can be.
fn look(state: &State, fd: c_int) -> Option<Found> {
    const UNCHANGING: c_int = libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE;
    let stat = raw::fstat(fd).ok()?;
    if !state.candidates.has(stat.file)
        || stat.has_name
        || !(MIN_LENT..=MAX_LENT).contains(&stat.size)
    {
        return None;
    }
    let flags = raw::fcntl(fd, libc::F_GETFL, 0).ok()?;
    let seals = raw::fcntl(fd, libc::F_GET_SEALS, 0).ok()?;
    let position = raw::lseek(fd, 0, libc::SEEK_CUR).ok()?;
    if flags & libc::O_ACCMODE != libc::O_RDWR || seals & UNCHANGING != 0 {
        return None;
    }
    let len = (stat.size as usize).next_multiple_of(crate::PAGE);
    let (mappings, fds) = (List::new(), List::new());
    let mut found = Found { stat, position, flags, seals, len, mappings, fds };
    let mut suitable = true;
    maps::each(|mapped| {
        if mapped.file == stat.file {
            let whole = mapped.offset == 0 && mapped.range.len == len;
            suitable &= whole && mapped.shared && found.mappings.push(mapped);
        }
        suitable
    })
    .ok()?;
    crate::fds::each(|other| {
        // What is lent is another file, and one that was closed behind our back shows here.
        let is_it = || raw::fstat(other).is_ok_and(|of| of.file == stat.file);
        if suitable && FDS.kind(other) != Kind::Ours && is_it() {
            // One that was opened anew has a mode and an offset of its own.
            let same = raw::is_same_open_file(fd, other) == Ok(true);
            // What is inherited, as by posix_spawn(3), is others'.
            let closes = raw::fcntl(other, libc::F_GETFD, 0)
                .is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0);
            suitable = same && closes && Fds::has_room_for(other) && found.fds.push(other);
        }
    })
    .ok()?;
    (suitable && found.fds.len() > 0).then_some(found)
}

/// Puts the allocation in the place of the file, everywhere. If that can't be, all is as before.
fn replace(found: &Found, file: c_int, allocation: c_int) -> bool {
    for (i, mapped) in found.mappings.iter().enumerate() {
        // SAFETY: it is a mapping of all of the file, and the allocation has the same content. Who draws while a pool is
        // made of it may lose what is drawn in these microseconds; no client does.
        if unsafe { raw::replace(mapped.range, allocation, mapped.protection, 0) }.is_err() {
            for mapped in found.mappings.iter().take(i) {
                // SAFETY: as it was.
                let _ = unsafe { raw::replace(mapped.range, file, mapped.protection, 0) };
            }
            return false;
        }
    }
    for &fd in found.fds.iter() {
        // One that was closed at the last moment, and is something else now, stays that.
        if raw::is_same_open_file(file, fd) == Ok(true) {
            let _ = raw::dup3(allocation, fd, libc::O_CLOEXEC);
        }
    }
    true
}

/// Copies what is in the file. Most are new, and there is nothing. Where it is read or written next stays.
fn copy(found: &Found, file: c_int, allocation: c_int) -> bool {
    let Ok(from) = raw::map(file, found.len, libc::PROT_READ) else { return false };
    let copied = match raw::map(allocation, found.len, libc::PROT_READ | libc::PROT_WRITE) {
        Ok(to) => {
            let copied = copy_data(file, found.stat.size, from, to);
            // SAFETY: it was mapped here, for that.
            unsafe { raw::unmap(to) };
            copied
        }
        Err(_) => false,
    };
    // SAFETY: as above.
    unsafe { raw::unmap(from) };
    // Whether or not it is used any more.
    let _ = raw::lseek(file, found.position, libc::SEEK_SET);
    copied
}

/// Copies the pages of the file that aren't holes, also what is behind its end in the last.
fn copy_data(file: c_int, size: u64, from: Range, to: Range) -> bool {
    let mut at = 0;
    while at < size {
        let data = match raw::lseek(file, at, libc::SEEK_DATA) {
            Ok(data) => data,
            // Nothing but a hole follows.
            Err(libc::ENXIO) => return true,
            Err(_) => return false,
        };
        let Ok(end) = raw::lseek(file, data, libc::SEEK_HOLE) else { return false };
        if end <= at {
            return false;
        }
        let first = data as usize / crate::PAGE * crate::PAGE;
        let last = (end.min(size) as usize).next_multiple_of(crate::PAGE);
        let pages = |of: Range| Range { start: of.start + first, len: last.saturating_sub(first) };
        // SAFETY: both are mapped to the end of the last page that the file has; the allocation is new.
        unsafe { raw::copy_pages(pages(from), pages(to)) };
        at = end;
    }
    true
}

/// Notes what is being made. Returns the number of its record, if there is room.
fn note(
    state: &mut State,
    found: &Found,
    name: Name,
    kept: c_int,
    file_name: [u8; NAME],
) -> Option<usize> {
    let record = Record {
        id: name.id,
        connection: name.connection,
        kept,
        kept_file: raw::fstat(kept).ok()?.file,
        file_size: found.stat.size,
        len: found.len,
        position: found.position,
        flags: found.flags,
        seals: found.seals,
        mode: found.stat.mode,
        name: file_name,
        fds: 0,
        on_the_way: 0,
        sent: 0,
    };
    let number = state.table.add(record)?;
    FDS.set(kept, Kind::Ours);
    for &fd in found.fds.iter() {
        // It may have been one of another allocation, and closed behind our back.
        state.forget(fd);
        state.add_fd(fd, number);
    }
    for mapped in found.mappings.iter() {
        state.table.map(Piece { record: number, range: mapped.range, offset: 0 });
    }
    Some(number)
}
