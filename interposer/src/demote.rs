//! Makes an allocation a file of the application again: it wants something that only works with a file.

#![allow(unsafe_code)]

use crate::lender::raise;
use crate::list::List;
use crate::maps::{self, Mapped};
use crate::raw::{self, Range, Result};
use crate::state::{FDS, State};
use crate::table::{Fds, Kind, Piece, Record};
use core::ffi::{CStr, c_int};
use wlproxy_protocol::lend::Parting;

/// Most mappings of one allocation, by protection and piece.
const MAX_MAPPINGS: usize = 32;

/// `MFD_NOEXEC_SEAL`, and the seal that it adds (Linux 6.3).
const MFD_NOEXEC_SEAL: u32 = 8;
const F_SEAL_EXEC: c_int = 0x20;

/// A mapping of the allocation, and where that is in the file.
#[derive(Clone, Copy)]
struct Part {
    mapped: Mapped,
    offset: usize,
}

/// Puts a memfd of the same name, content, mode and seals in the place of an allocation, everywhere, and tells the agent.
/// If that can't be, all is as before.
///
/// A thread that draws meanwhile may lose what it draws. No client draws while it sizes or reads its pool's file.
pub(crate) fn demote(state: &mut State, number: usize) -> Result<()> {
    let Some(&mut record) = state.table.record(number) else { return Ok(()) };
    let file = raise(create(&record)?);
    let done = fill(&record, file).and_then(|from| {
        let replaced = remap(state, number, &record, from, file);
        // SAFETY: `fill` mapped it for this.
        unsafe { raw::unmap(from) };
        replaced
    });
    if let Err(errno) = done {
        raw::close(file);
        return Err(errno);
    }
    // Now nothing can fail. Seals come last, or nothing could be mapped and written.
    let _ = raw::fcntl(file, libc::F_ADD_SEALS, record.seals);
    for fd in FDS.known(0, u32::MAX) {
        if FDS.kind(fd) != Kind::Lent(number) {
            continue;
        }
        FDS.set(fd, Kind::Other);
        let closing = raw::fcntl(fd, libc::F_GETFD, 0);
        // One that was closed behind our back, and is something else now, stays that.
        if let (Ok(true), Ok(flags)) = (raw::is_same_open_file(record.kept, fd), closing) {
            let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
            let _ = raw::dup3(file, fd, cloexec);
        }
    }
    state.table.remove(number);
    // What the application has sent to itself may yet be sent to the agent, as it is.
    let sent = record.sent.saturating_add(record.on_the_way);
    state.lender.demote(Parting { id: record.id, sent }, record.kept, file, &FDS);
    state.drop_kept(&record);
    raw::close(file);
    Ok(())
}

/// A memfd like the one that there was, empty.
fn create(record: &Record) -> Result<c_int> {
    let name = CStr::from_bytes_until_nul(&record.name).unwrap_or_default();
    let sealed = if record.seals & F_SEAL_EXEC != 0 { MFD_NOEXEC_SEAL } else { 0 };
    let file = raw::memfd_create(name, libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | sealed)?;
    let prepared = raw::fstat(file).and_then(|stat| {
        let mode = record.mode & 0o7777;
        if stat.mode & 0o7777 != mode {
            raw::fchmod(file, mode)?;
        }
        // Such as O_APPEND; what can't be set is left out.
        raw::fcntl(file, libc::F_SETFL, record.flags)?;
        raw::ftruncate(file, record.file_size)?;
        raw::lseek(file, record.position, libc::SEEK_SET)
    });
    match prepared {
        Ok(_) => Ok(file),
        Err(errno) => {
            raw::close(file);
            Err(errno)
        }
    }
}

/// Copies the content. Returns where the allocation is mapped for that.
fn fill(record: &Record, file: c_int) -> Result<Range> {
    let from = raw::map(record.kept, record.len, libc::PROT_READ)?;
    match raw::map(file, record.len, libc::PROT_READ | libc::PROT_WRITE) {
        Ok(to) => {
            // SAFETY: both were mapped here; the file is new.
            unsafe {
                raw::copy_pages(from, to);
                raw::unmap(to);
            }
            Ok(from)
        }
        Err(errno) => {
            // SAFETY: it was mapped here, and nobody has seen it.
            unsafe { raw::unmap(from) };
            Err(errno)
        }
    }
}

/// Maps the file wherever the allocation is mapped, but for `own`.
fn remap(state: &State, number: usize, record: &Record, own: Range, file: c_int) -> Result<()> {
    let parts = find(state, number, own)?;
    for (i, part) in parts.iter().enumerate() {
        let Mapped { range, protection, .. } = part.mapped;
        // SAFETY: it is a mapping of the allocation, and the file has the same content.
        if let Err(errno) = unsafe { raw::replace(range, file, protection, part.offset) } {
            for part in parts.iter().take(i) {
                let Mapped { range, protection, .. } = part.mapped;
                // SAFETY: as it was.
                let _ = unsafe { raw::replace(range, record.kept, protection, part.offset) };
            }
            return Err(errno);
        }
    }
    Ok(())
}

/// The mappings that the kernel has of the allocation, as far as we know of them. It is known by `own`, and where that is
/// mapped; but in a VM all allocations may seem to be one file. What we don't know of, it knows better than we.
fn find(state: &State, number: usize, own: Range) -> Result<List<Part, MAX_MAPPINGS>> {
    let mut file = None;
    maps::each(|mapped| {
        file = (mapped.range.start == own.start).then_some(mapped.file);
        file.is_none()
    })?;
    let (mut parts, mut all) = (List::new(), true);
    maps::each(|mapped| {
        let is_it = Some(mapped.file) == file && mapped.shared && !own.contains(mapped.range);
        let in_it = |piece: &Piece| piece.record == number && piece.range.contains(mapped.range);
        if is_it && let Some(piece) = state.table.pieces().find(in_it) {
            let offset = piece.offset + (mapped.range.start - piece.range.start);
            all &= parts.push(Part { mapped, offset });
        }
        all
    })?;
    if all { Ok(parts) } else { Err(libc::ENOMEM) }
}

/// Before the application does something with an fd that an allocation can't: then it is a file of the application's
/// again. Fails as that would, if there is no memory or fd for it.
pub(crate) fn before(fd: c_int) -> Result<()> {
    if !FDS.knows(fd) || !Fds::has_room_for(fd) {
        return Ok(());
    }
    let Some(mut state) = crate::state::state() else { return Ok(()) };
    if state.is_ours(fd) {
        // It can't know of this one.
        return Err(libc::EBADF);
    }
    match state.lent(fd) {
        Some(number) => demote(&mut state, number),
        None => Ok(()),
    }
}
