//! A surface becomes a window, where the compositor has windows: those of `examples/` show nothing else.

#![allow(unsafe_code)] // As its parent.

use super::{Client, Handler, Interface, Proxy, ignore, int, object};
use crate::opcode;
use anyhow::{Context, Result};
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use wayland_client::Proxy as _;
use wayland_protocols::xdg::shell::client::{
    xdg_surface::XdgSurface, xdg_toplevel::XdgToplevel, xdg_wm_base::XdgWmBase,
};

/// Version of xdg_wm_base: the first, as a window needs no more.
const BASE: u32 = 1;

/// The handlers of an xdg_wm_base's events. Who isn't answered may be told to be busy, which is nothing to this client.
static OF_BASE: [Handler; 1] = [ignore];

/// The handlers of an xdg_toplevel's events, of the version that we bind.
static OF_TOPLEVEL: [Handler; 2] = [ignore, ignore];

/// The handlers of an xdg_surface's events.
static OF_SURFACE: [Handler; 1] = [
    // SAFETY: the library calls it with the arguments of this event, which are its own.
    unsafe { transmute::<unsafe extern "C" fn(*mut c_void, Proxy, u32), Handler>(configure) },
];

/// `xdg_surface.configure`. No serial is 0 in the compositors that there are.
unsafe extern "C" fn configure(configured: *mut c_void, _: Proxy, serial: u32) {
    // SAFETY: the data that the listener was added with, which lives as long as the connection.
    unsafe { &*configured.cast::<AtomicU32>() }.store(serial, Ordering::Relaxed);
}

/// The C form of an interface that libwayland doesn't have, in the layout of its headers.
fn interface(of: &'static wayland_client::backend::protocol::Interface) -> Result<Interface> {
    let table = of.c_ptr.with_context(|| format!("{} has no form for C", of.name))?;
    Ok((&raw const *table).cast())
}

impl Client {
    /// Has the surface be a window of its own, and waits until the compositor lets it draw. `name` is that of xdg_wm_base.
    pub(super) fn become_toplevel(&self, registry: Proxy, name: u32) -> Result<()> {
        let new = object(null_mut());
        let [base, surface, toplevel] =
            [XdgWmBase::interface(), XdgSurface::interface(), XdgToplevel::interface()]
                .map(interface);
        let base = self.bind(registry, name, base?, BASE)?;
        self.listen(base, &OF_BASE, null::<()>());
        let args = &mut [new, object(self.surface)];
        let get = opcode::XDG_WM_BASE_GET_XDG_SURFACE;
        let surface = self.create(base, get, surface?, BASE, args)?;
        self.listen(surface, &OF_SURFACE, &raw const *self.configured);
        let get = opcode::XDG_SURFACE_GET_TOPLEVEL;
        let toplevel = self.create(surface, get, toplevel?, BASE, &mut [new])?;
        self.listen(toplevel, &OF_TOPLEVEL, null::<()>());
        // A first commit without a buffer asks how large it has to be: as large as it likes.
        self.commit(None);
        self.wait_until(|| self.configured.load(Ordering::Relaxed) != 0)?;
        let serial = self.configured.load(Ordering::Relaxed);
        let args = &mut [int(serial.cast_signed())];
        self.request(surface, opcode::XDG_SURFACE_ACK_CONFIGURE, args);
        Ok(())
    }
}
