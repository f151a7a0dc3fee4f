//! What a worker counts of its VM. Read by `wlproxy status`, the demo's table and the tests.

mod connection;
mod level;
mod reported;

pub use connection::{Connection, ConnectionSnapshot, MAX_LISTED};
pub use reported::{ReportedSnapshot, Reporter};

use crate::counter::Counter;
use crate::histogram::{BUCKETS, Durations, Histogram};
use connection::Connections;
use level::Level;
use reported::Reported;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live numbers of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// See [`Snapshot::messages`].
            pub messages: Level,
            /// See [`Snapshot::commit_in`].
            pub commit_in: Histogram,
            /// See [`Snapshot::commit_out`].
            pub commit_out: Histogram,
            reported: Arc<Reported>,
            connections: Arc<Connections>,
        }

        /// The numbers at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Wayland objects that exist now, in all connections. Only a client VM's worker knows.
            pub objects: u64,
            /// Requests of all clients that count against the quota of now: those of the last second, less what may be sent in
            /// the time since.
            pub messages: u64,
            /// The hop through a client VM's worker: from the moment that a SEND with a `wl_surface.commit` was taken
            /// from the ring to the moment that it was written to the link's socket. Once for each commit.
            pub commit_in: Durations,
            /// The hop through the compositor VM's worker: from the moment that a client's requests were read from the
            /// link's socket to the moment that they were put into the ring. Once for each read: this worker can't tell
            /// which of them has a commit.
            pub commit_out: Durations,
            /// The VM's own word: what its agents have told. Only those of client VMs tell.
            pub reported: ReportedSnapshot,
            /// The connections, by number: at most [`MAX_LISTED`], those over which most bytes went.
            pub connections: Vec<ConnectionSnapshot>,
            /// Connections beyond those.
            pub more_connections: u64,
        }

        impl Counters {
            /// The numbers now.
            pub fn snapshot(&self) -> Snapshot {
                let now = Instant::now();
                let all = self.connections.snapshot(now);
                let objects = all.iter().fold(0, |sum: u64, one| sum.saturating_add(one.objects));
                let (connections, more_connections) = connection::busiest(all);
                Snapshot {
                    $($name: self.$name.get(),)*
                    objects,
                    messages: self.messages.at(now),
                    commit_in: self.commit_in.snapshot(),
                    commit_out: self.commit_out.snapshot(),
                    reported: self.reported.snapshot(),
                    connections,
                    more_connections,
                }
            }
        }
    };
}

impl Snapshot {
    /// Whether its lists are no longer than those of [`Counters::snapshot`]. That a worker's came in one packet is no
    /// bound: it can write them shorter than they are written here.
    pub fn is_within_limits(&self) -> bool {
        let histograms = [&self.commit_in, &self.commit_out];
        self.connections.len() <= MAX_LISTED
            && histograms.iter().all(|durations| durations.buckets.len() <= BUCKETS + 1)
    }
}

counters! {
    /// Frontends that are served now: 1 while the VM is there.
    frontends,
    /// Contexts that were opened since the worker started.
    contexts_opened,
    /// Contexts that are open now.
    contexts,
    /// Wayland requests relayed.
    requests,
    /// Wayland events relayed.
    events,
    /// `wl_surface.commit` requests relayed.
    commits,
    /// Clients that were disconnected for a protocol violation.
    violations,
    /// Clients that were not taken, since the VM has as many as it may have, or they came too fast. One that tries again
    /// counts again.
    contexts_refused,
    /// Times that a client was paused for sending too many messages.
    pauses,
    /// Most requests of all clients that have counted against the quota at a time, since the worker started.
    most_messages,
    /// The same of one client.
    most_client_messages,
    /// Transfers of selections that began.
    transfers,
    /// Bytes that they carried, where the host carries them.
    transfer_bytes,
    /// Requests and events of selections that were left out, since the VM's clients may not give or take that.
    selections_refused,
    /// Most bytes that the VM sent over one connection and that waited, since the worker started.
    most_sending_bytes,
    /// Most bytes that waited for the VM at one connection, with the headers of their messages.
    most_receiving_bytes,
    /// vfds that exist now.
    vfds,
    /// Bytes of the allocations that were made for this VM and that exist now.
    allocation_bytes,
    /// Bytes of its window that are mapped now.
    window_bytes,
    /// SHMEM_MAP messages sent since the worker started.
    maps,
}

impl Counters {
    /// Counts a connection of its own until it is dropped. `number` is wlproxy's.
    pub fn connection(&self, number: u64) -> Connection {
        Connections::add(&self.connections, number)
    }

    /// Counts what one more agent tells.
    pub fn reporter(&self) -> Reporter {
        Reporter::add(&self.reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_counted_is_within_the_limits_and_more_is_not() {
        let counters = Counters::default();
        counters.commit_in.add(Duration::MAX, 1);
        counters.commit_out.add(Duration::MAX, 1);
        let _all: Vec<_> = (0..=MAX_LISTED as u64).map(|n| counters.connection(n)).collect();
        let most = counters.snapshot();
        assert!(most.is_within_limits());
        for more in [
            |snapshot: &mut Snapshot| snapshot.connections.push(ConnectionSnapshot::default()),
            |snapshot: &mut Snapshot| snapshot.commit_in.buckets.push(0),
            |snapshot: &mut Snapshot| snapshot.commit_out.buckets.push(0),
        ] {
            let mut snapshot = most.clone();
            more(&mut snapshot);
            assert!(!snapshot.is_within_limits());
        }
    }
}
