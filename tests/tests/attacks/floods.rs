//! Much of something.

use crate::{QUOTA, attacks};
use std::fs::File;
use std::os::fd::OwnedFd;
use wlproxy_tests::attacker::opcode::*;
use wlproxy_tests::{Arg, Attacker, message};

/// wl_display.sync
const SYNC: u16 = 0;
/// wl_registry.bind, of the registry that each client has as its first object
const BIND: (u32, u16) = (2, 0);
/// wl_region.add
const ADD: u16 = 1;
/// wl_surface.set_input_region
const SET_INPUT_REGION: u16 = 5;
/// wl_data_device_manager.create_data_source
const CREATE_DATA_SOURCE: u16 = 0;
/// wl_data_source.offer
const OFFER: u16 = 0;
/// wl_surface.frame
const FRAME: u16 = 3;

attacks! {
    "20,000 binds" => Told(QUOTA), |a| {
        binds(a, 20_000, "wl_compositor")
    };
    "1,900 seats, whose events nobody reads" => Either, |a| {
        binds(a, 1_900, "wl_seat")?;
        a.push();
        Some(())
    };
    "300,000 syncs, whose answers nobody reads" => Dropped, |a| {
        let syncs: Vec<u8> = (0..300_000)
            .flat_map(|_| message(1, SYNC, &[Arg::Uint(a.raw.id())]))
            .collect();
        a.raw.send(&syncs, []);
        // It waits for ever, and nobody else does.
        a.push();
        Some(())
    };
    "10,000 fds that nothing takes" => Told(&["file descriptors"]), |a| {
        let null = || -> OwnedFd { File::open("/dev/null").expect("every machine has it").into() };
        for _ in 0..10_000 / 25 {
            let id = a.raw.id();
            a.raw.send(&message(1, SYNC, &[Arg::Uint(id)]), (0..25).map(|_| null()));
        }
        Some(())
    };
    "10,000 rectangles in a region" => Told(QUOTA), |a| {
        rectangles(a, 10_000);
        Some(())
    };
    "the largest region, committed 100 times" => Served, |a| {
        let region = rectangles(a, 4_096);
        for _ in 0..100 {
            a.say(a.surface, SET_INPUT_REGION, &[Arg::Uint(region)]);
            a.say(a.surface, COMMIT, &[]);
        }
        Some(())
    };
    "4,000 rectangles of damage, 10 times" => Served, |a| {
        (0..10).for_each(|_| damage(a, 4_000));
        Some(())
    };
    "50,000 rectangles of damage" => Told(QUOTA), |a| {
        damage(a, 50_000);
        Some(())
    };
    "100,000 frame callbacks" => Told(&["objects"]), |a| {
        let surface = a.surface();
        (0..100_000).for_each(|_| _ = a.make(surface, FRAME));
        Some(())
    };
    "65,000 regions" => Served, |a| {
        (0..65_000).for_each(|_| _ = a.make(a.compositor, CREATE_REGION));
        Some(())
    };
    "10,000 surfaces" => Told(QUOTA), |a| {
        (0..10_000).for_each(|_| _ = a.surface());
        Some(())
    };
    "10,000 windows" => Told(QUOTA), |a| {
        for _ in 0..10_000 {
            let surface = a.surface();
            let xdg_surface = a.raw.id();
            a.say(a.wm_base, GET_XDG_SURFACE, &[Arg::Uint(xdg_surface), Arg::Uint(surface)]);
            a.make(xdg_surface, GET_TOPLEVEL);
        }
        Some(())
    };
    "10,000 titles" => Served, |a| {
        let title = "x".repeat(4_000);
        for _ in 0..10_000 / 64 {
            let titles = message(a.toplevel, SET_TITLE, &[Arg::Text(&title)]).repeat(64);
            a.raw.send(&titles, []);
        }
        Some(())
    };
    "100 copies, each of 250 types of 4,000 bytes" => Told(QUOTA), |a| {
        let manager = a.raw.try_bind("wl_data_device_manager", 1)?;
        let kind = "a".repeat(3_999);
        copies(a, manager, 100, 250, &kind);
        Some(())
    };
    "1,000 copies, each of 250 types" => Told(QUOTA), |a| {
        let manager = a.raw.try_bind("wl_data_device_manager", 1)?;
        copies(a, manager, 1_000, 250, "text/plain;charset=utf-8");
        Some(())
    };
    "100,000 commits" => Served, |a| {
        let commits = message(a.surface, COMMIT, &[]).repeat(100_000);
        a.raw.send(&commits, []);
        Some(())
    };
    "a header that stops after 6 bytes" => Served, |a| {
        // The rest comes when nobody has ended it meanwhile.
        let commit = message(a.surface, COMMIT, &[]);
        a.raw.send(&commit[..6], []);
        a.push();
        a.raw.send(&commit[6..], []);
        Some(())
    };
}

/// So many sources, each of so many types, of which none is anybody's selection.
fn copies(a: &mut Attacker, manager: u32, count: usize, types: usize, kind: &str) {
    for _ in 0..count {
        let source = a.make(manager, CREATE_DATA_SOURCE);
        for _ in 0..types {
            a.say(source, OFFER, &[Arg::Text(kind)]);
        }
    }
}

fn binds(a: &mut Attacker, count: u32, interface: &str) -> Option<()> {
    let &(name, ..) = a.raw.globals().iter().find(|(_, offered, _)| offered == interface)?;
    for _ in 0..count {
        let id = a.raw.id();
        let args = [Arg::Uint(name), Arg::Text(interface), Arg::Uint(1), Arg::Uint(id)];
        a.say(BIND.0, BIND.1, &args);
    }
    Some(())
}

/// A region of so many rectangles, none of which touches another.
pub(crate) fn rectangles(a: &mut Attacker, count: i32) -> u32 {
    let region = a.make(a.compositor, CREATE_REGION);
    for n in 0..count {
        let place = [3 * (n % 100), 3 * (n / 100), 2, 2].map(Arg::Int);
        a.say(region, ADD, &place);
    }
    region
}

fn damage(a: &mut Attacker, count: i32) {
    for n in 0..count {
        a.say(a.surface, DAMAGE, &[3 * (n % 300), 3 * (n / 300), 2, 2].map(Arg::Int));
    }
    a.say(a.surface, COMMIT, &[]);
}
