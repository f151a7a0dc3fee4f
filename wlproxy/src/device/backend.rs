//! The vhost-user backend: what is offered to a frontend, and when the rings run.

use super::Options;
use super::dialect::{Device, NUM_QUEUES, Start};
use super::frontend::{Requests, RunningFrontend};
use super::neighbours::{Host, Presence};
use super::poller::Poller;
use super::ring::{Memory, Ring, Run, Runs, Vring};
use super::turns::{Notes, Turns};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::{io, iter};
use vhost::vhost_user::message::VhostUserShMemConfig;
use vhost::vhost_user::{Backend as Channel, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_queue::QueueT;
use vmm_sys_util::epoll::EventSet;

/// Most times in a row that the poller tells of kicks which aren't there. Each change of a kick fd may bring one. A file that
/// was replaced while its ring ran stays in the crate's epoll set as long as the frontend has it, under an fd that is closed
/// here: nobody can take it out, and once it is readable it is for ever.
const MAX_IN_VAIN: u32 = 64;

/// A device, and the run of the rings that it is for.
type Started = (Run, Box<dyn Device>);

/// One connection of a frontend.
pub(super) struct Backend {
    options: Options,
    memory: Memory,
    features: AtomicU64,
    runs: Runs,
    ended: AtomicBool,
    requests: Arc<Requests>,
    /// Known once there is a vring worker, which is before anything can happen.
    poller: OnceLock<Poller>,
    /// Readable once it has ended. The vring worker also waits for it where there are no fds for a poller.
    ending: EventFd,
    device: Turns<Option<Started>>,
    /// This backend, for its neighbours.
    itself: Weak<Self>,
}

impl Backend {
    /// A backend that nothing is known to yet. `memory` is what the frontend's announcements are kept in.
    pub(super) fn new(options: Options, memory: Memory) -> io::Result<Arc<Self>> {
        let ending = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Arc::new_cyclic(|itself| Self {
            requests: Arc::new(Requests::new(&options.vm, memory.clone())),
            options,
            memory,
            features: AtomicU64::new(0),
            runs: Runs::default(),
            ended: AtomicBool::new(false),
            poller: OnceLock::new(),
            ending,
            device: Turns::new(None),
            itself: itself.clone(),
        }))
    }

    /// The fd that the vring worker has to wait for, as [`ENDING`](super::poller::ENDING).
    pub(super) fn ending(&self) -> RawFd {
        self.ending.as_fd().as_raw_fd()
    }

    /// `epoll` is what the vring worker waits for. It is woken, so that it is watched before there are rings.
    pub(super) fn join(&self, epoll: Epoll) -> io::Result<()> {
        self.poller.set(Poller::new(epoll)?).map_err(|_| io::ErrorKind::AlreadyExists)?;
        self.wake();
        Ok(())
    }

    /// Lets the vring worker end, once it is done with what it does.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.stop();
        // The only error is a counter at its maximum, and this is done once.
        let _ = self.ending.write(1);
    }

    /// Ends the run. Takes no lock that anyone holds for long.
    fn stop(&self) {
        self.runs.end();
        self.requests.announce();
        self.wake();
    }

    /// A turn of the vring worker, which has taken `events` from the poller. Fails once the backend has ended.
    fn turn(
        &self,
        poller: &Poller,
        vrings: &[Vring],
        events: &mut Vec<(u64, EpollFlags)>,
    ) -> io::Result<()> {
        let (calls, again) = self.device.work(|device, notes| {
            events.extend(of_notes(notes));
            self.work(poller, vrings, events, device)
        });
        if again {
            self.wake();
        }
        // Not during the turn: whoever is visited may be at work, and about to visit this one.
        calls?.iter().for_each(|host| host.visit());
        Ok(())
    }

    /// What the vring worker does in its turn. Returns who is to be visited.
    ///
    /// The events were taken before: whoever stops or ends says so and then wakes, and what was woken for is seen here.
    fn work(
        &self,
        poller: &Poller,
        vrings: &[Vring],
        events: &mut Vec<(u64, EpollFlags)>,
        device: &mut Option<Started>,
    ) -> io::Result<Vec<Arc<dyn Host>>> {
        if self.ended.load(Ordering::SeqCst) {
            *device = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if device.as_ref().is_some_and(|(run, _)| run.is_over()) {
            tracing::info!(vm = self.options.vm, "the driver is gone");
            *device = None;
            // They are of what was its.
            events.clear();
        }
        if device.is_none() {
            let run = self.runs.current();
            *device = self.start(&run, vrings, poller).map(|device| (run, device));
        }
        let Some((_, device)) = device else { return Ok(Vec::new()) };
        device.turn(events);
        Ok(device.calls())
    }

    /// A device for a run that just began.
    fn start(&self, run: &Run, vrings: &[Vring], poller: &Poller) -> Option<Box<dyn Device>> {
        let vrings: &[Vring; NUM_QUEUES] = vrings.first_chunk()?;
        if !vrings.iter().all(is_running) {
            return None;
        }
        let dialect = self.options.dialect;
        let presence = self.options.neighbours.as_ref().map(|neighbours| {
            Presence::new(neighbours.clone(), self.options.side, self.itself.clone())
        });
        Some(
            dialect.start(Start {
                options: &self.options,
                features: self.features.load(Ordering::SeqCst),
                frontend: Box::new(RunningFrontend {
                    requests: self.requests.clone(),
                    run: run.clone(),
                    shmid: dialect.shmid(),
                }),
                memory: self.memory.clone(),
                rings: vrings
                    .each_ref()
                    .map(|vring| Ring::new((*vring).clone(), self.memory.clone(), run.clone())),
                poller: poller.clone(),
                presence,
            }),
        )
    }
}

