//! A number that is counted in one thread and read in another.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that several threads see.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n`: for numbers that tell what there is now.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// It is `n` now: for numbers that one thread alone tells.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// It has been as much as `n`: for numbers that tell what was the most.
    pub fn raise(&self, n: u64) {
        // Mostly it has, and then nobody is disturbed.
        if n > self.get() {
            self.0.fetch_max(n, Ordering::Relaxed);
        }
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
