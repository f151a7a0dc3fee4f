//! A thread that sends for one vfd.
//!
//! SEND waits for the device's answer and can't be interrupted. The device holds the answer back while the other side
//! doesn't read, so somebody has to wait who does nothing else. Nobody waits for the thread in turn: it ends by itself,
//! once its vfd was closed and its last SEND was answered. If the process ends before, the kernel has it wait for that
//! answer.

use super::device::Device;
use super::{Sent, VfdId};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Stack of a thread, in bytes: a message on it, and room to spare. There is one per client.
pub(super) const STACK: usize = 64 * 1024;

/// What a thread tells the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// It takes bytes again, after it didn't.
    Writable(VfdId),
    /// A SEND failed. There will be no more.
    Failed(VfdId, Errno),
}

/// What threads have told, and nobody has heard yet.
#[derive(Debug)]
pub(super) struct Notices {
    list: Mutex<Vec<Notice>>,
    wake: EventFd,
}

impl Notices {
    pub(super) fn new() -> nix::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { list: Mutex::default(), wake })
    }

    /// All that there is now.
    pub(super) fn take(&self) -> Vec<Notice> {
        // First, so that whatever comes later wakes again.
        let _ = self.wake.read();
        std::mem::take(&mut *lock(&self.list))
    }

    pub(super) fn push(&self, notice: Notice) {
        lock(&self.list).push(notice);
        // It fails only if it is readable already.
        let _ = self.wake.write(1);
    }
}

/// Becomes readable when there is something to take.
impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// One message. It keeps the vfds open that it names.
struct Job {
    bytes: Vec<u8>,
    vfds: Vec<Arc<OwnedFd>>,
}

/// How far the thread has come.
#[derive(Debug, Default)]
struct Progress {
    sending: bool,
    /// Somebody was told that a SEND is under way.
    wants_writable: bool,
    failure: Option<Errno>,
}

/// The thread, seen from the channel. Dropping it ends the thread, after what it was given last.
#[derive(Debug)]
pub(super) struct Sender {
    jobs: SyncSender<Job>,
    progress: Arc<Mutex<Progress>>,
}

impl Sender {
    /// Starts a thread for `vfd`, most often with a stack of [`STACK`]. It keeps `fd` open as long as it lives.
    pub(super) fn start(
        vfd: VfdId,
        fd: Arc<OwnedFd>,
        device: Arc<dyn Device>,
        notices: Arc<Notices>,
        stack: usize,
    ) -> io::Result<Self> {
        // Room for the one message that there may be, so that nobody waits to hand it over.
        let (jobs, queue) = sync_channel(1);
        let progress = Arc::<Mutex<Progress>>::default();
        let worker = Worker { vfd, fd, device, notices, progress: progress.clone() };
        let thread = thread::Builder::new().name(format!("send {:#x}", vfd.0)).stack_size(stack);
        thread.spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, progress })
    }

    /// Gives the thread a message, if it has none. Fails as the SEND before did.
    pub(super) fn send(&self, bytes: &[u8], vfds: Vec<Arc<OwnedFd>>) -> nix::Result<Sent> {
        let mut progress = lock(&self.progress);
        if let Some(errno) = progress.failure {
            return Err(errno);
        }
        if progress.sending {
            progress.wants_writable = true;
            return Ok(Sent::Busy);
        }
        // It has taken what it was given before; if it doesn't live any more, it can't be asked.
        self.jobs.try_send(Job { bytes: bytes.to_vec(), vfds }).map_err(|_| Errno::ESRCH)?;
        progress.sending = true;
        Ok(Sent::Accepted)
    }

    /// Whether a SEND failed.
    pub(super) fn has_failed(&self) -> bool {
        lock(&self.progress).failure.is_some()
    }
}

/// The thread, seen from inside.
struct Worker {
    vfd: VfdId,
    fd: Arc<OwnedFd>,
    device: Arc<dyn Device>,
    notices: Arc<Notices>,
    progress: Arc<Mutex<Progress>>,
}

impl Worker {
    fn run(self, queue: &Receiver<Job>) {
        for job in queue {
            let result = self.send(&job);
            self.finish(result);
            // Only now may vfds close that were closed meanwhile: that waits for another answer.
            drop(job);
        }
    }

    fn send(&self, job: &Job) -> nix::Result<()> {
        let vfds: Vec<_> = job.vfds.iter().map(|vfd| vfd.as_fd()).collect();
        loop {
            match self.device.send(self.fd.as_fd(), &job.bytes, &vfds) {
                Err(Errno::EAGAIN) => self.wait_for_room()?,
                result => return result,
            }
        }
    }

    /// Waits until the OUT ring has room.
    fn wait_for_room(&self) -> nix::Result<()> {
        let mut fd = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fd, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(()),
            result => result?,
        };
        // A vfd that hung up is always ready, so this would not wait; and nobody reads any more.
        let room = fd[0].revents().is_some_and(|ready| ready.contains(PollFlags::POLLOUT));
        if room { Ok(()) } else { Err(Errno::EPIPE) }
    }

    fn finish(&self, result: nix::Result<()>) {
        let mut progress = lock(&self.progress);
        progress.sending = false;
        progress.failure = result.err();
        let wanted = std::mem::take(&mut progress.wants_writable);
        drop(progress);
        if let Err(errno) = result {
            self.notices.push(Notice::Failed(self.vfd, errno));
        }
        if wanted {
            self.notices.push(Notice::Writable(self.vfd));
        }
    }
}

/// What is behind these mutexes is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
