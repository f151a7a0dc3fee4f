//! How fast the clients of a VM may send: none faster than each may, nor all of them together. Pure: whoever asks brings the
//! time.
//!
//! What a client has sent passes, and if that was too much, it isn't read until it may send again. If it is too much only of
//! all together, then each may still send an even part of what they all may: so nobody waits for others who send too much,
//! unless it does, too; and whoever waits gets on, whoever else is there. What the others don't use of their parts is for who
//! comes first.

use crate::bucket::{Bucket, Rate};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most requests that a client pays for ahead. What an application says at once is less (a frame is 5), so most of what it
/// says costs a comparison; and so few don't matter to anybody who counts.
const AHEAD: u64 = 64;

/// One part in so many of a client's part of the burst may be paid for ahead, so that nobody waits for it.
const AHEAD_OF: u64 = 16;

/// Most requests that a client may have left of its part: as many as an application says in the busiest second of its start
/// (GTK 3: 161; Firefox: 294).
const LEFT: u32 = 500;

/// How fast a VM's clients may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speed {
    /// Each of them.
    pub each: Rate,
    /// All of them together.
    pub all: Rate,
}

/// What the clients of one VM have sent. Clients of it are [`Pace`]s.
#[derive(Debug, Default)]
pub struct Crowd(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    speed: Speed,
    clients: u32,
    bucket: Bucket,
    /// That of one that has left, for the next one that comes.
    left: Bucket,
    /// Who reads the log was told that they are too fast.
    told: bool,
}

impl Crowd {
    /// Its clients may send so fast.
    pub fn new(speed: Speed) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { speed, ..State::default() })))
    }

    /// From now on they may send so fast, those that are there, too.
    pub fn set(&self, speed: Speed) {
        self.state().speed = speed;
    }

    /// Nothing that holds the lock can leave it half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is for each client, whoever else is there. The burst doesn't depend on how many are: what a client has left and owes
    /// stays as it is when others come.
    fn part(&self) -> Rate {
        let Rate { per_second, burst } = self.speed.all;
        Rate { per_second: (per_second / self.clients.max(1)).max(1), burst: burst.min(LEFT) }
    }

    /// As many a client may pay for ahead.
    fn ahead(&self) -> u64 {
        let burst = self.speed.each.burst.min(self.speed.all.burst / self.clients.max(1));
        AHEAD.min(u64::from(burst) / AHEAD_OF)
    }
}

/// Why a client has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It sends more than this in a second.
    Own(u32),
    /// All of its VM do together, and it more than its part.
    All(u32),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(most) => write!(
                f,
                "it sends more than {most} messages in a second, the quota `client_messages_per_second` of this VM's clients"
            ),
            Self::All(most) => write!(
                f,
                "the clients of this VM send more than {most} messages in a second together, the quota \
                 `messages_per_second`, and this one more than an even part of them; others that do are only counted"
            ),
        }
    }
}

/// How full a bucket is: whoever shows it can tell how full it is later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    bucket: Bucket,
    rate: Rate,
}

impl Fill {
    /// In messages; more than may be sent at once if somebody waits for that.
    pub fn at(&self, now: Instant) -> u64 {
        self.bucket.missing(self.rate, now)
    }
}

/// What it comes to that a client has sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// What it has sent.
    pub own: Fill,
    /// What all of its VM have sent.
    pub all: Fill,
    /// It has to wait from now on.
    pub pauses: bool,
    /// That is news, and this is why.
    pub news: Option<Excess>,
}

/// One client.
#[derive(Debug)]
pub struct Pace {
    of: Arc<Crowd>,
    own: Bucket,
    /// Its part of what all may send. It counts only what was sent while they owed: the rest was nobody else's.
    part: Bucket,
    /// Requests that were paid for and not yet sent.
    ahead: u64,
    paused: bool,
    told: bool,
}

impl Pace {
    /// One that comes now. Where too much was sent already it has to wait until that is paid, and of what another has sent that
    /// has left, it may not send as much at once again: or who leaves and comes again would be faster than who stays.
    pub fn new(of: Arc<Crowd>, now: Instant) -> Self {
        let (own, part, paused) = {
            let mut state = of.state();
            state.clients = state.clients.saturating_add(1);
            let debt = state.bucket.debt(state.speed.all, now);
            let (rate, mut part) = (state.part(), Bucket::default());
            part.spend(u64::from(rate.burst) + debt.div_ceil(state.clients.into()), rate, now);
            let mut own = std::mem::take(&mut state.left);
            own.forgive(state.speed.each, now);
            (own, part, debt > 0)
        };
        Self { of, own, part, ahead: 0, paused, told: false }
    }

    /// So many requests came. Whether they were paid for ahead: then that is all.
    pub fn is_paid(&mut self, requests: u64) -> bool {
        let left = self.ahead.checked_sub(requests);
        self.ahead = left.unwrap_or(self.ahead);
        left.is_some()
    }

    /// So many requests came that weren't.
    pub fn pay(&mut self, requests: u64, now: Instant) -> Paid {
        let mut state = self.of.state();
        let (Speed { each, all }, part) = (state.speed, state.part());
        let due = requests.saturating_sub(std::mem::take(&mut self.ahead));
        state.told &= state.bucket.missing(all, now) > 0;
        self.own.spend(due, each, now);
        state.bucket.spend(due, all, now);
        let all_owe = state.bucket.owes(all, now);
        if all_owe {
            self.part.forgive(part, now);
            self.part.spend(due, part, now);
        }
        let excess = if self.own.owes(each, now) {
            Some((Excess::Own(each.per_second), &mut self.told))
        } else if all_owe && self.part.owes(part, now) {
            Some((Excess::All(all.per_second), &mut state.told))
        } else {
            None
        };
        let before = std::mem::replace(&mut self.paused, excess.is_some());
        let news = excess.and_then(|(why, told)| (!std::mem::replace(told, true)).then_some(why));
        if !self.paused && !all_owe {
            let left = self.own.left(each, now).min(state.bucket.left(all, now));
            self.ahead = state.ahead().min(left);
            self.own.spend(self.ahead, each, now);
            state.bucket.spend(self.ahead, all, now);
        }
        Paid {
            own: Fill { bucket: self.own, rate: each },
            all: Fill { bucket: state.bucket, rate: all },
            pauses: self.paused && !before,
            news,
        }
    }

    /// Whether it has to wait, as far as was looked.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it still has to wait.
    pub fn waits(&mut self, now: Instant) -> bool {
        if self.paused {
            let state = self.of.state();
            let (Speed { each, all }, part) = (state.speed, state.part());
            self.paused = self.own.owes(each, now)
                || state.bucket.owes(all, now) && self.part.owes(part, now);
        }
        self.paused
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.clients = state.clients.saturating_sub(1);
        state.left = state.left.emptier(self.own, state.speed.each);
    }
}

#[cfg(test)]
mod tests;
