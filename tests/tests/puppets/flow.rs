//! Who doesn't read holds back whoever writes to him, and nobody else; and nothing piles up.

use guest_agent::channel::{Channel, Received, Sent, VfdId};
use std::fs;
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, anonymous, message, until};

/// Objects of a client that has bound wl_shm and wl_compositor, and made a surface.
const REGISTRY: u32 = 2;
const SHM: u32 = 3;
const COMPOSITOR: u32 = 4;
const SURFACE: u32 = 5;
const CALLBACK: u32 = 6;

/// Most bytes that wait at the compositor VM's worker, per context (design: Flow).
const MAX_QUEUED: usize = 1 << 20;

/// What socket buffers, the receive buffers of a stuck context and messages under way add up to, and then some.
const IN_BETWEEN: usize = 2 << 20;

/// Roundtrips beside a stuck context that must pass.
const ROUNDS: u32 = 50;

/// How often these are tried.
const TRIES: usize = 5;

struct World {
    gui: Puppet,
    work: Puppet,
    door: Doorway,
    /// The last, so that it looks for leaks when the VMs are gone.
    desk: Desk,
}

/// One link: the client's context, and the compositor's.
#[derive(Clone, Copy)]
struct Link {
    client: VfdId,
    context: VfdId,
}

impl World {
    fn new() -> Self {
        Self::of(Plan::default())
    }

    fn of(plan: Plan) -> Self {
        let desk = Desk::host_only(plan);
        let mut gui = desk.puppet("gui");
        let work = desk.puppet("work");
        let door = Doorway::open(&mut gui);
        Self { gui, work, door, desk }
    }

    fn link(&mut self) -> Link {
        let client = self.work.connect();
        let record = self.door.record(&mut self.gui);
        let link = Link { client, context: self.door.accept(&mut self.gui, &record) };
        self.request(link, &message(1, 1, &[Arg::Uint(REGISTRY)]));
        for (name, interface, version, id) in
            [(1, "wl_shm", 1, SHM), (2, "wl_compositor", 3, COMPOSITOR)]
        {
            let (name, interface, version) =
                (Arg::Uint(name), Arg::Text(interface), Arg::Uint(version));
            self.event(link, &message(REGISTRY, 0, &[name, interface, version]));
            let bind = [name, interface, version, Arg::Uint(id)];
            self.request(link, &message(REGISTRY, 0, &bind));
        }
        self.request(link, &message(COMPOSITOR, 0, &[Arg::Uint(SURFACE)]));
        link
    }

    fn request(&mut self, link: Link, bytes: &[u8]) {
        self.work.send(link.client, bytes, &[]);
        assert_eq!(self.gui.read(link.context, bytes.len()).0, bytes);
    }

    fn event(&mut self, link: Link, bytes: &[u8]) {
        self.gui.send(link.context, bytes, &[]);
        assert_eq!(self.work.read(link.client, bytes.len()).0, bytes);
    }

    /// A link on which everything goes on.
    fn roundtrip(&mut self, link: Link) {
        self.request(link, &message(1, 0, &[Arg::Uint(CALLBACK)]));
        let done = message(CALLBACK, 0, &[Arg::Uint(0)]);
        self.event(link, &[done, message(1, 1, &[Arg::Uint(CALLBACK)])].concat());
    }

    /// The client of `stuck` sends until it is held back, whatever happens on `other`; what it has sent.
    fn press(&mut self, stuck: Link, other: Link) -> Vec<u8> {
        let mut sent = Vec::new();
        let mut patience = ROUNDS;
        while patience > 0 {
            let bytes = requests(sent.len() / 12);
            let channel = self.work.channel();
            channel.dispatch(&mut Vec::new()).expect("the device lives");
            match channel.send(stuck.client, &bytes, &[]).expect("an open vfd") {
                Sent::Accepted => {
                    sent.extend(bytes);
                    patience = ROUNDS;
                }
                Sent::Busy => {
                    self.roundtrip(other);
                    patience -= 1;
                }
            }
            assert!(sent.len() <= IN_BETWEEN, "{} bytes are on their way", sent.len());
        }
        sent
    }

