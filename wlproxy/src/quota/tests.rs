use super::compositors::{Compositor, Smithay, Step, Wlroots};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
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

#[test]
fn all_surfaces_together_have_so_much_damage() {
    let mut client = Client::new(MANY);
    let surfaces: Vec<_> =
        (0..17).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    let damage = |client: &mut Client, surface| client.say(surface, DAMAGE, &rectangle());
    for &surface in &surfaces[..16] {
        (0..6).for_each(|_| damage(&mut client, surface).unwrap());
    }
    client.say(surfaces[0], SURFACE_DESTROY, &[]).unwrap();
    client.say(surfaces[1], COMMIT, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client, surfaces[1]).unwrap());
    (0..6).for_each(|_| damage(&mut client, surfaces[16]).unwrap());
    client.say(surfaces[1], COMMIT, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client, surfaces[1]).unwrap());
    let extra = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let violation = damage(&mut client, extra).unwrap_err();
    check(violation, "wl_surface@", &["96 rectangles of damage of all", "`damage`"]);
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

/// Those of pointer constraints, too.
#[test]
fn each_commit_that_waits_has_the_regions_of_what_was_made_of_its_surface() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let [seat, constraints] = [1, 2].map(|more| client.last + more);
    client.bind(c"wl_seat", seat);
    client.bind(c"zwp_pointer_constraints_v1", constraints);
    client.last += 2;
    let pointer = client.make(seat, 0, &[]).unwrap();
    let region = client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap();
    (0..5).for_each(|_| client.say(region, ADD, &rectangle()).unwrap());
    // lock_pointer: id, surface, pointer, region, lifetime
    let objects = [child, pointer, region].map(Arg::Object);
    let args = [&objects[..], &[Arg::Uint(1)]].concat();
    let lock = client.make(constraints, 1, &args).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    client.commit(parent).unwrap();
    // zwp_locked_pointer_v1.destroy: then it has none.
    client.say(lock, 0, &[]).unwrap();
    (0..30).for_each(|_| client.commit(child).unwrap());
    client.commit(parent).unwrap();
    client.make(constraints, 1, &args).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(child).unwrap_err();
    check(violation, "wl_surface@", &["80 rectangles in all", "`rectangles`"]);
}

/// wlroots and smithay keep each of them.
#[test]
fn each_commit_that_waits_for_a_parent_counts() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let (other, _) = client.below(parent);
    for _ in 0..10 {
        for surface in [child, other].repeat(15) {
            client.commit(surface).unwrap();
        }
        assert_eq!(client.waiting(), 30);
        client.commit(parent).unwrap();
        assert_eq!(client.waiting(), 0);
    }
    (0..30).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(other).unwrap_err();
    check(violation, "wl_surface@", &["30 commits that wait", "`commits`"]);

    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    (0..20).for_each(|_| client.commit(child).unwrap());
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    assert_eq!(client.waiting(), 20);
    // Only its own shows it now.
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 20);
    client.commit(child).unwrap();
    assert_eq!(client.waiting(), 0);
}

#[test]
fn what_a_synchronised_subsurface_waits_to_show_counts() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let pool = client.pool().unwrap();
    for _ in 0..3 {
        client.flash(pool, child).unwrap();
        client.commit(parent).unwrap();
    }
    // A pool, what it shows, and two that wait; none takes the place of another.
    (0..2).for_each(|_| client.flash(pool, child).unwrap());
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.commit(parent).unwrap();
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    (0..100).for_each(|_| client.flash(pool, child).unwrap());
}

