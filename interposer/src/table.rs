//! What this process has borrowed: which of its fds and mappings are allocations.

use crate::raw::{FileId, Range};
use core::ffi::c_int;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// fds that can be allocations: 0 to one less. A process that has more keeps files of its own.
pub(crate) const MAX_FD: usize = 65_536;

/// Most allocations of which fds are open at a time. Toolkits close theirs at once; a terminal keeps one per window.
pub(crate) const MAX_RECORDS: usize = 64;

/// Most mappings, or pieces of them, that are followed at a time.
pub(crate) const MAX_PIECES: usize = 128;

/// Longest name of a memfd (memfd_create(2)), and a zero.
pub(crate) const NAME: usize = 250;

/// Stands in [`Fds`] for fds that are ours, and none of the application's.
const OURS: u8 = u8::MAX;
const _: () = assert!(MAX_RECORDS < OURS as usize);

/// What each fd is. Whoever looks without the lock gets a hint: it is right for an fd that the thread may use.
pub(crate) struct Fds {
    kinds: [AtomicU8; MAX_FD],
    /// Behind the highest one that ever was any of our business: fork(2) looks at all of them.
    end: AtomicUsize,
}

/// What an fd is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None of our business.
    Other,
    /// An allocation: the number of its record.
    Lent(usize),
    /// One of ours: the application doesn't know that it is there.
    Ours,
}

impl Fds {
    pub(crate) const fn new() -> Self {
        Self { kinds: [const { AtomicU8::new(0) }; MAX_FD], end: AtomicUsize::new(0) }
    }

    fn at(&self, fd: c_int) -> Option<&AtomicU8> {
        self.kinds.get(usize::try_from(fd).ok()?)
    }

    /// Whether it is any of our business.
    pub(crate) fn knows(&self, fd: c_int) -> bool {
        self.at(fd).is_some_and(|kind| kind.load(Relaxed) != 0)
    }

    pub(crate) fn kind(&self, fd: c_int) -> Kind {
        match self.at(fd).map_or(0, |kind| kind.load(Relaxed)) {
            0 => Kind::Other,
            OURS => Kind::Ours,
            number => Kind::Lent(number as usize - 1),
        }
    }

    pub(crate) fn set(&self, fd: c_int, kind: Kind) {
        let number = match kind {
            Kind::Other => 0,
            Kind::Ours => OURS,
            // Below MAX_RECORDS, which is less.
            Kind::Lent(record) => record as u8 + 1,
        };
        if let Some(at) = self.at(fd) {
            if number != 0 {
                self.end.fetch_max(fd as usize + 1, Relaxed);
            }
            at.store(number, Relaxed);
        }
    }

    /// Whether an fd can stand here.
    pub(crate) fn has_room_for(fd: c_int) -> bool {
        usize::try_from(fd).is_ok_and(|fd| fd < MAX_FD)
    }

    /// fds from `first` to `last` that are any of our business.
    pub(crate) fn known(&self, first: u32, last: u32) -> impl Iterator<Item = c_int> {
        let end = (last as usize).saturating_add(1).min(self.end.load(Relaxed));
        let known =
            move |&fd: &usize| self.kinds.get(fd).is_some_and(|kind| kind.load(Relaxed) != 0);
        (first as usize..end).filter(known).map(|fd| fd as c_int)
    }
}

/// An allocation of which the application has fds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// The agent's number of it, and of which connection.
    pub(crate) id: u32,
    pub(crate) connection: u32,
    /// An fd of ours, and which file that is: it may be closed behind our back.
    pub(crate) kept: c_int,
    pub(crate) kept_file: FileId,
    /// Size of the file that it stands for, in bytes.
    pub(crate) file_size: u64,
    /// That of all of it, in bytes.
    pub(crate) len: usize,
    /// Where the file is read or written next, in bytes.
    pub(crate) position: u64,
    /// What `F_GETFL` and `F_GET_SEALS` tell.
    pub(crate) flags: c_int,
    pub(crate) seals: c_int,
    pub(crate) mode: u32,
    /// The memfd's, with a zero at its end.
    pub(crate) name: [u8; NAME],
    /// How many fds the application has.
    pub(crate) fds: u32,
    /// How many it has sent to itself, and not received yet.
    pub(crate) on_the_way: u32,
    /// How often one of them was sent over a Wayland socket.
    pub(crate) sent: u32,
}

/// A mapping of an allocation, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) record: usize,
    pub(crate) range: Range,
    /// Where it begins in the allocation, in bytes.
    pub(crate) offset: usize,
}

/// Records and pieces. Nothing here does anything to fds or memory.
pub(crate) struct Table {
    records: [Option<Record>; MAX_RECORDS],
    pieces: [Option<Piece>; MAX_PIECES],
}

/// How many pieces there are: as long as none is, nobody has to look for one.
pub(crate) static PIECES: AtomicUsize = AtomicUsize::new(0);

/// How many records there are.
pub(crate) static RECORDS: AtomicUsize = AtomicUsize::new(0);

