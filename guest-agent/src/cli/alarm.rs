//! Things to do after a while.

use anyhow::{Context, Result};
use calloop::generic::Generic;
use calloop::{Interest, LoopHandle, Mode, PostAction};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The shortest pause there is: a timer that is set to nothing never ends (timerfd_settime(2)).
const NO_PAUSE: Duration = Duration::from_nanos(1);

/// What is to be done, and after how long again.
type Then<S> = Box<dyn FnMut(&mut S) -> Option<Duration>>;

/// Things to do after a while, on one timer.
///
/// It is a file, unlike calloop's timers: so whoever waits for the event loop's own fd learns of it, too. And it is made
/// once: many a pause is made because there are no fds left.
pub(super) struct Alarms<S> {
    timer: Rc<Timer>,
    queue: Rc<RefCell<Queue<S>>>,
}

struct Queue<S> {
    last: u64,
    due: Vec<(Instant, AlarmId, Then<S>)>,
}

#[derive(Debug)]
struct Timer(TimerFd);

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Names one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AlarmId(u64);

impl<S: 'static> Alarms<S> {
    /// None yet, in this event loop.
    pub(super) fn new(handle: &LoopHandle<'static, S>) -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("can't make a timer")?;
        let queue = Queue { last: 0, due: Vec::new() };
        let alarms = Self { timer: Rc::new(Timer(timer)), queue: Rc::new(RefCell::new(queue)) };
        let source = Generic::new(alarms.timer.clone(), Interest::READ, Mode::Level);
        let ring = alarms.clone();
        let token = handle.insert_source(source, move |_, timer, state| {
            let _ = timer.0.wait();
            ring.ring(state);
            Ok(PostAction::Continue)
        });
        token.map_err(|error| error.error).context("can't wait for a timer")?;
        Ok(alarms)
    }

    /// Calls `then` after `pause`, and again after as long as it says.
    pub(super) fn after(
        &self,
        pause: Duration,
        then: impl FnMut(&mut S) -> Option<Duration> + 'static,
    ) -> AlarmId {
        let mut queue = self.queue.borrow_mut();
        queue.last += 1;
        let id = AlarmId(queue.last);
        queue.due.push((Instant::now() + pause, id, Box::new(then)));
        self.set(&queue);
        id
    }

    /// It isn't to be called any more.
    pub(super) fn cancel(&self, id: AlarmId) {
        self.queue.borrow_mut().due.retain(|&(_, other, _)| other != id);
    }

    /// Calls what is due. What is to be done may set and cancel others.
    fn ring(&self, state: &mut S) {
        let now = Instant::now();
        loop {
            let next = {
                let mut queue = self.queue.borrow_mut();
                let due = queue.due.iter().position(|&(at, ..)| at <= now);
                due.map(|index| queue.due.remove(index))
            };
            let Some((_, id, mut then)) = next else { break };
            if let Some(pause) = then(state) {
                self.queue.borrow_mut().due.push((Instant::now() + pause, id, then));
            }
        }
        self.set(&self.queue.borrow());
    }

    fn set(&self, queue: &Queue<S>) {
        let Some(at) = queue.due.iter().map(|&(at, ..)| at).min() else { return };
        let pause = at.saturating_duration_since(Instant::now()).max(NO_PAUSE);
        let end = Expiration::OneShot(TimeSpec::from_duration(pause));
        // Fails only for times that can't be (timerfd_settime(2)).
        let set = self.timer.0.set(end, TimerSetTimeFlags::empty());
        debug_assert!(set.is_ok(), "{set:?}");
    }
}

impl<S> Clone for Alarms<S> {
    fn clone(&self) -> Self {
        Self { timer: self.timer.clone(), queue: self.queue.clone() }
    }
}

impl<S> fmt::Debug for Alarms<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").field("due", &self.queue.borrow().due.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calloop::EventLoop;
    use nix::poll::{PollFd, PollFlags, poll};

    /// Longest that a machine that does much else may take, in milliseconds.
    const PATIENCE: u16 = 20_000;

    fn is_ready(events: &EventLoop<'_, Vec<u32>>, timeout: u16) -> bool {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout).unwrap() == 1
    }

    #[test]
    fn alarms_show_in_the_loops_own_fd_and_go_off_in_order_as_often_as_they_say() {
        let mut events: EventLoop<'static, Vec<u32>> = EventLoop::try_new().unwrap();
        let alarms = Alarms::new(&events.handle()).unwrap();
        let mut rung = Vec::new();
        assert!(!is_ready(&events, 0));
        let again = alarms.clone();
        alarms.after(Duration::from_millis(20), move |rung: &mut Vec<u32>| {
            rung.push(9);
            again.after(Duration::ZERO, |rung| {
                rung.push(10);
                None
            });
            None
        });
        let never = alarms.after(Duration::from_millis(1), |_| unreachable!("it was cancelled"));
        alarms.after(Duration::ZERO, |rung| {
            rung.push(1);
            (rung.len() < 3).then_some(Duration::from_millis(1))
        });
        alarms.cancel(never);
        while rung.len() < 5 {
            assert!(is_ready(&events, PATIENCE), "after {rung:?}");
            events.dispatch(Some(Duration::ZERO), &mut rung).unwrap();
        }
        assert_eq!(rung, [1, 1, 1, 9, 10]);
        assert!(!is_ready(&events, 0));
    }
}
