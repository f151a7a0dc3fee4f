//! Devices of one process, which reach each other without waking a thread: `isolation = "none"`.
//!
//! Between the two ends of a link are sockets, whoever holds them. When a device has written to one, the thread of the
//! device at the other end would be woken. Here the one that has written *calls* the other, and then *visits* it, that
//! is, takes what came to the other's guest, on its own thread. While both ends have a [`Place`] here, the other
//! is told by calls alone, and its poller doesn't wait for the socket. What a visitor can't do, and what is left when it
//! has read once, is the own thread's.
//!
//! Nothing is lost by that. A device has its place before it reads or writes, and looks for who is at the other end after it
//! has written. So what was written before the other had its place is there when that reads for the first time, and of
//! all that comes later it is told. Who gives up a place says so, after which the other's poller waits again; and what
//! is written from then on, or that the socket is closed, that tells. [`Turns`](super::turns::Turns) sees to it that no
//! call is lost.

use super::Side;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A device that can be visited.
pub(super) trait Host: Send + Sync {
    /// Something has come over the stream that is this vfd, or will be told by the stream alone from now on. A visit
    /// follows, or a wake.
    fn call(&self, vfd: u32);

    /// Takes to its guest what it was called for, unless another is at work with it. Never waits.
    fn visit(&self);

    /// Lets its own thread see to what it was called for.
    fn wake(&self);
}

/// The ends of links, by connection.
#[derive(Default)]
pub struct Neighbours {
    links: Mutex<HashMap<u64, Link>>,
}

/// Who is at the ends.
#[derive(Default)]
struct Link {
    client: Option<Resident>,
    compositor: Option<Resident>,
    present: Arc<Present>,
}

/// Whose an end is, and what he knows it by.
#[derive(Clone)]
struct Resident {
    host: Weak<dyn Host>,
    vfd: u32,
}

/// Whether somebody is at the ends, to be asked without a lock.
#[derive(Debug, Default)]
struct Present {
    client: AtomicBool,
    compositor: AtomicBool,
}

impl Present {
    fn end(&self, side: Side) -> &AtomicBool {
        match side {
            Side::Client => &self.client,
            Side::Compositor => &self.compositor,
        }
    }
}

impl Link {
    fn end(&mut self, side: Side) -> &mut Option<Resident> {
        match side {
            Side::Client => &mut self.client,
            Side::Compositor => &mut self.compositor,
        }
    }

    fn set(&mut self, side: Side, resident: Option<Resident>) {
        self.present.end(side).store(resident.is_some(), Ordering::SeqCst);
        *self.end(side) = resident;
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Compositor,
        Side::Compositor => Side::Client,
    }
}

impl Neighbours {
    /// Nothing that holds the lock can leave it half-way.
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls who is at this end of a link, if anybody is.
    fn call(&self, connection: u64, side: Side) -> Option<Arc<dyn Host>> {
        let resident = self.links().get_mut(&connection)?.end(side).clone()?;
        let host = resident.host.upgrade()?;
        host.call(resident.vfd);
        Some(host)
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("links", &self.links().len()).finish()
    }
}

/// Connections whose other ends are to be called.
type Written = Arc<Mutex<Vec<u64>>>;

/// One device among its neighbours, in one run of its rings.
pub(super) struct Presence {
    neighbours: Arc<Neighbours>,
    side: Side,
    host: Weak<dyn Host>,
    written: Written,
}

impl Presence {
    /// `host` is there, at no link's end yet.
    pub(super) fn new(neighbours: Arc<Neighbours>, side: Side, host: Weak<dyn Host>) -> Self {
        Self { neighbours, side, host, written: Written::default() }
    }

    /// It has this end of a link now, and knows it as `vfd`.
    pub(super) fn enter(&self, connection: u64, vfd: u32) -> Place {
        let resident = Resident { host: self.host.clone(), vfd };
        let mut links = self.neighbours.links();
        let link = links.entry(connection).or_default();
        link.set(self.side, Some(resident));
        Place {
            neighbours: self.neighbours.clone(),
            connection,
            side: self.side,
            present: link.present.clone(),
            written: self.written.clone(),
        }
    }

