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
const COMMIT: u16 = 6;
const SET_SYNC: u16 = 4;
const SET_DESYNC: u16 = 5;
const RELEASE: u16 = 0;
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
        self.spent.request(&call, self.objects.count(), &self.quota)
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

#[test]
fn pools_and_buffers_share_a_quota() {
    let mut client = Client::new(SMALL);
    let pool = client.pool().unwrap();
    let buffers: Vec<_> = (0..3).map(|_| client.buffer(pool, 100, 100).unwrap()).collect();
    client.say(pool, POOL_DESTROY, &[]).unwrap();
    let pool = client.pool().unwrap();
    client.say(buffers[0], BUFFER_DESTROY, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    let violation = client.buffer(pool, 1, 1).unwrap_err();
    check(violation, "wl_shm_pool@", &["4 buffers and pools", "`buffers`"]);
    check(client.pool().unwrap_err(), "wl_shm@4.create_pool", &["4 buffers and pools"]);
}

#[test]
fn a_buffer_is_no_larger_than_it_may_be() {
    for (width, height) in [(101, 1), (1, 101), (i32::MAX, i32::MAX)] {
        let mut client = Client::new(SMALL);
        let pool = client.pool().unwrap();
        let violation = client.buffer(pool, width, height).unwrap_err();
        check(violation, "wl_shm_pool@8.create_buffer", &["100 pixels", "`buffer_side`"]);
    }
    // What is wrong otherwise, the compositor tells.
    let mut client = Client::new(SMALL);
    let pool = client.pool().unwrap();
    client.buffer(pool, -1, i32::MIN).unwrap();
}

#[test]
fn a_region_has_its_own_rectangles() {
    let mut client = Client::new(SMALL);
    let [first, second] = [0, 1].map(|_| client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap());
    for region in [first, second] {
        for opcode in [ADD, SUBTRACT, ADD, ADD, SUBTRACT] {
            client.say(region, opcode, &rectangle()).unwrap();
        }
    }
    client.say(first, REGION_DESTROY, &[]).unwrap();
    let violation = client.say(second, ADD, &rectangle()).unwrap_err();
    check(violation, "wl_region@9.add", &["5 rectangles", "`rectangles`"]);
}

/// Also those that are gone, as long as a surface has what was in them.
#[test]
fn all_regions_together_have_so_many_rectangles() {
    let quota = Quota { objects: 1000, surfaces: 100, ..SMALL };
    let full = |client: &mut Client| {
        let region = client.make(COMPOSITOR, CREATE_REGION, &[])?;
        (0..5).try_for_each(|_| client.say(region, ADD, &rectangle()))?;
        Ok::<_, Violation>(region)
    };
    let mut client = Client::new(quota);
    (0..16).for_each(|_| _ = full(&mut client).unwrap());
    let words = ["80 rectangles in all", "`rectangles`"];
    check(full(&mut client).unwrap_err(), "wl_region@", &words);

    let mut client = Client::new(quota);
    let surfaces: Vec<_> =
        (0..8).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    let set = |client: &mut Client, surface, opcode, region| {
        client.say(surface, opcode, &[Arg::Object(region)])
    };
    let region = full(&mut client).unwrap();
    // Again and again takes the place of what was.
    for &surface in surfaces.iter().cycle().take(100) {
        set(&mut client, surface, SET_OPAQUE, region).unwrap();
    }
    for &surface in &surfaces[1..] {
        set(&mut client, surface, SET_INPUT, region).unwrap();
    }
    client.say(region, REGION_DESTROY, &[]).unwrap();
    let region = full(&mut client).unwrap();
    let violation = set(&mut client, surfaces[0], SET_INPUT, region).unwrap_err();
    check(violation, "wl_surface@8.set_input_region", &words);

    // What is given back, and goes with its surface, counts no more.
    let mut client = Client::new(quota);
    for _ in 0..100 {
        let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
        let region = full(&mut client).unwrap();
        set(&mut client, surface, SET_OPAQUE, region).unwrap();
        set(&mut client, surface, SET_INPUT, region).unwrap();
        set(&mut client, surface, SET_INPUT, 0).unwrap();
        client.say(region, REGION_DESTROY, &[]).unwrap();
        client.say(surface, SURFACE_DESTROY, &[]).unwrap();
    }
}

#[test]
fn damage_is_counted_until_the_commit() {
    let mut client = Client::new(SMALL);
    let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    for _ in 0..3 {
        (0..6).for_each(|_| client.say(surface, DAMAGE, &rectangle()).unwrap());
        client.say(surface, COMMIT, &[]).unwrap();
    }
    (0..6).for_each(|_| client.say(surface, DAMAGE, &rectangle()).unwrap());
    let violation = client.say(surface, DAMAGE, &rectangle()).unwrap_err();
    check(violation, "wl_surface@8.damage", &["6 rectangles of damage", "`damage`"]);
}

/// A parent and its subsurface, which is synchronised at first, and the wl_subsurface.
fn with_subsurface(quota: Quota) -> (Client, [u32; 3]) {
    let mut client = Client::new(quota);
    client.last += 1;
    let subcompositor = client.last;
    client.bind(c"wl_subcompositor", subcompositor);
    let [parent, child] = [0, 1].map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap());
    let args = [child, parent].map(Arg::Object);
    let subsurface = client.make(subcompositor, GET_SUBSURFACE, &args).unwrap();
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

    /// An event without arguments.
    fn hear(&mut self, object: u32, opcode: u16) {
        let mut bytes = Vec::new();
        wire::encode(object, opcode, &[], &mut bytes);
        let message = wire::split(&mut &bytes[..], bytes.len()).unwrap().unwrap();
        let Ok(Event::Pass(call)) = self.objects.event(message) else { panic!("it passes") };
        self.spent.event(&call, self.objects.is_newest(object));
    }
}