thread_local! {
    /// Of a vring worker, from its first event on.
    static WATCH: OnceCell<Watch> = const { OnceCell::new() };
}

/// Tells of a vring worker that ends before its backend: for a panic, for an error of ours, or for one of the crate's, which
/// has a kick to read now and then. The crate looks at its threads only when the connection ends.
struct Watch(Weak<Backend>);

impl Drop for Watch {
    /// Logs nothing: what that needs of this thread may be gone.
    fn drop(&mut self) {
        if let Some(backend) = self.0.upgrade()
            && !backend.ended.load(Ordering::SeqCst)
        {
            (backend.options.on_panic)();
        }
    }
}

/// What has come over the streams that somebody has called for.
fn of_notes(notes: Notes) -> Vec<(u64, EpollFlags)> {
    notes.into_iter().map(|vfd| (vfd.into(), EpollFlags::EPOLLIN)).collect()
}

/// Reads a kick. `false` if there is none: the frontend has changed the fd meanwhile.
///
/// That isn't found out by reading, as the fd may block; nor does it say whose the kick was that the poller has told of.
#[expect(unsafe_code, reason = "an EventConsumer has an fd, but doesn't lend it out")]
fn read_kick(vring: &Vring) -> io::Result<bool> {
    let state = vring.get_ref();
    let Some(kick) = state.get_kick() else { return Ok(false) };
    // SAFETY: the kick is the ring's, and stays open while the ring is locked.
    let fd = unsafe { BorrowedFd::borrow_raw(kick.as_raw_fd()) };
    if poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO)? == 0 {
        return Ok(false);
    }
    match kick.consume() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        read => read.map(|()| true),
    }
}

