//! What newer compositors offer than those that the tests run: here the test plays the compositor.

use guest_agent::channel::Arrived;
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, Raw, memfd, message};

/// Objects of the client below.
const REGISTRY: u32 = 2;
const SHM: u32 = 3;
const POOL: u32 = 4;
const BUFFER: u32 = 5;

/// wl_shm version 2: released while a pool is there, which goes on being used.
#[test]
fn a_wl_shm_that_is_released_before_its_pool() {
    const SIDE: i32 = 16;
    const SIZE: i32 = SIDE * SIDE * 4;
    let mut desk = Desk::without_serve(Plan::default());
    desk.ready("work");
    let mut gui = Puppet::start(&desk.gui_channel());
    let mut door = Doorway::open(&mut gui);
    let mut raw = Raw::connect(&desk.through("work"));
    let record = door.record(&mut gui);
    let context = door.accept(&mut gui, &record);

    let get_registry = message(1, 1, &[Arg::Uint(REGISTRY)]);
    assert_eq!(gui.read(context, get_registry.len()).0, get_registry);
    let global = [Arg::Uint(1), Arg::Text("wl_shm"), Arg::Uint(2)];
    gui.send(context, &message(REGISTRY, 0, &global), &[]);
    assert_eq!(raw.event().map(|event| event.object), Some(REGISTRY));
    assert_eq!((raw.bind("wl_shm", 2), raw.id(), raw.id()), (SHM, POOL, BUFFER));
    let bind = message(REGISTRY, 0, &[global[0], global[1], global[2], Arg::Uint(SHM)]);
    let create_pool = |size| message(SHM, 0, &[Arg::Uint(POOL), Arg::Int(size)]);
    raw.send(&create_pool(SIZE), [memfd(SIZE as u64).into()]);
    let (bytes, arrived) = gui.read(context, bind.len() + 16);
    assert_eq!(bytes, [bind, create_pool(4096)].concat());
    assert!(matches!(arrived[..], [Arrived::Allocation(_)]), "{arrived:?}");

    let release = message(SHM, 1, &[]);
    let format = [Arg::Int(0), Arg::Int(SIDE), Arg::Int(SIDE), Arg::Int(4 * SIDE), Arg::Uint(1)];
    let create_buffer = message(POOL, 0, &[&[Arg::Uint(BUFFER)], &format[..]].concat());
    raw.send(&[release.clone(), create_buffer.clone()].concat(), []);
    let destroy = message(POOL, 1, &[]);
    let anew = [destroy.clone(), create_pool(1 << 20), create_buffer].concat();
    let (bytes, arrived) = gui.read(context, anew.len());
    assert_eq!(bytes, anew, "the pool is made anew, by the wl_shm that is still there");
    assert!(matches!(arrived[..], [Arrived::Allocation(_)]), "{arrived:?}");

    raw.send(&destroy, []);
    let last = [destroy, release].concat();
    assert_eq!(gui.read(context, last.len()).0, last);
}
