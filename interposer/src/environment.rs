//! What `guest-agent run` tells by the environment, and how that is taken out of it.

#![allow(unsafe_code)]

use crate::maps;
use crate::raw::{self, Range, c_str};
use crate::socket::{self, Path};
use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;

/// The path of the agent's Wayland socket.
pub(crate) const DISPLAY: &CStr = c"WLPROXY_LEND_DISPLAY";

/// The path of the socket where it lends.
pub(crate) const LENDER: &CStr = c"WLPROXY_LEND_SOCKET";

/// Has a folder for each thread of this process (proc(5)).
const TASKS: &CStr = c"/proc/self/task";

/// The links of that folder if there is one thread: its name, `.`, and the thread's `..`.
const LINKS_OF_ONE: u64 = 3;

/// What the dynamic linker loads first.
const PRELOAD: &CStr = c"LD_PRELOAD";

/// A path that a variable holds, if it can be a socket's.
pub(crate) fn path(name: &CStr) -> Option<Path> {
    // SAFETY: a name; what it returns stays until somebody changes the environment.
    let value = unsafe { c_str(libc::getenv(name.as_ptr())) };
    let mut path = [0; socket::PATH];
    let fits = !value.is_empty() && value.len() < path.len();
    path.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    fits.then_some(path)
}

/// Takes out of the environment what is there for this process. Whatever else is preloaded stays.
///
/// Lists are shortened where they are.
pub(crate) fn clean() {
    remove(DISPLAY);
    remove(LENDER);
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    let own = (&raw const OWN).cast::<c_void>();
    // SAFETY: dladdr looks up the address of something of ours.
    if unsafe { libc::dladdr(own, info.as_mut_ptr()) } == 0 {
        return;
    }
    // SAFETY: it was found, and the path stays as long as this library: the one by which it was preloaded.
    let library = unsafe { c_str(info.assume_init().dli_fname) };
    // SAFETY: as above.
    let value = unsafe { libc::getenv(PRELOAD.as_ptr()) };
    // SAFETY: a C string or null, which isn't changed meanwhile.
    let has_entry = unsafe { c_str(value) }.split(is_between).any(|entry| entry == library);
    if has_entry && is_writable(value) {
        // SAFETY: a C string that has this entry, and may be written to.
        unsafe { without(value, library) };
        // SAFETY: as above.
        if unsafe { c_str(value) }.is_empty() {
            remove(PRELOAD);
        }
    }
}

/// Takes a variable out.
///
/// Where there are other threads, it stays as a string of nothing, not even a name: unsetenv(3) moves what they may be
/// looking at. A shell doesn't pass such a string on; env(1) shows an empty line.
fn remove(name: &CStr) {
    if raw::stat(TASKS).is_ok_and(|tasks| tasks.links == LINKS_OF_ONE) {
        // SAFETY: a name, and there is no other thread.
        unsafe { libc::unsetenv(name.as_ptr()) };
        return;
    }
    // SAFETY: a name; what it returns is a C string or null.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return;
    }
    // SAFETY: getenv returns the place after the name and an equals sign (getenv(3)).
    let entry = unsafe { value.sub(name.count_bytes() + 1) };
    if is_writable(entry) {
        // SAFETY: the entry's first byte, which may be written to.
        unsafe { *entry = 0 };
    }
}

/// Whether it lies in memory that may be written to: the program may have put what it can't write to into its
/// environment (putenv(3)).
fn is_writable(value: *const c_char) -> bool {
    // SAFETY: a C string (the caller).
    let range = Range { start: value as usize, len: unsafe { c_str(value) }.len() + 1 };
    let mut writable = false;
    let looked = maps::each(|mapped| {
        writable |= mapped.protection & libc::PROT_WRITE != 0 && mapped.range.contains(range);
        !writable
    });
    looked.is_ok() && writable
}

/// Whether a byte is between two entries of a list (ld.so(8)).
fn is_between(byte: &u8) -> bool {
    b" :".contains(byte)
}

/// Something that lies in this library.
static OWN: u8 = 0;

/// Shortens a list by all entries that are `entry`.
///
/// # Safety
/// It is a C string that may be written to.
unsafe fn without(list: *mut c_char, entry: &[u8]) {
    let (mut from, mut to) = (list.cast::<u8>().cast_const(), list.cast::<u8>());
    loop {
        // SAFETY: `from` doesn't go past the zero at the end.
        let rest = unsafe { c_str(from.cast()) };
        let len = rest.iter().position(is_between).unwrap_or(rest.len());
        let (is_last, is_it) = (len == rest.len(), rest.get(..len) == Some(entry));
        let step = len + usize::from(!is_last);
        // SAFETY: `to` is never behind `from`, and both stay in the string.
        unsafe {
            if !is_it {
                core::ptr::copy(from, to, step);
                to = to.add(step);
            }
            from = from.add(step);
        }
        if is_last {
            break;
        }
    }
    // SAFETY: `to` is in the string: at its end, or where it ends now.
    unsafe {
        // What was between the last that is left and the last one isn't needed.
        if to.cast_const() > list.cast() && from > to && is_between(&*to.sub(1)) {
            to = to.sub(1);
        }
        *to = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn our_own_entry_is_taken_out_and_others_stay() {
        let table = [
            ("/us.so", ""),
            ("/us.so:", ""),
            ("/us.so:/a.so", "/a.so"),
            ("/us.so /a.so:/b.so", "/a.so:/b.so"),
            ("/a.so:/us.so", "/a.so"),
            ("/a.so:/us.so:/b.so", "/a.so:/b.so"),
            ("/us.so:/us.so", ""),
            ("/a.so", "/a.so"),
            ("/us.so2:/x/us.so", "/us.so2:/x/us.so"),
            ("", ""),
        ];
        for (list, expected) in table {
            let text = CString::new(list).unwrap().into_raw();
            // SAFETY: it is a string of ours.
            let left = unsafe {
                without(text, b"/us.so");
                CString::from_raw(text)
            };
            assert_eq!(left.to_str(), Ok(expected), "{list}");
        }
    }
}
