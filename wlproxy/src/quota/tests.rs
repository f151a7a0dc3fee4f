//! What one client may have. What all of these tests need is here, and what is counted only while it is there; a file for
//! each of what may outlive its object.

mod buffers;
mod census;
mod compositors;
mod damage;
mod icons;
mod regions;
mod turns;
mod types;
mod waiting;

use super::*;
use std::ffi::CStr;
use wlproxy_protocol::wayland::objects::Event;
use wlproxy_protocol::wayland::{Objects, wire};

/// wl_compositor, wl_shm and xdg_wm_base of [`Client`].
const COMPOSITOR: u32 = 3;
const SHM: u32 = 4;
const WM_BASE: u32 = 5;
const DATA_DEVICE_MANAGER: u32 = 6;
const SHELL: u32 = 7;
/// wl_subcompositor of [`with_subsurface`].
const SUBCOMPOSITOR: u32 = 8;

/// Opcodes of wayland.xml and xdg-shell.xml.
const CREATE_SURFACE: u16 = 0;
const CREATE_REGION: u16 = 1;
const CREATE_POOL: u16 = 0;
const CREATE_BUFFER: u16 = 0;
const POOL_DESTROY: u16 = 1;
const BUFFER_DESTROY: u16 = 0;
const SURFACE_DESTROY: u16 = 0;
const DAMAGE: u16 = 2;
const SET_OPAQUE: u16 = 4;
const SET_INPUT: u16 = 5;
const ATTACH: u16 = 1;
const FRAME: u16 = 3;
const COMMIT: u16 = 6;
const SET_SYNC: u16 = 4;
const SET_DESYNC: u16 = 5;
const RELEASE: u16 = 0;
const DONE: u16 = 0;
const SUBSURFACE_DESTROY: u16 = 0;
const GET_SUBSURFACE: u16 = 1;
const ADD: u16 = 1;
const SUBTRACT: u16 = 2;
const REGION_DESTROY: u16 = 0;

const SMALL: Quota = Quota {
    objects: 20,
    binds: 7,
    surfaces: 3,
    nesting: 2,
    windows: 2,
    buffers: 4,
    commits: 30,
    buffer_side: 100,
    rectangles: 5,
    damage: 6,
    types: 7,
};

struct Client {
    objects: Objects,
    spent: Spent,
    quota: Quota,
    last: u32,
}

impl Client {
    fn new(quota: Quota) -> Self {
        let mut client =
            Self { objects: Objects::new(), spent: Spent::default(), quota, last: SHELL };
        client.say(1, 1, &[Arg::NewId(2)]).unwrap();
        let globals: [(&CStr, u32); 5] = [
            (c"wl_compositor", COMPOSITOR),
            (c"wl_shm", SHM),
            (c"xdg_wm_base", WM_BASE),
            (c"wl_data_device_manager", DATA_DEVICE_MANAGER),
            (c"wl_shell", SHELL),
        ];
        globals.into_iter().for_each(|(interface, id)| client.bind(interface, id));
        client
    }