#[test]
fn each_commit_that_waits_has_the_regions_of_its_surface() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let region = client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap();
    (0..5).for_each(|_| client.say(region, ADD, &rectangle()).unwrap());
    client.say(child, SET_OPAQUE, &[Arg::Object(region)]).unwrap();
    client.say(child, SET_INPUT, &[Arg::Object(region)]).unwrap();
    // 80 may be: 5 of the region, 10 that the surface has, and 10 with each commit, which it needn't set anew.
    for _ in 0..10 {
        (0..6).for_each(|_| client.commit(child).unwrap());
        client.commit(parent).unwrap();
    }
    (0..6).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(child).unwrap_err();
    check(violation, "wl_surface@", &["80 rectangles in all", "`rectangles`"]);

    // What waits has them when region and surface are gone, too.
    let (mut client, [_, child, subsurface]) = with_subsurface(MANY);
    let full = |client: &mut Client| {
        let region = client.make(COMPOSITOR, CREATE_REGION, &[])?;
        (0..5).try_for_each(|_| client.say(region, ADD, &rectangle()))?;
        Ok::<_, Violation>(region)
    };
    let region = full(&mut client).unwrap();
    client.say(child, SET_OPAQUE, &[Arg::Object(region)]).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    client.say(region, REGION_DESTROY, &[]).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    (0..2).for_each(|_| _ = full(&mut client).unwrap());
    check(full(&mut client).unwrap_err(), "wl_region@", &["80 rectangles in all"]);
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    (0..13).for_each(|_| _ = full(&mut client).unwrap());
}

#[test]
fn what_has_no_parent_any_more_waits_for_ever() {
    for parent_goes in [true, false] {
        for desync in [true, false] {
            let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
            client.commit(child).unwrap();
            if desync {
                client.say(subsurface, SET_DESYNC, &[]).unwrap();
            }
            match parent_goes {
                true => client.say(parent, SURFACE_DESTROY, &[]).unwrap(),
                false => client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap(),
            }
            (0..29).for_each(|_| client.commit(child).unwrap());
            assert_eq!(client.waiting(), 30);
            // Until it has one again.
            if parent_goes {
                client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
            }
            let parent = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
            client.put_below(child, parent);
            client.commit(parent).unwrap();
            assert_eq!(client.waiting(), 0);
            client.commit(child).unwrap();
            client.say(child, SURFACE_DESTROY, &[]).unwrap();
        }
    }
}

/// smithay keeps what waited of a surface that is destroyed, as long as anything refers to it.
#[test]
fn what_waits_outlives_its_surface_with_what_was_made_of_it() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    (0..10).for_each(|_| client.commit(child).unwrap());
    let xdg_surface = client.make(WM_BASE, 2, &[Arg::Object(child)]).unwrap();
    let pool = client.pool().unwrap();
    client.flash(pool, child).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 11);
    (0..2).for_each(|_| _ = client.buffer(pool, 1, 1).unwrap());
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 11);
    // xdg_surface.destroy
    client.say(xdg_surface, 0, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
    client.buffer(pool, 1, 1).unwrap();

    // Nothing is kept of one of which nothing is left, and what was made of others doesn't matter.
    let (child, subsurface) = client.below(parent);
    client.commit(child).unwrap();
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
    // Nor does a wl_subsurface of one that is gone matter to another.
    let (child, subsurface) = client.below(parent);
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
}

/// As wlroots has it: others go on down to where something waits.
#[test]
fn a_commit_shows_what_waits_for_it_and_no_more() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let (grandchild, below) = client.below(child);
    let commit = |client: &mut Client, surface, waiting| {
        client.commit(surface).unwrap();
        assert_eq!(client.waiting(), waiting);
    };
    // That in the middle has committed nothing, or before.
    commit(&mut client, grandchild, 1);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 2);
    commit(&mut client, grandchild, 3);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 2);
    commit(&mut client, parent, 0);
    // That in the middle is on its own.
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 1);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 0);
    // That at the bottom is synchronised only as the middle is.
    client.say(subsurface, SET_SYNC, &[]).unwrap();
    client.say(below, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 1);
    commit(&mut client, child, 2);
    commit(&mut client, parent, 1);
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 0);
}

