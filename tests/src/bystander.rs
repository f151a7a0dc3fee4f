//! A client that only wants its sync answered, beside one that misbehaves.

use crate::{Display, Raw, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Sends `wl_display.sync` again and again, in a thread of its own.
#[derive(Debug)]
pub struct Bystander {
    rounds: Arc<AtomicU64>,
    /// The longest that one took since somebody asked, in microseconds.
    worst: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Connects, starts, and waits until it is served: all that it needs is there from now on.
    pub fn start(display: &Display) -> Self {
        let (rounds, worst) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (rounds, worst, stop) = (rounds.clone(), worst.clone(), stop.clone());
            let mut raw = Raw::connect(display);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    raw.sync();
                    worst.fetch_max(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let bystander = Self { rounds, worst, stop, thread: Some(thread) };
        bystander.check();
        bystander
    }

    /// The longest that a sync took since the last call. No test may depend on it: machines are shared.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.swap(0, Ordering::Relaxed))
    }

    /// Fails the test unless it is served as ever.
    pub fn check(&self) {
        // Two more: the answer to one may have been on its way already.
        let goal = self.rounds.load(Ordering::Relaxed) + 2;
        until("the bystander's sync", || {
            let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
            assert!(!ended, "the bystander was disconnected");
            (self.rounds.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the bystander was disconnected");
        }
    }
}
