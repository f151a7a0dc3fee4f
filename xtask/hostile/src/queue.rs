//! The control queue, written to without a driver in between.

use crate::memory::{Dma, HUGE_PAGE, Memory};
use crate::pci::{Gpu, status};
use anyhow::{Result, ensure};
use bytemuck::bytes_of;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};
use wlproxy_hostile::{Descriptor, Places, Random, Shape, command, descriptor_flags, shape};
use wlproxy_protocol::virtio_gpu::{
    F_CONTEXT_INIT, F_RESOURCE_BLOB, F_RESOURCE_UUID, F_VIRGL, Header, NUM_QUEUES, QUEUE_CONTROL,
    message,
};

/// How long the device may take for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often it is reset, in commands.
const RESET: u64 = 2_000;

/// Transport features (virtio specification 1.3, section 6): tables of descriptors, events, version 1.
const F_INDIRECT: u32 = 28;
const F_EVENT_IDX: u32 = 29;
const F_VERSION_1: u32 = 32;

/// The huge pages: queues; memory that the device may write to; the rest are slots.
const QUEUES: usize = 0;
const ARENA: usize = HUGE_PAGE;
const SLOTS: usize = 2 * HUGE_PAGE;
const SLOT_PAGES: usize = 2;

/// Bytes of a slot: a command of up to 64 KiB and some, a table, an answer.
const SLOT: usize = 128 << 10;
const MAX_COMMAND: usize = 96 << 10;
const TABLE: usize = 96 << 10;
const ANSWER: usize = 100 << 10;
const NUM_SLOTS: usize = SLOT_PAGES * HUGE_PAGE / SLOT;

/// The slot for what is right, and has to be answered.
const RESERVED: usize = NUM_SLOTS - 1;

/// Descriptors of a slot.
const DESCRIPTORS: u16 = 4;

/// Where the parts of a queue are, from its start on; queues are this far from each other.
const AVAIL: usize = 64 << 10;
const USED: usize = 128 << 10;
const QUEUE: usize = 256 << 10;

/// A number of available chains that is out of the question: more than a queue can have.
const TOO_MANY: u16 = 4096;

/// Says so many commands, and looks whether the device still answers.
pub(crate) fn run(random: &mut Random, commands: u64, reset_at_any_time: bool) -> Result<()> {
    let gpu = Gpu::take()?;
    let dma = Dma::new(2 + SLOT_PAGES)?;
    let (start, length) = gpu.window;
    let places = Places {
        arena: dma.address(ARENA)..dma.address(ARENA) + HUGE_PAGE as u64,
        // What other VMs see, too; nothing, above all memory; addresses that are none.
        elsewhere: vec![start..start + length, 1 << 40..1 << 44, 1 << 52..u64::MAX],
    };
    let mut driver = Driver::start(gpu, dma)?;
    let mut said = 0;
    while said < commands {
        for _ in 0..RESET.min(commands - said) {
            let bytes = command(random, &places);
            driver.say(random, &places, &bytes)?;
            said += 1;
        }
        if !reset_at_any_time {
            driver.quieten()?;
        }
        if random.one_in(3) {
            driver.start_nowhere(random, &places)?;
        }
        driver.restart()?;
        driver.is_well()?;
        println!("{said} commands");
    }
    let mut answers: Vec<String> =
        driver.codes.iter().map(|(code, count)| format!("{code:#x}: {count}")).collect();
    answers.push(format!("nothing: {}", driver.empty));
    println!("{said} commands over the control queue; answers {}", answers.join(", "));
    driver.gpu.give()
}

/// A driver of the device, of sorts.
struct Driver {
    gpu: Gpu,
    dma: Dma,
    /// How many descriptors a queue has.
    size: u16,
    avail: u16,
    used: u16,
    /// Which slots hold something that the device hasn't given back.
    busy: [bool; NUM_SLOTS],
    /// Contexts that may have been made since the last reset.
    contexts: BTreeSet<u32>,
    /// What the device has answered, and how often.
    codes: BTreeMap<u32, u64>,
    /// How often it gave something back without an answer.
    empty: u64,
}

impl Driver {
    fn start(gpu: Gpu, dma: Dma) -> Result<Self> {
        let mut driver = Self {
            gpu,
            dma,
            size: 0,
            avail: 0,
            used: 0,
            busy: [false; NUM_SLOTS],
            contexts: BTreeSet::new(),
            codes: BTreeMap::new(),
            empty: 0,
        };
        driver.restart()?;
        Ok(driver)
    }

    fn memory(&self) -> &Memory {
        self.dma.memory()
    }

