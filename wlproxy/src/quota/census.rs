//! What all clients of a VM have together, where each of them is bounded by itself, and may be one of a thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Objects of all of them, from which on who has many makes no more: as many as 8 clients may have. A compositor has some 200
/// bytes for the smallest, and 2 KiB for a wl_surface.
const CROWDED: usize = 8 * wlproxy_protocol::wayland::objects::MAX_OBJECTS;

/// As many a client may have even then: more than most have.
const FEW: usize = 512;

/// The same of buffers and pools. Each is a mapping of the compositor's, of which Linux lets a process have 65,530
/// (`vm.max_map_count`): beyond that it maps nothing of anybody's.
const CROWDED_BUFFERS: usize = 8_192;

/// As many of those a client may have even then: as many clients as a VM may have, have 16,384 then.
const FEW_BUFFERS: usize = 16;

/// Who has what, of all clients of a VM.
#[derive(Debug, Default)]
pub struct Census {
    objects: AtomicUsize,
    buffers: AtomicUsize,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Member {
    census: Arc<Census>,
    objects: usize,
    buffers: usize,
}

impl Member {
    /// A client that has nothing.
    pub(super) fn new(census: Arc<Census>) -> Self {
        Self { census, objects: 0, buffers: 0 }
    }

    /// It has so many objects now. `Some`: it may not have more than that, since all have so many.
    pub(super) fn set_objects(&mut self, objects: usize) -> Option<usize> {
        let before = std::mem::replace(&mut self.objects, objects);
        let all = change(&self.census.objects, before, objects)?;
        (all >= CROWDED && objects > FEW).then_some(CROWDED)
    }

    /// The same of buffers and pools.
    pub(super) fn set_buffers(&mut self, buffers: usize) -> Option<usize> {
        let before = std::mem::replace(&mut self.buffers, buffers);
        let all = change(&self.census.buffers, before, buffers)?;
        (all >= CROWDED_BUFFERS && buffers > FEW_BUFFERS).then_some(CROWDED_BUFFERS)
    }
}

/// Of `sum` somebody has `now` and not `before`. How many all had, if that is more.
fn change(sum: &AtomicUsize, before: usize, now: usize) -> Option<usize> {
    if now <= before {
        sum.fetch_sub(before - now, Ordering::Relaxed);
        return None;
    }
    Some(sum.fetch_add(now - before, Ordering::Relaxed))
}

impl Drop for Member {
    fn drop(&mut self) {
        self.census.objects.fetch_sub(self.objects, Ordering::Relaxed);
        self.census.buffers.fetch_sub(self.buffers, Ordering::Relaxed);
    }
}