    /// Calls all to whom something was written since the last time. They are to be visited once this device isn't at work
    /// any more.
    pub(super) fn calls(&self) -> Vec<Arc<dyn Host>> {
        let written = std::mem::take(&mut *lock(&self.written));
        let other = other(self.side);
        let mut calls: Vec<Arc<dyn Host>> = Vec::new();
        for host in written.into_iter().filter_map(|one| self.neighbours.call(one, other)) {
            if !calls.iter().any(|other| Arc::ptr_eq(other, &host)) {
                calls.push(host);
            }
        }
        calls
    }
}

/// A device's place at one end of a link. Whoever drops it has left.
#[derive(Debug)]
pub(super) struct Place {
    neighbours: Arc<Neighbours>,
    connection: u64,
    side: Side,
    present: Arc<Present>,
    written: Written,
}

impl Place {
    /// Whether it is told by calls of what comes.
    pub(super) fn is_called(&self) -> bool {
        self.present.end(other(self.side)).load(Ordering::SeqCst)
    }

    /// Something was written to the other end.
    pub(super) fn wrote(&self) {
        let mut written = lock(&self.written);
        if !written.contains(&self.connection) {
            written.push(self.connection);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut links = self.neighbours.links();
        if let Some(link) = links.get_mut(&self.connection) {
            link.set(self.side, None);
            if link.client.is_none() && link.compositor.is_none() {
                links.remove(&self.connection);
            }
        }
        drop(links);
        // Not visited: this device may be at work.
        if let Some(host) = self.neighbours.call(self.connection, other(self.side)) {
            host.wake();
        }
    }
}

/// Nothing that holds such a lock can leave it half-way.
fn lock(written: &Written) -> MutexGuard<'_, Vec<u64>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Keeps what it was called for.
    #[derive(Default)]
    pub(in crate::device) struct Notebook {
        pub(in crate::device) calls: Mutex<Vec<u32>>,
        pub(in crate::device) wakes: Mutex<usize>,
    }

    impl Notebook {
        /// Calls since the last time, and how often it was woken since.
        pub(in crate::device) fn take(&self) -> (Vec<u32>, usize) {
            let calls = std::mem::take(&mut *self.calls.lock().unwrap());
            (calls, std::mem::take(&mut *self.wakes.lock().unwrap()))
        }
    }

    impl Host for Notebook {
        fn call(&self, vfd: u32) {
            self.calls.lock().unwrap().push(vfd);
        }

        fn visit(&self) {}

        fn wake(&self) {
            *self.wakes.lock().unwrap() += 1;
        }
    }

    /// A device that only keeps what it was called for.
    pub(in crate::device) fn presence(
        neighbours: &Arc<Neighbours>,
        side: Side,
    ) -> (Presence, Arc<Notebook>) {
        let notebook = Arc::new(Notebook::default());
        let host: Weak<dyn Host> = Arc::downgrade(&(notebook.clone() as Arc<dyn Host>));
        (Presence::new(neighbours.clone(), side, host), notebook)
    }

    #[test]
    fn who_has_written_calls_on_the_other_end_once_while_it_is_there() {
        let neighbours = Arc::new(Neighbours::default());
        let (client, clients) = presence(&neighbours, Side::Client);
        let (compositor, compositors) = presence(&neighbours, Side::Compositor);
        let left = [client.enter(1, 11), client.enter(2, 12)];
        assert!(!left[0].is_called());
        left[0].wrote();
        assert_eq!(client.calls().len(), 0, "nobody has accepted it");
        let right = [compositor.enter(1, 21), compositor.enter(2, 22)];
        assert!(left[0].is_called() && right[0].is_called());
        [0, 1, 0].iter().for_each(|&one| left[one].wrote());
        assert_eq!(client.calls().len(), 1, "both are the same device's");
        assert_eq!(compositors.take(), (vec![21, 22], 0));
        assert_eq!(client.calls().len(), 0);
        right[1].wrote();
        assert_eq!((compositor.calls().len(), clients.take()), (1, (vec![12], 0)));
        drop(left);
        assert_eq!(compositors.take(), (vec![21, 22], 2), "they are told that nobody will call");
        assert!(!right[0].is_called());
        right[0].wrote();
        assert_eq!((compositor.calls().len(), clients.take()), (0, (vec![], 0)));
        drop(right);
        assert_eq!(format!("{neighbours:?}"), "Neighbours { links: 0 }");
    }
}
