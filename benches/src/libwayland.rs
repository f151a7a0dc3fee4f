//! A window's connection over libwayland, as unmodified clients have it.
//!
//! The library is opened when a window is, so that nothing has to be installed to build this. It is the machine's own:
//! `guest-agent run --zero-copy` knows clients by what libwayland does with the files that they send.

#![allow(unsafe_code)] // A C library, all of it here.

mod library;
mod toplevel;

use crate::opcode;
use crate::pixels::{Layout, Rect};
use anyhow::{Context, Result, ensure};
use library::Library;
use nix::errno::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Version of wl_compositor: the one that has `wl_surface.damage_buffer`.
const COMPOSITOR: u32 = 4;

/// `wl_shm.format`, xrgb8888 (wayland.xml).
const XRGB8888: c_int = 1;

/// A `wl_display` or any other `wl_proxy`: the first is one of the second (wayland-client.c).
type Proxy = *mut c_void;

/// A `wl_interface`.
type Interface = *const c_void;

/// An event's handler, whatever its arguments.
type Handler = unsafe extern "C" fn();

/// A `wl_argument` (wayland-util.h).
#[repr(C)]
#[derive(Clone, Copy)]
union Argument {
    int: c_int,
    string: *const c_char,
    object: Proxy,
}

/// A connection with one surface, and the buffers of one pool.
#[derive(Debug)]
pub(crate) struct Client {
    library: &'static Library,
    display: Proxy,
    surface: Proxy,
    buffers: Vec<Buffer>,
    /// The library has a pointer to it.
    globals: Box<Globals>,
    /// The serial of the newest `xdg_surface.configure`; 0 if there was none. The library has a pointer to it.
    configured: Box<AtomicU32>,
}

// SAFETY: the library's objects belong to no thread, and nobody else has these.
unsafe impl Send for Client {}

/// A wl_buffer.
#[derive(Debug)]
struct Buffer {
    proxy: Proxy,
    /// Whether the compositor doesn't read it. The library has a pointer to it.
    is_free: Box<AtomicBool>,
}

/// The names of the globals that a window needs; 0 if they aren't there.
#[derive(Debug, Default)]
struct Globals {
    compositor: AtomicU32,
    shm: AtomicU32,
    /// xdg_wm_base, which the sink doesn't have.
    base: AtomicU32,
}

/// The handlers of a wl_registry's events.
static OF_REGISTRY: [Handler; 2] = [
    // SAFETY: the library calls it with the arguments of this event, which are its own.
    unsafe {
        transmute::<unsafe extern "C" fn(*mut c_void, Proxy, u32, *const c_char, u32), Handler>(
            global,
        )
    },
    ignore,
];

/// The handlers of a wl_surface's events, of the version that we bind.
static OF_SURFACE: [Handler; 2] = [ignore, ignore];

/// The handlers of a wl_shm's events.
static OF_SHM: [Handler; 1] = [ignore];

/// The handlers of a wl_buffer's events.
static OF_BUFFER: [Handler; 1] = [
    // SAFETY: as above.
    unsafe { transmute::<unsafe extern "C" fn(*mut c_void, Proxy), Handler>(release) },
];

/// `wl_registry.global`.
unsafe extern "C" fn global(
    globals: *mut c_void,
    _: Proxy,
    name: u32,
    interface: *const c_char,
    _: u32,
) {
    // SAFETY: the data that the listener was added with, which lives as long as the connection; a C string.
    let (globals, interface) = unsafe { (&*globals.cast::<Globals>(), CStr::from_ptr(interface)) };
    if interface == c"wl_compositor" {
        globals.compositor.store(name, Ordering::Relaxed);
    } else if interface == c"wl_shm" {
        globals.shm.store(name, Ordering::Relaxed);
    } else if interface == c"xdg_wm_base" {
        globals.base.store(name, Ordering::Relaxed);
    }
}

/// `wl_buffer.release`.
unsafe extern "C" fn release(is_free: *mut c_void, _: Proxy) {
    // SAFETY: the data that the listener was added with, which lives as long as the connection.
    unsafe { &*is_free.cast::<AtomicBool>() }.store(true, Ordering::Relaxed);
}

/// An event that is nothing to us, whatever its arguments: the caller puts them away (System V and AAPCS64 calling
/// conventions).
unsafe extern "C" fn ignore() {}

impl Client {
    /// Connects; makes a surface, a window where the compositor has windows, and a pool of `size` bytes of `file` with a buffer for each of `layouts`.
    pub(crate) fn connect(
        socket: &Path,
        file: &OwnedFd,
        size: usize,
        layouts: &[Layout],
    ) -> Result<Self> {
        let library = Library::open()?;
        let name = CString::new(socket.as_os_str().as_bytes())?;
        // SAFETY: a C string.
        let display = unsafe { (library.connect)(name.as_ptr()) };
        if display.is_null() {
            let errno = Errno::last();
            return Err(errno).with_context(|| format!("can't connect to {}", socket.display()));
        }
        let mut client = Self {
            library,
            display,
            surface: null_mut(),
            buffers: Vec::new(),
            globals: Box::default(),
            configured: Box::default(),
        };
        client.set_up(file, size, layouts)?;
        Ok(client)
    }

