//! A device without a frontend, over plain memory and called directly: what `fuzz/` has driven.
//!
//! Its driver is whoever calls, and so are the frontend's word and the opener's. The device is the real one.

use super::dialect::{Device, Start};
use super::frontend::Frontend;
use super::opener::{Answer, Opener, Target};
use super::poller::Poller;
use super::ring::{Memory, Ring, Runs, Vring};
use super::{Dialect, Options, Side, trace};
use crate::counters::Counters;
use crate::policy::{self, Policy};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollTimeout};
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use vhost_user_backend::{VringMutex, VringT};
use vm_memory::GuestMemoryMmap;

/// Size of the window, in bytes.
pub const WINDOW: u64 = 64 << 20;

/// Turns within which a device has done all that it can, whatever it was told.
const MAX_TURNS: usize = 1000;

/// Where a queue is in guest memory.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Its descriptors.
    pub table: u64,
    /// The driver's ring.
    pub avail: u64,
    /// The device's ring.
    pub used: u64,
}

/// Streams that the device asked for and has no answer about yet.
#[derive(Default)]
struct Asked(Mutex<VecDeque<(Target, Answer)>>);

impl Opener for Asked {
    fn open(&self, target: Target, answer: Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((target, answer));
    }
}

/// What is mapped into the window.
struct Mapping {
    length: u64,
    /// The number of its file.
    file: u64,
}

/// A frontend as strict as QEMU: no overlap, nothing outside of the window, and what is unmapped was mapped.
#[derive(Default, Clone)]
struct Strict(Arc<Mutex<BTreeMap<u64, Mapping>>>);

impl Frontend for Strict {
    fn map(&self, offset: u64, length: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut mapped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(length).expect("a mapping's end overflows");
        assert!(length > 0 && end <= WINDOW, "{length} bytes at {offset}: outside of the window");
        let is_beside = |(&at, it): (&u64, &Mapping)| at + it.length <= offset || end <= at;
        assert!(mapped.iter().all(is_beside), "mappings overlap");
        let stat = fstat(fd)?;
        assert!(stat.st_size as u64 >= length, "a mapping is longer than its file");
        mapped.insert(offset, Mapping { length, file: stat.st_ino });
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> io::Result<()> {
        let removed = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset);
        let removed = removed.map(|mapping| mapping.length);
        assert_eq!(removed, Some(length), "what is unmapped at {offset} was not mapped so");
        Ok(())
    }

    fn window_base(&self, _: u64, _: BorrowedFd<'_>) -> Option<u64> {
        None
    }
}

/// The device, and what stands around it.
pub struct Bare {
    device: Box<dyn Device>,
    poller: Poller,
    asked: Arc<Asked>,
    mapped: Strict,
    counters: Arc<Counters>,
}

impl Bare {
    /// Starts a device whose driver acked all that it offers. Its queues have `size` descriptors each.
    pub fn start(
        dialect: Dialect,
        side: Side,
        memory: &GuestMemoryMmap,
        queues: [Queue; 2],
        size: u16,
    ) -> io::Result<Self> {
        let memory = Memory::new(memory.clone());
        let (runs, poller) =
            (Runs::default(), Poller::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?)?);
        let ring = |queue: Queue| {
            let vring: Vring = VringMutex::new(memory.clone(), size).map_err(io::Error::other)?;
            vring.set_queue_info(queue.table, queue.avail, queue.used).map_err(io::Error::other)?;
            vring.set_queue_event_idx(true);
            vring.set_queue_ready(true);
            vring.set_enabled(true);
            Ok::<_, io::Error>(Ring::new(vring, memory.clone(), runs.current()))
        };
        let [first, second] = queues;
        let rings = [ring(first)?, ring(second)?];
        let (asked, counters) = (Arc::new(Asked::default()), Arc::new(Counters::default()));
        let mapped = Strict::default();
        let options = Options {
            vm: "bare".into(),
            side,
            dialect,
            opener: asked.clone(),
            counters: counters.clone(),
            policy: Arc::new(policy::Current::new(match side {
                Side::Client => Policy::unchanging(),
                Side::Compositor => Policy::of_compositor(),
            })),
            traces: Arc::new(trace::Requests::default()),
            neighbours: None,
            window_size: WINDOW,
            on_panic: Arc::new(|| ()),
        };
        let device = dialect.start(Start {
            options: &options,
            features: dialect.features(),
            frontend: Box::new(mapped.clone()),
            memory: memory.clone(),
            rings,
            poller: poller.clone(),
            presence: None,
        });
        Ok(Self { device, poller, asked, mapped, counters })
    }

    /// Turns of the device until it has nothing to do.
    ///
    /// # Panics
    /// If that never is.
    pub fn turn(&mut self) {
        for _ in 0..MAX_TURNS {
            let mut events = Vec::new();
            self.poller.wait(&mut events, EpollTimeout::ZERO).expect("its epoll is open");
            self.device.turn(&events);
            if events.is_empty() {
                return;
            }
        }
        panic!("the device spins");
    }

    /// The stream that it has waited for longest, and whom to answer.
    pub fn asked(&self) -> Option<(Target, Answer)> {
        self.asked.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Bytes of the window that are mapped.
    pub fn mapped(&self) -> u64 {
        let mapped = self.mapped.0.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.values().map(|mapping| mapping.length).sum()
    }

    /// The inode of what is mapped from `offset` of the window on.
    pub fn file_at(&self, offset: u64) -> Option<u64> {
        let mapped = self.mapped.0.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.get(&offset).map(|mapping| mapping.file)
    }

    /// What it counts. That goes on after its end.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}
