//! Traces: who wants to read what passes over a connection.
//!
//! Lines go straight from here to the reader's socket. The device never waits for a reader: what one doesn't take is
//! dropped, and it is told how much.

use super::poller::{Poller, Waker, Watched};
use super::vfds::{Vfd, Vfds};
use crate::ask::{self, Begins, Refusal};
use nix::sys::epoll::EpollFlags;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use wlproxy_unix::Stream;

/// Where the poller's keys of traces start: above every id, and above those of closed streams that still write something.
const KEYS: u64 = 1 << 40;

/// Most traces of one VM at a time, those included whose connection has ended and whose reader hasn't read all.
pub const MAX_TRACES: usize = 8;

/// Most bytes that wait for a reader: some thousand lines, which is what a client says when it starts.
const MAX_UNREAD: usize = 256 * 1024;

/// Requests for traces, on their way from any thread to the device.
#[derive(Debug, Default)]
pub struct Requests {
    state: Mutex<State>,
    /// Whether there are any: what the device looks at in each turn.
    some: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: no device runs.
    waker: Option<Waker>,
    list: Vec<(u64, UnixStream)>,
}

impl Requests {
    /// Has what passes over this connection be written to `reader`, after a line of JSON. Gives it back if no
    /// device runs, or too many ask.
    pub fn push(&self, connection: u64, reader: UnixStream) -> Result<(), UnixStream> {
        let mut state = self.state();
        if state.waker.is_none() || state.list.len() >= MAX_TRACES {
            return Err(reader);
        }
        state.list.push((connection, reader));
        self.some.store(true, Ordering::Release);
        state.waker.iter().for_each(Waker::wake);
        Ok(())
    }

    /// A device runs from now on; it takes what is asked for when it was woken.
    pub(super) fn attach(&self, waker: Waker) {
        self.state().waker = Some(waker);
    }

    /// It doesn't run any more. Who asked sees the end.
    pub(super) fn detach(&self) {
        *self.state() = State::default();
    }

    pub(super) fn take(&self) -> Vec<(u64, UnixStream)> {
        if !self.some.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.state().list)
    }

    /// Nothing that holds the lock can leave it half-way, so a panic elsewhere changes nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader.
struct Trace {
    connection: u64,
    stream: Watched<Stream>,
    /// Lines that were not queued since the reader last had read all.
    dropped: u64,
    /// The connection has ended: when all is written, so has this.
    over: bool,
}

/// The traces of one device.
pub(super) struct Traces {
    vm: String,
    poller: Poller,
    next: u64,
    all: BTreeMap<u64, Trace>,
}

impl Traces {
    pub(super) fn new(vm: &str, poller: Poller) -> Self {
        Self { vm: vm.to_owned(), poller, next: KEYS, all: BTreeMap::new() }
    }

    /// Somebody wants to read what passes over a connection.
    pub(super) fn start(&mut self, vfds: &mut Vfds, connection: u64, reader: UnixStream) {
        let vm = &self.vm;
        if vfds.link(connection).is_none() {
            let refusal = Refusal::line(format!("VM {vm} has no connection {connection}"));
            return self.add(connection, reader, &refusal, true);
        }
        let greeting = ask::line(&Begins { begins: connection });
        self.add(connection, reader, &greeting, false);
        self.set_traced(vfds, connection);
    }

    /// A reader reads again, or is gone.
    pub(super) fn polled(&mut self, vfds: &mut Vfds, key: u64, flags: EpollFlags) {
        if let Some(connection) = self.go_on_or_end(key, flags) {
            self.set_traced(vfds, connection);
        }
    }

    fn set_traced(&self, vfds: &mut Vfds, connection: u64) {
        let wanted = self.wants(connection);
        if let Some(id) = vfds.link(connection)
            && let Some(Vfd::Context(context)) = vfds.get_mut(id)
        {
            context.set_traced(wanted);
        }
    }

    /// Tells the readers of context `id` what has passed since the last time, and a note of ours.
    pub(super) fn tell(&mut self, vfds: &mut Vfds, id: u32, note: Option<&str>) {
        if self.all.is_empty() {
            return;
        }
        let Some(Vfd::Context(context)) = vfds.get_mut(id) else { return };
        let Some(connection) = context.connection() else { return };
        let mut lines = context.take_lines();
        lines.extend(note.map(|note| format!("-- {note}")));
        self.write(connection, &lines);
        // The last reader may have gone.
        context.set_traced(self.wants(connection));
    }

