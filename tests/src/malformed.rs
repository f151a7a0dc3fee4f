//! Requests that are no Wayland, and what libwayland does about each.

use crate::attacker::opcode::*;
use crate::{Arg, Attacker, message};
use std::fs::File;
use std::os::fd::OwnedFd;

/// What appears in a title and must appear nowhere else.
pub const CANARY: &str = "canary";

/// What a compositor logs of a commit.
pub const COMMITTED: &str = ".commit(";

/// An attack: bytes, and the object that the error has to name.
#[derive(Debug)]
pub struct Attack {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What goes with it.
    pub fds: Vec<OwnedFd>,
    /// Which object is to be named.
    pub object: u32,
    /// Words of which one tells the reason.
    pub reason: &'static [&'static str],
    /// What libwayland 1.21 does about it.
    libwayland: Libwayland,
    /// Since when it does something else.
    since: Option<(Version, Libwayland)>,
}

/// What libwayland does about a malformed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libwayland {
    /// Sends wl_display.error and closes.
    Tells,
    /// Closes.
    Closes,
    /// Waits for the rest. If that is there and it has no room for it, it doesn't even sleep.
    Waits,
    /// Takes it, and logs this.
    Takes(&'static str),
}

/// Minor and micro version of libwayland 1.
pub type Version = (u32, u32);

/// libwayland leaves in the socket what doesn't fit into its buffer, instead of closing it (its commit d074d52).
const READS_LESS: Version = (22, 91);

/// libwayland refuses strings with a NUL inside (its commit 6c4a695).
const REFUSES_NULS: Version = (23, 91);

impl Attack {
    /// What libwayland of a version does about it.
    pub fn libwayland(&self, version: Version) -> Libwayland {
        let newer = self.since.filter(|&(since, _)| version >= since);
        newer.map_or(self.libwayland, |(_, newer)| newer)
    }
}

fn attack(bytes: Vec<u8>, object: u32, reason: &'static [&'static str]) -> Attack {
    let libwayland = Libwayland::Tells;
    Attack { bytes, fds: Vec::new(), object, reason, libwayland, since: None }
}

/// A request of more than 4,096 bytes.
fn too_long(bytes: Vec<u8>, object: u32) -> Attack {
    let since = Some((READS_LESS, Libwayland::Waits));
    Attack { libwayland: Libwayland::Closes, since, ..attack(bytes, object, SIZE) }
}

/// A commit whose header says another size.
fn sized(surface: u32, size: u32, length: usize) -> Vec<u8> {
    let header = (size << 16) | u32::from(COMMIT);
    let mut bytes = [surface.to_ne_bytes(), header.to_ne_bytes()].concat();
    bytes.resize(length, 0);
    bytes
}

const SIZE: &[&str] =
    &["size", "length", "long", "short", "bytes", "big", "large", "malformed", "header"];
const ID: &[&str] = &["id", "in use", "exists", "taken", "range", "new_id"];
const STRING: &[&str] = &["string", "nul", "utf", "length", "bytes", "end", "argument"];

/// Makes an attack for a client.
pub type Case = fn(&mut Attacker) -> Attack;

