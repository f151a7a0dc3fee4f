//! The `process` channel: a VM without a VM.
//!
//! This process plays the VMM, its VM and the VM's virtio_wl driver: it speaks vhost-user to a worker's device, with a
//! memfd as RAM, real virtqueues and a real window. Only vfds cross, and they behave as behind `/dev/wl0`.
//!
//! | file | what it plays |
//! |---|---|
//! | `vmm.rs`, `deadline.rs` | QEMU: vhost-user, the memory table |
//! | `window.rs` | QEMU: the shared memory region |
//! | `ram.rs` | the VM's memory |
//! | `ring.rs` | the guest kernel: its side of a virtqueue |
//! | `driver.rs`, `vfd.rs` | the guest kernel: virtio_wl |

mod deadline;
mod driver;
mod duplicate;
mod ram;
mod ring;
mod vfd;
mod vmm;
mod window;

use super::{Allocation, Arrived, Channel, Error, Event, PipeEnd, Received, Sent, VfdId};
use driver::{Answer, Driver, Features};
use duplicate::duplicate;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ram::Ram;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfd::Kind;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm::Vmm;
use wlproxy_protocol::accept::{Token, Way, Ways};
use wlproxy_protocol::limits::CONTEXT_NAME;
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_wl::{F_TRANS_FLAGS, F_USE_SHMEM, Header, VfdNew, flags, message};

/// What the VM's driver is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Acks USE_SHMEM: pfns are relative to the window.
    ///
    /// If not, as today's drivers: pfns are absolute, and each mapping is announced to the device as guest memory,
    /// from which it has to learn where the window stands.
    pub use_shmem: bool,
    /// Acks TRANS_FLAGS, as today's drivers do.
    pub trans_flags: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { use_shmem: true, trans_flags: true }
    }
}

/// How long the device may take to answer a request for a vfd: it asks wlproxy for a context, and maps memory, in
/// milliseconds. Meanwhile nothing else is done in this process.
const PATIENCE: Duration = Duration::from_secs(5);

const CALL: u64 = 0;
const CONNECTION: u64 = 1;

/// A VM in this process, and its virtio_wl device. Dropping it ends the VM.
pub struct ProcessChannel {
    vmm: Vmm,
    ram: Arc<Ram>,
    driver: Driver,
    epoll: Epoll,
    /// Only kept open for `epoll`, and for the one that was joined.
    call: OwnedFd,
    /// Another set tells of calls, each once. So they needn't be read.
    joined: bool,
    patience: Duration,
    lost: Option<String>,
}

impl ProcessChannel {
    /// Starts the VM with the device that listens at `socket`.
    ///
    /// # Errors
    /// [`Error::Lost`] if nobody listens there, nobody answers within seconds (it serves another frontend), or the
    /// connection breaks; [`Error::Refused`] if the device lacks what a VM with `options` needs.
    pub fn connect(socket: &Path, options: Options) -> Result<Self, Error> {
        let ram = Arc::new(Ram::new(driver::RAM_SIZE).map_err(lost)?);
        let vmm = Vmm::connect(socket, &options, ram.clone())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(lost)?;
        let call = duplicate(vmm.call()).map_err(lost)?;
        epoll.add(&call, EpollEvent::new(EpollFlags::EPOLLIN, CALL)).map_err(lost)?;
        let hang_up = EpollEvent::new(EpollFlags::EPOLLRDHUP, CONNECTION);
        epoll.add(vmm.connection(), hang_up).map_err(lost)?;
        let driver = driver(&vmm, &ram);
        let patience = PATIENCE;
        let (joined, lost) = (false, None);
        let mut channel = Self { vmm, ram, driver, epoll, call, joined, patience, lost };
        channel.start()?;
        Ok(channel)
    }