    /// Context `id` is closed.
    pub(super) fn end_context(&mut self, vfds: &mut Vfds, id: u32) {
        if self.all.is_empty() {
            return;
        }
        self.tell(vfds, id, Some("the connection has ended"));
        if let Some(Vfd::Context(context)) = vfds.get(id)
            && let Some(connection) = context.connection()
        {
            self.end(connection);
        }
    }

    /// Whether `key` of the poller is one of these.
    pub(super) fn has(&self, key: u64) -> bool {
        self.all.contains_key(&key)
    }

    /// Whether somebody reads what passes over this connection.
    fn wants(&self, connection: u64) -> bool {
        self.all.values().any(|trace| trace.connection == connection && !trace.over)
    }

    /// Somebody wants to read. `greeting` is the first line; if it is the only one, `over`.
    fn add(&mut self, connection: u64, reader: UnixStream, greeting: &[u8], over: bool) {
        let Ok(mut stream) = Stream::new(reader) else { return };
        if self.all.len() >= MAX_TRACES {
            let why = format!("{MAX_TRACES} traces of VM {} are read already", self.vm);
            tracing::warn!(vm = self.vm, connection, "{why}");
            stream.queue(&Refusal::line(why), []);
            // Who can't be told now sees the end.
            let _ = stream.flush();
            return;
        }
        let key = self.next;
        self.next += 1;
        let mut stream = self.poller.watched(key, stream);
        stream.queue(greeting, []);
        self.all.insert(key, Trace { connection, stream, dropped: 0, over });
        self.go_on(key);
    }

    /// Tells the readers of a connection what has passed.
    fn write(&mut self, connection: u64, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let now = milliseconds();
        let text = lines.iter().map(|line| format!("[{now}] {line}\n").into_bytes());
        let text: Vec<Vec<u8>> = text.collect();
        for key in self.of(connection) {
            if let Some(trace) = self.all.get_mut(&key) {
                text.iter().for_each(|line| trace.queue(line));
            }
            self.go_on(key);
        }
    }

    /// The connection has ended.
    fn end(&mut self, connection: u64) {
        for key in self.of(connection) {
            if let Some(trace) = self.all.get_mut(&key) {
                trace.over = true;
            }
            self.go_on(key);
        }
    }

    /// A reader reads again, or is gone. Returns the connection that it read.
    fn go_on_or_end(&mut self, key: u64, flags: EpollFlags) -> Option<u64> {
        let trace = self.all.get_mut(&key)?;
        let connection = trace.connection;
        // Whoever has asked may have ended its side, and goes on reading.
        let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if flags.intersects(gone) {
            self.all.remove(&key);
        } else {
            self.go_on(key);
        }
        Some(connection)
    }

    fn of(&self, connection: u64) -> Vec<u64> {
        let ours = |trace: &Trace| trace.connection == connection && !trace.over;
        self.all.iter().filter(|(_, trace)| ours(trace)).map(|(&key, _)| key).collect()
    }

    fn go_on(&mut self, key: u64) {
        let Some(trace) = self.all.get_mut(&key) else { return };
        if !matches!(trace.go_on(), Ok(true)) {
            self.all.remove(&key);
        }
    }
}

impl Trace {
    /// Once a line was dropped, so are all, until the reader has read what is there: it is told where they are missing.
    fn queue(&mut self, line: &[u8]) {
        if self.dropped == 0 && self.stream.queued() + line.len() <= MAX_UNREAD {
            self.stream.queue(line, []);
        } else {
            self.dropped += 1;
        }
    }

    /// Writes what the socket takes, and waits for what comes next. `false` if this is over.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut all = self.stream.flush()?;
        if all && self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let note = format!("... {dropped} lines are missing: they were read too slowly\n");
            self.stream.queue(note.as_bytes(), []);
            all = self.stream.flush()?;
        }
        if all && self.over {
            return Ok(false);
        }
        // Readers have nothing to say, and that they are gone is always told.
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLOUT, !all);
        self.stream.watch(Some(interest))?;
        Ok(true)
    }
}

/// The time of day as `WAYLAND_DEBUG` shows it, so that both can be compared: milliseconds, of which the last seven
/// digits are shown.
fn milliseconds() -> String {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    format!("{:7}.{:03}", micros / 1000 % 10_000_000, micros % 1000)
}
