//! What a process of wlproxy gives up, before it reads the first byte that a VM sends.
//!
//! A VM that finds a fault in a worker is in a process then that opens no file, starts no program, reaches no network and no
//! other process, and in which nothing new can be made executable. What it has is what the worker was given: its VM's
//! memory, the streams of its VM's clients, and wlproxy, to which it can say little (`control.rs`).
//!
//! Three things do that, each enough for some of it: `seccomp` for system calls (`calls.rs` has the list, with reasons),
//! `landlock` for files and signals, limits for memory and core dumps. All hold for the whole process, for what it may
//! start, and until it ends.

mod calls;
mod filter;
mod limits;
mod reach;

use crate::device::Side;
use std::io;
use std::path::Path;
use thiserror::Error;
use tracing::{debug, warn};

/// Why a process can't be shut in. It isn't to go on then.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The filter of system calls can't be made, or the kernel doesn't take it.
    #[error(
        "can't limit the system calls: {0}; Linux has to have CONFIG_SECCOMP_FILTER, or `--no-sandbox` does without"
    )]
    Calls(#[from] seccompiler::Error),
    /// The kernel doesn't take the rules for files.
    #[error("can't limit what is reached: {0}; `--no-sandbox` does without")]
    Reach(#[from] landlock::RulesetError),
    /// A limit can't be set.
    #[error("can't set a limit: {0}; `--no-sandbox` does without")]
    Limit(#[from] io::Error),
}

/// Shuts a worker in that is a process of its own. Only from its one thread: those that it starts later are shut in, too.
///
/// # Errors
/// If any part of that can't be had, but for landlock, without which files are still guarded by their system calls.
pub fn enter_worker(vm: &str, side: Side) -> Result<(), SandboxError> {
    limits::of_worker(side)?;
    tell(vm, reach::nothing()?);
    filter::of_worker()?.apply()?;
    Ok(())
}

/// Shuts wlproxy itself in, which starts workers, and makes and removes sockets in these directories. Before the first
/// worker is started: in `isolation = "none"` they are threads of it.
///
/// # Errors
/// As [`enter_worker`].
pub fn enter_wlproxy(directories: &[&Path]) -> Result<(), SandboxError> {
    limits::of_wlproxy()?;
    tell("", reach::changes_only(directories)?);
    filter::of_wlproxy()?.apply()?;
    Ok(())
}

fn tell(vm: &str, landlock: reach::Enforced) {
    match landlock {
        reach::Enforced::Fully => debug!(vm, "shut in"),
        reach::Enforced::Partly => debug!(vm, "shut in, as far as this kernel's landlock goes"),
        reach::Enforced::Not => warn!(
            vm,
            "this kernel has no landlock, or `lsm=` leaves it out: only system calls are limited"
        ),
    }
}

#[cfg(test)]
mod tests;
