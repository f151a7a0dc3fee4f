//! Surfaces that can't be.

use crate::{QUOTA, attacks};
use wlproxy_tests::attacker::opcode::*;
use wlproxy_tests::{Arg, Attacker};

/// wl_surface.set_buffer_transform, set_buffer_scale
const SET_BUFFER_TRANSFORM: u16 = 7;
const SET_BUFFER_SCALE: u16 = 8;
/// wl_surface.set_opaque_region
const SET_OPAQUE_REGION: u16 = 4;
/// wl_subcompositor.get_subsurface; wl_subsurface.destroy, set_position, place_above
const GET_SUBSURFACE: u16 = 1;
const DESTROY: u16 = 0;
const SET_POSITION: u16 = 1;
const PLACE_ABOVE: u16 = 2;
/// wp_viewporter.get_viewport; wp_viewport.set_source, set_destination
const GET_VIEWPORT: u16 = 1;
const SET_SOURCE: u16 = 1;
const SET_DESTINATION: u16 = 2;

/// wp_fifo_manager_v1.get_fifo; wp_fifo_v1.set_barrier, wait_barrier
const GET_FIFO: u16 = 1;
const SET_BARRIER: u16 = 1;
const WAIT_BARRIER: u16 = 2;

/// Commits of which wlroots and smithay would keep each.
const MANY: usize = 10_000;

/// 1 as a wl_fixed.
const ONE: i32 = 256;

const WRONG: &[&str] = &[
    "scale",
    "invalid",
    "transform",
    "size",
    "value",
    "out of",
    "buffer",
    "viewport",
    "negative",
    "positive",
];

attacks! {
    "scale 0" => Told(WRONG), |a| set(a, SET_BUFFER_SCALE, 0);
    "scale -1" => Told(WRONG), |a| set(a, SET_BUFFER_SCALE, -1);
    "the largest scale" => Either, |a| set(a, SET_BUFFER_SCALE, i32::MAX);
    "a buffer that its scale doesn't divide" => Either, |a| set(a, SET_BUFFER_SCALE, 3);
    "transform 99" => Either, |a| set(a, SET_BUFFER_TRANSFORM, 99);
    "transform -1" => Either, |a| set(a, SET_BUFFER_TRANSFORM, -1);
    "damage that overflows" => Served, |a| {
        a.map();
        for place in [[i32::MIN, i32::MIN, i32::MAX, i32::MAX], [i32::MAX; 4], [0, 0, -5, -5]] {
            a.say(a.surface, DAMAGE, &place.map(Arg::Int));
        }
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "a buffer far beside its surface" => Either, |a| {
        a.map();
        a.say(a.surface, ATTACH, &[Arg::Uint(0), Arg::Int(i32::MAX), Arg::Int(i32::MIN)]);
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "a subsurface of itself" => Told(&["itself"]), |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        let surface = a.surface();
        subsurface(a, subcompositor, surface, surface);
        Some(())
    };
    "two that are each other's subsurface" => Told(&["itself"]), |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        let (one, two) = (a.surface(), a.surface());
        subsurface(a, subcompositor, one, two);
        subsurface(a, subcompositor, two, one);
        Some(())
    };
    "a chain of 1,500 subsurfaces" => Told(&["quota", "nested"]), |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        a.map();
        let mut parent = a.surface;
        for _ in 0..1_500 {
            let surface = a.surface();
            let subsurface = subsurface(a, subcompositor, surface, parent);
            a.say(subsurface, SET_POSITION, &[i32::MAX, i32::MAX].map(Arg::Int));
            parent = surface;
        }
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "1,500 subsurfaces, put above each other" => Either, |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        a.map();
        let mut before = a.surface;
        for _ in 0..1_500 {
            let surface = a.surface();
            let subsurface = subsurface(a, subcompositor, surface, a.surface);
            a.say(subsurface, PLACE_ABOVE, &[Arg::Uint(before)]);
            before = surface;
        }
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "10,000 commits, and none of the parent" => Told(QUOTA), |a| {
        let [_, child, _] = pair(a)?;
        commits(a, child);
        Some(())
    };
    "the same with the largest region" => Told(QUOTA), |a| {
        let [_, child, _] = pair(a)?;
        let region = crate::floods::rectangles(a, 4_096);
        a.say(child, SET_OPAQUE_REGION, &[Arg::Uint(region)]);
        commits(a, child);
        Some(())
    };
    "the same without the parent" => Told(QUOTA), |a| {
        let [parent, child, _] = pair(a)?;
        a.say(parent, DESTROY, &[]);
        commits(a, child);
        Some(())
    };
    "the same without the wl_subsurface" => Told(QUOTA), |a| {
        let [_, child, subsurface] = pair(a)?;
        a.say(subsurface, DESTROY, &[]);
        commits(a, child);
        Some(())
    };
    "the same of surfaces that are destroyed" => Told(QUOTA), |a| {
        // But for their wl_subsurfaces.
        for _ in 0..10 {
            let [_, child, _] = pair(a)?;
            (0..MANY / 10).for_each(|_| a.say(child, COMMIT, &[]));
            a.say(child, DESTROY, &[]);
        }
        Some(())
    };
    "the same of a window with fifo" => Told(QUOTA), |a| {
        let manager = a.raw.try_bind("wp_fifo_manager_v1", 1)?;
        a.map();
        let fifo = a.raw.id();
        a.say(manager, GET_FIFO, &[Arg::Uint(fifo), Arg::Uint(a.surface)]);
        for _ in 0..MANY {
            a.say(fifo, WAIT_BARRIER, &[]);
            a.say(fifo, SET_BARRIER, &[]);
            a.say(a.surface, COMMIT, &[]);
        }
        Some(())
    };
    "4,000 commits, 10 times, each time shown" => Served, |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        let child = a.surface();
        subsurface(a, subcompositor, child, a.surface);
        for _ in 0..10 {
            (0..4_000).for_each(|_| a.say(child, COMMIT, &[]));
            a.say(a.surface, COMMIT, &[]);
        }
        Some(())
    };
    "above a stranger" => Told(&["sibling", "parent", "bad", "surface"]), |a| {
        let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
        let (surface, stranger) = (a.surface(), a.surface());
        let subsurface = subsurface(a, subcompositor, surface, a.surface);
        a.say(subsurface, PLACE_ABOVE, &[Arg::Uint(stranger)]);
        Some(())
    };
    "a crop of parts of pixels" => Told(WRONG), |a| {
        viewport(a, Some([0, 0, ONE / 2, ONE / 2]), None)
    };
    "a crop beyond the buffer" => Either, |a| {
        viewport(a, Some([0, 0, 65 * ONE, 65 * ONE]), None)
    };
    "a crop of negative size" => Told(WRONG), |a| viewport(a, Some([0, 0, -5, -5]), None);
    "a surface of negative size" => Told(WRONG), |a| viewport(a, None, Some([-5, 3]));
    "the largest surface" => Either, |a| viewport(a, None, Some([i32::MAX, i32::MAX]));
    "a large surface" => Either, |a| viewport(a, None, Some([30_000, 30_000]));
}

