//! Commands of a cross-domain context: what is in a SUBMIT_3D, or what a program gives to EXECBUFFER.

use crate::random::Random;
use bytemuck::bytes_of;
use wlproxy_protocol::cross_domain::{
    CHANNEL_WAYLAND, GUEST_PIPE, GetImageRequirements, Header, Init, ReadWrite, SendReceive,
    command, identifier,
};
use wlproxy_protocol::limits::{MAX_FDS, MAX_SEND_ACCEPTED};

/// What a command may name.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Resources that are or could be rings.
    pub rings: &'a [u32],
    /// Resources that are or could be memory of the host.
    pub memory: &'a [u32],
}

/// Pipes that are made and written to: few, so that some are used again.
const PIPES: u64 = 6;

/// A command, right or wrong.
pub fn context_command(random: &mut Random, names: Names<'_>) -> Vec<u8> {
    let mut bytes = match random.below(20) {
        0..4 => bytes_of(&init(random, names)).to_vec(),
        4..6 => bytes_of(&image(random)).to_vec(),
        6..8 => [bytes_of(&header(random, command::POLL, 16)), &[0; 8]].concat(),
        8..14 => send(random, names),
        14..17 => write(random),
        // What only the host says, and what nobody does.
        17 => {
            let kind = random.pick(&[command::RECEIVE, command::READ]);
            let length = random.index(400);
            [bytes_of(&header(random, kind, 400)), &random.bytes(length)].concat()
        }
        18 => {
            let kind = random.bits() as u8;
            let length = random.index(400);
            [bytes_of(&header(random, kind, 400)), &random.bytes(length)].concat()
        }
        _ => {
            let length = random.index(64);
            random.bytes(length)
        }
    };
    match random.below(24) {
        0 => bytes.truncate(random.index(bytes.len() + 1)),
        1 => {
            let more = random.index(4096);
            bytes.extend(random.bytes(more));
        }
        2 if !bytes.is_empty() => {
            let at = random.index(bytes.len());
            bytes[at] = random.bits() as u8;
        }
        _ => {}
    }
    bytes
}

/// Whether it waits for an event, for as long as its context lives.
#[must_use]
pub fn is_poll(bytes: &[u8]) -> bool {
    bytes.first() == Some(&command::POLL)
}

fn header(random: &mut Random, command: u8, size: usize) -> Header {
    let size = if random.one_in(8) { random.bits() as u16 } else { size as u16 };
    Header { command, ring: random.below(3) as u8, size, padding: 0 }
}

/// One of these, or seldom any number.
fn name(random: &mut Random, of: &[u32]) -> u32 {
    if of.is_empty() || random.one_in(16) { random.number() } else { random.pick(of) }
}

fn init(random: &mut Random, names: Names<'_>) -> Init {
    Init {
        header: header(random, command::INIT, size_of::<Init>()),
        query_ring: name(random, names.rings),
        channel_ring: name(random, names.rings),
        channel: if random.one_in(6) { random.number() } else { CHANNEL_WAYLAND },
    }
}

fn image(random: &mut Random) -> GetImageRequirements {
    let mut side = || {
        if random.one_in(4) { random.number() } else { 1 + random.below(2048) as u32 }
    };
    let (width, height) = (side(), side());
    let formats = [*b"XR24", *b"AR24", *b"R8  ", *b"NV12", *b"AR4H", [0; 4]];
    GetImageRequirements {
        header: header(random, command::GET_IMAGE_REQUIREMENTS, 24),
        width,
        height,
        format: u32::from_le_bytes(random.pick(&formats)),
        flags: random.number(),
    }
}

fn send(random: &mut Random, names: Names<'_>) -> Vec<u8> {
    let bytes = stream(random);
    let mut fixed = SendReceive {
        header: header(random, command::SEND, size_of::<SendReceive>() + bytes.len()),
        count: if random.one_in(3) { random.below(1 + MAX_FDS as u64) as u32 } else { 0 },
        length: bytes.len() as u32,
        ..Default::default()
    };
    for n in 0..fixed.count as usize {
        fixed.kinds[n] = match random.below(8) {
            0..4 => identifier::BLOB,
            4 => identifier::READ_PIPE,
            5 | 6 => identifier::WRITE_PIPE,
            _ => random.number(),
        };
        fixed.ids[n] = match fixed.kinds[n] {
            identifier::READ_PIPE | identifier::WRITE_PIPE => pipe(random),
            _ => name(random, names.memory),
        };
        fixed.sizes[n] = random.number();
    }
    match random.below(24) {
        0 => fixed.count = random.number(),
        1 => fixed.length = random.number(),
        _ => {}
    }
    [bytes_of(&fixed), &bytes].concat()
}

fn pipe(random: &mut Random) -> u32 {
    match random.below(8) {
        0 => random.number(),
        1 => random.below(PIPES) as u32,
        _ => GUEST_PIPE | random.below(PIPES) as u32,
    }
}

fn write(random: &mut Random) -> Vec<u8> {
    let length = if random.one_in(6) { random.index(MAX_SEND_ACCEPTED) } else { random.index(200) };
    let fixed = ReadWrite {
        header: header(random, command::WRITE, size_of::<ReadWrite>() + length),
        id: pipe(random),
        hang_up: if random.one_in(4) { random.number() } else { 0 },
        length: if random.one_in(16) { random.number() } else { length as u32 },
        padding: 0,
    };
    [bytes_of(&fixed), &random.bytes(length)].concat()
}

/// What a client says to its compositor: something right, and then something else.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut message = |object: u32, opcode: u32, args: &[u32]| {
        let size = 8 + 4 * args.len() as u32;
        for word in [object, size << 16 | opcode].iter().chain(args) {
            bytes.extend(word.to_le_bytes());
        }
    };
    // wl_display.get_registry and sync: what any client begins with, and nothing before it is let through.
    if random.one_in(2) {
        message(1, 1, &[2]);
        message(1, 0, &[3]);
    }
    for _ in 0..random.below(4) {
        let args: Vec<u32> = (0..random.below(5)).map(|_| random.number()).collect();
        message(random.below(5) as u32, random.below(4) as u32, &args);
    }
    match random.below(12) {
        0 => {
            let length = random.index(300);
            bytes.extend(random.bytes(length));
        }
        1 => {
            let length = random.index(MAX_SEND_ACCEPTED);
            bytes.extend(random.bytes(length));
        }
        _ => {}
    }
    bytes
}
