//! The functions of libwayland-client.

#![allow(unsafe_code)] // What is declared here is called there.

use super::{Argument, Handler, Interface, Proxy};
use anyhow::{Result, anyhow};
use nix::libc;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute_copy;
use std::sync::OnceLock;

/// The library's file. Its ABI is kept.
const LIBRARY: &CStr = c"libwayland-client.so.0";

/// The functions that are used (wayland-client-core.h), and the interfaces.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) connect: unsafe extern "C" fn(*const c_char) -> Proxy,
    pub(super) disconnect: unsafe extern "C" fn(Proxy),
    pub(super) roundtrip: unsafe extern "C" fn(Proxy) -> c_int,
    pub(super) dispatch: unsafe extern "C" fn(Proxy) -> c_int,
    pub(super) error: unsafe extern "C" fn(Proxy) -> c_int,
    pub(super) marshal: unsafe extern "C" fn(Proxy, u32, *mut Argument),
    pub(super) create: unsafe extern "C" fn(Proxy, u32, *mut Argument, Interface, u32) -> Proxy,
    pub(super) listen: unsafe extern "C" fn(Proxy, *const Handler, *mut c_void) -> c_int,
    pub(super) registry: Interface,
    pub(super) compositor: Interface,
    pub(super) surface: Interface,
    pub(super) shm: Interface,
    pub(super) pool: Interface,
    pub(super) buffer: Interface,
}

// SAFETY: functions and constants of a library that is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The library, opened once.
    pub(super) fn open() -> Result<&'static Self> {
        static LIBRARIES: OnceLock<Result<Library, String>> = OnceLock::new();
        LIBRARIES.get_or_init(Self::load).as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn load() -> Result<Self, String> {
        // SAFETY: libwayland-client's constructors do nothing to us; it is never closed.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(format!("{LIBRARY:?} can't be opened: apt install libwayland-client0"));
        }
        let find = |name: &CStr| {
            // SAFETY: an open library and a name.
            let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
            if symbol.is_null() { Err(format!("{LIBRARY:?} has no {name:?}")) } else { Ok(symbol) }
        };
        /// A function of the library, with the type of its field.
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the symbol is a function, declared like the field in wayland-client-core.h, where the type is
                // taken from.
                unsafe { transmute_copy(&find($name)?) }
            };
        }
        Ok(Self {
            connect: function!(c"wl_display_connect"),
            disconnect: function!(c"wl_display_disconnect"),
            roundtrip: function!(c"wl_display_roundtrip"),
            dispatch: function!(c"wl_display_dispatch"),
            error: function!(c"wl_display_get_error"),
            marshal: function!(c"wl_proxy_marshal_array"),
            create: function!(c"wl_proxy_marshal_array_constructor_versioned"),
            listen: function!(c"wl_proxy_add_listener"),
            registry: find(c"wl_registry_interface")?,
            compositor: find(c"wl_compositor_interface")?,
            surface: find(c"wl_surface_interface")?,
            shm: find(c"wl_shm_interface")?,
            pool: find(c"wl_shm_pool_interface")?,
            buffer: find(c"wl_buffer_interface")?,
        })
    }
}
