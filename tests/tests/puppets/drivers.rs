//! Whatever the two VMs' drivers are like: memory and pipes that travel over a link are the same on both sides.

use guest_agent::channel::process::Options;
use guest_agent::channel::{Allocation, Arrived, PipeEnd, VfdId};
use guest_agent::memory::Mapping;
use wlproxy_tests::{Arg, Desk, Doorway, Plan, Puppet, message};

const OPTIONS: [Options; 4] = [
    Options { use_shmem: true, trans_flags: true },
    Options { use_shmem: true, trans_flags: false },
    Options { use_shmem: false, trans_flags: true },
    // Today's drivers ack one of the two; the oldest none.
    Options { use_shmem: false, trans_flags: false },
];

/// Objects of the client's, and the compositor's first.
const REGISTRY: u32 = 2;
const SHM: u32 = 3;
const SEAT: u32 = 4;
const OFFER: u32 = 0xff00_0000;

/// What the compositor offers, by name from 1 on.
const GLOBALS: [&str; 3] = ["wl_shm", "wl_seat", "wl_data_device_manager"];

/// A link between two VMs that the test plays.
struct Link {
    work: Puppet,
    client: VfdId,
    gui: Puppet,
    context: VfdId,
}

impl Link {
    fn new(desk: &Desk, of_client: Options, of_compositor: Options) -> Self {
        let mut gui = desk.puppet_with("gui", of_compositor);
        let mut work = desk.puppet_with("work", of_client);
        let mut door = Doorway::open(&mut gui);
        let client = work.connect();
        let record = door.record(&mut gui);
        let context = door.accept(&mut gui, &record);
        let mut link = Self { work, client, gui, context };
        link.request(&message(1, 1, &[Arg::Uint(REGISTRY)]), &[]);
        for (name, interface) in (1..).zip(GLOBALS) {
            let args = [Arg::Uint(name), Arg::Text(interface), Arg::Uint(1)];
            link.event(&message(REGISTRY, 0, &args), &[]);
        }
        link.bind(1, SHM);
        link.bind(2, SEAT);
        link
    }

    fn bind(&mut self, name: u32, id: u32) {
        let interface = Arg::Text(GLOBALS[name as usize - 1]);
        let args = [Arg::Uint(name), interface, Arg::Uint(1), Arg::Uint(id)];
        self.request(&message(REGISTRY, 0, &args), &[]);
    }

    /// The client says something; it arrives as it is.
    fn request(&mut self, bytes: &[u8], vfds: &[VfdId]) -> Vec<Arrived> {
        self.work.send(self.client, bytes, vfds);
        let (seen, arrived) = self.gui.read(self.context, bytes.len());
        assert_eq!(seen, bytes);
        assert_eq!(arrived.len(), vfds.len());
        arrived
    }

    /// The compositor says something; it arrives as it is.
    fn event(&mut self, bytes: &[u8], vfds: &[VfdId]) -> Vec<Arrived> {
        self.gui.send(self.context, bytes, vfds);
        let (seen, arrived) = self.work.read(self.client, bytes.len());
        assert_eq!(seen, bytes);
        assert_eq!(arrived.len(), vfds.len());
        arrived
    }
}

fn memory(arrived: Vec<Arrived>) -> Allocation {
    match <[Arrived; 1]>::try_from(arrived) {
        Ok([Arrived::Allocation(allocation)]) => allocation,
        other => panic!("not memory: {other:?}"),
    }
}

fn pipe(arrived: Vec<Arrived>, end: PipeEnd) -> VfdId {
    match <[Arrived; 1]>::try_from(arrived) {
        Ok([Arrived::Pipe(vfd, its)]) if its == end => vfd,
        other => panic!("not the {end:?} end of a pipe: {other:?}"),
    }
}

/// Bytes that tell memory from other memory.
fn pattern(seed: u8, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 4096) as u8 ^ seed).collect()
}

fn map(memory: &Allocation) -> Mapping {
    Mapping::new(&memory.fd, memory.size).expect("memory can be mapped whole")
}

/// What one side writes, the other one reads, in both directions.
fn shared(here: &Allocation, there: &Allocation, seed: u8) {
    assert_eq!(here.size, there.size);
    let (mut here, mut there) = (map(here), map(there));
    let bytes = pattern(seed, here.size() as u64);
    here.write(0, &bytes);
    assert!(there.read(0, there.size()) == bytes, "other bytes arrived");
    let answer = pattern(!seed, 4096);
    there.write(there.size() - 4096, &answer);
    assert!(here.read(here.size() - 4096, 4096) == answer, "the answer didn't come back");
}

