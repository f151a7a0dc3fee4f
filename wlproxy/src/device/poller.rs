//! Which fds the vring worker waits for: the device's, beside those of the vhost-user crate.
//!
//! All are in the crate's own epoll set. A set of ours inside of that would cost each message one more system call, and a
//! longer way to wake the thread.

use super::dialect::NUM_QUEUES;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most events taken at once; the rest stays for the next turn. A size of a stack array, nothing depends on it.
const EVENTS: usize = 64;

/// The crate takes so many of the lowest bits of what an event carries for its number; in the others is our key.
const NUMBER_BITS: u32 = 16;

/// The number of the crate's own event: the first after those of the queues.
const THEIRS: u64 = NUM_QUEUES as u64;

/// The number of all events of ours.
const OURS: u64 = THEIRS + 1;

/// The key that no vfd has: somebody rang the [`Waker`].
const WAKE: u64 = u64::MAX >> NUMBER_BITS;

/// The key that no vfd has either: [`Poller::retry_later`] is due.
pub(super) const RETRY: u64 = WAKE - 1;

/// What an fd carries that is only to wake the vring worker: as [`WAKE`].
pub(super) const ENDING: u64 = WAKE << NUMBER_BITS | OURS;

/// How long it takes to be due. Short beside a person's patience, long beside the cost of a look at all contexts.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Makes the poller readable, from any thread.
#[derive(Debug, Clone)]
pub(super) struct Waker(Arc<EventFd>);

impl Waker {
    /// Wakes the vring worker.
    pub(super) fn wake(&self) {
        // The only error is a counter at its maximum, and then it is awake already.
        let _ = self.0.write(1);
    }
}

/// What is ready beside the device's own fds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Woken {
    /// Queues that were kicked. Their kicks are still to be read.
    pub(super) kicked: [bool; NUM_QUEUES],
    /// The crate has something to do.
    pub(super) theirs: bool,
}

impl Woken {
    /// Whether the crate knows, or will know, of an event here.
    pub(super) fn concerns_crate(&self) -> bool {
        self.theirs || self.kicked.contains(&true)
    }
}

/// An epoll and the event that wakes it.
#[derive(Debug, Clone)]
pub(super) struct Poller {
    epoll: Arc<Epoll>,
    waker: Waker,
    retry: Arc<Retry>,
}

/// When something is to be tried again.
#[derive(Debug)]
struct Retry {
    timer: TimerFd,
    /// It is set, or was due and nobody has taken that yet. The timer itself wouldn't tell the latter from not set; and to set
    /// it once more would put off what is due, for ever where turns are long.
    is_set: AtomicBool,
}

impl Poller {
    /// Waits for nothing in `epoll` but its waker, beside what others do there.
    pub(super) fn new(epoll: Epoll) -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&event, carrying(EpollFlags::EPOLLIN, WAKE))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&timer, carrying(EpollFlags::EPOLLIN, RETRY))?;
        let retry = Retry { timer, is_set: AtomicBool::new(false) };
        Ok(Self { epoll: Arc::new(epoll), waker: Waker(Arc::new(event)), retry: Arc::new(retry) })
    }

    /// What wakes it.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Lets [`RETRY`] be ready after a while: for what waits for something that no fd tells of.
    pub(super) fn retry_later(&self) -> io::Result<()> {
        if self.retry.is_set.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let pause = Expiration::OneShot(TimeSpec::from_duration(RETRY_PAUSE));
        let set = self.retry.timer.set(pause, TimerSetTimeFlags::empty());
        if set.is_err() {
            self.retry.is_set.store(false, Ordering::SeqCst);
        }
        Ok(set?)
    }

    /// Waits until something is ready, up to `timeout`. Appends what is the device's as (key, flags).
    pub(super) fn wait(
        &self,
        found: &mut Vec<(u64, EpollFlags)>,
        timeout: EpollTimeout,
    ) -> io::Result<Woken> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        let mut woken = Woken::default();
        for event in &events[..count] {
            let (key, number) = (event.data() >> NUMBER_BITS, event.data() & !(!0 << NUMBER_BITS));
            match (number, key) {
                (OURS, WAKE) => drop(self.waker.0.read()),
                (OURS, RETRY) => {
                    let _ = self.retry.timer.wait();
                    self.retry.is_set.store(false, Ordering::SeqCst);
                    found.push((RETRY, event.events()));
                }
                (OURS, key) => found.push((key, event.events())),
                (queue, _) => match woken.kicked.get_mut(queue as usize) {
                    Some(kicked) => *kicked = true,
                    None => woken.theirs = true,
                },
            }
        }
        Ok(woken)
    }

    /// Takes `inner` under its care, under `key`, waiting for nothing yet.
    pub(super) fn watched<T: AsFd>(&self, key: u64, inner: T) -> Watched<T> {
        Watched { inner, epoll: self.epoll.clone(), key, interest: None }
    }
}

/// An event that carries a key of ours.
fn carrying(flags: EpollFlags, key: u64) -> EpollEvent {
    EpollEvent::new(flags, key << NUMBER_BITS | OURS)
}

/// Something with an fd, and what is waited for on it.
///
/// It leaves the epoll before it is closed: the peer may hold the same open file, and then closing alone would leave
/// an entry behind that nobody can remove.
#[derive(Debug)]
pub(super) struct Watched<T: AsFd> {
    inner: T,
    epoll: Arc<Epoll>,
    key: u64,
    interest: Option<EpollFlags>,
}

