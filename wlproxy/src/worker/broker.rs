//! Gets streams for the device, over the control socket.

use crate::control::{MAX_OUTSTANDING, Request, WorkerControl};
use crate::device::opener::{Answer, OpenError, Opened, Opener, Role, Target};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::warn;

/// The opens that wait for wlproxy's answer.
pub(super) struct Broker {
    /// Name of the VM, for the log.
    vm: String,
    control: Arc<WorkerControl>,
    tickets: Mutex<Tickets>,
}

#[derive(Default)]
struct Tickets {
    last: u64,
    waiting: HashMap<u64, Answer>,
}

impl Broker {
    pub(super) fn new(vm: &str, control: Arc<WorkerControl>) -> Self {
        Self { vm: vm.to_owned(), control, tickets: Mutex::default() }
    }

    /// wlproxy made the stream for `ticket`.
    pub(super) fn opened(&self, ticket: u64, fd: OwnedFd, role: Role) {
        self.answer(ticket, Ok(Opened { stream: fd.into(), role }));
    }

    /// wlproxy made none.
    pub(super) fn refused(&self, ticket: u64, error: OpenError) {
        self.answer(ticket, Err(error));
    }

    fn answer(&self, ticket: u64, result: Result<Opened, OpenError>) {
        // Taken out first: whoever answers may open again.
        let answer = self.tickets().waiting.remove(&ticket);
        match answer {
            Some(answer) => answer(result),
            None => warn!(vm = self.vm, ticket, "wlproxy answers what nobody asked"),
        }
    }

    /// Takes a ticket, unless too many are out.
    fn enter(&self, answer: Answer) -> Result<u64, Answer> {
        let mut tickets = self.tickets();
        if tickets.waiting.len() >= MAX_OUTSTANDING {
            return Err(answer);
        }
        tickets.last += 1;
        let ticket = tickets.last;
        tickets.waiting.insert(ticket, answer);
        Ok(ticket)
    }

    /// Nothing that holds the lock can leave it half-way, so a panic elsewhere changes nothing.
    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opener for Broker {
    fn open(&self, target: Target, answer: Answer) {
        let ticket = match self.enter(answer) {
            Ok(ticket) => ticket,
            Err(answer) => return answer(Err(OpenError::Limit)),
        };
        if let Err(error) = self.control.send(&Request::Open { ticket, target }, None) {
            warn!(vm = self.vm, %error, "can't ask wlproxy for a stream");
            self.answer(ticket, Err(OpenError::Failed));
        }
    }
}