fn is_running(vring: &Vring) -> bool {
    let state = vring.get_ref();
    state.is_enabled() && state.get_queue().ready()
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        NUM_QUEUES
    }

    fn max_queue_size(&self) -> usize {
        self.options.dialect.queue_size().into()
    }

    fn features(&self) -> u64 {
        VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | self.options.dialect.features()
    }

    fn acked_features(&self, features: u64) {
        self.features.store(features, Ordering::SeqCst);
    }

    /// Not CONFIGURE_MEM_SLOTS: QEMU then announces every mapping, at a cost that is quadratic, and aborts at some
    /// hundreds.
    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::BACKEND_SEND_FD
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::SHMEM
            | VhostUserProtocolFeatures::SHARED_OBJECT
    }

    fn reset_device(&self) {
        self.stop();
    }

    /// The crate tells the queues.
    fn set_event_idx(&self, _enabled: bool) {}

    /// Zeros stand behind what there is: some frontends ask for a few bytes all the same.
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.options.dialect.config().into_iter().chain(iter::repeat(0));
        config.skip(offset as usize).take(size as usize).collect()
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        self.requests.announce();
        Ok(())
    }

    fn set_backend_req_fd(&self, channel: Channel) {
        self.requests.set_channel(channel);
    }

    fn stop_vring(&self, _index: u32) -> io::Result<()> {
        self.stop();
        Ok(())
    }

    /// From here the vring worker waits by itself until the crate has something to do: the crate would tell of one fd at a
    /// time, and not which it is.
    ///
    /// Fails to end the vring worker, which it does after [`Backend::end`]. (The crate has an event for that, but never
    /// closes its fd.)
    fn handle_event(
        &self,
        _event: u16,
        _set: EventSet,
        vrings: &[Vring],
        _thread: usize,
    ) -> io::Result<()> {
        WATCH.with(|watch| _ = watch.get_or_init(|| Watch(self.itself.clone())));
        let Some(poller) = self.poller.get() else {
            let ended = self.ended.load(Ordering::SeqCst);
            return if ended { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) };
        };
        let served = self.serve(poller, vrings);
        if let Err(error) = &served
            && !self.ended.load(Ordering::SeqCst)
        {
            tracing::error!(vm = self.options.vm, "its device can't go on: {error}");
        }
        served
    }

    fn get_shmem_config(&self) -> io::Result<VhostUserShMemConfig> {
        // Regions that aren't there have no size.
        let mut sizes = vec![0; self.options.dialect.shmid().into()];
        sizes.push(self.options.window_size);
        Ok(VhostUserShMemConfig::new(1, &sizes))
    }
}

impl Backend {
    /// Has turns until the crate has something to do. Fails once the backend has ended, or if nothing can be waited for.
    fn serve(&self, poller: &Poller, vrings: &[Vring]) -> io::Result<()> {
        let mut events = Vec::new();
        // The crate may have taken more events together with this one. Kicks among them it has to read itself, and fails
        // if they were. Those aren't read yet, so they are seen here.
        let mut stays = !poller.wait(&mut events, EpollTimeout::ZERO)?.concerns_crate();
        let mut in_vain = 0;
        loop {
            self.turn(poller, vrings, &mut events)?;
            if !stays {
                return Ok(());
            }
            events.clear();
            let woken = poller.wait(&mut events, EpollTimeout::NONE)?;
            let (mut kicks, mut reads) = (0, 0);
            for (vring, _) in vrings.iter().zip(woken.kicked).filter(|(_, kicked)| *kicked) {
                kicks += 1;
                reads += usize::from(read_kick(vring)?);
            }
            in_vain = if kicks > 0 && reads == 0 { in_vain + 1 } else { 0 };
            if in_vain > MAX_IN_VAIN {
                return Err(io::Error::other(
                    "the frontend has replaced the kick fd of a ring that runs, and still kicks by the first",
                ));
            }
            stays = !woken.theirs;
        }
    }
}

impl Host for Backend {
    fn call(&self, vfd: u32) {
        self.device.call(vfd);
    }

    fn visit(&self) {
        let again = self.device.visit(|device, notes| {
            // They are of what is over.
            let Some((_, device)) = device.as_mut().filter(|(run, _)| !run.is_over()) else {
                return;
            };
            let events = of_notes(notes);
            // What goes wrong here is this device's, and the visitor goes on.
            if panic::catch_unwind(AssertUnwindSafe(|| device.visited(&events))).is_err() {
                (self.options.on_panic)();
            }
        });
        // A visitor has one turn, and then its own work to do.
        if again {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.waker().wake();
        }
    }
}