    /// Memory of both workers that is their own, in bytes.
    fn memory(&self) -> usize {
        let workers = ["work", "gui"].map(|vm| self.desk.status(vm, "pid") as u32);
        workers.into_iter().map(anonymous).sum()
    }
}

/// Messages of 12 bytes, as many as a SEND takes.
const MESSAGES: usize = 320;

/// Events of wl_shm: formats, which are their numbers.
fn events(from: usize) -> Vec<u8> {
    numbered(from, |number| message(SHM, 0, &[number]))
}

/// Requests of the surface: set_buffer_scale.
fn requests(from: usize) -> Vec<u8> {
    numbered(from, |number| message(SURFACE, 8, &[number]))
}

fn numbered(from: usize, message: impl Fn(Arg<'static>) -> Vec<u8>) -> Vec<u8> {
    (from..from + MESSAGES).flat_map(|number| message(Arg::Uint(number as u32))).collect()
}

/// A context of the client VM isn't received from while its compositor sends and sends: another one notices nothing,
/// and nothing is lost.
#[test]
fn an_unread_context_stalls_no_other() {
    let mut world = World::new();
    let (stuck, other) = (world.link(), world.link());
    let mut sent = Vec::new();
    while sent.len() < MAX_QUEUED {
        let bytes = events(sent.len() / 12);
        world.gui.send(stuck.context, &bytes, &[]);
        sent.extend(bytes);
        if sent.len() % (32 * MESSAGES * 12) == 0 {
            world.roundtrip(other);
        }
    }
    for _ in 0..ROUNDS {
        world.roundtrip(other);
    }
    // A new one isn't stalled either.
    let late = world.link();
    world.roundtrip(late);
    assert!(world.work.read(stuck.client, sent.len()).0 == sent, "other bytes arrived");
    world.roundtrip(stuck);
}

/// It goes on like that: the compositor VM is never held back, so that context ends at the bound.
#[test]
fn an_unread_context_ends_at_the_bound() {
    ends_within(Plan::default(), MAX_QUEUED);
}

/// That may be less.
#[test]
fn an_unread_context_ends_at_the_quota() {
    let policies = &[("gui", "[vm.gui.quota]\nevents_kib = 64")];
    ends_within(Plan { policies, ..Plan::default() }, 64 << 10);
}

fn ends_within(plan: Plan, most: usize) {
    let mut world = World::of(plan);
    let (stuck, other) = (world.link(), world.link());
    let before = world.memory();
    let mut sent = 0;
    while !hung_up(&mut world.gui, stuck.context) {
        world.gui.send(stuck.context, &events(0), &[]);
        sent += events(0).len();
        assert!(sent <= most + IN_BETWEEN, "{sent} bytes are queued");
        world.roundtrip(other);
    }
    assert!(sent >= most, "ended after {sent} bytes");
    let grown = world.memory().saturating_sub(before);
    assert!(grown <= 2 * (most + IN_BETWEEN), "the workers have grown by {grown} bytes");
    // One message may be on top of it.
    let waited = until("what has waited", || {
        let waited = world.desk.status("gui", "most_sending_bytes") as usize;
        (waited + events(0).len() >= most).then_some(waited)
    });
    assert!(waited <= most, "{waited} bytes waited");
    assert_eq!(world.desk.status("gui", "events_kib") as usize, most >> 10);
    // The client gets what was on its way, and then a clean end.
    let seen = world.work.rest(stuck.client).len();
    assert!(seen <= sent, "{seen} of {sent} bytes");
    world.roundtrip(other);
}

/// Whether the other side of a context that is never sent anything has hung up.
fn hung_up(puppet: &mut Puppet, vfd: VfdId) -> bool {
    let channel = puppet.channel();
    channel.dispatch(&mut Vec::new()).expect("the device lives");
    match channel.receive(vfd, &mut Vec::new()).expect("an open vfd") {
        Received::HangUp => true,
        Received::Nothing => false,
        Received::Message(_) => panic!("nothing was sent"),
    }
}

/// A compositor that doesn't read one client: this client waits, and no other; when it reads, everything is there.
#[test]
fn a_client_waits_for_its_compositor_and_no_other_does() {
    waits(Plan::default());
}

#[test]
fn a_client_waits_for_its_compositor_without_isolation() {
    waits(Plan { isolation: Some("none"), ..Plan::default() });
}

fn waits(plan: Plan) {
    let mut world = World::of(plan);
    let (stuck, other) = (world.link(), world.link());
    let before = world.memory();
    let sent = world.press(stuck, other);
    let grown = world.memory().saturating_sub(before);
    assert!(grown <= IN_BETWEEN, "the workers have grown by {grown} bytes");
    let late = world.link();
    world.roundtrip(late);

    let seen = world.gui.read(stuck.context, sent.len()).0;
    assert!(seen == sent, "other bytes arrived");
    world.work.wait("room again", |channel| {
        let sent = channel.send(stuck.client, &requests(0), &[]).expect("an open vfd");
        (sent == Sent::Accepted).then_some(())
    });
    assert_eq!(world.gui.read(stuck.context, requests(0).len()).0, requests(0));
}

/// In one process, a message is taken to the other VM by the thread that it woke: the other VM's sleeps.
#[test]
fn without_isolation_each_message_wakes_one_thread() {
    let mut world = World::of(Plan { isolation: Some("none"), ..Plan::default() });
    let link = world.link();
    let id = world.desk.status("work", "pid") as u32;
    assert!(sleeps(id) > 0, "these aren't the threads");
    let slept = |_| {
        let before = sleeps(id);
        (0..ROUNDS).for_each(|_| world.roundtrip(link));
        sleeps(id) - before
    };
    // Where others take the processors away, a thread sleeps more often.
    let slept = (0..TRIES).map(slept).min().expect("there are some");
    // There are two messages in each. With both threads awake for each of them it was twice as much.
    assert!(slept < u64::from(3 * ROUNDS), "{slept} times in {ROUNDS} rounds");
}

/// How often the threads of devices in this process went to sleep.
fn sleeps(id: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("a process").flatten();
    // Other threads may end.
    let read = |thread: &fs::DirEntry, name| {
        fs::read_to_string(thread.path().join(name)).unwrap_or_default()
    };
    let devices = threads.filter(|thread| read(thread, "comm").trim() == "vring_worker");
    let sleeps = devices.map(|thread| {
        let status = read(&thread, "status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("Linux counts them")
    });
    sleeps.sum()
}

/// A client that is held back can leave, and so can its compositor; nobody waits for them.
#[test]
fn who_is_held_back_can_leave() {
    leaves(Plan::default());
}

#[test]
fn who_is_held_back_can_leave_without_isolation() {
    leaves(Plan { isolation: Some("none"), ..Plan::default() });
}

fn leaves(plan: Plan) {
    let mut world = World::of(plan);
    let other = world.link();
    for client_leaves in [true, false] {
        let stuck = world.link();
        let sent = world.press(stuck, other);
        if client_leaves {
            world.work.close(stuck.client);
            world.roundtrip(other);
            // It said all of this before it left.
            assert!(world.gui.rest(stuck.context) == sent, "other bytes arrived");
            world.gui.close(stuck.context);
        } else {
            world.gui.close(stuck.context);
            assert_eq!(world.work.rest(stuck.client), b"");
            world.work.close(stuck.client);
        }
        world.roundtrip(other);
    }
    until("the others to be gone", || (world.desk.status("work", "contexts") == 1).then_some(()));
}
