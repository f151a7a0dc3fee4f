//! Devices of one process, which reach each other without waking a thread: `isolation = "none"`.
//!
//! Between the two ends of a link are sockets, whoever holds them. When a device has written to one, the device at the
//! other end would be woken, by a thread of its own; here the one that has written *visits* the other instead, and
//! takes what came to its guest. If the other is at work itself, nothing is done: it finds what came. A visitor never
//! waits for another VM's frontend: what has to be mapped is left to the device's own thread.

use super::Side;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A device that can be visited.
pub(super) trait Host: Send + Sync {
    /// Takes what came over its streams to its guest, unless its own thread is at work. Never waits.
    fn visit(&self);
}

/// The ends of links, by connection.
#[derive(Default)]
pub struct Neighbours {
    links: Mutex<HashMap<u64, Link>>,
}

/// Who is at the ends, as far as they are open.
#[derive(Default)]
struct Link {
    client: Option<Weak<dyn Host>>,
    compositor: Option<Weak<dyn Host>>,
}

impl Link {
    fn end(&mut self, side: Side) -> &mut Option<Weak<dyn Host>> {
        match side {
            Side::Client => &mut self.client,
            Side::Compositor => &mut self.compositor,
        }
    }
}

impl Neighbours {
    /// Nothing that holds the lock can leave it half-way.
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is at the other end.
    fn other(&self, connection: u64, side: Side) -> Option<Arc<dyn Host>> {
        let mut links = self.links();
        let link = links.get_mut(&connection)?;
        let other = match side {
            Side::Client => Side::Compositor,
            Side::Compositor => Side::Client,
        };
        link.end(other).as_ref()?.upgrade()
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("links", &self.links().len()).finish()
    }
}

/// One device among its neighbours, in one run of its rings. Whoever drops it has left.
pub(super) struct Presence {
    neighbours: Arc<Neighbours>,
    side: Side,
    host: Weak<dyn Host>,
    connections: Vec<u64>,
    /// Connections that were written to since the last [`Presence::calls`].
    written: Vec<u64>,
}

impl Presence {
    /// `host` is there, at no link's end yet.
    pub(super) fn new(neighbours: Arc<Neighbours>, side: Side, host: Weak<dyn Host>) -> Self {
        Self { neighbours, side, host, connections: Vec::new(), written: Vec::new() }
    }

    /// It has this end of a link now.
    pub(super) fn enter(&mut self, connection: u64) {
        let mut links = self.neighbours.links();
        *links.entry(connection).or_default().end(self.side) = Some(self.host.clone());
        self.connections.push(connection);
    }

    /// It has closed that end.
    pub(super) fn leave(&mut self, connection: u64) {
        self.connections.retain(|&one| one != connection);
        self.written.retain(|&one| one != connection);
        self.neighbours.leave(connection, self.side);
    }

    /// Something was written to that end.
    pub(super) fn wrote(&mut self, connection: u64) {
        if !self.written.contains(&connection) {
            self.written.push(connection);
        }
    }

    /// Who is to be visited: to be done once the device isn't at work any more.
    pub(super) fn calls(&mut self) -> Vec<Arc<dyn Host>> {
        let written = std::mem::take(&mut self.written);
        let mut calls: Vec<Arc<dyn Host>> = Vec::new();
        for host in written.into_iter().filter_map(|one| self.neighbours.other(one, self.side)) {
            if !calls.iter().any(|other| Arc::ptr_eq(other, &host)) {
                calls.push(host);
            }
        }
        calls
    }
}

impl Neighbours {
    fn leave(&self, connection: u64, side: Side) {
        let mut links = self.links();
        if let Some(link) = links.get_mut(&connection) {
            *link.end(side) = None;
            if link.client.is_none() && link.compositor.is_none() {
                links.remove(&connection);
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        for connection in std::mem::take(&mut self.connections) {
            self.neighbours.leave(connection, self.side);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Host for Nobody {
        fn visit(&self) {}
    }

    #[test]
    fn who_has_written_calls_on_the_other_end_once_while_it_is_there() {
        let neighbours = Arc::new(Neighbours::default());
        let (client, compositor) = (Arc::new(Nobody), Arc::new(Nobody));
        let presence = |side, host: &Arc<Nobody>| {
            let host: Weak<dyn Host> = Arc::downgrade(&(host.clone() as Arc<dyn Host>));
            Presence::new(neighbours.clone(), side, host)
        };
        let mut left = presence(Side::Client, &client);
        let mut right = presence(Side::Compositor, &compositor);
        left.enter(1);
        left.enter(2);
        left.wrote(1);
        assert_eq!(left.calls().len(), 0, "nobody has accepted it");
        right.enter(1);
        right.enter(2);
        [1, 2, 1].iter().for_each(|&one| left.wrote(one));
        assert_eq!(left.calls().len(), 1, "both are the same device's");
        assert_eq!(left.calls().len(), 0);
        right.wrote(2);
        left.leave(2);
        assert_eq!(right.calls().len(), 0);
        drop(left);
        right.wrote(1);
        assert_eq!(right.calls().len(), 0);
        drop(right);
        assert_eq!(format!("{neighbours:?}"), "Neighbours { links: 0 }");
    }
}
