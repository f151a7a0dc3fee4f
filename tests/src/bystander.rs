//! A client that only wants its sync answered, beside one that misbehaves.

use crate::{Display, Raw, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Sends `wl_display.sync` again and again, in a thread of its own.
#[derive(Debug)]
pub struct Bystander {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Connects, starts, and waits until it is served: all that it needs is there from now on.
    pub fn start(display: &Display) -> Self {
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (rounds, stop) = (rounds.clone(), stop.clone());
            let mut raw = Raw::connect(display);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    raw.sync();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let bystander = Self { rounds, stop, thread: Some(thread) };
        bystander.check();
        bystander
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