    fn offer(&mut self, interface: &CStr, name: u32, version: u32) {
        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version)];
        let mut bytes = Vec::new();
        wire::encode(2, 0, &args, &mut bytes);
        let message = wire::split(&mut &bytes[..], bytes.len()).unwrap().unwrap();
        assert!(matches!(self.objects.event(message).unwrap(), Event::Pass(_)));
    }

    fn bind(&mut self, interface: &CStr, id: u32) {
        self.offer(interface, id, 1);
        let bind = [Arg::Uint(id), Arg::Str(Some(interface)), Arg::Uint(1), Arg::NewId(id)];
        self.say(2, 0, &bind).unwrap();
    }

    fn say(&mut self, object: u32, opcode: u16, args: &[Arg<'_>]) -> Result<(), Violation> {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, args, &mut bytes);
        let message = wire::split(&mut &bytes[..], bytes.len()).unwrap().unwrap();
        let call = self.objects.request(message).expect("a right request");
        self.spent.request(&call, Concern::of(&call), self.objects.count(), &self.quota)
    }

    /// The id of what a request makes.
    fn make(&mut self, object: u32, opcode: u16, rest: &[Arg<'_>]) -> Result<u32, Violation> {
        self.last += 1;
        let args = [&[Arg::NewId(self.last)], rest].concat();
        self.say(object, opcode, &args)?;
        Ok(self.last)
    }

    fn pool(&mut self) -> Result<u32, Violation> {
        self.make(SHM, CREATE_POOL, &[Arg::Fd, Arg::Int(40_000)])
    }

    fn buffer(&mut self, pool: u32, width: i32, height: i32) -> Result<u32, Violation> {
        let args = [Arg::Int(0), Arg::Int(width), Arg::Int(height), Arg::Int(400), Arg::Uint(0)];
        self.make(pool, CREATE_BUFFER, &args)
    }

    fn window(&mut self) -> Result<u32, Violation> {
        let surface = self.make(COMPOSITOR, CREATE_SURFACE, &[])?;
        let xdg = self.make(WM_BASE, 2, &[Arg::Object(surface)])?;
        self.make(xdg, 1, &[])
    }
}

fn rectangle() -> [Arg<'static>; 4] {
    [1, 2, 3, 4].map(Arg::Int)
}

/// The violation names the request, the number and the key.
fn check(violation: Violation, subject: &str, words: &[&str]) {
    assert_eq!((violation.object, violation.code), (1, NO_MEMORY));
    assert!(violation.subject.starts_with(subject), "{violation}");
    for word in words {
        assert!(violation.reason.contains(word), "{violation}: no {word}");
    }
}

#[test]
fn surfaces_are_counted_while_they_are() {
    let mut client = Client::new(SMALL);
    let surfaces: Vec<_> =
        (0..3).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    client.say(surfaces[1], SURFACE_DESTROY, &[]).unwrap();
    client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let violation = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap_err();
    check(violation, "wl_compositor@3.create_surface", &["3 surfaces", "`surfaces`"]);
}

#[test]
fn globals_are_bound_so_often() {
    let mut client = Client::new(SMALL);
    let bind = |client: &mut Client| {
        client.last += 1;
        let args =
            [Arg::Uint(SHM), Arg::Str(Some(c"wl_shm")), Arg::Uint(2), Arg::NewId(client.last)];
        client.say(2, 0, &args).map(|()| client.last)
    };
    client.offer(c"wl_shm", SHM, 2);
    let second = bind(&mut client).unwrap();
    bind(&mut client).unwrap();
    // wl_shm.release
    client.say(second, 1, &[]).unwrap();
    bind(&mut client).unwrap();
    check(bind(&mut client).unwrap_err(), "wl_registry@2.bind", &["7 globals", "`binds`"]);
}

#[test]
fn subsurfaces_are_so_deep() {
    let mut client = Client::new(Quota { surfaces: 10, ..SMALL });
    client.last += 1;
    let subcompositor = client.last;
    client.bind(c"wl_subcompositor", subcompositor);
    let surfaces: Vec<_> =
        (0..4).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    let mut subsurface = |surface: usize, parent: usize| {
        let args = [surfaces[surface], surfaces[parent]].map(Arg::Object);
        client.make(subcompositor, GET_SUBSURFACE, &args)
    };
    subsurface(3, 2).unwrap();
    subsurface(1, 0).unwrap();
    let violation = subsurface(2, 1).unwrap_err();
    check(violation, "wl_subcompositor@8.get_subsurface", &["2 subsurfaces", "`nesting`"]);
    let violation = subsurface(3, 3).unwrap_err();
    assert_eq!((violation.object, violation.code), (8, BAD_PARENT));
    // smithay would take it once more if its parent is gone, and let both wl_subsurfaces act on it.
    client.say(surfaces[2], SURFACE_DESTROY, &[]).unwrap();
    let args = [surfaces[3], surfaces[0]].map(Arg::Object);
    let violation = client.make(subcompositor, GET_SUBSURFACE, &args).unwrap_err();
    assert_eq!((violation.object, violation.code), (8, BAD_SURFACE));
}

#[test]
fn windows_are_counted_apart() {
    let mut client = Client::new(SMALL);
    let first = client.window().unwrap();
    client.window().unwrap();
    client.say(first, 0, &[]).unwrap();
    client.window().unwrap();
    let mut client = Client::new(SMALL);
    client.window().unwrap();
    client.window().unwrap();
    check(client.window().unwrap_err(), "xdg_surface@", &["2 windows", "`windows`"]);
}

/// wl_shell's objects have no destructor: they go with their surface.
#[test]
fn windows_of_wl_shell_count_as_long_as_their_surface_is() {
    let mut client = Client::new(SMALL);
    let surface = |client: &mut Client| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let window = |client: &mut Client, surface| client.make(SHELL, 0, &[Arg::Object(surface)]);
    let first = surface(&mut client);
    window(&mut client, first).unwrap();
    window(&mut client, first).unwrap();
    client.say(first, SURFACE_DESTROY, &[]).unwrap();
    let second = surface(&mut client);
    window(&mut client, second).unwrap();
    client.window().unwrap();
    let violation = window(&mut client, second).unwrap_err();
    check(violation, "wl_shell@7.get_shell_surface", &["2 windows", "`windows`"]);
}

/// A parent and its subsurface, which is synchronised at first, and the wl_subsurface.
fn with_subsurface(quota: Quota) -> (Client, [u32; 3]) {
    let mut client = Client::new(quota);
    client.bind(c"wl_subcompositor", SUBCOMPOSITOR);
    client.last = SUBCOMPOSITOR;
    let parent = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let (child, subsurface) = client.below(parent);
    (client, [parent, child, subsurface])
}

impl Client {
    fn attach(&mut self, surface: u32, buffer: u32) {
        self.say(surface, ATTACH, &[Arg::Object(buffer), Arg::Int(0), Arg::Int(0)]).unwrap();
    }

    /// Shows a new buffer, and destroys it at once.
    fn flash(&mut self, pool: u32, surface: u32) -> Result<(), Violation> {
        let buffer = self.buffer(pool, 1, 1)?;
        self.show(surface, buffer)?;
        self.say(buffer, BUFFER_DESTROY, &[])
    }

    fn show(&mut self, surface: u32, buffer: u32) -> Result<(), Violation> {
        self.attach(surface, buffer);
        self.say(surface, COMMIT, &[])
    }

    /// A new subsurface of `parent`, and its wl_subsurface.
    fn below(&mut self, parent: u32) -> (u32, u32) {
        let child = self.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
        (child, self.put_below(child, parent))
    }

    fn put_below(&mut self, child: u32, parent: u32) -> u32 {
        let args = [child, parent].map(Arg::Object);
        self.make(SUBCOMPOSITOR, GET_SUBSURFACE, &args).unwrap()
    }

    fn commit(&mut self, surface: u32) -> Result<(), Violation> {
        self.say(surface, COMMIT, &[])
    }

    /// How many commits wait.
    fn waiting(&self) -> u32 {
        self.spent.held.waiting()
    }

    fn hear(&mut self, object: u32, opcode: u16, args: &[Arg<'_>]) {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, args, &mut bytes);
        let message = wire::split(&mut &bytes[..], bytes.len()).unwrap().unwrap();
        let Ok(Event::Pass(call)) = self.objects.event(message) else { panic!("it passes") };
        self.spent.event(&call, Concern::of(&call), self.objects.is_newest(object));
    }
}

/// Objects are no matter here, nor are globals.
const MANY: Quota = Quota { objects: 60_000, surfaces: 100, binds: 100, ..SMALL };

#[test]
fn objects_of_all_kinds_are_counted() {
    let mut client = Client::new(SMALL);
    let mut callbacks = 0;
    let violation = loop {
        match client.make(1, 0, &[]) {
            Ok(_) => callbacks += 1,
            Err(violation) => break violation,
        }
    };
    // Beside the display, the registry and five globals.
    assert_eq!(callbacks, 13);
    check(violation, "wl_display@1.sync", &["20 objects", "`objects`"]);
}

#[test]
fn nothing_that_a_toolkit_does_is_too_much() {
    let mut client = Client::new(Quota::default());
    for _ in 0..100 {
        client.window().unwrap();
        let pool = client.pool().unwrap();
        client.buffer(pool, 3840, 2160).unwrap();
        client.buffer(pool, 7680, 4320).unwrap();
    }
}
