//! Workloads for the benchmarks.

use wlproxy_protocol::wayland::{Arg, Batch};

/// Opcodes of the requests and events that the workloads are made of.
mod opcode {
    pub(super) const WL_DISPLAY_GET_REGISTRY: u16 = 1;
    pub(super) const WL_REGISTRY_BIND: u16 = 0;
    pub(super) const WL_REGISTRY_GLOBAL: u16 = 0;
    pub(super) const WL_COMPOSITOR_CREATE_SURFACE: u16 = 0;
    pub(super) const WL_SURFACE_ATTACH: u16 = 1;
    pub(super) const WL_SURFACE_FRAME: u16 = 3;
    pub(super) const WL_SURFACE_COMMIT: u16 = 6;
    pub(super) const WL_SURFACE_DAMAGE_BUFFER: u16 = 9;
    pub(super) const WL_CALLBACK_DONE: u16 = 0;
    pub(super) const WL_DISPLAY_DELETE_ID: u16 = 1;
}

/// The surface of [`hello`].
const SURFACE: u32 = 4;
/// The frame callback of [`frame`].
const CALLBACK: u32 = 5;

/// How a client and a compositor begin: requests, events, and requests again that make a surface.
pub fn hello() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (mut first, mut events, mut second) = (batch(), batch(), batch());
    first.push(1, opcode::WL_DISPLAY_GET_REGISTRY, &[Arg::NewId(2)]);
    let global = [Arg::Uint(1), Arg::Str(Some(c"wl_compositor")), Arg::Uint(4)];
    events.push(2, opcode::WL_REGISTRY_GLOBAL, &global);
    let bind = [Arg::Uint(1), Arg::Str(Some(c"wl_compositor")), Arg::Uint(4), Arg::NewId(3)];
    second.push(2, opcode::WL_REGISTRY_BIND, &bind);
    second.push(3, opcode::WL_COMPOSITOR_CREATE_SURFACE, &[Arg::NewId(SURFACE)]);
    (first.bytes, events.bytes, second.bytes)
}

/// What a client sends for each frame, and what it gets. Four requests, two events.
pub fn frame() -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut events) = (batch(), batch());
    requests.push(SURFACE, opcode::WL_SURFACE_FRAME, &[Arg::NewId(CALLBACK)]);
    requests.push(SURFACE, opcode::WL_SURFACE_ATTACH, &[Arg::Object(0), Arg::Int(0), Arg::Int(0)]);
    let damage = [Arg::Int(0), Arg::Int(0), Arg::Int(1920), Arg::Int(1080)];
    requests.push(SURFACE, opcode::WL_SURFACE_DAMAGE_BUFFER, &damage);
    requests.push(SURFACE, opcode::WL_SURFACE_COMMIT, &[]);
    events.push(CALLBACK, opcode::WL_CALLBACK_DONE, &[Arg::Uint(0)]);
    events.push(1, opcode::WL_DISPLAY_DELETE_ID, &[Arg::Uint(CALLBACK)]);
    (requests.bytes, events.bytes)
}

fn batch() -> Batch<()> {
    Batch::default()
}
