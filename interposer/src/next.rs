//! The functions that ours stand before: the C library's, or those of another library that is preloaded.

#![allow(unsafe_code)]

use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// A function by its name.
#[repr(C)]
pub(crate) struct Next {
    /// Null until it was looked for, or if there is none. It stands first, where assembly finds it.
    address: AtomicPtr<c_void>,
    name: &'static CStr,
}

impl Next {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self { address: AtomicPtr::new(ptr::null_mut()), name }
    }

    /// Looks for it.
    pub(crate) fn find(&self) {
        // SAFETY: the name is a string, and this library stays loaded.
        let address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(address, Relaxed);
    }

    /// Where it is; null before this library was initialised, when other libraries' constructors run.
    pub(crate) fn address(&self) -> *mut c_void {
        self.address.load(Relaxed)
    }
}

/// Declares functions that ours stand before, in a module `next`: they call the next one, or without one make the system
/// call that is given.
macro_rules! next {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $call:expr;)*) => {
        /// The functions behind ours.
        mod next {
            #[allow(unused_imports, reason = "some need none of these")]
            use super::*;
            $(
                #[allow(unused_unsafe, reason = "some have no system call")]
                pub(super) unsafe fn $name($($arg: $type),*) -> $result {
                    let address = found::$name.address();
                    if address.is_null() {
                        // SAFETY: the same call (the caller).
                        return unsafe { $call } as $result;
                    }
                    type Function = unsafe extern "C" fn($($type),*) -> $result;
                    // SAFETY: a function of that name has this type.
                    let function = unsafe { core::mem::transmute::<*mut core::ffi::c_void, Function>(address) };
                    // SAFETY: the same call (the caller).
                    unsafe { function($($arg),*) }
                }
            )*

            #[allow(non_upper_case_globals, reason = "they are called as the functions are")]
            pub(super) mod found {
                use $crate::next::Next;
                $(pub(in super::super) static $name: Next = {
                    const NAME: &str = concat!(stringify!($name), "\0");
                    match core::ffi::CStr::from_bytes_with_nul(NAME.as_bytes()) {
                        Ok(name) => Next::new(name),
                        Err(_) => panic!("a function's name is a string"),
                    }
                };)*
            }

            /// Looks for all of them.
            pub(super) fn find() {
                $(found::$name.find();)*
            }
        }
    };
}
pub(crate) use next;
