//! Something to do after a while.

use anyhow::{Context, Result};
use calloop::generic::Generic;
use calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::time::Duration;

/// The shortest pause there is: a timer that is set to nothing never ends (timerfd_settime(2)).
const NO_PAUSE: Duration = Duration::from_nanos(1);

/// Calls `then` after `pause`, and again after as long as it says.
///
/// It is a file, unlike calloop's timers: so whoever waits for the event loop's own fd learns of it, too.
pub(super) fn after<S: 'static>(
    handle: &LoopHandle<'static, S>,
    pause: Duration,
    mut then: impl FnMut(&mut S) -> Option<Duration> + 'static,
) -> Result<RegistrationToken> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("can't make a timer")?;
    set(&timer, pause).context("can't set a timer")?;
    let source = Generic::new(timer, Interest::READ, Mode::Level);
    let token = handle.insert_source(source, move |_, timer, state| {
        if timer.wait().is_err() {
            return Ok(PostAction::Continue);
        }
        match then(state) {
            None => Ok(PostAction::Remove),
            Some(pause) => set(timer, pause).map(|()| PostAction::Continue),
        }
    });
    token.map_err(|error| error.error).context("can't wait for a timer")
}

fn set(timer: &TimerFd, pause: Duration) -> std::io::Result<()> {
    let end = Expiration::OneShot(TimeSpec::from_duration(pause.max(NO_PAUSE)));
    Ok(timer.set(end, TimerSetTimeFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use calloop::EventLoop;
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;

    /// Longest that a machine that does much else may take, in milliseconds.
    const PATIENCE: u16 = 20_000;

    #[test]
    fn an_alarm_shows_in_the_loops_own_fd_and_goes_off_as_often_as_it_says() {
        let mut events: EventLoop<'static, u32> = EventLoop::try_new().unwrap();
        let mut count = 0;
        after(&events.handle(), Duration::ZERO, |count| {
            *count += 1;
            (*count < 3).then_some(Duration::from_millis(1))
        })
        .unwrap();
        while count < 3 {
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PATIENCE).unwrap(), 1, "after {count}");
            events.dispatch(Some(Duration::ZERO), &mut count).unwrap();
        }
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 0u8).unwrap(), 0);
    }
}
