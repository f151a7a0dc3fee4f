//! The interface for C: `wlproxy-shim.h` is made of this file by `cargo xtask header`.
//!
//! What stands here is for who reads the header. What a shim is made of stands in [`shim`].

#![allow(unsafe_code)] // Functions for C, and what C gives them.
#![allow(unreachable_pub)] // C reaches them.

mod display;
mod log;
mod shim;
mod signals;
#[cfg(test)]
#[allow(clippy::undocumented_unsafe_blocks)] // They call what they have made.
mod tests;

pub use log::LogLevel;
pub use shim::Shim;

use display::Attached;
use shim::{Failure, destroy, enter};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use wayland_sys::server::{wl_client, wl_display};

/// Who a client is, as long as the function runs that it was given to. The host says so, and no client can: it is to be
/// believed.
pub struct Peer {
    vm: CString,
    connection: u64,
}

impl Peer {
    fn new(peer: crate::Peer) -> Self {
        Self { vm: log::text(peer.vm), connection: peer.connection }
    }

    /// What it is called in the log.
    fn name(&self) -> String {
        format!("{}:{}", self.vm.to_string_lossy(), self.connection)
    }
}

/// What `wlproxy_shim_dispatch` calls.
type WithFd = unsafe extern "C" fn(data: *mut c_void, fd: c_int, peer: *const Peer);

/// What `wlproxy_shim_add_to_display` has called.
type WithClient =
    unsafe extern "C" fn(data: *mut c_void, client: *mut wl_client, peer: *const Peer);

/// Makes a shim, which accepts clients over a channel of this VM.
///
/// The channel is named as for `guest-agent serve --channel`: "auto", or NULL, takes the device that the VM has;
/// "virtgpu", "virtgpu:NODE", "virtio_wl" and "virtio_wl:NODE" name one; "process:SOCKET" is for a compositor without a
/// VM, with the vhost-user socket of a VM's worker. Whether the host is there shows later: that is logged, and it is
/// tried again five times a second, now and whenever the host is lost.
///
/// Returns 0 and sets *shim, or returns a negative error and sets it to NULL: -EINVAL if there is no such channel, or
/// what the system says, as -EMFILE. Then the reason is written to why, of size bytes, ended by a NUL and cut to fit;
/// why may be NULL if size is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_create(
    channel: *const c_char,
    shim: *mut *mut Shim,
    why: *mut c_char,
    size: usize,
) -> c_int {
    let made = if shim.is_null() {
        Err(Failure::new(libc::EINVAL, "there is no place for the shim"))
    } else {
        // SAFETY: a pointer that isn't null leads to a text, as the header says.
        let channel = (!channel.is_null()).then(|| unsafe { CStr::from_ptr(channel) });
        catch_unwind(AssertUnwindSafe(|| create(channel)))
            .unwrap_or_else(|panic| Err(shim::panicked(&*panic)))
    };
    let (made, done) = match made {
        Ok(made) => (Box::into_raw(made), 0),
        Err(failure) => {
            // SAFETY: `why` has room for so much, as the header says.
            unsafe { write(&failure.text, why, size) };
            (ptr::null_mut(), -failure.errno)
        }
    };
    if !shim.is_null() {
        // SAFETY: it leads to a pointer, as the header says.
        unsafe { shim.write(made) };
    }
    done
}

/// Returns a file descriptor that becomes readable when wlproxy_shim_dispatch() has something to do, or a negative
/// error.
///
/// It stays the shim's: it is to be polled and nothing else, and is closed by wlproxy_shim_destroy().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_get_fd(shim: *const Shim) -> c_int {
    // SAFETY: as the header says.
    unsafe { enter(shim, |shim| Ok(shim.fd.as_raw_fd())) }
}

/// Does what there is to do: carries what clients and compositor have sent, and accepts clients that came. client() is
/// called for each of these, with data.
///
/// fd is the client's Wayland stream: a connected socket, non-blocking and close-on-exec. From the call on it belongs
/// to the compositor, which is to give it to wl_client_create() or to close it. When it is closed, the client is
/// disconnected. peer lives until client() returns.
///
/// No client can make it wait. The host can, for as long as it takes to give memory for a keymap or to take the
/// channel.
///
/// Returns how many clients came, or a negative error, as -EINVAL if client is NULL. If the host is lost that is no
/// error. client() may have been called even if there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_dispatch(
    shim: *mut Shim,
    client: Option<unsafe extern "C" fn(data: *mut c_void, fd: c_int, peer: *const Peer)>,
    data: *mut c_void,
) -> c_int {
    // SAFETY: as the header says.
    unsafe { enter(shim, |shim| dispatch(shim, client, data)) }
}

