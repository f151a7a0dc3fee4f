//! Whose turn it is with a device: its vring worker's, and in between a visitor's.
//!
//! Somebody who has something for the device *calls*, which leaves a note, and then tries to work with the device. If
//! another is at work, nothing more has to be done: whoever has worked looks for notes once more when the next may
//! begin. So a note is never left lying. If it is there before that look, it is found. If it comes after, the device is
//! free already, or another is at work who will look later. The lock that guards the notes orders the two.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Notes: vfds that something has come for. Each is there once, so they are no more than the device has vfds.
pub(super) type Notes = BTreeSet<u32>;

/// What a device's vring worker works with, and visitors.
pub(super) struct Turns<T> {
    device: Mutex<T>,
    /// Whether the vring worker waits for its turn. A visitor may come again and again, and locks aren't fair.
    wanted: AtomicBool,
    notes: Mutex<Notes>,
}

impl<T> Turns<T> {
    /// Nobody is at work.
    pub(super) fn new(device: T) -> Self {
        Self { device: Mutex::new(device), wanted: AtomicBool::new(false), notes: Mutex::default() }
    }

    /// Leaves a note. The caller is to have a turn, or to wake the vring worker for one.
    pub(super) fn call(&self, vfd: u32) {
        self.notes().insert(vfd);
    }

    /// The vring worker's turn, with what was noted. Waits for the visitor who is at work.
    ///
    /// The flag says that notes came meanwhile, and that there has to be another turn.
    pub(super) fn work<R>(&self, work: impl FnOnce(&mut T, Notes) -> R) -> (R, bool) {
        self.wanted.store(true, Ordering::SeqCst);
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has left it to us by this flag has called before, and is found below.
        self.wanted.store(false, Ordering::SeqCst);
        let notes = std::mem::take(&mut *self.notes());
        let result = work(&mut device, notes);
        drop(device);
        (result, self.has_notes())
    }

    /// A visitor's turn, if somebody has called, and nobody is at work or waits to be. Never waits.
    ///
    /// `true` as with [`Turns::work`].
    pub(super) fn visit(&self, work: impl FnOnce(&mut T, Notes)) -> bool {
        if self.wanted.load(Ordering::SeqCst) {
            return false;
        }
        // Nor is a device visited whose own thread has panicked.
        let Ok(mut device) = self.device.try_lock() else { return false };
        let notes = std::mem::take(&mut *self.notes());
        if !notes.is_empty() {
            work(&mut device, notes);
        }
        drop(device);
        self.has_notes()
    }

    fn has_notes(&self) -> bool {
        !self.notes().is_empty()
    }

    /// Nothing that holds the lock can leave it half-way.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
