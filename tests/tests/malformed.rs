//! Requests that are no Wayland: their sender is told why and disconnected, and nobody else hears of it.

use std::fs::File;
use std::os::fd::OwnedFd;
use wlproxy_tests::{Arg, Bystander, Desk, Plan, Raw, Way, memfd, message, until};

/// wl_surface.attach, .commit; wl_compositor.create_surface; wl_shm.create_pool; xdg_toplevel.set_title; opcodes of
/// wayland.xml and xdg-shell.xml.
const ATTACH: u16 = 1;
const COMMIT: u16 = 6;
const CREATE_SURFACE: u16 = 0;
const CREATE_POOL: u16 = 0;
const SET_TITLE: u16 = 2;

/// What appears in a title and must appear nowhere else.
const CANARY: &str = "canary";

/// What a compositor logs of a commit.
const COMMITTED: &str = ".commit(";

/// A client in the middle of its work.
struct Attacker {
    raw: Raw,
    compositor: u32,
    shm: u32,
    surface: u32,
    toplevel: u32,
}

impl Attacker {
    fn new(desk: &Desk) -> Self {
        let mut raw = Raw::connect(&desk.display());
        raw.sync();
        let (compositor, shm, wm_base) =
            (raw.bind("wl_compositor", 4), raw.bind("wl_shm", 1), raw.bind("xdg_wm_base", 1));
        let (surface, xdg_surface, toplevel) = (raw.id(), raw.id(), raw.id());
        let requests = [
            message(compositor, CREATE_SURFACE, &[Arg::Uint(surface)]),
            // xdg_wm_base.get_xdg_surface, xdg_surface.get_toplevel
            message(wm_base, 2, &[Arg::Uint(xdg_surface), Arg::Uint(surface)]),
            message(xdg_surface, 1, &[Arg::Uint(toplevel)]),
        ];
        raw.send(&requests.concat(), []);
        raw.sync();
        Self { raw, compositor, shm, surface, toplevel }
    }

    /// Shows 64x64 pixels of `file` on a surface without a role, twice, as if it were a pool of `size` bytes.
    fn show(&mut self, file: OwnedFd, size: i32) {
        let (surface, pool, buffer) = (self.raw.id(), self.raw.id(), self.raw.id());
        let create_pool = message(self.shm, CREATE_POOL, &[Arg::Uint(pool), Arg::Int(size)]);
        let buffer_args = [
            Arg::Uint(buffer),
            Arg::Int(0),
            Arg::Int(64),
            Arg::Int(64),
            Arg::Int(256),
            Arg::Uint(1),
        ];
        let frame = [
            message(surface, ATTACH, &[Arg::Uint(buffer), Arg::Int(0), Arg::Int(0)]),
            // wl_surface.damage
            message(surface, 2, &[Arg::Int(0), Arg::Int(0), Arg::Int(64), Arg::Int(64)]),
            message(surface, COMMIT, &[]),
        ];
        self.raw.send(&message(self.compositor, CREATE_SURFACE, &[Arg::Uint(surface)]), []);
        self.raw.send(&create_pool, [file]);
        // wl_shm_pool.create_buffer
        self.raw.send(&message(pool, 0, &buffer_args), []);
        self.raw.send(&frame.concat().repeat(2), []);
    }

    /// Waits until all of that was handled, or the connection has ended.
    fn settle(&mut self) {
        let callback = self.raw.id();
        self.raw.send(&message(1, 0, &[Arg::Uint(callback)]), []);
        while self.raw.event().is_some_and(|event| event.object != callback) {}
    }
}

/// An attack: bytes, and the object that the error has to name.
struct Attack {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    object: u32,
    /// Words of which one tells the reason.
    reason: &'static [&'static str],
    /// What libwayland 1.21 does about it.
    libwayland: Libwayland,
    /// Since when it does something else.
    since: Option<(Version, Libwayland)>,
}

/// What libwayland does about a malformed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Libwayland {
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
type Version = (u32, u32);

/// libwayland leaves in the socket what doesn't fit into its buffer, instead of closing it (its commit d074d52).
const READS_LESS: Version = (22, 91);

/// libwayland refuses strings with a NUL inside (its commit 6c4a695).
const REFUSES_NULS: Version = (23, 91);