/// All of them, by name.
pub const CASES: &[(&str, Case)] = &[
    ("more than 4,096 bytes", |a| {
        let title = format!("{CANARY}{}", "x".repeat(5000));
        too_long(message(a.toplevel, SET_TITLE, &[Arg::Text(&title)]), a.toplevel)
    }),
    ("4,100 bytes", |a| {
        let title = format!("{CANARY:y<4087}");
        too_long(message(a.toplevel, SET_TITLE, &[Arg::Text(&title)]), a.toplevel)
    }),
    ("the largest size, and not all of it", |a| {
        let attack = attack(sized(a.surface, 0xfffc, 64), a.surface, SIZE);
        Attack { libwayland: Libwayland::Waits, ..attack }
    }),
    ("length 0", |a| attack(sized(a.surface, 0, 8), a.surface, SIZE)),
    ("length 4", |a| attack(sized(a.surface, 4, 8), a.surface, SIZE)),
    ("length 13", |a| {
        let attack = attack(sized(a.surface, 13, 16), a.surface, SIZE);
        Attack { libwayland: Libwayland::Takes(COMMITTED), ..attack }
    }),
    ("an unknown object", |_| {
        attack(message(123_456, COMMIT, &[]), 123_456, &["object", "unknown", "exist"])
    }),
    ("object 0", |_| attack(message(0, COMMIT, &[]), 0, &["object", "unknown", "exist", "null"])),
    ("an unknown opcode", |a| {
        attack(message(a.surface, 99, &[]), a.surface, &["opcode", "method", "request"])
    }),
    ("a string without its NUL", |a| {
        let text = Arg::Counted(8, b"canary!!");
        attack(message(a.toplevel, SET_TITLE, &[text]), a.toplevel, STRING)
    }),
    ("a string with a NUL inside", |a| {
        // A log shows it as far as the first NUL.
        let text = Arg::Counted(11, b"canary\0end\0");
        let attack = attack(message(a.toplevel, SET_TITLE, &[text]), a.toplevel, STRING);
        let since = Some((REFUSES_NULS, Libwayland::Tells));
        Attack { libwayland: Libwayland::Takes(CANARY), since, ..attack }
    }),
    ("a string longer than its message", |a| {
        let text = Arg::Counted(400, b"canary!\0");
        attack(message(a.toplevel, SET_TITLE, &[text]), a.toplevel, STRING)
    }),
    ("a string of nearly 4 GiB", |a| {
        let text = Arg::Counted(u32::MAX - 2, b"canary!\0");
        attack(message(a.toplevel, SET_TITLE, &[text]), a.toplevel, STRING)
    }),
    ("a null string", |a| {
        attack(message(a.toplevel, SET_TITLE, &[Arg::Uint(0)]), a.toplevel, &["null", "string"])
    }),
    ("fewer arguments than it takes", |a| {
        let args = [Arg::Uint(0), Arg::Int(0)];
        attack(message(a.surface, ATTACH, &args), a.surface, SIZE)
    }),
    ("a missing fd", |a| {
        let id = a.raw.id();
        let bytes = message(a.shm, CREATE_POOL, &[Arg::Uint(id), Arg::Int(4096)]);
        attack(bytes, a.shm, &["fd", "file descriptor"])
    }),
    ("an object of another type", |a| {
        let args = [Arg::Uint(a.compositor), Arg::Int(0), Arg::Int(0)];
        attack(
            message(a.surface, ATTACH, &args),
            a.surface,
            &["type", "interface", "wl_buffer", "object"],
        )
    }),
    ("an object that isn't there", |a| {
        let args = [Arg::Uint(99_999), Arg::Int(0), Arg::Int(0)];
        attack(
            message(a.surface, ATTACH, &args),
            a.surface,
            &["object", "unknown", "exist", "99999"],
        )
    }),
    ("a new id in use", |a| {
        attack(message(a.compositor, CREATE_SURFACE, &[Arg::Uint(a.surface)]), a.compositor, ID)
    }),
    ("new id 0", |a| {
        attack(message(a.compositor, CREATE_SURFACE, &[Arg::Uint(0)]), a.compositor, ID)
    }),
    ("a new id in the server's range", |a| {
        let id = Arg::Uint(0xff00_0001);
        attack(message(a.compositor, CREATE_SURFACE, &[id]), a.compositor, ID)
    }),
    ("a new id far beyond the next", |a| {
        let id = Arg::Uint(0x00ab_cdef);
        attack(message(a.compositor, CREATE_SURFACE, &[id]), a.compositor, ID)
    }),
    ("more fds than any message takes", |a| {
        let null = || File::open("/dev/null").expect("every machine has it").into();
        let bytes = message(a.surface, 99, &[]);
        let fds = (0..28).map(|_| null()).collect();
        Attack { fds, ..attack(bytes, a.surface, &["opcode", "method", "request"]) }
    }),
];
