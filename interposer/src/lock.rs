//! A lock that hooks may take: it allocates nothing, and a signal handler never finds it taken by its own thread.

#![allow(unsafe_code)]

use crate::raw;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and others may sleep.
const WANTED: u32 = 2;

/// Something that one thread at a time may use.
pub(crate) struct Lock<T> {
    futex: AtomicU32,
    /// Of who has forked, from before to after it.
    signals: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: who has the lock has the value alone, and hands it on from thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The value, while the lock is taken and this thread's signals are blocked.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    signals: u64,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            futex: AtomicU32::new(FREE),
            signals: AtomicU64::new(0),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn take(&self) -> Guard<'_, T> {
        // First of all: a handler that comes while it is taken might want it.
        let signals = raw::block_signals();
        let free = self.futex.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            while self.futex.swap(WANTED, Ordering::Acquire) != FREE {
                raw::futex_wait(&self.futex, WANTED);
            }
        }
        Guard { lock: self, signals }
    }

    fn give(&self, signals: u64) {
        if self.futex.swap(FREE, Ordering::Release) == WANTED {
            raw::futex_wake(&self.futex);
        }
        raw::restore_signals(signals);
    }

    /// Before fork(2): takes it until [`Lock::after_fork`], so that the child finds the value whole.
    pub(crate) fn before_fork(&self, change: impl FnOnce(&mut T)) {
        let mut guard = self.take();
        change(&mut guard);
        self.signals.store(guard.signals, Ordering::Relaxed);
        core::mem::forget(guard);
    }

    /// After fork(2), in the parent as well as in the child. This thread has the lock: in the child it is the only one.
    pub(crate) fn after_fork(&self, change: impl FnOnce(&mut T)) {
        let mut guard = Guard { lock: self, signals: self.signals.load(Ordering::Relaxed) };
        change(&mut guard);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread has the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread has the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.give(self.signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time() {
        const ROUNDS: u64 = 20_000;
        let lock = Lock::new((0_u64, 0_u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mut both = lock.take();
                        both.0 += 1;
                        std::hint::black_box(&mut both);
                        both.1 += 1;
                        assert_eq!(both.0, both.1);
                    }
                });
            }
        });
        assert_eq!(*lock.take(), (4 * ROUNDS, 4 * ROUNDS));
    }
}
