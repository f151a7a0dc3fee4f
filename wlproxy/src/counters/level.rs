//! How full a bucket is, which one thread fills and another looks at.

use crate::pace::Fill;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// It falls by itself.
#[derive(Debug, Default)]
pub struct Level(Mutex<Fill>);

impl Level {
    /// It is as full as this.
    pub fn set(&self, fill: Fill) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fill;
    }

    /// How full it is now, in messages.
    pub fn at(&self, now: Instant) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at(now)
    }
}
