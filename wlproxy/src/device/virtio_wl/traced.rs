//! Connections that somebody reads along.

use super::VirtioWl;
use crate::ask::{self, Begins, Refusal};
use crate::device::vfds::Vfd;
use nix::sys::epoll::EpollFlags;
use std::os::unix::net::UnixStream;

impl VirtioWl {
    /// Somebody wants to read what passes over a connection.
    pub(super) fn start_trace(&mut self, connection: u64, reader: UnixStream) {
        let vm = &self.vm;
        if self.vfds.link(connection).is_none() {
            let refusal = Refusal::line(format!("VM {vm} has no connection {connection}"));
            return self.traces.add(connection, reader, &refusal, true);
        }
        let greeting = ask::line(&Begins { begins: connection });
        self.traces.add(connection, reader, &greeting, false);
        self.set_traced(connection);
    }

    /// A reader reads again, or is gone.
    pub(super) fn trace_polled(&mut self, key: u64, flags: EpollFlags) {
        if let Some(connection) = self.traces.polled(key, flags) {
            self.set_traced(connection);
        }
    }

    fn set_traced(&mut self, connection: u64) {
        let wanted = self.traces.wants(connection);
        if let Some(id) = self.vfds.link(connection)
            && let Some(Vfd::Context(context)) = self.vfds.get_mut(id)
        {
            context.set_traced(wanted);
        }
    }

    /// Tells the readers of context `id` what has passed since the last time, and a note of ours.
    pub(super) fn trace(&mut self, id: u32, note: Option<&str>) {
        if self.traces.is_empty() {
            return;
        }
        let Some(Vfd::Context(context)) = self.vfds.get_mut(id) else { return };
        let Some(connection) = context.connection() else { return };
        let mut lines = context.take_lines();
        lines.extend(note.map(|note| format!("-- {note}")));
        self.traces.write(connection, &lines);
        // The last reader may have gone.
        context.set_traced(self.traces.wants(connection));
    }

    /// Context `id` is closed.
    pub(super) fn end_trace(&mut self, id: u32) {
        if self.traces.is_empty() {
            return;
        }
        self.trace(id, Some("the connection has ended"));
        if let Some(Vfd::Context(context)) = self.vfds.get(id)
            && let Some(connection) = context.connection()
        {
            self.traces.end(connection);
        }
    }
}