/// Sets a number of its window, and shows that.
fn set(a: &mut Attacker, opcode: u16, number: i32) -> Option<()> {
    a.map();
    a.say(a.surface, opcode, &[Arg::Int(number)]);
    let buffer = a.picture();
    a.attach(a.surface, buffer);
    Some(())
}

/// A surface without a role, its subsurface, and the wl_subsurface.
fn pair(a: &mut Attacker) -> Option<[u32; 3]> {
    let subcompositor = a.raw.try_bind("wl_subcompositor", 1)?;
    let (parent, child) = (a.surface(), a.surface());
    let subsurface = subsurface(a, subcompositor, child, parent);
    Some([parent, child, subsurface])
}

/// Commits as often, whatever becomes of it.
fn commits(a: &mut Attacker, surface: u32) {
    (0..MANY).for_each(|_| a.say(surface, COMMIT, &[]));
}

fn subsurface(a: &mut Attacker, subcompositor: u32, surface: u32, parent: u32) -> u32 {
    let subsurface = a.raw.id();
    let args = [Arg::Uint(subsurface), Arg::Uint(surface), Arg::Uint(parent)];
    a.say(subcompositor, GET_SUBSURFACE, &args);
    subsurface
}

/// Shows its window with a viewport.
fn viewport(a: &mut Attacker, source: Option<[i32; 4]>, size: Option<[i32; 2]>) -> Option<()> {
    let viewporter = a.raw.try_bind("wp_viewporter", 1)?;
    let viewport = a.raw.id();
    a.say(viewporter, GET_VIEWPORT, &[Arg::Uint(viewport), Arg::Uint(a.surface)]);
    a.map();
    if let Some(source) = source {
        a.say(viewport, SET_SOURCE, &source.map(Arg::Int));
    }
    if let Some(size) = size {
        a.say(viewport, SET_DESTINATION, &size.map(Arg::Int));
    }
    let buffer = a.picture();
    a.attach(a.surface, buffer);
    Some(())
}
