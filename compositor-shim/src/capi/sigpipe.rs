//! Writing to a pipe or socket whose reader has left, without ending the process.
//!
//! Rust's programs ignore SIGPIPE from the start. A compositor in C may not, and what it does with signals is its own.

#![allow(unsafe_code)] // The C library's signal sets.

use std::mem::MaybeUninit;
use std::ptr;

/// While it lives, this thread gets no SIGPIPE; one that was caused meanwhile is forgotten.
pub(super) struct Blocked {
    /// What was blocked before.
    before: libc::sigset_t,
    /// Whether one waited already, which is the compositor's own.
    pending: bool,
}

impl Blocked {
    pub(super) fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are whole; the old one is written, as this fails for nothing but a wrong first argument.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &sigpipe(), before.as_mut_ptr());
            before.assume_init()
        };
        // What isn't blocked doesn't wait.
        Self { before, pending: has(&before) && is_pending() }
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

fn has(set: &libc::sigset_t) -> bool {
    // SAFETY: the set is whole.
    unsafe { libc::sigismember(set, libc::SIGPIPE) == 1 }
}

pub(super) fn is_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigpending` makes it whole.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigpending(set.as_mut_ptr());
        set.assume_init()
    };
    has(&set)
}