/// Objects are no matter here.
const MANY: Quota = Quota { objects: 60_000, surfaces: 100, ..SMALL };

#[test]
fn a_buffer_counts_as_long_as_it_is_shown() {
    let mut client = Client::new(MANY);
    let pool = client.pool().unwrap();
    let surfaces = [0, 1].map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap());
    for _ in 0..100 {
        surfaces.iter().for_each(|&surface| client.flash(pool, surface).unwrap());
    }
    // A pool, and what two surfaces show.
    client.buffer(pool, 1, 1).unwrap();
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.attach(surfaces[0], 0);
    client.say(surfaces[0], COMMIT, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    client.say(surfaces[1], SURFACE_DESTROY, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
}

#[test]
fn what_a_synchronised_subsurface_waits_to_show_counts() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let pool = client.pool().unwrap();
    client.flash(pool, child).unwrap();
    client.say(parent, COMMIT, &[]).unwrap();
    // What it shows, and what it waits to show; another one takes the place of that.
    (0..100).for_each(|_| client.flash(pool, child).unwrap());
    let extra = client.buffer(pool, 1, 1).unwrap();
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.say(parent, COMMIT, &[]).unwrap();
    client.buffer(pool, 1, 1).unwrap();
    client.say(extra, BUFFER_DESTROY, &[]).unwrap();
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    (0..100).for_each(|_| client.flash(pool, child).unwrap());
}

#[test]
fn damage_of_a_synchronised_subsurface_adds_up() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let damage = |client: &mut Client| {
        client.say(child, DAMAGE, &rectangle())?;
        client.say(child, COMMIT, &[])
    };
    for _ in 0..10 {
        (0..6).for_each(|_| damage(&mut client).unwrap());
        client.say(parent, COMMIT, &[]).unwrap();
    }
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    (0..100).for_each(|_| damage(&mut client).unwrap());
    client.say(subsurface, SET_SYNC, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client).unwrap());
    let violation = damage(&mut client).unwrap_err();
    check(violation, "wl_surface@10.damage", &["6 rectangles of damage", "`damage`"]);
}

/// A surface whose commits may wait, a pool, and a buffer that was shown before.
fn with_turns(manager: &CStr) -> (Client, [u32; 3]) {
    let mut client = Client::new(Quota { buffers: 10, ..MANY });
    client.last += 1;
    let id = client.last;
    client.bind(manager, id);
    let pool = client.pool().unwrap();
    let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let buffer = client.buffer(pool, 1, 1).unwrap();
    client.show(surface, buffer).unwrap();
    // get_fifo, get_timer
    client.make(id, 1, &[Arg::Object(surface)]).unwrap();
    (client, [pool, surface, buffer])
}

/// When a commit with fifo or commit-timing has its turn, the release of its buffer tells.
#[test]
fn what_waits_for_its_turn_counts_until_a_release() {
    for manager in [c"wp_fifo_manager_v1", c"wp_commit_timing_manager_v1"] {
        let (mut client, [pool, surface, buffer]) = with_turns(manager);
        client.hear(buffer, RELEASE);
        for _ in 0..10 {
            (0..7).for_each(|_| client.flash(pool, surface).unwrap());
            client.show(surface, buffer).unwrap();
            client.hear(buffer, RELEASE);
        }
        (0..8).for_each(|_| client.flash(pool, surface).unwrap());
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);

        // A release of what was before tells nothing, nor does one of another buffer that had the same id.
        let (mut client, [pool, surface, buffer]) = with_turns(manager);
        (0..7).for_each(|_| client.flash(pool, surface).unwrap());
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE);
        client.say(buffer, BUFFER_DESTROY, &[]).unwrap();
        let size = [0, 1, 1, 4].map(Arg::Int);
        let again = [&[Arg::NewId(buffer)], &size[..], &[Arg::Uint(0)]].concat();
        client.say(pool, CREATE_BUFFER, &again).unwrap();
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE);
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);
    }
}

#[test]
fn commits_that_wait_are_bounded_whatever_they_show() {
    let (mut client, [_, surface, buffer]) = with_turns(c"wp_fifo_manager_v1");
    (0..10).for_each(|_| client.show(surface, buffer).unwrap());
    let violation = client.show(surface, buffer).unwrap_err();
    check(violation, "wl_surface@", &["10 commits that wait", "`buffers`"]);
    // Nothing is kept of one that changes nothing.
    let (mut client, [_, surface, _]) = with_turns(c"wp_fifo_manager_v1");
    (0..100).for_each(|_| client.say(surface, COMMIT, &[]).unwrap());
}

#[test]
fn a_selection_has_so_many_types() {
    let mut client = Client::new(SMALL);
    let offer = |client: &mut Client, source| client.say(source, 0, &[Arg::Str(Some(c"a/b"))]);
    let [first, second] =
        [0, 1].map(|_| client.make(DATA_DEVICE_MANAGER, CREATE_SURFACE, &[]).unwrap());
    for source in [first, second] {
        (0..7).for_each(|_| offer(&mut client, source).unwrap());
    }
    // wl_data_source.destroy
    client.say(first, 1, &[]).unwrap();
    assert_eq!(client.spent.types.len(), 1);
    let violation = offer(&mut client, second).unwrap_err();
    check(violation, "wl_data_source@9.offer", &["7 types", "`types`"]);
}

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
