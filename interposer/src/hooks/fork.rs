//! fork(2): what is lent stays with the process that has borrowed it.

#![allow(unsafe_code)]

use crate::state;

extern "C" fn before() {
    state::before_fork();
}

extern "C" fn after() {
    state::after_fork();
}

extern "C" fn after_in_child() {
    state::after_fork_in_child();
}

/// Has fork(3) call us.
pub(super) fn watch() {
    // SAFETY: these functions stay as long as this library, which is never unloaded.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
}