impl Attack {
    fn libwayland(&self, version: Version) -> Libwayland {
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

type Case = fn(&mut Attacker) -> Attack;

const CASES: &[(&str, Case)] = &[
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

/// Each case in turn, with a client beside it. What becomes of the connection is up to `judge`.
fn run(desk: &Desk, mut judge: impl FnMut(&str, &Attack, &mut Raw)) {
    let bystander = Bystander::start(&desk.display());
    let outsider = Bystander::start(&desk.direct());
    for (name, case) in CASES {
        let mut attacker = Attacker::new(desk);
        let mut attack = case(&mut attacker);
        attacker.raw.send(&attack.bytes, std::mem::take(&mut attack.fds));
        judge(name, &attack, &mut attacker.raw);
        bystander.check();
        outsider.check();
    }
}

/// Without the path, libwayland itself sees each of them: the cases are what they say, and its log is where one would
/// be seen that came through.
#[test]
fn each_is_an_error_to_libwayland() {
    use Libwayland::{Closes, Takes, Tells, Waits};
    let mut desk = Desk::start(Plan { vms: &[], debug: true, ..Plan::default() });
    let version = desk.compositor().libwayland();
    eprintln!("libwayland 1.{}.{}", version.0, version.1);
    let mut taken = Vec::new();
    run(&desk, |name, attack, raw| match attack.libwayland(version) {
        Tells => assert!(raw.end().is_some(), "{name}: no wl_display.error"),
        Closes => assert_eq!(raw.end(), None, "{name}"),
        // It goes when its client does.
        Waits => {}
        Takes(logged) => taken.push(logged),
    });
    for logged in taken {
        until(logged, || desk.compositor().log().contains(logged).then_some(()));
    }
    assert!(tells_an_error(&desk.compositor().log()), "an error would not be seen in the log");
}

/// Whether a libwayland's log has it that a client was sent an error.
fn tells_an_error(log: &str) -> bool {
    // Until 1.22, and since.
    ["wl_display@1.error(", "wl_display#1.error("].iter().any(|error| log.contains(error))
}

#[test]
fn each_ends_its_sender_with_a_reason_and_goes_no_further() {
    let mut desk = Desk::start(Plan { debug: true, ..Plan::default() });
    run(&desk, |name, attack, raw| {
        let fault = raw.end().unwrap_or_else(|| panic!("{name}: no wl_display.error"));
        let message = fault.message.to_lowercase();
        let named = fault.object == attack.object
            || message.split(|c: char| !c.is_ascii_digit()).any(|n| n == attack.object.to_string());
        assert!(named, "{name}: {fault:?} doesn't name object {}", attack.object);
        let explained = attack.reason.iter().any(|word| message.contains(word));
        assert!(explained, "{name}: {fault:?} gives no reason");
    });
    let log = desk.compositor().log();
    assert!(log.contains("get_toplevel"), "the compositor's log is empty");
    assert!(!tells_an_error(&log), "the compositor has seen an error");
    for seen in [COMMITTED, CANARY] {
        assert!(!log.contains(seen), "the compositor has seen {seen}");
    }
}

/// What a client sends before and after its fault: the first is served, the second is not.
#[test]
fn what_comes_before_a_fault_is_served() {
    let desk = Desk::new(Way::Through);
    let mut attacker = Attacker::new(&desk);
    let (commits, callback) = (desk.status("work", "commits"), attacker.raw.id());
    let bytes = [
        message(attacker.surface, COMMIT, &[]),
        message(1, 0, &[Arg::Uint(callback)]),
        message(attacker.surface, 99, &[]),
        message(attacker.surface, COMMIT, &[]),
    ];
    attacker.raw.send(&bytes.concat(), []);
    let fault = attacker.raw.end().expect("a reason");
    assert!(fault.message.contains("99") || fault.message.contains("opcode"), "{fault:?}");
    until("the first commit", || (desk.status("work", "commits") == commits + 1).then_some(()));
}

/// Files that aren't the memory that a client says they are. Whether it gets an error is between it and the
/// compositor; that nobody falls over is not.
fn files(way: Way) {
    const SIZE: i32 = 64 * 64 * 4;
    let desk = Desk::new(way);
    let (bystander, outsider) =
        (Bystander::start(&desk.display()), Bystander::start(&desk.direct()));
    let open = |path: &str| File::open(path).expect("every machine has it");
    let read_only =
        || wlproxy_unix::memory::constant("constant", &[7; SIZE as usize]).expect("memory is left");
    let cases: [(&str, OwnedFd); 6] = [
        ("an empty file", memfd(0).into()),
        ("half of the file", memfd(SIZE as u64 / 2).into()),
        ("a folder", open("/").into()),
        ("a device", open("/dev/null").into()),
        ("a pipe", std::io::pipe().expect("fds are left").0.into()),
        ("a constant", read_only()),
    ];
    for (name, file) in cases {
        eprintln!("{name}");
        let mut attacker = Attacker::new(&desk);
        attacker.show(file, SIZE);
        attacker.settle();
        bystander.check();
        outsider.check();
    }
    // Cut off while it is shown, and while frames are on their way.
    let file = memfd(SIZE as u64);
    let mut attacker = Attacker::new(&desk);
    attacker.show(file.try_clone().expect("fds are left").into(), SIZE);
    file.set_len(0).expect("not sealed");
    attacker.settle();
    bystander.check();
    outsider.check();
}

#[test]
fn a_file_that_is_no_pool_hurts_nobody_directly() {
    files(Way::Direct);
}

#[test]
fn a_file_that_is_no_pool_hurts_nobody() {
    files(Way::Through);
}
