//! A driver that does right or wrong, over the real device: rings in plain memory, and a command in them as it should
//! be, in parts, in a table of its own, or not at all.

use crate::SHOWN;
use crate::input::Input;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use wlproxy::counters::Counters;
use wlproxy::device::bare::{Bare, Queue};
use wlproxy::device::{Dialect, Side};
use wlproxy_hostile::descriptor_flags::{INDIRECT, NEXT, WRITE};
use wlproxy_hostile::{Descriptor, Shape};

/// The guest's memory, in bytes. Nothing is above it.
pub const RAM: u64 = 4 << 20;
/// Descriptors of each queue.
const QUEUE: u16 = 256;
/// Where receive buffers are, of a page each.
const BUFFERS: u64 = 1 << 20;
/// How many of them there are: as many as a queue holds.
const BUFFER_COUNT: u16 = QUEUE;
/// Where a command and its answer stand: one slot for each four descriptors.
const SLOTS: u64 = 2 << 20;
const SLOT: u64 = 16 << 10;
const SLOT_COUNT: u16 = QUEUE / PER_SLOT;
const PER_SLOT: u16 = 4;
/// Where in a slot the answer stands.
const ANSWER: u64 = SLOT - 4096;
/// Where in a slot a table of its own stands. Commands are shorter than that.
const TABLE: u64 = ANSWER - 1024;
/// Room for an answer, in bytes: the longest, virtio-gpu's `DisplayInfo`, has 408.
const ROOM: u32 = 512;
/// Where places for rings and other memory of a virtgpu are.
pub const PLACES: u64 = 3 << 20;

const _: () = assert!(SLOTS + SLOT * SLOT_COUNT as u64 <= PLACES);

/// A VM: its memory, its driver's rings, and its device.
pub struct Vm {
    memory: GuestMemoryMmap,
    /// The queue of commands.
    commands: usize,
    avail: [u16; 2],
    used: [u16; 2],
    /// Slots whose command isn't answered.
    held: Vec<u16>,
    /// Answers that nobody has taken.
    answers: Vec<(u16, Vec<u8>)>,
    /// Whether its driver does right in all that has to do with rings and memory: then nothing is ever wild.
    pub right: bool,
    /// Whether the rings were ever wrong: then the device may have been told anything.
    pub wild: bool,
    /// The device.
    pub device: Bare,
    _changer: Option<Changer>,
}

/// Another processor of the VM, which writes where commands and their descriptors are, as long as there is a VM.
struct Changer {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Changer {
    /// Starts it, and waits until it is on its way.
    fn start(memory: &GuestMemoryMmap, seed: u8) -> Self {
        let (done, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (memory, over, on_its_way) = (memory.clone(), done.clone(), began.clone());
        let thread = thread::spawn(move || {
            let mut at = u64::from(seed);
            while !over.load(Ordering::Relaxed) {
                at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let start = if at >> 62 == 0 { queue(1).table } else { SLOTS };
                let address = GuestAddress(start + (at >> 33) % 4096);
                memory.write_obj((at >> 40) as u8, address).expect("it is in the memory");
                on_its_way.store(true, Ordering::Relaxed);
            }
        });
        while !began.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Changer {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only writes");
        }
    }
}

/// What became of a command.
#[derive(Debug)]
pub enum Told {
    /// It wasn't put into the queue: all slots are held, or its shape is none.
    Nothing,
    /// The device holds its answer back.
    Waits(u16),
    /// The answer.
    Answer(Vec<u8>),
}

impl Told {
    /// The code of an answer; 0 where there is none.
    pub fn code(&self) -> u32 {
        match self {
            Self::Answer(bytes) => bytes.first_chunk().map_or(0, |&code| u32::from_le_bytes(code)),
            _ => 0,
        }
    }
}

const fn queue(index: usize) -> Queue {
    let table = 0x1_0000 * (index as u64 + 1);
    Queue { table, avail: table + 0x4000, used: table + 0x8000 }
}

impl Vm {
    /// Starts a device. Commands go to queue `commands`; with `buffers`, the other one gets buffers to receive in. Every other
    /// driver does right; and of the rest, some VMs have memory that changes by itself.
    pub fn new(
        input: &mut Input<'_>,
        dialect: Dialect,
        side: Side,
        commands: usize,
        buffers: bool,
    ) -> Self {
        let ranges = [(GuestAddress(0), RAM as usize)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("there is memory");
        let device = Bare::start(dialect, side, &memory, [queue(0), queue(1)], QUEUE)
            .expect("a device starts");
        let (held, answers) = (Vec::new(), Vec::new());
        let right = input.one_in(2);
        // A thread costs as much as all else that an input does.
        let changes = !right && input.one_in(32);
        let mut vm = Self {
            _changer: changes.then(|| Changer::start(&memory, input.byte())),
            memory,
            commands,
            avail: [0; 2],
            used: [0; 2],
            held,
            answers,
            right,
            wild: changes,
            device,
        };
        if buffers {
            vm.offer_buffers(1 - commands);
        }
        vm.device.turn();
        vm
    }

    /// Makes all receive buffers available, at once.
    fn offer_buffers(&mut self, index: usize) {
        let (mut table, mut ring) = (Vec::new(), Vec::new());
        for buffer in 0..BUFFER_COUNT {
            let address = BUFFERS + 4096 * u64::from(buffer);
            let descriptor = Descriptor { address, length: 4096, flags: WRITE, next: 0 };
            table.extend(descriptor.to_bytes());
            ring.extend(buffer.to_le_bytes());
        }
        self.write(queue(index).table, &table);
        self.write(queue(index).avail + 4, &ring);
        self.jump(index, BUFFER_COUNT);
    }

    /// What the device counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.device.counters()
    }