    /// Resets the device and starts it as it should be.
    fn restart(&mut self) -> Result<()> {
        self.negotiate()?;
        self.size =
            (0..NUM_QUEUES as u16).map(|queue| self.gpu.queue_size(queue)).min().unwrap_or(0);
        let needed = NUM_SLOTS * usize::from(DESCRIPTORS);
        ensure!(usize::from(self.size) >= needed, "queues of {} descriptors", self.size);
        // Reset, it keeps no more of the queues than the guest does.
        for at in (QUEUES..NUM_QUEUES * QUEUE).step_by(8) {
            self.memory().write(at, 0_u64);
        }
        (self.avail, self.used) = (0, 0);
        self.busy = [false; NUM_SLOTS];
        self.contexts.clear();
        for queue in 0..NUM_QUEUES {
            let addresses = [0, AVAIL, USED].map(|part| self.dma.address(queue * QUEUE + part));
            self.gpu.set_queue(queue as u16, self.size, addresses);
        }
        self.go();
        Ok(())
    }

    /// Starts it with queues that are nowhere, and tells it that there is something in them.
    fn start_nowhere(&mut self, random: &mut Random, places: &Places) -> Result<()> {
        self.negotiate()?;
        for queue in 0..NUM_QUEUES as u16 {
            let mut address = || {
                let range = &places.elsewhere[random.index(places.elsewhere.len())];
                (range.start + random.below(range.end - range.start)) & !4095
            };
            let addresses = [address(), address(), address()];
            let size = self.gpu.queue_size(queue);
            self.gpu.set_queue(queue, size, addresses);
        }
        self.go();
        self.gpu.kick(QUEUE_CONTROL as u16);
        Ok(())
    }

    fn negotiate(&mut self) -> Result<()> {
        self.gpu.reset()?;
        self.gpu.set_status(status::DRIVER);
        let wanted = [F_VIRGL, F_RESOURCE_UUID, F_RESOURCE_BLOB, F_CONTEXT_INIT, F_INDIRECT]
            .iter()
            .chain(&[F_EVENT_IDX, F_VERSION_1])
            .fold(0, |all, bit| all | 1 << bit);
        let offered = self.gpu.features();
        ensure!(offered & wanted == wanted, "the device offers {offered:#x} only");
        self.gpu.set_features(wanted);
        self.gpu.set_status(status::DRIVER | status::FEATURES_OK);
        ensure!(
            self.gpu.status() & status::FEATURES_OK != 0,
            "the device refuses its own features"
        );
        Ok(())
    }

    fn go(&self) {
        self.gpu.set_status(status::DRIVER | status::FEATURES_OK | status::DRIVER_OK);
    }

    /// Puts a command into the queue, in some shape.
    fn say(&mut self, random: &mut Random, places: &Places, bytes: &[u8]) -> Result<()> {
        if let Some(header) = wlproxy_protocol::virtio_wl::read::<Header>(bytes)
            && header.kind == message::CTX_CREATE
        {
            self.contexts.insert(header.context);
        }
        self.take_answers();
        let slot = match self.free_slot() {
            Some(slot) => slot,
            None => {
                // What is held back waits for its context: a POLL for an event, a SEND for the other side.
                self.quieten()?;
                self.free_slot().unwrap_or_default()
            }
        };
        let first = slot as u16 * DESCRIPTORS;
        match shape(random, places, first, DESCRIPTORS) {
            Shape::Parts(parts, room) => self.put(slot, bytes, parts, room, false),
            Shape::Table(parts, room) => self.put(slot, bytes, parts, room, true),
            Shape::Garbage(descriptors) => {
                for (n, descriptor) in descriptors.into_iter().enumerate() {
                    self.describe(first + n as u16, descriptor);
                }
                self.busy[slot] = true;
                self.make_available(first);
            }
            Shape::GarbageTable(descriptors, length) => {
                self.table(slot, &descriptors);
                let address = self.dma.address(SLOTS + SLOT * slot + TABLE);
                let flags = descriptor_flags::INDIRECT;
                self.describe(first, Descriptor { address, length, flags, next: 0 });
                self.busy[slot] = true;
                self.make_available(first);
            }
            Shape::Head(head) => self.make_available(head),
            Shape::Jump(by) => {
                let truly = self.avail;
                if by < TOO_MANY {
                    // What was there before is there again: those who are not asked for get an answer, too.
                    self.avail = truly.wrapping_add(by % NUM_SLOTS as u16);
                    self.tell_available();
                } else {
                    self.avail = truly.wrapping_add(by.clamp(TOO_MANY, u16::MAX - TOO_MANY));
                    self.tell_available();
                    self.kick();
                    self.avail = truly;
                    self.tell_available();
                }
            }
        }
        if random.one_in(4) {
            self.kick();
        }
        Ok(())
    }

