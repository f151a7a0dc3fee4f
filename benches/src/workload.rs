//! Bytes that a client and a compositor say, for what is measured without I/O.

use crate::opcode;
use wlproxy_protocol::wayland::{Arg, Batch};

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

/// What a client sends for each frame: four requests with eight arguments.
pub fn encode_frame(requests: &mut Batch<()>) {
    requests.push(SURFACE, opcode::WL_SURFACE_FRAME, &[Arg::NewId(CALLBACK)]);
    requests.push(SURFACE, opcode::WL_SURFACE_ATTACH, &[Arg::Object(0), Arg::Int(0), Arg::Int(0)]);
    let damage = [Arg::Int(0), Arg::Int(0), Arg::Int(1920), Arg::Int(1080)];
    requests.push(SURFACE, opcode::WL_SURFACE_DAMAGE_BUFFER, &damage);
    requests.push(SURFACE, opcode::WL_SURFACE_COMMIT, &[]);
}

/// The same as bytes, and what it gets: two events.
pub fn frame() -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut events) = (batch(), batch());
    encode_frame(&mut requests);
    events.push(CALLBACK, opcode::WL_CALLBACK_DONE, &[Arg::Uint(0)]);
    events.push(1, opcode::WL_DISPLAY_DELETE_ID, &[Arg::Uint(CALLBACK)]);
    (requests.bytes, events.bytes)
}

fn batch() -> Batch<()> {
    Batch::default()
}