    /// Writes into the guest's memory.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).expect("it is in the memory");
    }

    /// Reads it.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("it is in the memory");
        bytes
    }

    fn describe(&self, index: usize, descriptor: u16, is: Descriptor) {
        self.write(queue(index).table + 16 * u64::from(descriptor), &is.to_bytes());
    }

    /// Entries at `table`, and a descriptor that says so, and that they have so many bytes.
    fn describe_table(
        &self,
        index: usize,
        descriptor: u16,
        table: u64,
        length: u32,
        entries: &[Descriptor],
    ) {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.write(table, &bytes);
        let is = Descriptor { address: table, length, flags: INDIRECT, next: 0 };
        self.describe(index, descriptor, is);
    }

    fn make_available(&mut self, index: usize, head: u16) {
        let place = u64::from(self.avail[index] % QUEUE);
        self.write(queue(index).avail + 4 + 2 * place, &head.to_le_bytes());
        self.jump(index, 1);
    }

    fn jump(&mut self, index: usize, by: u16) {
        self.avail[index] = self.avail[index].wrapping_add(by);
        self.write(queue(index).avail + 2, &self.avail[index].to_le_bytes());
    }

    /// What the device has used since the last time, as (head, length).
    fn take_used(&mut self, index: usize) -> Vec<(u16, u32)> {
        let bytes = self.read(queue(index).used + 2, 2);
        let end = u16::from_le_bytes([bytes[0], bytes[1]]);
        let mut found = Vec::new();
        // More than there are only if it was told to write there.
        for _ in 0..end.wrapping_sub(self.used[index]).min(QUEUE) {
            let element =
                self.read(queue(index).used + 4 + 8 * u64::from(self.used[index] % QUEUE), 8);
            let word = |at: usize| {
                u32::from_le_bytes([element[at], element[at + 1], element[at + 2], element[at + 3]])
            };
            found.push((word(0) as u16, word(4)));
            self.used[index] = self.used[index].wrapping_add(1);
        }
        self.used[index] = end;
        found
    }

    /// A command, mostly as it should be, and a turn.
    pub fn command(&mut self, input: &mut Input<'_>, bytes: &[u8]) -> Told {
        let shape = match input.one_in(4) {
            true if self.right => right_shape(input),
            true => shape(input),
            false => Shape::Parts(1, ROOM),
        };
        self.wild |= !matches!(shape, Shape::Parts(_, ROOM) | Shape::Table(..));
        let Some(slot) = self.put(bytes, shape) else { return Told::Nothing };
        self.device.turn();
        let told = self.answer(slot).map_or(Told::Waits(slot), Told::Answer);
        if SHOWN.load(Ordering::Relaxed) {
            println!("{bytes:x?}: {told:x?}{}", if self.wild { ", wild" } else { "" });
        }
        told
    }

    /// Puts a command into the queue. `None`: all slots are held, or its shape is none.
    fn put(&mut self, bytes: &[u8], shape: Shape) -> Option<u16> {
        self.collect();
        // Those of commands that nobody asks about any more; their slots are used again.
        self.answers.clear();
        let slot = (0..SLOT_COUNT).find(|slot| !self.held.contains(slot))?;
        let start = SLOTS + SLOT * u64::from(slot);
        let bytes = &bytes[..bytes.len().min(TABLE as usize)];
        self.write(start, bytes);
        let (index, first) = (self.commands, PER_SLOT * slot);
        let table = start + TABLE;
        let mut head = first;
        match shape {
            Shape::Parts(parts, room) => {
                for (n, part) in (first..).zip(parts_of(start, bytes.len(), parts, room, first)) {
                    self.describe(index, n, part);
                }
            }
            Shape::Table(parts, room) => {
                let entries = parts_of(start, bytes.len(), parts, room, 0);
                let length = (entries.len() * Descriptor::SIZE) as u32;
                self.describe_table(index, first, table, length, &entries);
            }
            Shape::Garbage(descriptors) => {
                for (n, descriptor) in (first..).zip(descriptors) {
                    self.describe(
                        index,
                        n,
                        Descriptor { next: descriptor.next.wrapping_add(first), ..descriptor },
                    );
                }
            }
            Shape::GarbageTable(entries, length) => {
                self.describe_table(index, first, table, length, &entries);
            }
            Shape::Head(other) => head = other,
            Shape::Jump(by) => {
                self.jump(index, by);
                return None;
            }
        }
        self.held.push(slot);
        self.make_available(index, head);
        Some(slot)
    }

