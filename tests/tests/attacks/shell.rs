//! Windows and popups that can't be.

use crate::attacks;
use wlproxy_tests::attacker::opcode::*;
use wlproxy_tests::{Arg, Attacker};

/// xdg_wm_base.create_positioner
const CREATE_POSITIONER: u16 = 1;
/// xdg_positioner.set_size, set_anchor_rect, set_offset
const SET_SIZE: u16 = 1;
const SET_ANCHOR_RECT: u16 = 2;
const SET_OFFSET: u16 = 6;
/// xdg_surface.get_popup, set_window_geometry
const GET_POPUP: u16 = 2;
const SET_WINDOW_GEOMETRY: u16 = 3;
/// xdg_toplevel.set_parent, set_max_size, set_min_size
const SET_PARENT: u16 = 1;
const SET_MAX_SIZE: u16 = 7;
const SET_MIN_SIZE: u16 = 8;

/// Words for a size or a place that can't be.
const WRONG: &[&str] =
    &["size", "invalid", "negative", "zero", "positi", "width", "height", "geometry"];

attacks! {
    "a window of 0x0" => Told(WRONG), |a| geometry(a, [0, 0, 0, 0]);
    "a window of negative size" => Told(WRONG), |a| geometry(a, [0, 0, -100, -100]);
    "a window at the end of the world" => Either, |a| {
        geometry(a, [i32::MAX, i32::MIN, i32::MAX, i32::MAX])
    };
    "a window of negative least size" => Either, |a| sizes(a, SET_MIN_SIZE, [-1, -1]);
    "a window of negative largest size" => Either, |a| sizes(a, SET_MAX_SIZE, [-1, -1]);
    "a window that is larger than its largest size" => Either, |a| {
        a.say(a.toplevel, SET_MIN_SIZE, &[100, 100].map(Arg::Int));
        sizes(a, SET_MAX_SIZE, [50, 50])
    };
    "a window that is its own parent" => Either, |a| {
        a.say(a.toplevel, SET_PARENT, &[Arg::Uint(a.toplevel)]);
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "two windows that are each other's parent" => Either, |a| {
        let other = window(a);
        a.say(a.toplevel, SET_PARENT, &[Arg::Uint(other)]);
        a.say(other, SET_PARENT, &[Arg::Uint(a.toplevel)]);
        Some(())
    };
    "a chain of 400 parents" => Served, |a| {
        let mut child = a.toplevel;
        for _ in 0..400 {
            let parent = window(a);
            a.say(child, SET_PARENT, &[Arg::Uint(parent)]);
            child = parent;
        }
        Some(())
    };
    "a second role" => Either, |a| {
        a.make(a.xdg_surface, GET_TOPLEVEL);
        Some(())
    };
    "a configure that never was" => Either, |a| {
        a.say(a.xdg_surface, ACK_CONFIGURE, &[Arg::Uint(0xdead_beef)]);
        a.say(a.surface, COMMIT, &[]);
        Some(())
    };
    "a picture before the first configure" => Either, |a| {
        let buffer = a.picture();
        a.attach(a.surface, buffer);
        Some(())
    };
    "a popup of 0x0" => Either, |a| positioner(a, SET_SIZE, &[0, 0]);
    "a popup of negative size" => Either, |a| positioner(a, SET_SIZE, &[-5, 10]);
    "a popup beside a rectangle of negative size" => Either, |a| {
        positioner(a, SET_ANCHOR_RECT, &[0, 0, -1, -1])
    };
    "a popup at the end of the world" => Either, |a| {
        positioner(a, SET_OFFSET, &[i32::MAX, i32::MIN])
    };
    "a popup without a size" => Either, |a| {
        let positioner = a.make(a.wm_base, CREATE_POSITIONER);
        a.say(positioner, SET_ANCHOR_RECT, &[0, 0, 1, 1].map(Arg::Int));
        popup(a, a.xdg_surface, positioner);
        Some(())
    };
    "100 popups, each of the one before" => Either, |a| {
        a.map();
        let mut parent = a.xdg_surface;
        for _ in 0..100 {
            let positioner = a.make(a.wm_base, CREATE_POSITIONER);
            a.say(positioner, SET_SIZE, &[10, 10].map(Arg::Int));
            a.say(positioner, SET_ANCHOR_RECT, &[0, 0, 1, 1].map(Arg::Int));
            parent = popup(a, parent, positioner);
        }
        Some(())
    };
    "the shell gone before its windows" => Either, |a| {
        a.say(a.wm_base, 0, &[]);
        Some(())
    };
    "the surface gone before its window" => Either, |a| {
        a.say(a.surface, 0, &[]);
        Some(())
    };
}

fn geometry(a: &mut Attacker, place: [i32; 4]) -> Option<()> {
    a.say(a.xdg_surface, SET_WINDOW_GEOMETRY, &place.map(Arg::Int));
    a.say(a.surface, COMMIT, &[]);
    Some(())
}

fn sizes(a: &mut Attacker, opcode: u16, size: [i32; 2]) -> Option<()> {
    a.say(a.toplevel, opcode, &size.map(Arg::Int));
    a.say(a.surface, COMMIT, &[]);
    Some(())
}

/// One more window.
fn window(a: &mut Attacker) -> u32 {
    let (surface, xdg_surface) = (a.surface(), a.raw.id());
    a.say(a.wm_base, GET_XDG_SURFACE, &[Arg::Uint(xdg_surface), Arg::Uint(surface)]);
    a.make(xdg_surface, GET_TOPLEVEL)
}

/// A popup whose place has one thing that is wrong.
fn positioner(a: &mut Attacker, opcode: u16, numbers: &[i32]) -> Option<()> {
    a.map();
    let positioner = a.make(a.wm_base, CREATE_POSITIONER);
    a.say(positioner, SET_SIZE, &[10, 10].map(Arg::Int));
    a.say(positioner, SET_ANCHOR_RECT, &[0, 0, 1, 1].map(Arg::Int));
    let numbers: Vec<_> = numbers.iter().copied().map(Arg::Int).collect();
    a.say(positioner, opcode, &numbers);
    popup(a, a.xdg_surface, positioner);
    Some(())
}

/// Its xdg_surface.
fn popup(a: &mut Attacker, parent: u32, positioner: u32) -> u32 {
    let (surface, xdg_surface) = (a.surface(), a.raw.id());
    a.say(a.wm_base, GET_XDG_SURFACE, &[Arg::Uint(xdg_surface), Arg::Uint(surface)]);
    let popup = a.raw.id();
    let args = [Arg::Uint(popup), Arg::Uint(parent), Arg::Uint(positioner)];
    a.say(xdg_surface, GET_POPUP, &args);
    a.say(surface, COMMIT, &[]);
    xdg_surface
}