    fn set_up(&mut self, file: &OwnedFd, size: usize, layouts: &[Layout]) -> Result<()> {
        let library = self.library;
        let new = object(null_mut());
        let registry = opcode::WL_DISPLAY_GET_REGISTRY;
        let registry = self.create(self.display, registry, library.registry, 1, &mut [new])?;
        self.listen(registry, &OF_REGISTRY, &raw const *self.globals);
        self.roundtrip()?;
        let name = self.globals.compositor.load(Ordering::Relaxed);
        let compositor = self.bind(registry, name, library.compositor, COMPOSITOR)?;
        let shm = self.bind(registry, self.globals.shm.load(Ordering::Relaxed), library.shm, 1)?;
        self.listen(shm, &OF_SHM, null::<()>());
        let create = opcode::WL_COMPOSITOR_CREATE_SURFACE;
        self.surface = self.create(compositor, create, library.surface, COMPOSITOR, &mut [new])?;
        self.listen(self.surface, &OF_SURFACE, null::<()>());
        let args = &mut [new, int(file.as_raw_fd()), int(size.try_into()?)];
        let pool = self.create(shm, opcode::WL_SHM_CREATE_POOL, library.pool, 1, args)?;
        for layout in layouts {
            let [offset, width, height, stride] =
                [layout.offset, layout.width, layout.height, layout.stride]
                    .map(|number| int(number as c_int));
            let args = &mut [new, offset, width, height, stride, int(XRGB8888)];
            let create = opcode::WL_SHM_POOL_CREATE_BUFFER;
            let proxy = self.create(pool, create, library.buffer, 1, args)?;
            let is_free = Box::new(AtomicBool::new(true));
            self.listen(proxy, &OF_BUFFER, &raw const *is_free);
            self.buffers.push(Buffer { proxy, is_free });
        }
        match self.globals.base.load(Ordering::Relaxed) {
            0 => {}
            name => self.become_toplevel(registry, name)?,
        }
        self.roundtrip()
    }

    /// Waits until the compositor doesn't read a buffer.
    pub(crate) fn wait_for(&self, buffer: usize) -> Result<()> {
        self.wait_until(|| self.buffers[buffer].is_free.load(Ordering::Relaxed))
    }

    /// Handles events until something is as it is awaited.
    fn wait_until(&self, is: impl Fn() -> bool) -> Result<()> {
        while !is() {
            // SAFETY: an open display.
            let dispatched = unsafe { (self.library.dispatch)(self.display) };
            self.check(dispatched)?;
        }
        Ok(())
    }

    /// Shows a buffer, of which `damage` has changed; or commits without any change.
    pub(crate) fn commit(&self, shown: Option<(usize, Rect)>) {
        if let Some((buffer, Rect { x, y, width, height })) = shown {
            let buffer = &self.buffers[buffer];
            buffer.is_free.store(false, Ordering::Relaxed);
            let args = &mut [object(buffer.proxy), int(0), int(0)];
            self.request(self.surface, opcode::WL_SURFACE_ATTACH, args);
            let args = &mut [x, y, width, height].map(|number| int(number as c_int));
            self.request(self.surface, opcode::WL_SURFACE_DAMAGE_BUFFER, args);
        }
        self.request(self.surface, opcode::WL_SURFACE_COMMIT, &mut []);
    }

    /// Sends all, and waits until it was processed.
    pub(crate) fn roundtrip(&self) -> Result<()> {
        // SAFETY: an open display.
        let dispatched = unsafe { (self.library.roundtrip)(self.display) };
        self.check(dispatched)
    }

    fn check(&self, dispatched: c_int) -> Result<()> {
        if dispatched < 0 {
            // SAFETY: an open display.
            let error = unsafe { (self.library.error)(self.display) };
            // The library has told on stderr what the compositor complains of, if it does.
            return Err(Errno::from_raw(error)).context("the connection failed");
        }
        Ok(())
    }

    fn bind(
        &self,
        registry: Proxy,
        name: u32,
        interface: Interface,
        version: u32,
    ) -> Result<Proxy> {
        // SAFETY: a `wl_interface` begins with its name (wayland-util.h).
        let text = Argument { string: unsafe { *interface.cast::<*const c_char>() } };
        // SAFETY: as above, a C string.
        let what = unsafe { CStr::from_ptr(text.string) };
        ensure!(name != 0, "the compositor has no {what:?}");
        let args = &mut [int(name as c_int), text, int(version as c_int), object(null_mut())];
        self.create(registry, opcode::WL_REGISTRY_BIND, interface, version, args)
    }

    /// Makes an object by a request, the arguments of which are of the types that the request has.
    fn create(
        &self,
        of: Proxy,
        opcode: u16,
        interface: Interface,
        version: u32,
        args: &mut [Argument],
    ) -> Result<Proxy> {
        let (library, opcode) = (self.library, opcode.into());
        // SAFETY: a live proxy, and as many arguments as its request has, of these types: so it is called here.
        let new = unsafe { (library.create)(of, opcode, args.as_mut_ptr(), interface, version) };
        ensure!(!new.is_null(), "libwayland can't make an object: {}", Errno::last());
        Ok(new)
    }

    fn request(&self, of: Proxy, opcode: u16, args: &mut [Argument]) {
        // SAFETY: as above.
        unsafe { (self.library.marshal)(of, opcode.into(), args.as_mut_ptr()) }
    }

    fn listen<T>(&self, to: Proxy, handlers: &'static [Handler], data: *const T) {
        // SAFETY: a live proxy without a listener; there is a handler for each of its events, and the data lives as long
        // as the connection.
        unsafe { (self.library.listen)(to, handlers.as_ptr(), data.cast_mut().cast()) };
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: an open display; its proxies, which stay behind, are used no more.
        unsafe { (self.library.disconnect)(self.display) }
    }
}

fn int(int: c_int) -> Argument {
    Argument { int }
}

fn object(object: Proxy) -> Argument {
    Argument { object }
}
