//! What a `struct wlproxy_shim` is, and how each of its functions is entered.
//!
//! The compositor's functions may call back whatever they like, [destroy] included. So a shim is known by shared
//! references alone, nothing of it is borrowed while the compositor's code runs, and it is freed by whoever leaves last.

#![allow(unsafe_code)] // A pointer that C keeps.

use super::display::Attached;
use super::log::{Log, text};
use super::signals::Blocked;
use crate::{ChannelSpec, Client, Listener};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use tracing::{Dispatch, dispatcher};

/// Accepts clients of other VMs for a compositor.
pub struct Shim {
    /// None once it is over.
    listener: RefCell<Option<Listener>>,
    /// What is polled: the listener's, but open for as long as C knows of it.
    pub(super) fd: OwnedFd,
    /// What `wlproxy_shim_error` returns.
    pub(super) error: RefCell<CString>,
    /// Whether something has panicked here.
    pub(super) poisoned: Cell<bool>,
    /// Calls that haven't returned.
    depth: Cell<usize>,
    /// Whether it is to be freed with the last of them.
    doomed: Cell<bool>,
    pub(super) log: Log,
    dispatch: Dispatch,
    /// The display whose event loop it is in; null if there is none.
    pub(super) attached: Cell<*mut Attached>,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// One of errno.h, positive.
    pub(super) errno: c_int,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(errno: c_int, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or(libc::EIO), error.to_string())
    }
}

impl Shim {
    /// Makes one; panics are told as failures.
    pub(super) fn new(channel: ChannelSpec) -> Result<Box<Self>, Failure> {
        let log = Log::new();
        let dispatch = log.dispatch();
        let made = dispatcher::with_default(&dispatch, || {
            catch_unwind(AssertUnwindSafe(|| {
                let _blocked = Blocked::new();
                let listener = Listener::new(channel)?;
                let fd = listener.poll_fd().try_clone_to_owned()?;
                Ok::<_, Failure>((listener, fd))
            }))
        });
        let (listener, fd) = made.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        Ok(Box::new(Self {
            listener: RefCell::new(Some(listener)),
            fd,
            error: RefCell::default(),
            poisoned: Cell::new(false),
            depth: Cell::new(0),
            doomed: Cell::new(false),
            log,
            dispatch,
            attached: Cell::new(ptr::null_mut()),
        }))
    }

    /// Whether the compositor's functions are to be called no more, though there is something for them.
    pub(super) fn is_over(&self) -> bool {
        self.doomed.get() || self.poisoned.get()
    }

    /// Does what there is to do; who came.
    ///
    /// # Errors
    /// As [`Listener::dispatch`]; those that came are in `clients` all the same.
    pub(super) fn accept(&self, clients: &mut Vec<Client>) -> Result<(), Failure> {
        if let Some(listener) = &mut *self.listener.borrow_mut() {
            let _blocked = Blocked::new();
            listener.dispatch(clients)?;
        }
        Ok(())
    }

    /// Asks the listener, unless it is over.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Listener) -> T) -> Option<T> {
        self.listener.borrow().as_ref().map(question)
    }

    /// Disconnects all clients, and leaves the display.
    fn end(&self) {
        Attached::detach(self);
        let listener = self.listener.take();
        let _blocked = Blocked::new();
        drop(listener);
    }

    /// What is said of it from now on.
    fn tell(&self, failure: Failure) -> c_int {
        self.error.replace(text(failure.text));
        -failure.errno
    }

    /// Ends it as [`Shim::poisoned`].
    fn poison(&self, panic: &(dyn Any + Send)) -> c_int {
        let failure = panicked(panic);
        self.poisoned.set(true);
        tracing::error!("{}", failure.text);
        // Its own destructors may panic as well.
        let _ = catch_unwind(AssertUnwindSafe(|| self.end()));
        self.tell(failure)
    }

    /// Runs `work` as part of a call: with the shim's log, and no panic gets past it.
    fn run(&self, work: impl FnOnce(&Self) -> Result<c_int, Failure>) -> c_int {
        let done = dispatcher::with_default(&self.dispatch, || {
            match catch_unwind(AssertUnwindSafe(|| work(self))) {
                Ok(Ok(done)) => done,
                Ok(Err(failure)) => self.tell(failure),
                Err(panic) => self.poison(&*panic),
            }
        });
        self.log.tell();
        done
    }
}

/// Calls `work`; its number, or a negated error of errno.h.
///
/// # Safety
/// `shim` is null, or was made by [`Shim::new`] and not destroyed, and no other thread uses it.
pub(super) unsafe fn enter(
    shim: *const Shim,
    work: impl FnOnce(&Shim) -> Result<c_int, Failure>,
) -> c_int {
    // SAFETY: as the caller promises. It is freed below, or by who called this one.
    let Some(known) = (unsafe { shim.as_ref() }) else { return -libc::EINVAL };
    if known.poisoned.get() {
        return -libc::ENOTRECOVERABLE;
    }
    known.depth.set(known.depth.get() + 1);
    let done = known.run(work);
    // SAFETY: the call that was counted above is over.
    unsafe { leave(shim) };
    done
}

/// Ends a shim. If calls haven't returned it is freed when the last one does.
///
/// # Safety
/// As for [`enter`].
pub(super) unsafe fn destroy(shim: *const Shim) {
    // SAFETY: as the caller promises.
    let Some(known) = (unsafe { shim.as_ref() }) else { return };
    if known.doomed.replace(true) {
        return;
    }
    known.depth.set(known.depth.get() + 1);
    known.run(|shim| {
        shim.end();
        Ok(0)
    });
    // The compositor may forget what it logs with, though this may be inside of another call.
    known.log.set(None, ptr::null_mut());
    // SAFETY: the call that was counted above is over.
    unsafe { leave(shim) };
}

/// # Safety
/// `shim` was made by [`Shim::new`], and a call that was counted is over.
unsafe fn leave(shim: *const Shim) {
    // SAFETY: it isn't freed while calls are counted.
    let known = unsafe { &*shim };
    known.depth.set(known.depth.get() - 1);
    if known.depth.get() == 0 && known.doomed.get() {
        // SAFETY: it was a box, nobody is in it, and C has let go of it.
        drop(unsafe { Box::from_raw(shim.cast_mut()) });
    }
}

/// What is said of a panic.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    Failure::new(
        libc::ENOTRECOVERABLE,
        format!("a fault of the shim's own, after which it can only be destroyed: {said}"),
    )
}
