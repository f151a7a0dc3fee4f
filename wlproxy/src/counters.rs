//! What a worker counts of its VM. Read by `wlproxy status`, the demo's table and the tests.

use serde::{Deserialize, Serialize};
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

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live numbers of one worker.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        /// The numbers at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// The numbers now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Frontends that are served now: 1 while the VM is there.
    frontends,
    /// Contexts that were opened since the worker started.
    contexts_opened,
    /// Contexts that are open now.
    contexts,
    /// Wayland requests relayed.
    requests,
    /// Wayland events relayed.
    events,
    /// `wl_surface.commit` requests relayed.
    commits,
    /// Clients that were disconnected for a protocol violation.
    violations,
    /// vfds that exist now.
    vfds,
    /// Bytes of the allocations that were made for this VM and that exist now.
    allocation_bytes,
    /// Bytes of its window that are mapped now.
    window_bytes,
    /// SHMEM_MAP messages sent since the worker started.
    maps,
}