    fn collect(&mut self) {
        for (head, length) in self.take_used(self.commands) {
            let slot = head / PER_SLOT;
            self.held.retain(|&held| held != slot);
            if slot < SLOT_COUNT {
                let start = SLOTS + SLOT * u64::from(slot) + ANSWER;
                assert!(
                    self.wild || length <= ROOM,
                    "an answer of {length} bytes, longer than its room"
                );
                self.answers.push((slot, self.read(start, length.min(ROOM) as usize)));
            }
        }
    }

    /// The answer to a command, if it came.
    pub fn answer(&mut self, slot: u16) -> Option<Vec<u8>> {
        self.collect();
        let at = self.answers.iter().position(|(answered, _)| *answered == slot)?;
        let (_, answer) = self.answers.swap_remove(at);
        Some(answer)
    }

    /// Whether the device holds a command's answer back.
    pub fn is_held(&mut self, slot: u16) -> bool {
        self.collect();
        self.held.contains(&slot)
    }

    /// What came into receive buffers by the last turn. They go back.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        let index = 1 - self.commands;
        for (buffer, length) in self.take_used(index) {
            if buffer < BUFFER_COUNT && length <= 4096 {
                received.push(self.read(BUFFERS + 4096 * u64::from(buffer), length as usize));
                self.make_available(index, buffer);
            }
        }
        if !received.is_empty() {
            self.device.turn();
        }
        received
    }
}

/// The descriptors of a command in so many parts, and room for its answer.
fn parts_of(start: u64, length: usize, parts: usize, room: u32, first: u16) -> Vec<Descriptor> {
    let each = length.div_ceil(parts).max(1);
    let mut all = Vec::new();
    for n in 0..parts {
        let (from, to) = ((n * each).min(length), ((n + 1) * each).min(length));
        let address = start + from as u64;
        let next = first + n as u16 + 1;
        all.push(Descriptor { address, length: (to - from) as u32, flags: NEXT, next });
    }
    all.push(Descriptor { address: start + ANSWER, length: room, flags: WRITE, next: 0 });
    all
}

/// How a command may stand in a ring.
fn right_shape(input: &mut Input<'_>) -> Shape {
    let parts = 1 + input.below(usize::from(PER_SLOT) - 1);
    if input.one_in(2) { Shape::Table(parts, ROOM) } else { Shape::Parts(parts, ROOM) }
}

fn shape(input: &mut Input<'_>) -> Shape {
    let parts = 1 + input.below(usize::from(PER_SLOT) - 1);
    match input.byte() {
        0..20 => Shape::Garbage(garbage(input)),
        20..30 => {
            let table = garbage(input);
            let length = if input.one_in(2) {
                (table.len() * Descriptor::SIZE) as u32
            } else {
                input.number()
            };
            Shape::GarbageTable(table, length)
        }
        30..33 => Shape::Head(input.word() as u16),
        33..36 => Shape::Jump(input.word() as u16),
        36..46 => Shape::Parts(parts, input.below(40) as u32),
        46..80 => Shape::Table(parts, ROOM),
        80..120 => Shape::Parts(parts, ROOM),
        _ => Shape::Parts(1, ROOM),
    }
}

/// Descriptors whose `next` counts from the first of them.
fn garbage(input: &mut Input<'_>) -> Vec<Descriptor> {
    let places = [
        SLOTS,
        SLOTS + ANSWER,
        BUFFERS,
        PLACES,
        queue(0).table,
        queue(1).table,
        queue(1).avail,
        RAM - 8,
        RAM,
        1 << 40,
        u64::MAX - 100,
    ];
    let descriptor = |input: &mut Input<'_>| Descriptor {
        address: input.pick(&places).saturating_add(u64::from(input.byte())),
        length: input.number(),
        flags: input.pick(&[
            0,
            NEXT,
            NEXT,
            NEXT,
            WRITE,
            NEXT | WRITE,
            INDIRECT,
            NEXT | INDIRECT,
            0xffff,
        ]),
        next: if input.one_in(8) {
            input.word() as u16
        } else {
            input.below(usize::from(PER_SLOT)) as u16
        },
    };
    (0..PER_SLOT).map(|_| descriptor(input)).collect()
}

/// How many fds this process has open. Of any use only where nothing else runs in it.
///
/// Linux tells that as the folder's size since 6.2, and 0 before.
pub fn open_fds() -> usize {
    match fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len() as usize) {
        0 => fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        count => count,
    }
}
