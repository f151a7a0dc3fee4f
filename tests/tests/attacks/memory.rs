//! Memory that isn't what its client says.

use crate::attacks;
use std::fs::File;
use std::os::fd::OwnedFd;
use wlproxy_tests::attacker::{opcode::*, sealed};
use wlproxy_tests::{Arg, Attacker, memfd};

/// Bytes of 64x64 pixels.
const SIZE: i32 = 64 * 64 * 4;

/// Shown often, with the file cut off and back each time.
const FLAPS: usize = 10_000;

/// Words for a pool or buffer that can't be.
const WRONG: &[&str] =
    &["pool", "size", "invalid", "buffer", "stride", "offset", "memory", "range"];

attacks! {
    "a pool of 2 GiB in a file of 4 KiB" => Wordless, |a| {
        a.show(memfd(4096).into(), i32::MAX);
        Some(())
    };
    "the same in memory that never shrinks" => Either, |a| {
        a.show(sealed(4096), i32::MAX);
        Some(())
    };
    "a file that is cut off once it is shown" => Wordless, |a| {
        let file = memfd(SIZE as u64);
        a.show(file.try_clone().expect("fds are left").into(), SIZE);
        file.set_len(0).expect("not sealed");
        Some(())
    };
    "a file whose size flaps" => Wordless, |a| {
        let file = memfd(SIZE as u64);
        let pool = a.pool(file.try_clone().expect("fds are left").into(), SIZE);
        let (surface, buffer) = (a.surface(), a.buffer(pool, [0, 64, 64, 256]));
        for _ in 0..FLAPS {
            a.attach(surface, buffer);
            file.set_len(0).expect("not sealed");
            file.set_len(SIZE as u64).expect("not sealed");
        }
        Some(())
    };
    "a pool of 0 bytes" => Told(WRONG), |a| {
        a.pool(sealed(4096), 0);
        Some(())
    };
    "a pool of -1 bytes" => Told(WRONG), |a| {
        a.pool(sealed(4096), -1);
        Some(())
    };
    "a pool resized to 0" => Told(WRONG), |a| resize(a, 0);
    "a pool resized to -1" => Told(WRONG), |a| resize(a, -1);
    "a pool made smaller" => Told(WRONG), |a| resize(a, 4096);
    "a pool resized to 2 GiB" => Either, |a| resize(a, i32::MAX);
    "a buffer of no width" => Told(WRONG), |a| buffer(a, [0, 0, 64, 256]);
    "a buffer of negative height" => Told(WRONG), |a| buffer(a, [0, 64, -64, 256]);
    "a buffer before its pool" => Told(WRONG), |a| buffer(a, [-4096, 64, 64, 256]);
    "a buffer beyond its pool" => Told(WRONG), |a| buffer(a, [4, 64, 64, 256]);
    "a buffer of which only the last row is beyond" => Told(WRONG), |a| buffer(a, [0, 64, 65, 256]);
    "a stride that is too short" => Either, |a| buffer(a, [0, 64, 64, 64]);
    "a negative stride" => Told(WRONG), |a| buffer(a, [0, 64, 64, -256]);
    "a stride that overflows" => Told(WRONG), |a| buffer(a, [0, 64, 64, i32::MAX]);
    "a buffer whose size overflows" => Told(WRONG), |a| buffer(a, [0, 0x10000, 0x10000, 0x40000]);
    "the widest buffer" => Told(WRONG), |a| buffer(a, [0, i32::MAX, 1, i32::MAX]);
    "a folder" => Wordless, |a| show(a, File::open("/").expect("every machine has it"));
    "a device" => Wordless, |a| show(a, File::open("/dev/null").expect("every machine has it"));
    "a pipe" => Wordless, |a| show(a, std::io::pipe().expect("fds are left").0);
    "a file that can't be written" => Wordless, |a| {
        show(a, wlproxy_unix::memory::constant("constant", &[7; SIZE as usize]).expect("memory is left"))
    };
    "5,000 pools" => Told(&["quota", "memory", "allocation"]), |a| {
        for _ in 0..5_000 {
            a.pool(sealed(4096), 4096);
        }
        Some(())
    };
    "100,000 buffers of one pool (CVE-2021-3782)" => Told(&["quota"]), |a| {
        let pool = a.pool(sealed(SIZE as u64), SIZE);
        for _ in 0..100_000 {
            a.buffer(pool, [0, 64, 64, 256]);
        }
        Some(())
    };
}

/// Shows a pool, resizes it, and shows it again.
fn resize(a: &mut Attacker, size: i32) -> Option<()> {
    let pool = a.pool(sealed(SIZE as u64), SIZE);
    let (surface, buffer) = (a.surface(), a.buffer(pool, [0, 64, 64, 256]));
    a.attach(surface, buffer);
    a.say(pool, RESIZE, &[Arg::Int(size)]);
    a.attach(surface, buffer);
    Some(())
}

fn buffer(a: &mut Attacker, shape: [i32; 4]) -> Option<()> {
    let pool = a.pool(sealed(SIZE as u64), SIZE);
    let (surface, buffer) = (a.surface(), a.buffer(pool, shape));
    a.attach(surface, buffer);
    Some(())
}

fn show(a: &mut Attacker, file: impl Into<OwnedFd>) -> Option<()> {
    a.show(file.into(), SIZE);
    Some(())
}
