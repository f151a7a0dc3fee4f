//! A client VM without `guest-agent run`: its malformed requests meet the host, and nobody behind it.

use guest_agent::channel::{Channel, Received, VfdId};
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, message, until};

/// Objects of a client that has bound wl_compositor and wl_shm, and made a surface.
const DISPLAY: u32 = 1;
const REGISTRY: u32 = 2;
const COMPOSITOR: u32 = 3;
const SHM: u32 = 4;
const SURFACE: u32 = 5;
const NEXT: u32 = 6;

/// The global that the host hides.
const HIDDEN: u32 = 3;

fn bind(name: u32, interface: &str, id: u32) -> Vec<u8> {
    message(REGISTRY, 0, &[Arg::Uint(name), Arg::Text(interface), Arg::Uint(1), Arg::Uint(id)])
}

/// A commit of the surface: the smallest request there is.
fn commit() -> Vec<u8> {
    message(SURFACE, 6, &[])
}

/// A commit whose header says another size.
fn sized(size: u32) -> Vec<u8> {
    let header = (size << 16) | 6;
    [SURFACE.to_ne_bytes(), header.to_ne_bytes()].concat()
}

/// The test's three VMs, and a main context.
struct World {
    gui: Puppet,
    work: Puppet,
    door: Doorway,
    /// The last, so that it looks for leaks when the VMs are gone.
    desk: Desk,
}

impl World {
    fn new() -> Self {
        let desk = Desk::host_only(Plan::default());
        let mut gui = desk.puppet("gui");
        let work = desk.puppet("work");
        let door = Doorway::open(&mut gui);
        Self { gui, work, door, desk }
    }

    /// A client in the middle of its work: its context, and the compositor's.
    fn client(&mut self) -> (VfdId, VfdId) {
        let client = self.work.connect();
        let record = self.door.record(&mut self.gui);
        let context = self.door.accept(&mut self.gui, &record);
        self.pass(client, context, &message(1, 1, &[Arg::Uint(REGISTRY)]));
        let global = |name, interface| {
            message(REGISTRY, 0, &[Arg::Uint(name), Arg::Text(interface), Arg::Uint(1)])
        };
        let shown = [global(1, "wl_compositor"), global(2, "wl_shm")].concat();
        let all = [global(HIDDEN, "zwp_linux_dmabuf_v1"), shown.clone()].concat();
        self.gui.send(context, &all, &[]);
        assert_eq!(self.work.read(client, shown.len()).0, shown);
        let create_surface = message(COMPOSITOR, 0, &[Arg::Uint(SURFACE)]);
        let bound = [bind(1, "wl_compositor", COMPOSITOR), bind(2, "wl_shm", SHM), create_surface];
        self.pass(client, context, &bound.concat());
        (client, context)
    }

    /// The client says something good.
    fn pass(&mut self, client: VfdId, context: VfdId, bytes: &[u8]) {
        self.work.send(client, bytes, &[]);
        assert_eq!(self.gui.read(context, bytes.len()).0, bytes);
    }
}

/// The error that a client was sent: object, code and words.
fn fault(bytes: &[u8]) -> (u32, u32, String) {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert_eq!((word(0), word(4)), (1, (bytes.len() as u32) << 16), "not one wl_display.error");
    let text = &bytes[20..20 + word(16) as usize - 1];
    (word(8), word(12), String::from_utf8(text.to_vec()).expect("text"))
}

/// Malformed requests, the object that the error's text names, and a word of the reason.
fn cases() -> Vec<(Vec<u8>, u32, &'static str)> {
    let string = |length, bytes| {
        let args = [Arg::Uint(1), Arg::Counted(length, bytes), Arg::Uint(1), Arg::Uint(NEXT)];
        message(REGISTRY, 0, &args)
    };
    vec![
        (sized(0), SURFACE, "0 bytes"),
        (sized(4), SURFACE, "4 bytes"),
        (sized(5000), SURFACE, "5000 bytes"),
        (message(777, 6, &[]), 777, "no such object"),
        (message(SURFACE, 99, &[]), SURFACE, "99"),
        (string(7, b"wl_shmX"), REGISTRY, "string"),
        (string(7, b"wl\0shm\0"), REGISTRY, "string"),
        (string(4000, b"wl_shm\0"), REGISTRY, "short"),
        (message(SHM, 0, &[Arg::Uint(NEXT), Arg::Int(4096)]), SHM, "file descriptor"),
        (bind(HIDDEN, "zwp_linux_dmabuf_v1", NEXT), REGISTRY, "not offered"),
        (bind(1, "wl_shm", NEXT), REGISTRY, "wl_compositor"),
        (bind(99, "wl_shm", NEXT), REGISTRY, "not offered"),
    ]
}

