//! What all clients of a VM have together, where each of them is bounded by itself, and may be one of a thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Objects of all of them, from which on who has many makes no more: as many as 8 clients may have. A compositor has some 200
/// bytes for the smallest, and 2 KiB for a wl_surface.
const CROWDED: usize = 8 * wlproxy_protocol::wayland::objects::MAX_OBJECTS;

/// As many a client may have even then: more than most have.
const FEW: usize = 512;

/// Who has what, of all clients of a VM.
#[derive(Debug, Default)]
pub struct Census {
    objects: AtomicUsize,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Member {
    census: Arc<Census>,
    objects: usize,
}

impl Member {
    /// A client that has nothing.
    pub(super) fn new(census: Arc<Census>) -> Self {
        Self { census, objects: 0 }
    }

    /// It has so many objects now. `Some`: it may not have more than that, since all have so many.
    pub(super) fn set_objects(&mut self, objects: usize) -> Option<usize> {
        let before = std::mem::replace(&mut self.objects, objects);
        if objects <= before {
            self.census.objects.fetch_sub(before - objects, Ordering::Relaxed);
            return None;
        }
        let all = self.census.objects.fetch_add(objects - before, Ordering::Relaxed);
        (all >= CROWDED && objects > FEW).then_some(CROWDED)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.census.objects.fetch_sub(self.objects, Ordering::Relaxed);
    }
}