impl<T: AsFd> Watched<T> {
    /// Waits for `interest` from now on. `None` leaves the epoll, so that a hang-up isn't reported either.
    pub(super) fn watch(&mut self, interest: Option<EpollFlags>) -> io::Result<()> {
        if interest == self.interest {
            return Ok(());
        }
        match (self.interest, interest) {
            (None, Some(flags)) => self.epoll.add(&self.inner, carrying(flags, self.key))?,
            (Some(_), Some(flags)) => {
                self.epoll.modify(&self.inner, &mut carrying(flags, self.key))?;
            }
            (_, None) => self.epoll.delete(&self.inner)?,
        }
        self.interest = interest;
        Ok(())
    }

    /// Goes on under another key.
    pub(super) fn rekey(&mut self, key: u64) -> io::Result<()> {
        self.watch(None)?;
        self.key = key;
        Ok(())
    }
}

impl<T: AsFd> Deref for Watched<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsFd> DerefMut for Watched<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        // Fails only if it isn't in the epoll, which is what is wanted.
        let _ = self.watch(None);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nix::sys::epoll::EpollCreateFlags;
    use nix::unistd::{dup, pipe2, write};
    use std::os::fd::BorrowedFd;

    impl Poller {
        /// A set of its own.
        pub(in crate::device) fn alone() -> Self {
            Self::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap()).unwrap()
        }

        /// Appends what is ready now.
        pub(in crate::device) fn ready(&self, found: &mut Vec<(u64, EpollFlags)>) {
            assert_eq!(self.wait(found, EpollTimeout::ZERO).unwrap(), Woken::default());
        }
    }

    impl AsFd for Poller {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.epoll.0.as_fd()
        }
    }

    #[test]
    fn events_of_the_crate_are_told_apart() {
        let poller = Poller::alone();
        let files: Vec<_> = (0..4).map(|_| EventFd::from_value(1).unwrap()).collect();
        let mut watched = poller.watched(1 << 40, &files[3]);
        watched.watch(Some(EpollFlags::EPOLLIN)).unwrap();
        // As the crate does it.
        for (number, file) in (0..).zip(&files[..3]) {
            poller.epoll.add(file, EpollEvent::new(EpollFlags::EPOLLIN, number)).unwrap();
        }
        poller.waker().wake();
        let (mut found, mut kicked) = (Vec::new(), [false, false]);
        let woken = poller.wait(&mut found, EpollTimeout::ZERO).unwrap();
        assert_eq!(woken, Woken { kicked: [true, true], theirs: true });
        assert_eq!(found, [(1 << 40, EpollFlags::EPOLLIN)]);
        poller.epoll.delete(&files[0]).unwrap();
        poller.epoll.delete(&files[2]).unwrap();
        kicked[1] = true;
        let woken = poller.wait(&mut found, EpollTimeout::ZERO).unwrap();
        assert_eq!(woken, Woken { kicked, theirs: false });
        assert!(woken.concerns_crate());
    }

    #[test]
    fn a_watched_end_leaves_nothing_behind_when_a_peer_holds_the_same_file() {
        let poller = Poller::alone();
        let (read, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let other = dup(&read).unwrap();
        let mut watched = poller.watched(7, read);
        watched.watch(Some(EpollFlags::EPOLLIN)).unwrap();
        write(&writer, b"x").unwrap();
        let mut found = Vec::new();
        poller.ready(&mut found);
        assert_eq!(found, [(7, EpollFlags::EPOLLIN)]);
        drop(watched);
        found.clear();
        poller.ready(&mut found);
        assert_eq!(found, []);
        drop(other);
    }

    #[test]
    fn the_waker_is_heard_once() {
        let poller = Poller::alone();
        poller.waker().wake();
        let mut found = Vec::new();
        let ready = || nix::poll::PollFd::new(poller.as_fd(), nix::poll::PollFlags::POLLIN);
        assert_eq!(nix::poll::poll(&mut [ready()], 0u8).unwrap(), 1);
        poller.ready(&mut found);
        assert_eq!(nix::poll::poll(&mut [ready()], 0u8).unwrap(), 0);
        assert_eq!(found, []);
    }

    #[test]
    fn what_is_to_be_tried_again_is_due_once() {
        let poller = Poller::alone();
        let mut found = Vec::new();
        poller.retry_later().unwrap();
        poller.retry_later().unwrap();
        let ready = || nix::poll::PollFd::new(poller.as_fd(), nix::poll::PollFlags::POLLIN);
        assert_eq!(nix::poll::poll(&mut [ready()], 10_000u16).unwrap(), 1);
        poller.ready(&mut found);
        assert_eq!(found, [(RETRY, EpollFlags::EPOLLIN)]);
        assert_eq!(nix::poll::poll(&mut [ready()], 0u8).unwrap(), 0);
    }

    /// A turn may take so long that it is due before anybody looks, and in each something may be to be tried again.
    #[test]
    fn what_is_due_is_not_put_off() {
        let poller = Poller::alone();
        poller.retry_later().unwrap();
        let ready = || nix::poll::PollFd::new(poller.as_fd(), nix::poll::PollFlags::POLLIN);
        assert_eq!(nix::poll::poll(&mut [ready()], 10_000u16).unwrap(), 1);
        poller.retry_later().unwrap();
        assert_eq!(nix::poll::poll(&mut [ready()], 0u8).unwrap(), 1);
    }
}
