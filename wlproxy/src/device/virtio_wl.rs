//! The virtio_wl dialect: commands of the OUT queue become calls of the model, and what happens there becomes
//! messages on IN.
//!
//! | part | what it does |
//! |---|---|
//! | this file | one turn of the device: takes chains, answers them |
//! | [`transfer`] | bytes in both directions: SEND, RECV, HUP, and who has to wait |

mod transfer;

use super::dialect::Device;
use super::in_ring::InRing;
use super::neighbours::Host;
use super::opener::{Answers, OpenError, Opened, Opener, Target};
use super::pipe::Direction;
use super::poller::{Poller, RETRY, Waker};
use super::ring::{Chain, Reply, Ring};
use super::shares::Vm;
use super::trace::{self, Traces};
use super::vfd_error::VfdError;
use super::vfds::{Vfd, Vfds};
use super::{Options, Side};
use nix::sys::epoll::EpollFlags;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::offset_of;
use std::sync::Arc;
use transfer::{Came, Flow};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::{IN_BUFFER, MAX_FDS, MAX_SEND_ACCEPTED};
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_wl::{
    F_TRANS_FLAGS, HOST_ID, Header, MAX_DRIVER_ID, QUEUE_SIZE, Transfer, Vfd as VfdMessage, VfdNew,
    VfdTransfer, flags, legacy_flags, message, read,
};

/// Longest command that is taken: a SEND with everything in it.
const MAX_COMMAND: usize = size_of::<VfdTransfer>() + 4 * MAX_FDS + MAX_SEND_ACCEPTED;

/// A code of [`message`] that says why a command failed.
struct Refusal(u32);

impl From<VfdError> for Refusal {
    fn from(error: VfdError) -> Self {
        use super::window::MapError;
        Self(match error {
            VfdError::Unknown => message::RESP_INVALID_ID,
            VfdError::NotSendable | VfdError::Kind(_) => message::RESP_INVALID_TYPE,
            VfdError::TooMany(_)
            | VfdError::Memory(_)
            | VfdError::Hog { .. }
            | VfdError::Share { .. }
            | VfdError::Size
            | VfdError::TooLong(_)
            | VfdError::Map(MapError::Full)
            | VfdError::Io(_) => message::RESP_OUT_OF_MEMORY,
            VfdError::Map(_) => message::RESP_ERR,
        })
    }
}

/// What a name stands for.
enum Named {
    /// A stream that somebody else has.
    Stream(Target),
    /// An agent's reports.
    Reports,
}

/// The device in one run of its rings.
pub(super) struct VirtioWl {
    vm: String,
    side: Side,
    opener: Arc<dyn Opener>,
    counters: Arc<crate::counters::Counters>,
    trans_flags: bool,
    vfds: Vfds,
    r#in: Ring,
    out: Ring,
    buffers: InRing,
    /// Receive buffers that may still be taken in this turn: the commands have to get theirs.
    in_budget: u16,
    /// What waits, in either direction, by vfd. Most have no entry.
    flows: BTreeMap<u32, Flow>,
    /// When each VM's clients got a receive buffer last, of those that waited for one, and how often anybody did.
    given: HashMap<Option<Vm>, u64>,
    last_given: u64,
    /// With the first of these ids, or of those before it, those of a VM go on.
    next: u32,
    /// Turns so far: tells what came first.
    turns: u64,
    /// NEW_CTX commands that wait for their stream.
    opening: HashMap<u32, Reply>,
    answers: Arc<Answers>,
    trace_requests: Arc<trace::Requests>,
    traces: Traces,
    waker: Waker,
    /// Somebody else's thread is here, which must not wait for the frontend.
    visited: bool,
    /// What a visitor read and left, by vfd: it is for the vring worker, which may wait for the frontend.
    left: VecDeque<(u32, Came)>,
}

