//! Which fds the device waits for. One epoll that stands inside the vring worker's own.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Most events taken at once; the rest stays for the next turn. A size of a stack array, nothing depends on it.
const EVENTS: usize = 64;

/// The key that no vfd has: somebody rang the [`Waker`].
const WAKE: u64 = u64::MAX;

/// The key that no vfd has either: [`Poller::retry_later`] is due.
pub(super) const RETRY: u64 = u64::MAX - 1;

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

/// An epoll and the event that wakes it.
#[derive(Debug, Clone)]
pub(super) struct Poller {
    epoll: Arc<Epoll>,
    waker: Waker,
    retry: Arc<TimerFd>,
}

impl Poller {
    /// Waits for nothing but its waker.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let retry = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&retry, EpollEvent::new(EpollFlags::EPOLLIN, RETRY))?;
        Ok(Self { epoll: Arc::new(epoll), waker: Waker(Arc::new(event)), retry: Arc::new(retry) })
    }

    /// What wakes it.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Lets [`RETRY`] be ready after a while: for what waits for something that no fd tells of.
    pub(super) fn retry_later(&self) -> io::Result<()> {
        if self.retry.get()?.is_none() {
            let pause = Expiration::OneShot(TimeSpec::from_duration(RETRY_PAUSE));
            self.retry.set(pause, TimerSetTimeFlags::empty())?;
        }
        Ok(())
    }

    /// Appends what is ready now as (key, flags). Doesn't wait.
    pub(super) fn ready(&self, found: &mut Vec<(u64, EpollFlags)>) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                WAKE => drop(self.waker.0.read()),
                RETRY => {
                    let _ = self.retry.wait();
                    found.push((RETRY, event.events()));
                }
                key => found.push((key, event.events())),
            }
        }
    }

    /// Takes `inner` under its care, under `key`, waiting for nothing yet.
    pub(super) fn watched<T: AsFd>(&self, key: u64, inner: T) -> Watched<T> {
        Watched { inner, epoll: self.epoll.clone(), key, interest: None }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
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
            (None, Some(flags)) => self.epoll.add(&self.inner, EpollEvent::new(flags, self.key))?,
            (Some(_), Some(flags)) => {
                self.epoll.modify(&self.inner, &mut EpollEvent::new(flags, self.key))?;
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
mod tests {
    use super::*;
    use nix::unistd::{dup, pipe2, write};

    #[test]
    fn a_watched_end_leaves_nothing_behind_when_a_peer_holds_the_same_file() {
        let poller = Poller::new().unwrap();
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
        let poller = Poller::new().unwrap();
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
        let poller = Poller::new().unwrap();
        let mut found = Vec::new();
        poller.retry_later().unwrap();
        poller.retry_later().unwrap();
        let ready = || nix::poll::PollFd::new(poller.as_fd(), nix::poll::PollFlags::POLLIN);
        assert_eq!(nix::poll::poll(&mut [ready()], 10_000u16).unwrap(), 1);
        poller.ready(&mut found);
        assert_eq!(found, [(RETRY, EpollFlags::EPOLLIN)]);
        assert_eq!(nix::poll::poll(&mut [ready()], 0u8).unwrap(), 0);
    }
}