/// Whatever is done, as many count as wait in the worst compositor.
fn as_many_as_wait(actions: &[(u8, u8, u8)]) -> Result<usize, TestCaseError> {
    let quota = Quota { surfaces: 1000, commits: 10_000, nesting: 1000, ..MANY };
    let (mut client, [first, ..]) = with_subsurface(quota);
    let mut compositors: [(&str, Box<dyn Compositor>); 3] = [
        ("smithay", Box::new(Smithay::default())),
        ("wlroots 0.15", Box::new(Wlroots::new(true))),
        ("wlroots", Box::new(Wlroots::new(false))),
    ];
    compositors.iter_mut().for_each(|(_, compositor)| compositor.step(Step::Create(first)));
    let mut surfaces = vec![first];
    // By surface, also one that is gone: its wl_subsurface.
    let mut subsurfaces = BTreeMap::new();
    let (mut total, mut steps) = (0, vec![Step::Create(first)]);
    for &(what, one, other) in actions {
        let pick = |of: &[u32], at: u8| of.get(usize::from(at) % of.len().max(1)).copied();
        let owners: Vec<_> = subsurfaces.keys().copied().collect();
        let step = match what % 16 {
            0 => {
                let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
                surfaces.push(surface);
                Step::Create(surface)
            }
            1..=3 => {
                let (Some(child), Some(parent)) = (pick(&surfaces, one), pick(&surfaces, other))
                else {
                    continue;
                };
                if subsurfaces.contains_key(&child) {
                    continue;
                }
                let args = [child, parent].map(Arg::Object);
                let Ok(subsurface) = client.make(SUBCOMPOSITOR, GET_SUBSURFACE, &args) else {
                    // It would be above itself: a client would be ended for that, nothing else comes of it.
                    continue;
                };
                subsurfaces.insert(child, subsurface);
                Step::MakeSubsurface(child, parent)
            }
            4 | 5 => {
                let Some(surface) = pick(&owners, one) else { continue };
                let (opcode, synchronised) =
                    if other % 2 == 0 { (SET_SYNC, true) } else { (SET_DESYNC, false) };
                client.say(subsurfaces[&surface], opcode, &[]).unwrap();
                if !surfaces.contains(&surface) {
                    continue;
                }
                Step::Synchronise(surface, synchronised)
            }
            6 => {
                let Some(surface) = pick(&owners, one) else { continue };
                let subsurface = subsurfaces.remove(&surface).unwrap();
                client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
                Step::DestroySubsurface(surface)
            }
            7 if other % 2 == 0 => {
                let Some(surface) = pick(&surfaces, one) else { continue };
                surfaces.retain(|&id| id != surface);
                client.say(surface, SURFACE_DESTROY, &[]).unwrap();
                Step::Destroy(surface)
            }
            _ => {
                let Some(surface) = pick(&surfaces, one) else { continue };
                client.commit(surface).unwrap();
                Step::Commit(surface)
            }
        };
        steps.push(step);
        for (name, compositor) in &mut compositors {
            compositor.step(step);
            let (counted, waiting) = (client.waiting() as usize, compositor.waiting());
            prop_assert!(counted >= waiting, "{counted}, but {waiting} wait in {name}: {steps:?}");
            total += waiting;
        }
    }
    Ok(total)
}

/// What the next test looks for is there.
#[test]
fn commits_wait_in_all_compositors() {
    // Two surfaces, of which one becomes a subsurface, and two commits of that.
    let actions = [(0, 0, 0), (1, 1, 0), (8, 1, 0), (8, 1, 0)];
    assert_eq!(as_many_as_wait(&actions).unwrap(), 3 * (1 + 2));
}

proptest! {
    #[test]
    fn as_many_commits_count_as_wait(actions in prop::collection::vec(any::<(u8, u8, u8)>(), 0..400)) {
        as_many_as_wait(&actions)?;
    }
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
        client.hear(buffer, RELEASE, &[]);
        for _ in 0..10 {
            (0..7).for_each(|_| client.flash(pool, surface).unwrap());
            client.show(surface, buffer).unwrap();
            client.hear(buffer, RELEASE, &[]);
        }
        (0..8).for_each(|_| client.flash(pool, surface).unwrap());
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);

        // A release of what was before tells nothing, nor does one of another buffer that had the same id.
        let (mut client, [pool, surface, buffer]) = with_turns(manager);
        (0..7).for_each(|_| client.flash(pool, surface).unwrap());
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE, &[]);
        client.say(buffer, BUFFER_DESTROY, &[]).unwrap();
        let size = [0, 1, 1, 4].map(Arg::Int);
        let again = [&[Arg::NewId(buffer)], &size[..], &[Arg::Uint(0)]].concat();
        client.say(pool, CREATE_BUFFER, &again).unwrap();
        client.show(surface, buffer).unwrap();
        client.hear(buffer, RELEASE, &[]);
        check(client.flash(pool, surface).unwrap_err(), "wl_shm_pool@", &["10 buffers"]);
    }
}

