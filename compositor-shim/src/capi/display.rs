//! A shim in the event loop of a `wl_display`.

#![allow(unsafe_code)] // libwayland is a C library, and calls back.

use super::shim::{Failure, Shim, enter};
use super::{Peer, WithClient};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use wayland_sys::common::wl_list;
use wayland_sys::ffi_dispatch;
use wayland_sys::server::*;

/// `WL_EVENT_READABLE` of wayland-server-core.h.
const READABLE: u32 = 1;

/// A place in a display's event loop. It lies still, as libwayland's list leads to it.
#[repr(C)]
pub(super) struct Attached {
    /// Hears of the display's end. The first field, so that who is told of it knows the rest.
    gone: wl_listener,
    shim: *const Shim,
    display: *mut wl_display,
    source: *mut wl_event_source,
    client: Option<WithClient>,
    data: *mut c_void,
}

impl Attached {
    /// Joins the display's event loop.
    ///
    /// # Safety
    /// The display is alive; this is the thread of its event loop. `client` may be called with `data` as long as the shim
    /// is in there.
    pub(super) unsafe fn attach(
        shim: &Shim,
        display: *mut wl_display,
        client: Option<WithClient>,
        data: *mut c_void,
    ) -> Result<(), Failure> {
        if !shim.attached.get().is_null() {
            return Err(Failure::new(libc::EALREADY, "the shim has been added to a display"));
        }
        let fd = shim.fd.as_raw_fd();
        let known: *const Shim = shim;
        // SAFETY: the display is alive. The shim leaves the loop before it is freed.
        let source = unsafe {
            let events = ffi_dispatch!(wayland_server_handle(), wl_display_get_event_loop, display);
            let data = known.cast_mut().cast();
            ffi_dispatch!(
                wayland_server_handle(),
                wl_event_loop_add_fd,
                events,
                fd,
                READABLE,
                on_readable,
                data
            )
        };
        if source.is_null() {
            let text = "the display's event loop takes no more";
            return Err(Failure::new(libc::ENOMEM, text));
        }
        let link = wl_list { prev: ptr::null_mut(), next: ptr::null_mut() };
        let gone = wl_listener { link, notify: on_gone };
        let attached = Box::into_raw(Box::new(Self { gone, shim, display, source, client, data }));
        // SAFETY: the display is alive; the listener lies still until it is removed.
        unsafe {
            let listener = &raw mut (*attached).gone;
            ffi_dispatch!(
                wayland_server_handle(),
                wl_display_add_destroy_listener,
                display,
                listener
            );
        }
        shim.attached.set(attached);
        Ok(())
    }

    /// Leaves the event loop, if the shim is in one.
    pub(super) fn detach(shim: &Shim) {
        let attached = shim.attached.replace(ptr::null_mut());
        if attached.is_null() {
            return;
        }
        // SAFETY: `attach` has made it, and nobody else frees it. Source and list are the display's, which is alive: when it
        // ends it says so first, and then nothing is attached any more.
        unsafe {
            let attached = Box::from_raw(attached);
            ffi_dispatch!(wayland_server_handle(), wl_event_source_remove, attached.source);
            let link = (&raw const attached.gone.link).cast_mut();
            ffi_dispatch!(wayland_server_handle(), wl_list_remove, link);
        }
    }
}

/// The display is about to end; its event loop is still there.
unsafe extern "C" fn on_gone(listener: *mut wl_listener, _display: *mut c_void) {
    // SAFETY: libwayland knows of no such listener but those of `attach`, whose shims leave before they are freed.
    Attached::detach(unsafe { &*(*listener.cast::<Attached>()).shim });
}

/// There is something to do.
unsafe extern "C" fn on_readable(_fd: c_int, _mask: u32, shim: *mut c_void) -> c_int {
    let shim: *const Shim = shim.cast();
    // SAFETY: a shim leaves the loop before it is freed, and this is the thread of the loop.
    unsafe {
        enter(shim, |shim| {
            let mut clients = Vec::new();
            let accepted = shim.accept(&mut clients);
            for client in clients {
                let attached = shim.attached.get();
                if attached.is_null() || shim.is_over() {
                    // By what the compositor has done with the one before. The rest is disconnected.
                    break;
                }
                introduce(attached, client.stream, &Peer::new(client.peer));
            }
            if let Err(failure) = &accepted {
                tracing::error!("{}", failure.text);
            }
            accepted.map(|()| 0)
        });
    }
    // Nobody is to look at this source again in the same round.
    0
}

/// Makes a stream a client of libwayland's.
///
/// # Safety
/// `attached` is a shim's.
unsafe fn introduce(attached: *const Attached, stream: UnixStream, peer: &Peer) {
    // SAFETY: as the caller says. They are copied, since the compositor's function may have the shim leave the display.
    let (display, function, data) =
        unsafe { ((*attached).display, (*attached).client, (*attached).data) };
    // SAFETY: the display is alive, or nothing would be attached.
    let client = unsafe {
        ffi_dispatch!(wayland_server_handle(), wl_client_create, display, stream.as_raw_fd())
    };
    if client.is_null() {
        let name = peer.name();
        tracing::warn!(connection = name, "libwayland has no memory for the client");
        return;
    }
    // Now it is the client's.
    let _ = stream.into_raw_fd();
    if let Some(function) = function {
        // SAFETY: the compositor has given both for this call; the peer lives until it returns.
        unsafe { function(data, client, peer) };
    }
}
