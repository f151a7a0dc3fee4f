//! Surfaces that can't be.

use crate::attacks;
use wlproxy_tests::attacker::opcode::*;
use wlproxy_tests::{Arg, Attacker};

/// wl_surface.set_buffer_transform, set_buffer_scale
const SET_BUFFER_TRANSFORM: u16 = 7;
const SET_BUFFER_SCALE: u16 = 8;
/// wl_subcompositor.get_subsurface; wl_subsurface.set_position, place_above
const GET_SUBSURFACE: u16 = 1;
const SET_POSITION: u16 = 1;
const PLACE_ABOVE: u16 = 2;
/// wp_viewporter.get_viewport; wp_viewport.set_source, set_destination
const GET_VIEWPORT: u16 = 1;
const SET_SOURCE: u16 = 1;
const SET_DESTINATION: u16 = 2;

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