impl VirtioWl {
    /// A device that just started, with the features that the driver acked.
    pub(super) fn new(
        options: &Options,
        features: u64,
        vfds: Vfds,
        rings: [Ring; 2],
        poller: Poller,
    ) -> Self {
        let [r#in, out] = rings;
        let waker = poller.waker();
        options.traces.attach(waker.clone());
        Self {
            vm: options.vm.clone(),
            side: options.side,
            opener: options.opener.clone(),
            counters: options.counters.clone(),
            trans_flags: features & (1 << F_TRANS_FLAGS) != 0,
            vfds,
            r#in,
            out,
            buffers: InRing::default(),
            in_budget: 0,
            flows: BTreeMap::new(),
            given: HashMap::new(),
            last_given: 0,
            next: 0,
            turns: 0,
            opening: HashMap::new(),
            answers: Answers::new(waker.clone()),
            trace_requests: options.traces.clone(),
            traces: Traces::new(&options.vm, poller),
            waker,
            visited: false,
            left: VecDeque::new(),
        }
    }

    /// Takes commands, but no more than a ring can hold: the streams have to get their turn.
    fn commands(&mut self) {
        self.out.refuse_kicks();
        let mut budget = QUEUE_SIZE;
        loop {
            let before = budget;
            while budget > 0 {
                let Some(chain) = self.out.pop(MAX_COMMAND, size_of::<VfdNew>()) else { break };
                budget -= 1;
                self.command(chain);
            }
            if !self.out.want_kicks() {
                return;
            }
            if budget == 0 {
                return self.waker.wake();
            }
            if budget == before {
                // There is something that can't be taken: the ring is broken, or the driver has more out than it can
                // hold. The next turn tries again.
                return;
            }
        }
    }

    fn command(&mut self, chain: Chain) {
        let Chain { message: bytes, reply } = chain;
        let Some(bytes) = bytes else { return self.answer(reply, message::RESP_OUT_OF_MEMORY) };
        let Some(header) = read::<Header>(&bytes) else {
            return self.answer(reply, message::RESP_ERR);
        };
        let result = match header.kind {
            message::VFD_NEW => self.new_allocation(&bytes),
            message::VFD_NEW_PIPE => self.new_pipe(&bytes),
            message::VFD_NEW_CTX => return self.new_context(&bytes, reply, Some(Target::Default)),
            message::VFD_NEW_CTX_NAMED => match self.named(&bytes) {
                Some(Named::Reports) => self.new_reports(&bytes),
                Some(Named::Stream(target)) => {
                    return self.new_context(&bytes, reply, Some(target));
                }
                None => return self.new_context(&bytes, reply, None),
            },
            message::VFD_SEND => match Transfer::parse(&bytes) {
                Some(transfer) => return self.send(&transfer, reply),
                None => Err(Refusal(message::RESP_ERR)),
            },
            message::VFD_CLOSE => match read::<VfdMessage>(&bytes) {
                Some(vfd) => return self.close(vfd.id, reply),
                None => Err(Refusal(message::RESP_ERR)),
            },
            // VFD_NEW_DMABUF, VFD_DMABUF_SYNC and VFD_SEND_FOREIGN_ID too: a driver then does without.
            _ => Err(Refusal(message::RESP_INVALID_CMD)),
        };
        match result {
            Ok(new) => self.out.complete(reply, bytemuck::bytes_of(&new)),
            Err(Refusal(code)) => self.answer(reply, code),
        }
    }

    fn answer(&mut self, reply: Reply, code: u32) {
        if code != message::RESP_OK {
            // A driver that lets SENDs pass without a look at their answers has to learn of this one.
            self.out.insist();
        }
        self.out.complete(reply, bytemuck::bytes_of(&Header::new(code)));
    }

    /// The id that a driver chose for a new vfd, if it may.
    fn new_id(&self, id: u32) -> Result<u32, Refusal> {
        let taken = self.vfds.get(id).is_some() || self.opening.contains_key(&id);
        if id == 0 || id >= HOST_ID || taken {
            return Err(Refusal(message::RESP_INVALID_ID));
        }
        self.vfds.check_room()?;
        Ok(id)
    }

    fn new_allocation(&mut self, bytes: &[u8]) -> Result<VfdNew, Refusal> {
        let command = prefix(bytes, offset_of!(VfdNew, name))?;
        let id = self.new_id(command.id)?;
        if command.size == 0 {
            return Err(Refusal(message::RESP_INVALID_TYPE));
        }
        self.vfds.add_allocation(id, command.size.into())?;
        self.announcement(id, message::RESP_VFD_NEW).map_err(|error| {
            tracing::warn!(
                vm = self.vm,
                "an allocation of {} bytes was not made: {error}",
                command.size
            );
            self.vfds.remove(id);
            error.into()
        })
    }

    fn new_pipe(&mut self, bytes: &[u8]) -> Result<VfdNew, Refusal> {
        let command = prefix(bytes, offset_of!(VfdNew, pfn))?;
        let id = self.new_id(command.id)?;
        let direction = match command.flags {
            flags::READ => Direction::Read,
            flags::WRITE => Direction::Write,
            _ => return Err(Refusal(message::RESP_INVALID_FLAGS)),
        };
        self.vfds.add_pipe(id, direction).map_err(VfdError::Io)?;
        self.refresh(id);
        Ok(self.announcement(id, message::RESP_VFD_NEW)?)
    }

    /// What a name stands for: only the compositor VM knows tokens, and only client VMs have something to report.
    fn named(&self, bytes: &[u8]) -> Option<Named> {
        let command = prefix(bytes, offset_of!(VfdNew, rest)).ok()?;
        match self.side {
            Side::Client => (command.name == report::NAME).then_some(Named::Reports),
            Side::Compositor => {
                Token::from_name(&command.name).map(Target::Accepted).map(Named::Stream)
            }
        }
    }

    /// A context that ends here: nobody else is asked for it.
    fn new_reports(&mut self, bytes: &[u8]) -> Result<VfdNew, Refusal> {
        let command = prefix(bytes, size_of::<VfdMessage>())?;
        let id = self.new_id(command.id)?;
        if !self.vfds.add_reports(id) {
            return Err(Refusal(message::RESP_OUT_OF_MEMORY));
        }
        Ok(self.announcement(id, message::RESP_VFD_NEW)?)
    }

    fn new_context(&mut self, bytes: &[u8], reply: Reply, target: Option<Target>) {
        let id = prefix(bytes, size_of::<VfdMessage>()).and_then(|command| self.new_id(command.id));
        let (id, target) = match (id, target) {
            (Ok(_), Some(_)) if self.has_all_contexts() => {
                self.counters.contexts_refused.add(1);
                return self.answer(reply, message::RESP_OUT_OF_MEMORY);
            }
            (Ok(id), Some(target)) => (id, target),
            (Ok(_), None) => return self.answer(reply, message::RESP_INVALID_ID),
            (Err(Refusal(code)), _) => return self.answer(reply, code),
        };
        self.opening.insert(id, reply);
        self.opener.open(target, self.answers.answer(id));
    }

    /// Whether a client VM has as many contexts as it may have, those counted that wait for their stream.
    fn has_all_contexts(&self) -> bool {
        self.side == Side::Client
            && self.vfds.contexts() + self.opening.len() >= self.vfds.most_contexts()
    }

    fn opened(&mut self, id: u32, result: Result<Opened, OpenError>) {
        let Some(reply) = self.opening.remove(&id) else { return };
        let most = MAX_DRIVER_ID as usize;
        let made = result.and_then(|opened| self.vfds.add_context(id, opened, most));
        let code = match made {
            Ok(()) => {
                self.refresh(id);
                if let Ok(new) = self.announcement(id, message::RESP_VFD_NEW) {
                    return self.out.complete(reply, bytemuck::bytes_of(&new));
                }
                message::RESP_ERR
            }
            Err(OpenError::Unknown) => message::RESP_INVALID_ID,
            Err(OpenError::Limit) => {
                self.counters.contexts_refused.add(1);
                message::RESP_OUT_OF_MEMORY
            }
            Err(OpenError::Failed) => message::RESP_ERR,
        };
        self.answer(reply, code);
    }

    /// Tells of a vfd, as an answer or as an event. Maps it, if it is memory.
    fn announcement(&mut self, id: u32, kind: u32) -> Result<VfdNew, VfdError> {
        let new = VfdNew {
            header: Header::new(kind),
            id,
            pfn: self.vfds.window.no_pfn(),
            ..Default::default()
        };
        let (trans, legacy) = match self.vfds.get(id).ok_or(VfdError::Unknown)? {
            Vfd::Allocation(_) => {
                let (pfn, size) = self.vfds.map(id)?;
                let flags =
                    if self.trans_flags { 0 } else { legacy_flags::WRITE | legacy_flags::MAP };
                // The window takes nothing whose size isn't a u32.
                return Ok(VfdNew { pfn, size: size as u32, flags, ..new });
            }
            Vfd::Context(_) | Vfd::Reports(_) => {
                (flags::READ | flags::WRITE, legacy_flags::CONTROL)
            }
            Vfd::Pipe(pipe) => match pipe.direction() {
                Direction::Read => (flags::READ, 0),
                Direction::Write => (flags::WRITE, legacy_flags::WRITE),
            },
        };
        Ok(VfdNew { flags: if self.trans_flags { trans } else { legacy }, ..new })
    }

    /// Takes the receive buffers that the driver queued, no more than a ring can hold in a turn. `false` if there were
    /// none.
    fn take_buffers(&mut self) -> bool {
        let before = self.in_budget;
        while self.in_budget > 0 {
            let Some(Chain { reply, .. }) = self.r#in.pop(0, IN_BUFFER) else { break };
            self.in_budget -= 1;
            if reply.capacity() < IN_BUFFER {
                // Not even the largest message of a driver's own ABI fits: it gets its buffer back, empty.
                self.r#in.complete(reply, &[]);
            } else {
                self.buffers.add(reply);
            }
        }
        self.in_budget < before
    }
}

impl Device for VirtioWl {
    fn turn(&mut self, events: &[(u64, EpollFlags)]) {
        self.turns += 1;
        self.in_budget = QUEUE_SIZE;
        self.take_in_left();
        // Before commands: those may give an id to another vfd, and the events are of the old one.
        for &(key, flags) in events {
            if key == RETRY {
                let stuck = self.vfds.retry();
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                stuck.into_iter().for_each(|id| self.polled(id, both));
            } else if self.traces.has(key) {
                self.traces.polled(&mut self.vfds, key, flags);
            } else if let Some(id) = self.vfds.polled(key) {
                self.polled(id, flags);
            }
        }
        for (connection, reader) in self.trace_requests.take() {
            self.traces.start(&mut self.vfds, connection, reader);
        }
        self.commands();
        for (id, result) in self.answers.take() {
            self.opened(id, result);
        }
        self.deliver();
        self.out.signal();
        self.r#in.signal();
    }