impl Table {
    pub(crate) const fn new() -> Self {
        Self { records: [None; MAX_RECORDS], pieces: [None; MAX_PIECES] }
    }

    /// Keeps a record, if there is room. Returns its number.
    pub(crate) fn add(&mut self, record: Record) -> Option<usize> {
        let (number, free) = self.records.iter_mut().enumerate().find(|(_, at)| at.is_none())?;
        *free = Some(record);
        RECORDS.fetch_add(1, Relaxed);
        Some(number)
    }

    pub(crate) fn record(&mut self, number: usize) -> Option<&mut Record> {
        self.records.get_mut(number)?.as_mut()
    }

    pub(crate) fn records(&mut self) -> impl Iterator<Item = (usize, &mut Record)> {
        let all = self.records.iter_mut().enumerate();
        all.filter_map(|(number, record)| Some((number, record.as_mut()?)))
    }

    /// Whether there is room for one more with so many mappings.
    pub(crate) fn has_room(&self, pieces: usize) -> bool {
        self.records.iter().any(Option::is_none) && self.free_pieces() >= pieces
    }

    /// Forgets a record, and its mappings.
    pub(crate) fn remove(&mut self, number: usize) -> Option<Record> {
        let record = self.records.get_mut(number)?.take()?;
        RECORDS.fetch_sub(1, Relaxed);
        for at in &mut self.pieces {
            if at.is_some_and(|piece| piece.record == number) {
                *at = None;
                PIECES.fetch_sub(1, Relaxed);
            }
        }
        Some(record)
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.records = [None; MAX_RECORDS];
        self.pieces = [None; MAX_PIECES];
        RECORDS.store(0, Relaxed);
        PIECES.store(0, Relaxed);
    }

    /// Notes a mapping. `false` if there is no room.
    pub(crate) fn map(&mut self, piece: Piece) -> bool {
        let free = self.pieces.iter_mut().find(|at| at.is_none());
        if let Some(free) = free {
            *free = Some(piece);
            PIECES.fetch_add(1, Relaxed);
            return true;
        }
        false
    }

    /// How many more mappings, or pieces of them, can be noted.
    pub(crate) fn free_pieces(&self) -> usize {
        self.pieces.iter().filter(|at| at.is_none()).count()
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.pieces.iter().flatten().copied()
    }

    /// One that lies in this range, in part at least.
    pub(crate) fn piece_in(&self, range: Range) -> Option<Piece> {
        self.pieces().find(|piece| piece.range.overlaps(range))
    }

    /// Whether there is room for the pieces that are left if this range is unmapped.
    pub(crate) fn can_unmap(&self, range: Range) -> bool {
        let inside = |piece: &Piece| {
            let Range { start, .. } = piece.range;
            start < range.start && range.end() < piece.range.end()
        };
        self.free_pieces() > 0 || !self.pieces().any(|piece| inside(&piece))
    }

    /// What lies in this range is unmapped, or something else is mapped there. `false`, and nothing is done, if a mapping
    /// would fall into more pieces than there is room for.
    pub(crate) fn unmap(&mut self, range: Range) -> bool {
        if !self.can_unmap(range) {
            return false;
        }
        for i in 0..MAX_PIECES {
            let Some(piece) = self.pieces[i].filter(|piece| piece.range.overlaps(range)) else {
                continue;
            };
            self.pieces[i] = None;
            PIECES.fetch_sub(1, Relaxed);
            let part = |from: usize, to: usize| Piece {
                range: Range { start: from, len: to - from },
                offset: piece.offset + (from - piece.range.start),
                ..piece
            };
            if piece.range.start < range.start {
                self.map(part(piece.range.start, range.start));
            }
            if range.end() < piece.range.end() {
                self.map(part(range.end(), piece.range.end()));
            }
        }
        true
    }
}

/// Files of this process that may become allocations: memfds that it has made and that nobody else has got. Most live
/// for microseconds until they are a pool; the oldest are forgotten.
pub(crate) struct Candidates {
    files: [Option<FileId>; MAX_CANDIDATES],
    next: usize,
}

/// How many there may be at a time.
const MAX_CANDIDATES: usize = 32;

/// How many there are.
pub(crate) static CANDIDATES: AtomicUsize = AtomicUsize::new(0);

impl Candidates {
    pub(crate) const fn new() -> Self {
        Self { files: [None; MAX_CANDIDATES], next: 0 }
    }

    pub(crate) fn add(&mut self, file: FileId) {
        self.files[self.next] = Some(file);
        self.next = (self.next + 1) % MAX_CANDIDATES;
        self.count();
    }

    pub(crate) fn has(&self, file: FileId) -> bool {
        self.files.contains(&Some(file))
    }

    pub(crate) fn remove(&mut self, file: FileId) {
        self.files.iter_mut().filter(|at| **at == Some(file)).for_each(|at| *at = None);
        self.count();
    }

    pub(crate) fn clear(&mut self) {
        self.files = [None; MAX_CANDIDATES];
        self.count();
    }

    fn count(&self) {
        CANDIDATES.store(self.files.iter().flatten().count(), Relaxed);
    }
}

#[cfg(test)]
mod tests;