/// Has a display accept clients: the shim joins its event loop, and for each client that comes it calls
/// wl_client_create() and then client(), with data. client may be NULL; peer lives until client() returns.
/// wlproxy_shim_dispatch() needn't be called then.
///
/// What goes wrong later is logged. If libwayland has no memory for a client, that one is disconnected.
///
/// The shim leaves the display when either of them is destroyed, whichever is first. Its clients are wl_clients like
/// any others, so before it destroys the display the compositor calls wl_display_destroy_clients(). A shim that has
/// left may be added again. client() may destroy the shim or any client, but not the display, whose event loop is
/// running.
///
/// Returns 0, or a negative error: -EINVAL without a display, -EALREADY if the shim is in one, -ENOMEM if there is no
/// memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_add_to_display(
    shim: *mut Shim,
    display: *mut wl_display,
    client: Option<
        unsafe extern "C" fn(data: *mut c_void, client: *mut wl_client, peer: *const Peer),
    >,
    data: *mut c_void,
) -> c_int {
    let work = |shim: &Shim| {
        if display.is_null() {
            return Err(Failure::new(libc::EINVAL, "there is no display"));
        }
        // SAFETY: as the header says.
        unsafe { Attached::attach(shim, display, client, data) }?;
        Ok(0)
    };
    // SAFETY: as the header says.
    unsafe { enter(shim, work) }
}

/// Has log() called, with data, for each line that the shim logs: text, in UTF-8, without an end of line, which lives
/// until log() returns. It is called at once for lines that were logged before, while the shim was made. If log is
/// NULL, nobody is told any more.
///
/// log() is called by functions that are given this shim, before they return, and in the display's event loop. It may
/// call any of them.
///
/// Returns 0, or a negative error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_set_log(
    shim: *mut Shim,
    log: Option<unsafe extern "C" fn(data: *mut c_void, level: LogLevel, text: *const c_char)>,
    data: *mut c_void,
) -> c_int {
    let work = |shim: &Shim| {
        shim.log.set(log, data);
        Ok(0)
    };
    // SAFETY: as the header says.
    unsafe { enter(shim, work) }
}

/// Returns why the last call failed that has failed, as a text in UTF-8, which is empty if none has. It lives until the
/// next call that is given this shim.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_error(shim: *const Shim) -> *const c_char {
    // SAFETY: as the header says.
    unsafe { shim.as_ref() }.map_or(c"there is no shim".as_ptr(), |shim| {
        // It isn't borrowed for longer: C has to see that the text is over.
        shim.error.borrow().as_ptr()
    })
}

/// Whether the host is there, so that clients are accepted. No if shim is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_is_open(shim: *const Shim) -> bool {
    // SAFETY: as the header says.
    unsafe { shim.as_ref() }.and_then(|shim| shim.ask(crate::Listener::is_open)).unwrap_or(false)
}

/// Returns how many clients of other VMs are connected. 0 if shim is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_clients(shim: *const Shim) -> usize {
    // SAFETY: as the header says.
    unsafe { shim.as_ref() }.and_then(|shim| shim.ask(crate::Listener::clients)).unwrap_or(0)
}

/// Disconnects all clients, leaves the display, and frees the shim. Nothing is done if shim is NULL.
///
/// It may be called in a function that the shim calls; none is called for this shim from then on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_destroy(shim: *mut Shim) {
    // SAFETY: as the header says.
    unsafe { destroy(shim) };
}

/// Returns the client VM's name in the host's configuration, which has no characters but letters, digits, '-' and '_'.
/// It lives as long as peer. NULL if peer is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_peer_vm(peer: *const Peer) -> *const c_char {
    // SAFETY: as the header says.
    unsafe { peer.as_ref() }.map_or(ptr::null(), |peer| peer.vm.as_ptr())
}

/// Returns the connection's number on the host, as in `wlproxy status`. No other has the same until the host is started
/// again. 0 if peer is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wlproxy_shim_peer_connection(peer: *const Peer) -> u64 {
    // SAFETY: as the header says.
    unsafe { peer.as_ref() }.map_or(0, |peer| peer.connection)
}

fn create(channel: Option<&CStr>) -> Result<Box<Shim>, Failure> {
    let channel = channel.map_or(Ok("auto"), CStr::to_str);
    let channel = channel.map_err(|error| Failure::new(libc::EINVAL, error.to_string()))?;
    Shim::new(channel.parse().map_err(|why: String| Failure::new(libc::EINVAL, why))?)
}

/// # Safety
/// `client` may be called with `data`.
unsafe fn dispatch(
    shim: &Shim,
    client: Option<WithFd>,
    data: *mut c_void,
) -> Result<c_int, Failure> {
    let client =
        client.ok_or_else(|| Failure::new(libc::EINVAL, "there is no function to call"))?;
    let mut clients = Vec::new();
    let accepted = shim.accept(&mut clients);
    let mut count = 0;
    for found in clients {
        if shim.is_over() {
            // By what the compositor has done with the one before. The rest is disconnected.
            break;
        }
        let peer = Peer::new(found.peer);
        // SAFETY: as the caller says; the peer lives until it returns, and the fd is nobody else's.
        unsafe { client(data, found.stream.into_raw_fd(), &peer) };
        count += 1;
    }
    accepted.map(|()| count)
}

/// Writes a text for C, as much as there is room for. What is cut is cut between characters.
///
/// # Safety
/// `to` has `size` bytes, or `size` is 0.
unsafe fn write(text: &str, to: *mut c_char, size: usize) {
    if to.is_null() || size == 0 {
        return;
    }
    let mut length = text.len().min(size - 1);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    // SAFETY: so much and the NUL fits.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), to, length);
        to.add(length).write(0);
    }
}