#[test]
fn each_commit_that_waits_for_its_turn_counts() {
    let (mut client, [_, surface, _]) = with_turns(c"wp_fifo_manager_v1");
    (0..30).for_each(|_| client.commit(surface).unwrap());
    let violation = client.commit(surface).unwrap_err();
    check(violation, "wl_surface@", &["30 commits that wait", "`commits`"]);
}

/// One that shows nothing new has no release.
#[test]
fn a_frame_callback_tells_what_was_shown() {
    let (mut client, [_, surface, _]) = with_turns(c"wp_fifo_manager_v1");
    let frame = |client: &mut Client| client.make(surface, FRAME, &[]).unwrap();
    for _ in 0..10 {
        (0..10).for_each(|_| client.commit(surface).unwrap());
        let (_, last) = (frame(&mut client), frame(&mut client));
        client.commit(surface).unwrap();
        (0..10).for_each(|_| client.commit(surface).unwrap());
        client.hear(last, DONE, &[Arg::Uint(0)]);
        assert_eq!(client.waiting(), 10);
        let next = frame(&mut client);
        client.commit(surface).unwrap();
        client.hear(next, DONE, &[Arg::Uint(0)]);
        assert_eq!(client.waiting(), 0);
    }
    // Of a surface that is gone it tells nothing.
    let last = frame(&mut client);
    client.commit(surface).unwrap();
    client.say(surface, SURFACE_DESTROY, &[]).unwrap();
    client.hear(last, DONE, &[Arg::Uint(0)]);
}

/// A buffer may be in several places, and compositors release it for each, or once for all.
#[test]
fn a_release_tells_nothing_that_is_not_sure() {
    let (mut client, [pool, surface, buffer]) = with_turns(c"wp_fifo_manager_v1");
    client.hear(buffer, RELEASE, &[]);
    let other = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    client.show(surface, buffer).unwrap();
    // Shown elsewhere, and attached but not committed.
    client.show(other, buffer).unwrap();
    client.attach(other, buffer);
    client.attach(other, 0);
    for waiting in [1, 1, 0] {
        client.hear(buffer, RELEASE, &[]);
        assert_eq!(client.waiting(), waiting);
    }
    // Too often to tell.
    let second = client.buffer(pool, 1, 1).unwrap();
    (0..65).for_each(|_| client.show(other, second).unwrap());
    client.show(surface, second).unwrap();
    (0..66).for_each(|_| client.hear(second, RELEASE, &[]));
    assert_eq!(client.waiting(), 1);
    client.show(surface, buffer).unwrap();
    client.hear(buffer, RELEASE, &[]);
    assert_eq!(client.waiting(), 0);
}

#[test]
fn what_queues_is_shown_by_no_parent() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    client.last += 1;
    let fifo = client.last;
    client.bind(c"wp_fifo_manager_v1", fifo);
    client.commit(child).unwrap();
    client.make(fifo, 1, &[Arg::Object(child)]).unwrap();
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 1);
    // But what waits for what queues is shown with it.
    let (grandchild, _) = client.below(child);
    client.commit(grandchild).unwrap();
    let callback = client.make(child, FRAME, &[]).unwrap();
    client.commit(child).unwrap();
    client.commit(grandchild).unwrap();
    assert_eq!(client.waiting(), 4);
    client.hear(callback, DONE, &[Arg::Uint(0)]);
    assert_eq!(client.waiting(), 1);
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
