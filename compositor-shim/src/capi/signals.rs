//! Leaves the compositor's signals to the compositor.
//!
//! Who writes to a pipe or socket whose reader has left gets a SIGPIPE. Rust's programs ignore it from the start; one in C
//! may be ended by it. And a channel may have threads. Were a signal delivered to one of these, who waits for it by
//! signalfd, as libwayland does, would never hear of it; so they are begun with all signals blocked.

#![allow(unsafe_code)] // The C library's signal sets.

use std::mem::MaybeUninit;
use std::ptr;

/// What a thread gets for what it does itself. Blocked they end the process, whoever would have handled them.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];

/// While it lives, this thread and those that it begins get no signal. A SIGPIPE that was caused meanwhile is forgotten.
pub(super) struct Blocked {
    /// What was blocked before.
    before: libc::sigset_t,
    /// Whether a SIGPIPE waited already, which is the compositor's own.
    pending: bool,
}

impl Blocked {
    pub(super) fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are whole; the old one is written, as this fails for nothing but a wrong first argument.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &all(), before.as_mut_ptr());
            before.assume_init()
        };
        // What isn't blocked doesn't wait.
        Self { before, pending: has_sigpipe(&before) && is_pending() }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: sets and time are whole, and nothing is asked of the signal or of the old set.
        unsafe {
            if !self.pending {
                libc::sigtimedwait(&sigpipe(), ptr::null_mut(), &at_once);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut());
        }
    }
}

/// The set of all signals but [`FAULTS`].
fn all() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigfillset` makes it whole.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for signal in FAULTS {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// The set of SIGPIPE alone.
fn sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes it whole.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn has_sigpipe(set: &libc::sigset_t) -> bool {
    // SAFETY: the set is whole.
    unsafe { libc::sigismember(set, libc::SIGPIPE) == 1 }
}

/// Whether a SIGPIPE waits.
pub(super) fn is_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes it whole, also for a C library that fills less than its size.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigpending(set.as_mut_ptr());
        set.assume_init()
    };
    has_sigpipe(&set)
}
