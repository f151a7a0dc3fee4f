//! All that the hooks share.

use crate::lender::{HIGH, Lender, Name};
use crate::lock::{Guard, Lock};
use crate::raw::{self, Result};
use crate::table::{CANDIDATES, Candidates, Fds, Kind, RECORDS, Record, Table};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

/// What each fd is.
pub(crate) static FDS: Fds = Fds::new();

static STATE: Lock<State> = Lock::new(State::new());

/// Whether this process is connected to the agent's Wayland socket: until then there is nothing to do.
static CONNECTED: AtomicBool = AtomicBool::new(false);

/// Which process this is. In one that was made without fork(3), by vfork(2) or clone(2), fds and mappings are what they
/// are to the kernel, and nothing is ours.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// What needs the lock.
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) candidates: Candidates,
    pub(crate) lender: Lender,
}

impl State {
    const fn new() -> Self {
        Self { table: Table::new(), candidates: Candidates::new(), lender: Lender::new() }
    }

    /// The record of an fd, if it is one of an allocation. If it was closed behind our back, that is noticed here.
    pub(crate) fn lent(&mut self, fd: c_int) -> Option<usize> {
        let Kind::Lent(number) = FDS.kind(fd) else { return None };
        let kept = self.table.record(number)?.kept;
        if raw::is_same_open_file(kept, fd) == Ok(true) {
            return Some(number);
        }
        self.forget(fd);
        None
    }

    /// Whether an fd is ours. If it was closed behind our back, that is noticed here, and the number is the application's.
    pub(crate) fn is_ours(&mut self, fd: c_int) -> bool {
        if FDS.kind(fd) != Kind::Ours {
            return false;
        }
        let ours = self.lender.has(fd)
            || self.table.records().any(|(_, record)| record.kept == fd && record.has_kept());
        if !ours {
            FDS.set(fd, Kind::Other);
        }
        ours
    }

    /// Notes one more fd of an allocation.
    pub(crate) fn add_fd(&mut self, fd: c_int, number: usize) {
        if let Some(record) = self.table.record(number) {
            record.fds += 1;
            FDS.set(fd, Kind::Lent(number));
        }
    }

    /// An fd isn't an allocation any more. With the last one the application has parted from it.
    pub(crate) fn forget(&mut self, fd: c_int) {
        let Kind::Lent(number) = FDS.kind(fd) else { return };
        FDS.set(fd, Kind::Other);
        let Some(record) = self.table.record(number) else { return };
        record.fds = record.fds.saturating_sub(1);
        if record.fds + record.on_the_way == 0
            && let Some(record) = self.table.remove(number)
        {
            self.drop_kept(&record);
            self.lender.close(record.name(), record.sent, &FDS);
        }
    }

    /// An fd was received: perhaps one of an allocation, which another thread has sent.
    pub(crate) fn received(&mut self, fd: c_int) {
        let is_it = |record: &Record| raw::is_same_open_file(record.kept, fd) == Ok(true);
        let found = self.table.records().find(|(_, record)| is_it(record));
        if let Some((number, record)) = found {
            record.on_the_way = record.on_the_way.saturating_sub(1);
            self.add_fd(fd, number);
        }
    }

    /// Closes our fd of an allocation.
    pub(crate) fn drop_kept(&mut self, record: &Record) {
        FDS.set(record.kept, Kind::Other);
        if record.has_kept() {
            raw::close(record.kept);
        }
    }

    /// The application wants this number for an fd of its own: what is ours goes elsewhere.
    pub(crate) fn vacate(&mut self, fd: c_int) -> Result<()> {
        if !self.is_ours(fd) {
            return Ok(());
        }
        let duplicate = |least| raw::fcntl(fd, libc::F_DUPFD_CLOEXEC, least);
        let to = duplicate(HIGH).or_else(|_| duplicate(0)).map_err(|_| libc::EMFILE)?;
        FDS.set(to, Kind::Ours);
        FDS.set(fd, Kind::Other);
        self.lender.moved(fd, to);
        let records = self.table.records().filter(|(_, record)| record.kept == fd);
        records.for_each(|(_, record)| record.kept = to);
        Ok(())
    }
}

impl Record {
    /// Whether our fd of it is there.
    fn has_kept(&self) -> bool {
        raw::fstat(self.kept).is_ok_and(|stat| stat.file == self.kept_file)
    }

    /// The agent's name of it.
    pub(crate) fn name(&self) -> Name {
        Name { id: self.id, connection: self.connection }
    }
}

/// The state, unless this process has none.
pub(crate) fn state() -> Option<Guard<'static, State>> {
    (raw::getpid() == PROCESS.load(Relaxed)).then(|| STATE.take())
}

/// Whether there may be files that can become allocations.
pub(crate) fn has_candidates() -> bool {
    CANDIDATES.load(Relaxed) > 0 && CONNECTED.load(Relaxed)
}

/// Whether there may be fds that are allocations.
pub(crate) fn has_records() -> bool {
    RECORDS.load(Relaxed) > 0
}

/// From now on something is lent to this process.
pub(crate) fn start() {
    PROCESS.store(raw::getpid(), Relaxed);
}

/// This process is connected to the agent's Wayland socket.
pub(crate) fn set_connected() {
    CONNECTED.store(true, Relaxed);
}

/// Whether [`before_fork`] took the lock.
static FORKING: AtomicBool = AtomicBool::new(false);

/// Before fork(2). The child will have what isn't an allocation yet: so it never may be one, or they would part.
pub(crate) fn before_fork() {
    if raw::getpid() == PROCESS.load(Relaxed) {
        STATE.before_fork(|state| state.candidates.clear());
        FORKING.store(true, Relaxed);
    }
}

/// After fork(2), in the parent.
pub(crate) fn after_fork() {
    if FORKING.swap(false, Relaxed) {
        STATE.after_fork(|_| {});
    }
}

/// After fork(2), in the child: what was lent is its parent's. What it has of that are fds and mappings like others.
pub(crate) fn after_fork_in_child() {
    if !FORKING.swap(false, Relaxed) {
        return;
    }
    STATE.after_fork(|state| {
        for fd in FDS.known(0, u32::MAX) {
            if state.is_ours(fd) {
                raw::close(fd);
            }
            FDS.set(fd, Kind::Other);
        }
        state.lender.forget();
        state.table.clear();
        PROCESS.store(raw::getpid(), Relaxed);
    });
}
