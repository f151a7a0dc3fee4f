//! Who calls.

#![allow(unsafe_code)]

use crate::raw::c_str;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// How the file of libwayland's client side is called, whatever its version.
const NAME: &[u8] = b"libwayland-client.so";

/// Where the last call that was libwayland's came from: it has one place for this.
static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Whether this address is in libwayland's client side.
///
/// The dynamic linker, which is asked the first time, has a lock that fcntl(2) shouldn't wait for.
pub(crate) fn is_libwayland(address: *const c_void) -> bool {
    if KNOWN.load(Relaxed).cast_const() == address {
        return true;
    }
    let is_it = ask_linker(address);
    if is_it {
        KNOWN.store(address.cast_mut(), Relaxed);
    }
    is_it
}

fn ask_linker(address: *const c_void) -> bool {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr looks the address up, and doesn't look at it.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return false;
    }
    // SAFETY: it was found, and all is filled in; the name stays as long as the library.
    let path = unsafe { c_str(info.assume_init().dli_fname) };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.starts_with(NAME)
}