    /// Takes to the guest what came over streams, on the thread of another device.
    ///
    /// All else is left to the vring worker, which the poller wakes for it: commands may make or unmap memory, as may the
    /// end of a stream.
    fn visited(&mut self, events: &[(u64, EpollFlags)]) {
        self.visited = true;
        self.in_budget = QUEUE_SIZE;
        for &(key, flags) in events {
            if let Ok(id) = u32::try_from(key) {
                self.polled(id, flags);
            }
        }
        self.deliver();
        self.out.signal();
        self.r#in.signal();
        self.visited = false;
    }

    fn calls(&mut self) -> Vec<Arc<dyn Host>> {
        self.vfds.calls()
    }
}

impl Drop for VirtioWl {
    fn drop(&mut self) {
        self.trace_requests.detach();
    }
}

/// A NEW of any kind, of which at least `needed` bytes were sent; the rest is zeros.
fn prefix(bytes: &[u8], needed: usize) -> Result<VfdNew, Refusal> {
    if bytes.len() < needed {
        return Err(Refusal(message::RESP_ERR));
    }
    let mut new = VfdNew::default();
    let length = bytes.len().min(size_of::<VfdNew>());
    bytemuck::bytes_of_mut(&mut new)[..length].copy_from_slice(&bytes[..length]);
    Ok(new)
}

#[cfg(test)]
pub(super) mod tests;
