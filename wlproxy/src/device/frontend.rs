//! What the device asks of the frontend: to map memory into the window.

use super::ring::{Memory, Run};
use nix::sys::stat::fstat;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use vhost::vhost_user::message::{VhostUserMMap, VhostUserMMapFlags, VhostUserSharedMsg};
use vhost::vhost_user::{Backend, VhostUserFrontendReqHandler};
use vm_memory::{ByteValued, GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion};

/// How long a frontend has to announce a mapping as guest memory. QEMU takes 1 to 10 ms.
const ANNOUNCEMENT: Duration = Duration::from_secs(2);

/// Names an object that no frontend knows; neither zeros nor ones, which the vhost crate refuses to receive.
const NO_OBJECT: [u8; 16] = *b"wlproxy: barrier";

/// Maps memory into the window. Every call blocks until the frontend answered.
pub(super) trait Frontend: Send {
    /// Maps `length` bytes of `fd` at `offset` of the window. When it returns, the guest sees them.
    fn map(&self, offset: u64, length: u64, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Undoes exactly one [`Frontend::map`].
    fn unmap(&self, offset: u64, length: u64) -> io::Result<()>;

    /// The guest address where the window starts, learned from `fd`, which is mapped at `offset`.
    ///
    /// Waits for the frontend to announce that mapping; `None` if it doesn't.
    fn window_base(&self, offset: u64, fd: BorrowedFd<'_>) -> Option<u64>;
}

/// The request channel to the frontend, and the news that come from it. Shared by the thread that serves the
/// frontend's socket and the vring worker; no lock here is held while anyone waits for the frontend.
pub(super) struct Requests {
    /// Name of the VM, for the log.
    vm: String,
    channel: Mutex<Option<Backend>>,
    memory: Memory,
    announced: Mutex<()>,
    news: Condvar,
    no_barrier: Once,
}

impl Requests {
    /// No channel yet.
    pub(super) fn new(vm: &str, memory: Memory) -> Self {
        Self {
            vm: vm.to_owned(),
            channel: Mutex::new(None),
            memory,
            announced: Mutex::new(()),
            news: Condvar::new(),
            no_barrier: Once::new(),
        }
    }

    /// The frontend opened its request channel.
    pub(super) fn set_channel(&self, channel: Backend) {
        *lock(&self.channel) = Some(channel);
    }

    /// The guest memory changed, or a run ended: whoever waits has to look again.
    pub(super) fn announce(&self) {
        let _order = lock(&self.announced);
        self.news.notify_all();
    }

    fn channel(&self) -> io::Result<Backend> {
        lock(&self.channel).clone().ok_or_else(|| {
            io::Error::other("the frontend opened no request channel: it must offer BACKEND_REQ")
        })
    }

    /// Where the window would start if one of the announced regions is `fd`, mapped at `offset`.
    fn find(&self, offset: u64, fd: BorrowedFd<'_>) -> Option<u64> {
        let wanted = fstat(fd).ok()?;
        let memory = self.memory.memory();
        memory.iter().find_map(|region| {
            let file = region.file_offset()?;
            let found = fstat(file.file()).ok()?;
            if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino) {
                return None;
            }
            region.start_addr().0.checked_sub(offset.checked_add(file.start())?)
        })
    }
}

/// A lock that was held by a thread that panicked is as good as any other: what it guards is set in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The frontend of one run of the rings: it isn't asked for anything after them.
pub(super) struct RunningFrontend {
    pub(super) requests: std::sync::Arc<Requests>,
    pub(super) run: Run,
    /// Which of the VM's shared memory regions is the window.
    pub(super) shmid: u8,
}

impl RunningFrontend {
    /// The channel, if the rings still run: outside of that a mapping request can crash QEMU.
    fn channel(&self) -> io::Result<Backend> {
        if self.run.is_over() {
            return Err(io::Error::other("the device was reset"));
        }
        self.requests.channel()
    }
}

impl Frontend for RunningFrontend {
    fn map(&self, offset: u64, length: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let channel = self.channel()?;
        channel.shmem_map(&request(self.shmid, offset, length), &fd.as_raw_fd())?;
        if !barrier(&channel) {
            self.requests.no_barrier.call_once(|| {
                tracing::warn!(
                    vm = self.requests.vm,
                    "the frontend doesn't take SHARED_OBJECT requests: if it answers before a mapping is live, as QEMU \
                     does, the VM loses what it writes first"
                );
            });
        }
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> io::Result<()> {
        self.channel()?.shmem_unmap(&request(self.shmid, offset, length))?;
        Ok(())
    }

    fn window_base(&self, offset: u64, fd: BorrowedFd<'_>) -> Option<u64> {
        let deadline = Instant::now() + ANNOUNCEMENT;
        let mut guard = lock(&self.requests.announced);
        loop {
            if let Some(base) = self.requests.find(offset, fd.as_fd()) {
                return Some(base);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if self.run.is_over() {
                return None;
            }
            guard = self
                .requests
                .news
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Waits until what was asked for is done. The answer to a mapping comes before it is live; the next answer comes after:
/// QEMU's main loop is serial. `false` if there is none to wait for, since the frontend didn't agree to such requests.
fn barrier(channel: &Backend) -> bool {
    let Some(&unknown) = VhostUserSharedMsg::from_slice(&NO_OBJECT) else { return false };
    match channel.shared_object_remove(&unknown) {
        Ok(_) => true,
        // That it has no such object is the expected answer. An error of another kind is the crate's own: nothing was
        // sent.
        Err(error) => error.get_ref().is_some_and(|error| error.is::<vhost::vhost_user::Error>()),
    }
}

fn request(shmid: u8, offset: u64, length: u64) -> VhostUserMMap {
    VhostUserMMap {
        shmid,
        shm_offset: offset,
        len: length,
        flags: VhostUserMMapFlags::WRITABLE.bits(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_frontend_without_shared_objects_is_no_barrier() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let channel = Backend::from_stream(ours);
        assert!(!barrier(&channel));
        channel.set_shared_object_flag(true);
        assert!(barrier(&channel));
        // Nothing is asked of a frontend that is gone, but that isn't its features' fault.
        drop(theirs);
        assert!(barrier(&channel));
    }
}