    /// Describes a command in `parts`, and room for an answer, and makes it available.
    fn put(&mut self, slot: usize, bytes: &[u8], parts: usize, room: u32, in_table: bool) {
        let start = SLOTS + SLOT * slot;
        let bytes = &bytes[..bytes.len().min(MAX_COMMAND)];
        self.memory().write_bytes(start, bytes);
        let first = slot as u16 * DESCRIPTORS;
        let part = bytes.len().div_ceil(parts).max(1);
        let mut descriptors: Vec<Descriptor> = (0..bytes.len())
            .step_by(part)
            .map(|at| Descriptor {
                address: self.dma.address(start + at),
                length: part.min(bytes.len() - at) as u32,
                flags: descriptor_flags::NEXT,
                next: 0,
            })
            .collect();
        let address = self.dma.address(start + ANSWER);
        let flags = descriptor_flags::WRITE;
        descriptors.push(Descriptor { address, length: room, flags, next: 0 });
        let base = if in_table { 0 } else { first };
        for (n, descriptor) in descriptors.iter_mut().enumerate() {
            descriptor.next = base + n as u16 + 1;
        }
        // So that no answer is taken for one.
        self.memory().write(start + ANSWER, 0_u32);
        if in_table {
            self.table(slot, &descriptors);
            let length = (descriptors.len() * Descriptor::SIZE) as u32;
            let (address, flags) = (self.dma.address(start + TABLE), descriptor_flags::INDIRECT);
            self.describe(first, Descriptor { address, length, flags, next: 0 });
        } else {
            for (n, &descriptor) in descriptors.iter().enumerate() {
                self.describe(first + n as u16, descriptor);
            }
        }
        self.busy[slot] = true;
        self.make_available(first);
    }

    fn free_slot(&self) -> Option<usize> {
        self.busy[..RESERVED].iter().position(|busy| !busy)
    }

    fn table(&self, slot: usize, descriptors: &[Descriptor]) {
        let bytes: Vec<u8> = descriptors.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.memory().write_bytes(SLOTS + SLOT * slot + TABLE, &bytes);
    }

    fn describe(&self, index: u16, descriptor: Descriptor) {
        self.memory().write_bytes(Descriptor::SIZE * usize::from(index), &descriptor.to_bytes());
    }

    fn make_available(&mut self, head: u16) {
        let at = AVAIL + 4 + 2 * usize::from(self.avail % self.size);
        self.memory().write(at, head);
        self.avail = self.avail.wrapping_add(1);
        self.tell_available();
    }

    fn tell_available(&self) {
        fence(Ordering::SeqCst);
        self.memory().write(AVAIL + 2, self.avail);
    }

    fn kick(&self) {
        self.gpu.kick(QUEUE_CONTROL as u16);
    }

    /// Takes back what the device gave back.
    fn take_answers(&mut self) {
        let used: u16 = self.memory().read(USED + 2);
        fence(Ordering::SeqCst);
        while self.used != used {
            let at = USED + 4 + 8 * usize::from(self.used % self.size);
            let (head, length): (u32, u32) = (self.memory().read(at), self.memory().read(at + 4));
            self.used = self.used.wrapping_add(1);
            let slot = head as usize / usize::from(DESCRIPTORS);
            // Not one of ours, or one that is said twice, or from the middle.
            if !self.busy.get(slot).is_some_and(|&busy| busy) {
                continue;
            }
            let code: u32 = self.memory().read(SLOTS + SLOT * slot + ANSWER);
            if length >= 4 && code != 0 {
                *self.codes.entry(code).or_default() += 1;
            } else {
                self.empty += 1;
            }
            self.busy[slot] = false;
        }
    }

    /// Takes what the device gives back, until there is nothing in some slots.
    fn wait_for(&mut self, slots: Range<usize>, what: &str) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            self.take_answers();
            let busy = self.busy[slots.clone()].iter().filter(|&&busy| busy).count();
            if busy == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the device keeps {busy} commands, {what}");
            thread::yield_now();
        }
    }

    /// Says something, and waits for the answer.
    fn ask(&mut self, bytes: &[u8]) -> Result<u32> {
        self.put(RESERVED, bytes, 1, 512, false);
        self.kick();
        self.wait_for(RESERVED..NUM_SLOTS, "after a right one")?;
        Ok(self.memory().read(SLOTS + SLOT * RESERVED + ANSWER))
    }

    /// Ends all contexts, and waits until everything is given back.
    fn quieten(&mut self) -> Result<()> {
        let contexts: Vec<u32> = self.contexts.iter().copied().collect();
        for context in contexts {
            let header = Header { kind: message::CTX_DESTROY, context, ..Default::default() };
            self.ask(bytes_of(&header))?;
        }
        self.contexts.clear();
        self.kick();
        self.wait_for(0..RESERVED, "though no context is left")
    }

    /// The device does what it is for.
    fn is_well(&mut self) -> Result<()> {
        let asked = Header { kind: message::GET_DISPLAY_INFO, ..Default::default() };
        let code = self.ask(bytes_of(&asked))?;
        ensure!(code == message::RESP_OK_DISPLAY_INFO, "the device answers {code:#x}");
        Ok(())
    }
}