    /// Resets the VM: its rings stop, and all vfds, mappings and events are gone. The device stays.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.check()?;
        let stopped = self.vmm.stop();
        self.keep(stopped)?;
        self.driver = driver(&self.vmm, &self.ram);
        let started = self.start();
        self.keep(started)
    }

    fn start(&mut self) -> Result<(), Error> {
        self.vmm.start(driver::LAYOUTS)?;
        self.kick()
    }

    fn check(&self) -> Result<(), Error> {
        match &self.lost {
            Some(why) => Err(Error::Lost(why.clone())),
            None => Ok(()),
        }
    }

    /// Remembers that the channel is lost.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Lost(why)) = &result {
            self.lost.get_or_insert_with(|| why.clone());
        }
        result
    }

    /// Tells the device of new buffers, if it wants that.
    fn kick(&mut self) -> Result<(), Error> {
        let kicks = self.driver.kicks();
        for (queue, _) in kicks.into_iter().enumerate().filter(|(_, kick)| *kick) {
            self.vmm.kick(queue)?;
        }
        Ok(())
    }

    /// Makes sure that events that came up outside of [`Channel::dispatch`] wake its caller.
    fn wake(&self) -> Result<(), Error> {
        // The next dispatch clears it like a call of the device.
        self.vmm.call().write(1).map_err(lost)
    }

    /// Takes in what the device did, after waiting for it up to `timeout`.
    fn turn(&mut self, timeout: EpollTimeout) -> Result<(), Error> {
        self.check()?;
        let result = self.try_turn(timeout);
        self.keep(result)
    }

    fn try_turn(&mut self, timeout: EpollTimeout) -> Result<(), Error> {
        // A call is what is nearly always there, and then nothing else has to be asked.
        if !self.take_call()? {
            self.look(timeout)?;
            // Before the rings are looked at, so that a later call wakes us again.
            self.take_call()?;
        }
        self.driver.pump().map_err(lost)?;
        self.kick()
    }

    /// What [`ProcessChannel::turn`] does once the set that was joined has told of something.
    fn try_told(&mut self) -> Result<(), Error> {
        self.driver.pump().map_err(lost)?;
        if self.driver.events().is_empty() {
            // It may have told of the end.
            self.look(EpollTimeout::ZERO)?;
        }
        self.kick()
    }

    /// Waits until the device has called, up to `timeout`. Fails if it is gone.
    fn look(&self, timeout: EpollTimeout) -> Result<(), Error> {
        let mut ready = [EpollEvent::empty(); 2];
        let count = match self.epoll.wait(&mut ready, timeout) {
            Err(Errno::EINTR) => 0,
            other => other.map_err(lost)?,
        };
        match ready[..count].iter().any(|event| event.data() == CONNECTION) {
            true => Err(Error::Lost("the device hung up".into())),
            false => Ok(()),
        }
    }

    /// Whether the device called.
    fn take_call(&self) -> Result<bool, Error> {
        match self.vmm.call().read() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(lost(error)),
        }
    }

    /// Waits until the device did something. After the deadline the channel is lost.
    fn wait(&mut self, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let patience = self.patience;
            let why = format!("the device hasn't answered for {patience:?}: is wlproxy stopped?");
            return self.keep(Err(Error::Lost(why)));
        }
        // Rounded up to milliseconds, so that it isn't asked too early, again and again.
        let timeout = if self.driver.listen() { 0 } else { left.as_millis() as u64 + 1 };
        self.turn(EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX))
    }

    /// Makes a vfd and waits until the device has answered.
    fn create(&mut self, kind: Kind, mut new: VfdNew) -> Result<(VfdId, Answer), Error> {
        self.check()?;
        let deadline = Instant::now() + self.patience;
        let id = loop {
            match self.driver.reserve(kind) {
                Some(id) => break id,
                None if self.driver.is_closing() => self.wait(deadline)?,
                None => {
                    self.after()?;
                    return Err(Error::OutOfMemory);
                }
            }
        };
        new.id = id;
        let ticket = loop {
            match self.driver.ask(&new) {
                Some(ticket) => break ticket,
                None => self.wait(deadline)?,
            }
        };
        let kicked = self.kick();
        self.keep(kicked)?;
        let answer = loop {
            match self.driver.answer(&ticket) {
                Some(answer) => break answer,
                None => self.wait(deadline)?,
            }
        };
        let result = answer.check();
        if result.is_err() {
            self.driver.forget(id);
        }
        self.after()?;
        result.map(|()| (VfdId(id), answer))
    }

    fn open_named(&mut self, name: [u8; CONTEXT_NAME]) -> Result<VfdId, Error> {
        let header = Header::new(message::VFD_NEW_CTX_NAMED);
        let flags = flags::READ | flags::WRITE;
        let new = VfdNew { header, flags, name, ..VfdNew::default() };
        Ok(self.create(Kind::Context, new)?.0)
    }

    /// After an operation: tells the device of its buffers, and the caller of events.
    fn after(&mut self) -> Result<(), Error> {
        let mut result = self.kick();
        if result.is_ok() && !self.driver.events().is_empty() {
            result = self.wake();
        }
        self.keep(result)
    }
}

