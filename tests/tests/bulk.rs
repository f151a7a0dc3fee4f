//! Large transfers: whole, at any pace, and with little memory of ours.

use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wlproxy_tests::{DATA_CONTROL, Desk, Flood, Party, Plan, Selection, anonymous, slow, until};

const ANY: Selection = Selection::ControlledClipboard;
const KIND: &str = "application/x-test";

const MIB: usize = 1 << 20;

/// Much more than memory that somebody might keep for one transfer.
const LARGE: usize = 256 * MIB;

/// As much a dawdler gets, unless the tests may be slow.
const LONG: usize = 32 * MIB;

/// Most memory that one pipe may take, in all processes together. What the kernel keeps in pipes and sockets, and the
/// RAM of the VMs, which is there anyway, isn't counted.
const PER_PIPE: usize = MIB;

/// Bytes that are written and read at a time by who is fast.
const PIECE: usize = 64 * 1024;

/// As many a dawdler reads at a time, an odd number.
const CRUMB: usize = 1001;

/// What a dawdler reads between two pauses.
const MOUTHFUL: usize = 64 * CRUMB;

/// The two clients are in VMs of their own.
struct World {
    source: Party,
    destination: Party,
    processes: Vec<(String, u32)>,
    desk: Desk,
}

impl World {
    fn new() -> Result<Self> {
        let (vms, allow) = (&["work", "untrusted"], DATA_CONTROL);
        let desk = Desk::start(Plan { vms, allow, ..Plan::default() });
        let mut source = Party::connect(&desk.through("work"))?;
        let destination = Party::connect(&desk.through("untrusted"))?;
        source.copy(ANY, KIND)?;
        let processes = desk.ours();
        ensure!(processes.len() == 6, "{processes:?}");
        Ok(Self { source, destination, processes, desk })
    }

    /// Memory of all our processes, in bytes.
    fn memory(&self) -> usize {
        self.processes.iter().map(|&(_, id)| anonymous(id)).sum()
    }

    fn idle(self) {
        drop((self.source, self.destination));
        for vm in ["work", "untrusted"] {
            until("the end of all pipes", || (self.desk.vm(vm).stats("pipes") == 0).then_some(()));
        }
    }
}

/// What one transfer has shown.
struct Seen {
    took: Duration,
    /// Most memory beyond what there was before, in bytes.
    grown: usize,
    /// How many samples there were, and at how many the pipe was full: more was on its way than what was read next.
    samples: usize,
    full: usize,
}

/// Carries `size` bytes, of which `crumb` are read at a time; after each `mouthful` of them `pause` is called.
fn carry(
    world: &mut World,
    size: usize,
    crumb: usize,
    mouthful: usize,
    dawdles: bool,
) -> Result<Seen> {
    let before = world.memory();
    let reader = world.destination.paste(ANY, KIND)?;
    let writer = world.source.asked(KIND)?;
    let written = AtomicUsize::new(0);
    let begin = Instant::now();
    let (mut grown, mut samples, mut full) = (0, 0, 0);
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            let (mut flood, mut piece) = (Flood::new(256), vec![0; PIECE]);
            let mut left = size;
            while left > 0 {
                let piece = &mut piece[..left.min(PIECE)];
                flood.fill(piece);
                writer.write(piece)?;
                left -= piece.len();
                written.fetch_add(piece.len(), Ordering::Relaxed);
            }
            drop(writer);
            Ok(())
        });
        let (mut flood, mut expected, mut piece) =
            (Flood::new(256), vec![0; crumb], vec![0; crumb]);
        let (mut read, mut next) = (0, mouthful);
        loop {
            let got = reader.read_some(&mut piece)?;
            flood.fill(&mut expected[..got]);
            ensure!(piece[..got] == expected[..got], "other bytes arrived after {read}");
            read += got;
            if got == 0 {
                break;
            }
            if read >= next {
                next += mouthful;
                if dawdles {
                    world.destination.client.roundtrip()?;
                }
                samples += 1;
                full += usize::from(written.load(Ordering::Relaxed) > read + mouthful);
                grown = grown.max(world.memory().saturating_sub(before));
            }
        }
        ensure!(read == size, "{read} of {size} bytes arrived");
        writing.join().expect("writing doesn't panic")
    })?;
    Ok(Seen { took: begin.elapsed(), grown, samples, full })
}

fn check(what: &str, size: usize, seen: &Seen) -> Result<()> {
    let rate = size as f64 / MIB as f64 / seen.took.as_secs_f64();
    let Seen { grown, samples, full, .. } = seen;
    println!("{what}: {rate:.0} MiB/s, {grown} bytes of memory, full {full} of {samples} times");
    ensure!(*grown < PER_PIPE, "one pipe took {grown} bytes");
    Ok(())
}

#[test]
fn much_arrives_whole() -> Result<()> {
    let mut world = World::new()?;
    let seen = carry(&mut world, LARGE, PIECE, MIB, false)?;
    check("fast", LARGE, &seen)?;
    world.idle();
    Ok(())
}

#[test]
fn much_arrives_whole_at_a_dawdler() -> Result<()> {
    let mut world = World::new()?;
    let size = if slow() { LARGE } else { LONG };
    let seen = carry(&mut world, size, CRUMB, MOUTHFUL, true)?;
    check("dawdling", size, &seen)?;
    ensure!(seen.full > seen.samples / 2, "full only {} of {} times", seen.full, seen.samples);
    world.idle();
    Ok(())
}
