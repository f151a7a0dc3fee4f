//! A thread that closes vfds: the last close of one waits for the device's answer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Stack of the thread, in bytes: it calls close, and nothing else.
const STACK: usize = 64 * 1024;

enum Job {
    Close(Arc<OwnedFd>),
    Tell(SyncSender<()>),
}

/// The thread. It ends, after it has closed what it was given, when this is dropped.
#[derive(Debug)]
pub(super) struct Closer {
    /// Unbounded, but each entry is an open file of this process.
    jobs: Sender<Job>,
    pending: Arc<AtomicUsize>,
}

impl Closer {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = channel();
        let pending = Arc::<AtomicUsize>::default();
        let count = pending.clone();
        let thread = thread::Builder::new().name("close".into()).stack_size(STACK);
        thread.spawn(move || run(&queue, &count))?;
        Ok(Self { jobs, pending })
    }

    /// Closes `fd`, soon.
    pub(super) fn close(&self, fd: Arc<OwnedFd>) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        // If the thread is gone, it is closed here.
        let _ = self.jobs.send(Job::Close(fd));
    }

    /// Whether something is still to be closed.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// Waits until all is closed that was given.
    pub(super) fn finish(&self) {
        let (tell, told) = sync_channel(1);
        if self.jobs.send(Job::Tell(tell)).is_ok() {
            let _ = told.recv();
        }
    }
}

fn run(queue: &Receiver<Job>, pending: &AtomicUsize) {
    for job in queue {
        match job {
            Job::Close(fd) => {
                drop(fd);
                pending.fetch_sub(1, Ordering::Relaxed);
            }
            // Whoever asked may be gone.
            Job::Tell(tell) => drop(tell.send(())),
        }
    }
}