impl Channel for ProcessChannel {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    fn join(&mut self, epoll: &Epoll, key: u64) -> io::Result<()> {
        let told_once = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&self.call, EpollEvent::new(told_once, key))?;
        epoll.add(self.vmm.connection(), EpollEvent::new(EpollFlags::EPOLLRDHUP, key))?;
        self.joined = true;
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        if self.joined {
            self.check()?;
            let told = self.try_told();
            self.keep(told)?;
        } else {
            self.turn(EpollTimeout::ZERO)?;
        }
        events.append(self.driver.events());
        Ok(())
    }

    fn ways(&self) -> Ways {
        Ways::NAME
    }

    fn connect(&mut self) -> Result<VfdId, Error> {
        let flags = flags::READ | flags::WRITE;
        let new = VfdNew { header: Header::new(message::VFD_NEW_CTX), flags, ..VfdNew::default() };
        Ok(self.create(Kind::Context, new)?.0)
    }

    fn open(&mut self, way: Way, token: Token) -> Result<VfdId, Error> {
        if way != Way::Name {
            return Err(Error::Refused(format!(
                "a virtio_wl device doesn't open streams by {way:?}"
            )));
        }
        self.open_named(token.to_name())
    }

    fn open_reports(&mut self) -> Result<VfdId, Error> {
        self.open_named(report::NAME)
    }

    fn allocate(&mut self, size: u64) -> Result<Allocation, Error> {
        let size = super::whole_pages(size)?;
        let new = VfdNew { header: Header::new(message::VFD_NEW), size, ..VfdNew::default() };
        let (vfd, answer) = self.create(Kind::Memory { offset: 0, size: 0 }, new)?;
        let allocation = self.driver.allocated(vfd.0, size.into(), &answer);
        if allocation.is_err() {
            self.close(vfd);
        }
        allocation
    }

    fn pipe(&mut self, end: PipeEnd) -> Result<VfdId, Error> {
        let flags = match end {
            PipeEnd::Read => flags::READ,
            PipeEnd::Write => flags::WRITE,
        };
        let new = VfdNew { header: Header::new(message::VFD_NEW_PIPE), flags, ..VfdNew::default() };
        Ok(self.create(Kind::Pipe(end), new)?.0)
    }

    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        self.check()?;
        let sent = self.driver.send(vfd.0, bytes, vfds);
        let sent = self.keep(sent)?;
        self.after()?;
        Ok(sent)
    }

    fn receive(&mut self, vfd: VfdId, bytes: &mut Vec<u8>) -> Result<Received, Error> {
        self.check()?;
        let received = self.driver.receive(vfd.0, bytes)?;
        self.after()?;
        Ok(received)
    }

    fn close(&mut self, vfd: VfdId) {
        if self.lost.is_none() {
            self.driver.close(vfd.0);
            // A failure is kept for the next dispatch.
            let _ = self.after();
        }
    }
}

fn driver(vmm: &Vmm, ram: &Arc<Ram>) -> Driver {
    let features = Features {
        event_idx: vmm.has(VIRTIO_RING_F_EVENT_IDX),
        use_shmem: vmm.has(F_USE_SHMEM),
        trans_flags: vmm.has(F_TRANS_FLAGS),
    };
    Driver::new(ram.clone(), vmm.window().clone(), features)
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::Lost(error.to_string())
}

#[cfg(test)]
mod tests;