#[test]
fn malformed_requests_end_their_context_alone() {
    let mut world = World::new();
    let (beside, beside_context) = world.client();
    for (violations, (bad, object, reason)) in (1..).zip(cases()) {
        let (client, context) = world.client();
        // What comes before is passed on, what comes after is not, in the same SEND or in another.
        let bytes = [commit(), commit(), bad, commit()].concat();
        world.work.send(client, &bytes, &[]);
        world.work.send(client, &commit(), &[]);
        let (named, _, text) = fault(&world.work.rest(client));
        assert_eq!(named, DISPLAY, "{text}");
        let subject = text.split([':', '.']).next().unwrap_or_default();
        let names = [format!("object {object}"), format!("@{object}")];
        assert!(names.iter().any(|name| subject.ends_with(name)), "{text:?} doesn't name {object}");
        assert!(text.contains(reason), "{text:?} doesn't tell of {reason:?}");
        assert_eq!(world.gui.rest(context), commit().repeat(2), "{text}");
        world.work.close(client);
        world.gui.close(context);
        until(&format!("violation {violations}"), || {
            let counted = world.desk.status("work", "violations");
            assert!(counted <= violations, "{text}: {counted} violations");
            (counted == violations).then_some(())
        });
        world.pass(beside, beside_context, &commit());
    }
}

/// More vfds than any request takes: they are not kept for ever.
#[test]
fn vfds_without_a_request_end_their_context() {
    let mut world = World::new();
    let (beside, beside_context) = world.client();
    let (client, context) = world.client();
    let memory = world.work.allocate(4096);
    let vfds = [memory.vfd; 28];
    let mut sent = 0;
    let fault_bytes = loop {
        world.work.send(client, &commit(), &vfds);
        sent += 1;
        assert!(sent * vfds.len() < 4096, "{sent} times {} vfds wait", vfds.len());
        let channel = world.work.channel();
        let mut bytes = Vec::new();
        match channel.receive(client, &mut bytes).expect("an open vfd") {
            Received::Message(_) => break bytes,
            Received::Nothing | Received::HangUp => {}
        }
    };
    assert_eq!(world.work.rest(client), b"");
    assert!(world.gui.rest(context).len() <= sent * commit().len());
    let (_, _, text) = fault(&fault_bytes);
    assert!(text.contains("file descriptors"), "{text}");
    world.pass(beside, beside_context, &commit());
}

/// A broken compositor: its client is told, and the others aren't touched.
#[test]
fn malformed_events_end_their_link_alone() {
    let mut world = World::new();
    let (beside, beside_context) = world.client();
    let bad: [(Vec<u8>, &str); 4] = [
        (message(777, 0, &[]), "unknown object"),
        (message(SURFACE, 99, &[]), "99"),
        (message(SHM, 0, &[]), "short"),
        // wl_registry.global with half of its name.
        (message(REGISTRY, 0, &[Arg::Uint(9), Arg::Counted(80, b"wl_seat\0")]), "short"),
    ];
    for (bytes, reason) in bad {
        let (client, context) = world.client();
        // wl_shm.format
        let good = message(SHM, 0, &[Arg::Uint(1)]);
        world.gui.send(context, &[good.clone(), bytes, good.clone()].concat(), &[]);
        let seen = world.work.rest(client);
        assert_eq!(seen[..good.len()], good);
        let (_, _, text) = fault(&seen[good.len()..]);
        assert!(text.contains(reason), "{text:?} doesn't tell of {reason:?}");
        assert_eq!(world.gui.rest(context), b"");
        world.work.close(client);
        world.gui.close(context);
        world.pass(beside, beside_context, &commit());
    }
}
