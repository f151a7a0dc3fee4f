//! What a worker counts of one connection.

use super::level::Level;
use crate::counter::Counter;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Most connections that a snapshot lists: with all numbers at their largest they take less than two thirds of a packet
/// ([`crate::packet::MAX_PACKET`]).
pub const MAX_LISTED: usize = 32;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live numbers of one connection.
        #[derive(Debug, Default)]
        pub struct Numbers {
            connection: u64,
            since: u64,
            $($(#[$doc])* pub $name: Counter,)*
            /// See [`ConnectionSnapshot::messages`].
            pub messages: Level,
        }

        /// The numbers of one connection at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct ConnectionSnapshot {
            /// Its number, as in the log; the same at both ends.
            pub connection: u64,
            /// When its context was opened, in seconds since 1970.
            pub since: u64,
            $($(#[$doc])* pub $name: u64,)*
            /// Requests that count against the client's quota of now. Known to a client VM's worker alone.
            pub messages: u64,
        }

        impl Numbers {
            fn snapshot(&self, now: Instant) -> ConnectionSnapshot {
                ConnectionSnapshot {
                    connection: self.connection,
                    since: self.since,
                    $($name: self.$name.get(),)*
                    messages: self.messages.at(now),
                }
            }
        }
    };
}

numbers! {
    /// Its Wayland objects now. This and the next three are known to a client VM's worker alone.
    objects,
    /// Wayland requests relayed.
    requests,
    /// Wayland events relayed.
    events,
    /// `wl_surface.commit` requests relayed.
    commits,
    /// vfds that came over this connection and that the VM hasn't closed.
    vfds,
    /// Bytes that the VM sent.
    sent_bytes,
    /// Bytes that came for the VM.
    received_bytes,
    /// Bytes that the VM sent and that wait now: its peer doesn't read.
    sending_bytes,
    /// File descriptors that wait with them.
    sending_fds,
    /// Bytes that wait for the VM now, with the headers of their messages: it has no receive buffer free.
    receiving_bytes,
}

/// The connections of one worker. The lock is taken when one comes, goes, or all are looked at.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Vec<Arc<Numbers>>>);

impl Connections {
    pub(super) fn add(this: &Arc<Self>, connection: u64) -> Connection {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |past| past.as_secs());
        let numbers = Arc::new(Numbers { connection, since, ..Numbers::default() });
        this.list().push(numbers.clone());
        Connection { numbers, of: this.clone() }
    }

    pub(super) fn snapshot(&self, now: Instant) -> Vec<ConnectionSnapshot> {
        self.list().iter().map(|numbers| numbers.snapshot(now)).collect()
    }

    /// Nothing that holds the lock can leave it half-way, so a panic elsewhere changes nothing.
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Numbers>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place where one connection is counted. Dropped, it isn't counted any more.
#[derive(Debug)]
pub struct Connection {
    numbers: Arc<Numbers>,
    of: Arc<Connections>,
}

impl Deref for Connection {
    type Target = Numbers;
    fn deref(&self) -> &Numbers {
        &self.numbers
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.list().retain(|numbers| !Arc::ptr_eq(numbers, &self.numbers));
    }
}

/// Those over which most bytes went, by number, and how many are left out.
pub(super) fn busiest(mut all: Vec<ConnectionSnapshot>) -> (Vec<ConnectionSnapshot>, u64) {
    let more = all.len().saturating_sub(MAX_LISTED);
    if more > 0 {
        all.sort_by_key(|one| {
            (Reverse(one.sent_bytes.saturating_add(one.received_bytes)), one.since)
        });
        all.truncate(MAX_LISTED);
    }
    all.sort_by_key(|one| one.connection);
    (all, more as u64)
}

#[cfg(test)]
mod tests {
    use crate::counters::{Counters, MAX_LISTED};

    #[test]
    fn a_connection_is_counted_while_it_lives() {
        let counters = Counters::default();
        let (first, second) = (counters.connection(7), counters.connection(3));
        first.objects.set(5);
        second.objects.set(2);
        second.requests.add(9);
        let now = counters.snapshot();
        assert_eq!((now.objects, now.more_connections), (7, 0));
        let listed = now.connections.iter().map(|one| (one.connection, one.requests));
        assert_eq!(listed.collect::<Vec<_>>(), [(3, 9), (7, 0)]);
        assert!(now.connections[0].since > 0);
        drop(second);
        assert_eq!(counters.snapshot().connections.len(), 1);
    }

    #[test]
    fn the_busiest_are_listed_and_the_others_counted() {
        let counters = Counters::default();
        let connections: Vec<_> = (0..2 * MAX_LISTED as u64)
            .map(|number| {
                let connection = counters.connection(number);
                connection.objects.set(1);
                connection.sent_bytes.add(if number % 2 == 0 { 10 } else { 0 });
                connection.received_bytes.add(1);
                connection
            })
            .collect();
        let now = counters.snapshot();
        assert_eq!((now.connections.len(), now.more_connections), (MAX_LISTED, MAX_LISTED as u64));
        assert!(now.connections.iter().all(|one| one.connection % 2 == 0));
        assert_eq!(now.objects, connections.len() as u64, "all are in the sum");
    }
}