fn every_pair(mut body: impl FnMut(Link)) {
    let desk = Desk::host_only(Plan::default());
    for of_client in OPTIONS {
        for of_compositor in OPTIONS {
            eprintln!("client VM {of_client:?}, compositor VM {of_compositor:?}");
            body(Link::new(&desk, of_client, of_compositor));
        }
    }
}

#[test]
fn memory_of_a_client_reaches_the_compositor() {
    every_pair(|mut link| {
        let pool = 5;
        let mut held = Vec::new();
        for (at, size) in (0..).zip([1, 4096, 5 * 4096, (1 << 20) + 1]) {
            let ours = link.work.allocate(size);
            assert_eq!(ours.size, size.next_multiple_of(4096));
            let args = [Arg::Uint(pool), Arg::Int(ours.size as i32)];
            let theirs = memory(link.request(&message(SHM, 0, &args), &[ours.vfd]));
            shared(&ours, &theirs, at);
            held.push((ours, theirs));
            // wl_shm_pool.destroy, so that the id can be used again.
            link.request(&message(pool, 1, &[]), &[]);
            link.event(&message(1, 1, &[Arg::Uint(pool)]), &[]);
        }
        // All of them at once are still what they were.
        for (seed, (ours, theirs)) in (100..).zip(&held) {
            shared(ours, theirs, seed);
        }
        // The same memory twice, and memory that outlives the vfd that it came from.
        let (ours, theirs) = held.swap_remove(2);
        link.gui.close(theirs.vfd);
        let args = [Arg::Uint(pool), Arg::Int(ours.size as i32)];
        let again = memory(link.request(&message(SHM, 0, &args), &[ours.vfd]));
        shared(&ours, &again, 200);
        link.work.close(ours.vfd);
        shared(&again, &ours, 201);
    });
}

#[test]
fn memory_of_the_compositor_reaches_a_client() {
    every_pair(|mut link| {
        let keyboard = 5;
        // wl_seat.get_keyboard, wl_keyboard.keymap
        link.request(&message(SEAT, 1, &[Arg::Uint(keyboard)]), &[]);
        for seed in 0..3 {
            let keymap = link.gui.allocate(60_000);
            let args = [Arg::Uint(1), Arg::Uint(60_000)];
            let arrived = memory(link.event(&message(keyboard, 0, &args), &[keymap.vfd]));
            shared(&keymap, &arrived, seed);
        }
    });
}

/// A transfer each way: the client sends what it has copied, and receives what another one has.
#[test]
fn pipes_go_both_ways() {
    every_pair(|mut link| {
        let (manager, source, device) = (5, 6, 7);
        link.bind(3, manager);
        // create_data_source, get_data_device
        link.request(&message(manager, 0, &[Arg::Uint(source)]), &[]);
        link.request(&message(manager, 1, &[Arg::Uint(device), Arg::Uint(SEAT)]), &[]);
        // wl_data_device.data_offer
        link.event(&message(device, 0, &[Arg::Uint(OFFER)]), &[]);
        for length in [0, 1, 100_000] {
            let bytes = pattern(7, length);

            // wl_data_source.send: the compositor VM reads, the client gets the end to write to.
            let reader = link.gui.pipe(PipeEnd::Read);
            let send = message(source, 1, &[Arg::Text("text/plain")]);
            let writer = pipe(link.event(&send, &[reader]), PipeEnd::Write);
            transfer((&mut link.work, writer), (&mut link.gui, reader), &bytes);

            // wl_data_offer.receive: the client reads.
            let reader = link.work.pipe(PipeEnd::Read);
            let receive = message(OFFER, 1, &[Arg::Text("text/plain")]);
            let writer = pipe(link.request(&receive, &[reader]), PipeEnd::Write);
            transfer((&mut link.gui, writer), (&mut link.work, reader), &bytes);
        }
        // The end to read from can travel as well.
        let writer = link.work.pipe(PipeEnd::Write);
        let receive = message(OFFER, 1, &[Arg::Text("text/plain")]);
        let reader = pipe(link.request(&receive, &[writer]), PipeEnd::Read);
        transfer((&mut link.work, writer), (&mut link.gui, reader), b"the other way round");
    });
}

/// All of `bytes`, then the end; and nobody holds the pipe any more.
fn transfer(
    (from, writer): (&mut Puppet, VfdId),
    (to, reader): (&mut Puppet, VfdId),
    bytes: &[u8],
) {
    let mut seen = Vec::new();
    for part in bytes.chunks(3000) {
        from.send(writer, part, &[]);
        seen.extend(to.read(reader, part.len()).0);
    }
    from.close(writer);
    seen.extend(to.rest(reader));
    assert!(seen == bytes, "{} bytes became {}", bytes.len(), seen.len());
    to.close(reader);
}
