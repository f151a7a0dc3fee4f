//! A client that means no good, in the middle of its work.

use crate::{Arg, Display, Fault, PATIENCE, Raw, message};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Opcodes of wayland.xml and xdg-shell.xml.
pub mod opcode {
    /// wl_compositor.create_surface
    pub const CREATE_SURFACE: u16 = 0;
    /// wl_compositor.create_region
    pub const CREATE_REGION: u16 = 1;
    /// wl_shm.create_pool
    pub const CREATE_POOL: u16 = 0;
    /// wl_shm_pool.create_buffer
    pub const CREATE_BUFFER: u16 = 0;
    /// wl_shm_pool.resize
    pub const RESIZE: u16 = 2;
    /// wl_surface.attach
    pub const ATTACH: u16 = 1;
    /// wl_surface.damage
    pub const DAMAGE: u16 = 2;
    /// wl_surface.commit
    pub const COMMIT: u16 = 6;
    /// xdg_wm_base.get_xdg_surface
    pub const GET_XDG_SURFACE: u16 = 2;
    /// xdg_surface.get_toplevel
    pub const GET_TOPLEVEL: u16 = 1;
    /// xdg_surface.ack_configure
    pub const ACK_CONFIGURE: u16 = 4;
    /// xdg_toplevel.set_title
    pub const SET_TITLE: u16 = 2;
    /// xdg_surface.configure, an event
    pub const CONFIGURE: u16 = 0;
    /// wl_callback.done, an event
    pub const DONE: u16 = 0;
}

use opcode::*;

/// wl_shm.format.argb8888
const ARGB: u32 = 0;

/// A pause after which a socket that takes nothing is full.
const FULL: Duration = Duration::from_millis(300);

/// Memory like the allocations of VMs.
///
/// # Panics
/// If there is none left.
pub fn sealed(size: u64) -> OwnedFd {
    wlproxy_unix::memory::allocate("client", size).expect("memory is left")
}

/// Such a client, with a window.
#[derive(Debug)]
pub struct Attacker {
    /// Its connection.
    pub raw: Raw,
    /// Its wl_compositor.
    pub compositor: u32,
    /// Its wl_shm.
    pub shm: u32,
    /// Its xdg_wm_base.
    pub wm_base: u32,
    /// The wl_surface of its window.
    pub surface: u32,
    /// The xdg_surface of it.
    pub xdg_surface: u32,
    /// The xdg_toplevel of it.
    pub toplevel: u32,
}

impl Attacker {
    /// Connects, and makes a window that shows nothing yet.
    pub fn new(display: &Display) -> Self {
        let mut raw = Raw::connect(display);
        raw.sync();
        let (compositor, shm, wm_base) =
            (raw.bind("wl_compositor", 4), raw.bind("wl_shm", 1), raw.bind("xdg_wm_base", 1));
        let (surface, xdg_surface, toplevel) = (raw.id(), raw.id(), raw.id());
        let requests = [
            message(compositor, CREATE_SURFACE, &[Arg::Uint(surface)]),
            message(wm_base, GET_XDG_SURFACE, &[Arg::Uint(xdg_surface), Arg::Uint(surface)]),
            message(xdg_surface, GET_TOPLEVEL, &[Arg::Uint(toplevel)]),
        ];
        raw.send(&requests.concat(), []);
        raw.sync();
        Self { raw, compositor, shm, wm_base, surface, xdg_surface, toplevel }
    }

    /// Says one thing.
    pub fn say(&mut self, object: u32, opcode: u16, args: &[Arg]) {
        self.raw.send(&message(object, opcode, args), []);
    }

    /// Makes an object whose request takes nothing else.
    pub fn make(&mut self, object: u32, opcode: u16) -> u32 {
        let id = self.raw.id();
        self.say(object, opcode, &[Arg::Uint(id)]);
        id
    }

    /// A surface without a role.
    pub fn surface(&mut self) -> u32 {
        self.make(self.compositor, CREATE_SURFACE)
    }

    /// A wl_shm_pool of `file`, as if that had `size` bytes.
    pub fn pool(&mut self, file: OwnedFd, size: i32) -> u32 {
        let pool = self.raw.id();
        let create_pool = message(self.shm, CREATE_POOL, &[Arg::Uint(pool), Arg::Int(size)]);
        self.raw.send(&create_pool, [file]);
        pool
    }

    /// A wl_buffer: where in the pool it begins, its width, height and stride.
    pub fn buffer(&mut self, pool: u32, [offset, width, height, stride]: [i32; 4]) -> u32 {
        let buffer = self.raw.id();
        let numbers = [offset, width, height, stride].map(Arg::Int);
        let args: Vec<_> =
            [Arg::Uint(buffer)].into_iter().chain(numbers).chain([Arg::Uint(ARGB)]).collect();
        self.say(pool, CREATE_BUFFER, &args);
        buffer
    }

    /// A buffer of 64x64 pixels, in memory as agents hand it over.
    pub fn picture(&mut self) -> u32 {
        let pool = self.pool(sealed(64 * 64 * 4), 64 * 64 * 4);
        self.buffer(pool, [0, 64, 64, 256])
    }

    /// Shows a buffer on a surface.
    pub fn attach(&mut self, surface: u32, buffer: u32) {
        const WHOLE: [Arg; 4] = [Arg::Int(0), Arg::Int(0), Arg::Int(i32::MAX), Arg::Int(i32::MAX)];
        self.say(surface, ATTACH, &[Arg::Uint(buffer), Arg::Int(0), Arg::Int(0)]);
        self.say(surface, DAMAGE, &WHOLE);
        self.say(surface, COMMIT, &[]);
    }

    /// Shows its window, 64x64 pixels of it.
    ///
    /// # Panics
    /// If the compositor doesn't let it.
    pub fn map(&mut self) {
        self.configure().expect("a configure");
        let buffer = self.picture();
        self.attach(self.surface, buffer);
        self.raw.sync();
    }

    /// Waits until its window may show something.
    pub fn configure(&mut self) -> Result<(), Option<Fault>> {
        self.say(self.surface, COMMIT, &[]);
        let configure = self.raw.until(self.xdg_surface, CONFIGURE)?;
        self.say(self.xdg_surface, ACK_CONFIGURE, &[Arg::Uint(configure.uint(0))]);
        Ok(())
    }

    /// Shows 64x64 pixels of `file` on a surface without a role, twice, as if it were a pool of `size` bytes.
    pub fn show(&mut self, file: OwnedFd, size: i32) {
        let (surface, pool) = (self.surface(), self.pool(file, size));
        let buffer = self.buffer(pool, [0, 64, 64, 256]);
        (0..2).for_each(|_| self.attach(surface, buffer));
    }

    /// Goes on until the socket takes no more of what was said, or all of it; whether it took all.
    pub fn push(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.raw.is_held_back() && Instant::now() < deadline {
            let before = self.raw.waiting();
            self.raw.wait_for_room(Instant::now() + FULL);
            if self.raw.waiting() == before {
                return false;
            }
        }
        !self.raw.is_held_back()
    }

    /// Waits until all of that was handled, or the connection has ended: whether it goes on, and the error otherwise.
    pub fn settle(&mut self) -> Result<(), Option<Fault>> {
        let callback = self.raw.id();
        self.say(1, 0, &[Arg::Uint(callback)]);
        self.raw.until(callback, DONE).map(drop)
    }
}
