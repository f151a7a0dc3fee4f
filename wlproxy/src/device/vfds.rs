//! The model of a device: contexts, allocations and pipes, by id. Every dialect works on this.

use super::Options;
use super::allocation::Allocation;
use super::arrival::Arrival;
use super::carried::Carried;
use super::context::{Context, End};
use super::flow::Sent;
use super::lingering::Lingering;
use super::made::Made;
use super::neighbours::{Host, Presence};
use super::opener::{OpenError, Opened};
use super::pipe::{Direction, Pipe};
use super::poller::Poller;
use super::shares::{Amount, NOTHING, Shares, Vm};
use super::vfd_error::VfdError;
use super::window::{self, Window};
use crate::counters::{Counters, Reporter};
use crate::policy;
use nix::sys::epoll::EpollFlags;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use wlproxy_protocol::limits::MAX_FDS;
use wlproxy_protocol::report::Report;
use wlproxy_protocol::virtio_wl::{HOST_ID, ILLEGAL_ID};

/// With one part in so many of the vfds that a VM may have, contexts that brought many bring no more. Half: what is under
/// way to an agent that closes memory once it has it is less, at most a quarter of the receive buffers with [`MAX_FDS`]
/// vfds each.
const CROWDED: usize = 2;

/// As many vfds a context may have brought even then: two full messages. So it takes dozens of contexts that bring and
/// bring, and a guest that closes nothing, until a client that does what all do is ended.
const FEW: usize = 2 * MAX_FDS;

/// Most contexts of one VM for the reports of its agents. One agent serves a whole session; but a user may as well start
/// one around each application, and has a few dozen of those at a time.
const MAX_REPORTERS: usize = 64;

/// One vfd.
#[derive(Debug)]
pub(super) enum Vfd {
    /// A Wayland stream.
    Context(Box<Context>),
    /// Memory.
    Allocation(Allocation),
    /// One end of a pipe.
    Pipe(Pipe),
    /// A context over which an agent reports; `None` when that is over.
    Reports(Option<Reporter>),
}

/// Where a vfd came from.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// The context, as long as that is there.
    context: Option<u32>,
    /// Whose it is, and how much of what all share, if it came over an accepted one.
    share: Option<(Vm, Amount)>,
}

/// All vfds of a device in one run of its rings.
pub(super) struct Vfds {
    table: HashMap<u32, Vfd>,
    /// Where vfds came from, and how many over each context.
    origins: HashMap<u32, Origin>,
    brought: HashMap<u32, usize>,
    /// What VMs have of what came over accepted contexts.
    shares: Shares,
    /// Bytes of all memory that has a vfd.
    memory: u64,
    next_host_id: u32,
    poller: Poller,
    pub(super) window: Window,
    pub(super) lingering: Lingering,
    vm: Arc<str>,
    counters: Arc<Counters>,
    policy: Arc<policy::Current>,
    /// The memory that was made for this VM.
    made: Arc<Made>,
    presence: Option<Presence>,
}

impl Vfds {
    /// None yet, of a device with these `options`. `presence` is among devices of the same process.
    pub(super) fn new(
        poller: Poller,
        window: Window,
        options: &Options,
        presence: Option<Presence>,
    ) -> Self {
        Self {
            table: HashMap::new(),
            origins: HashMap::new(),
            brought: HashMap::new(),
            shares: Shares::default(),
            memory: 0,
            next_host_id: HOST_ID,
            lingering: Lingering::new(poller.clone()),
            poller,
            window,
            vm: options.vm.as_str().into(),
            counters: options.counters.clone(),
            policy: options.policy.clone(),
            made: Made::new(options.counters.clone()),
            presence,
        }
    }

    /// The vfd with this id.
    pub(super) fn get(&self, id: u32) -> Option<&Vfd> {
        self.table.get(&id)
    }

    /// The vfd with this id.
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Vfd> {
        self.table.get_mut(&id)
    }

    /// The context that is a client's end of this connection.
    pub(super) fn link(&self, connection: u64) -> Option<u32> {
        let ours = |vfd: &Vfd| matches!(vfd, Vfd::Context(of) if of.is_link() && of.connection() == Some(connection));
        self.table.iter().find(|(_, vfd)| ours(vfd)).map(|(&id, _)| id)
    }

    /// Whether what comes for vfd `id` isn't to be read now, though nothing waits there.
    pub(super) fn waits(&mut self, id: u32) -> bool {
        match self.table.get_mut(&id) {
            Some(Vfd::Context(context)) => context.waits(),
            Some(Vfd::Allocation(_) | Vfd::Pipe(_) | Vfd::Reports(_)) | None => false,
        }
    }

    /// Whether there is room for another one.
    pub(super) fn check_room(&self) -> Result<(), VfdError> {
        let most = self.policy.vm_quota().vfds as usize;
        if self.table.len() < most { Ok(()) } else { Err(VfdError::TooMany(most)) }
    }

    /// Whether this VM may have so much more memory.
    fn check_memory(&self, bytes: u64) -> Result<(), VfdError> {
        let most = self.policy.vm_quota().memory();
        let fits = self.made.bytes().checked_add(bytes).is_some_and(|sum| sum <= most);
        if fits { Ok(()) } else { Err(VfdError::Memory(most >> 20)) }
    }

    /// How many contexts a client VM may have.
    pub(super) fn most_contexts(&self) -> usize {
        self.policy.vm_quota().connections as usize
    }

    /// Bytes that may wait to be written to a context.
    pub(super) fn most_requests(&self) -> usize {
        self.policy.vm_quota().waiting_requests()
    }

    /// How many contexts there are.
    pub(super) fn contexts(&self) -> usize {
        self.table.values().filter(|vfd| matches!(vfd, Vfd::Context(_))).count()
    }

    /// A stream that was opened becomes context `id`. The device can have so many `contexts`.
    pub(super) fn add_context(
        &mut self,
        id: u32,
        opened: Opened,
        contexts: usize,
    ) -> Result<(), OpenError> {
        self.try_add_context(id, opened, contexts).map_err(|error| {
            tracing::warn!(vm = &*self.vm, "a context was not made: {error}");
            match error {
                VfdError::Share { .. } => OpenError::Limit,
                _ => OpenError::Failed,
            }
        })
    }

    fn try_add_context(
        &mut self,
        id: u32,
        opened: Opened,
        contexts: usize,
    ) -> Result<(), VfdError> {
        let share = opened.role.client_vm().map(|vm| (vm, Amount { contexts: 1, ..NOTHING }));
        if let Some((vm, more)) = share {
            let amount = |contexts: usize| Amount { contexts: contexts as u64, ..NOTHING };
            self.shares.check(vm, more, amount(self.contexts()), amount(contexts))?;
        }
        let counters = self.counters.clone();
        let (vm, key) = (self.vm.clone(), id.into());
        let mut context = Context::new(opened, &self.poller, key, vm, counters, &self.policy)?;
        if let (Some(presence), Some(connection)) = (&self.presence, context.connection()) {
            context.take_place(presence.enter(connection, id));
        }
        self.counters.contexts_opened.add(1);
        self.insert(id, Vfd::Context(Box::new(context)));
        share.into_iter().for_each(|(vm, more)| self.shares.add(vm, more));
        Ok(())
    }

    /// Makes allocation `id`, not mapped yet.
    pub(super) fn add_allocation(&mut self, id: u32, size: u64) -> Result<(), VfdError> {
        self.check_memory(size)?;
        let allocation = Allocation::make(size, &self.made).ok_or(VfdError::Size)??;
        self.insert(id, Vfd::Allocation(allocation));
        Ok(())
    }

    /// Makes context `id` for an agent's reports. `false` if there are [`MAX_REPORTERS`].
    pub(super) fn add_reports(&mut self, id: u32) -> bool {
        let has_room = self.reporters() < MAX_REPORTERS;
        if has_room {
            self.insert(id, Vfd::Reports(Some(self.counters.reporter())));
        }
        has_room
    }

    /// How many contexts there are for agents' reports.
    pub(super) fn reporters(&self) -> usize {
        self.table.values().filter(|vfd| matches!(vfd, Vfd::Reports(_))).count()
    }

    /// Makes pipe `id`.
    pub(super) fn add_pipe(&mut self, id: u32, direction: Direction) -> io::Result<()> {
        let pipe = Pipe::new(direction, &self.poller, id.into())?;
        self.insert(id, Vfd::Pipe(pipe));
        Ok(())
    }

    /// Makes a vfd of an fd that came over a context, under an id of the host's. Memory is not mapped yet.
    pub(super) fn adopt(&mut self, came: Carried, context: u32) -> Result<u32, VfdError> {
        self.check_room()?;
        let brought = self.brought.get(&context).copied().unwrap_or(0);
        if self.table.len() >= self.policy.vm_quota().vfds as usize / CROWDED && brought >= FEW {
            return Err(VfdError::Hog { vfds: self.table.len(), brought });
        }
        let (fd, toll) = came.into_parts();
        let (is_link, vm) = match self.table.get(&context) {
            Some(Vfd::Context(of)) => (of.is_link(), of.vm()),
            _ => (false, None),
        };
        let arrival = match is_link {
            true => Arrival::of_compositor(fd, context, &self.made)?,
            false => Arrival::of_worker(fd, context)?,
        };
        let share = vm.map(|vm| (vm, Amount { vfds: 1, bytes: arrival.memory(), ..NOTHING }));
        if let Some((vm, more)) = share {
            let amount = |vfds, bytes| Amount { vfds, bytes, ..NOTHING };
            let used = amount(self.table.len() as u64, self.memory);
            let all = amount(self.policy.vm_quota().vfds.into(), self.window.size());
            self.shares.check(vm, more, used, all)?;
        }
        let id = self.fresh_id();
        let vfd = match arrival {
            Arrival::Allocation(allocation) => {
                // It counts already, if it is a copy of what a compositor on the host has sent.
                self.check_memory(0)?;
                toll.go_elsewhere("it was to be written into memory rather than into a pipe");
                Vfd::Allocation(allocation)
            }
            Arrival::Pipe(direction, end) => {
                Vfd::Pipe(Pipe::of(direction, end, toll, &self.poller, id.into())?)
            }
        };
        self.insert(id, vfd);
        self.origins.insert(id, Origin { context: Some(context), share });
        share.into_iter().for_each(|(vm, more)| self.shares.add(vm, more));
        self.set_brought(context, brought + 1);
        Ok(id)
    }

    fn set_brought(&mut self, context: u32, count: usize) {
        self.brought.insert(context, count);
        if let Some(Vfd::Context(context)) = self.table.get(&context) {
            context.count_vfds(count);
        }
    }

    /// An id that no vfd has. There is one: fewer vfds than half of the ids may exist.
    pub(super) fn fresh_id(&mut self) -> u32 {
        loop {
            let id = self.next_host_id;
            self.next_host_id = if id + 1 < ILLEGAL_ID { id + 1 } else { HOST_ID };
            if !self.table.contains_key(&id) {
                return id;
            }
        }
    }

    /// Maps allocation `id` into the window and returns its page frame and size. Blocks.
    pub(super) fn map(&mut self, id: u32) -> Result<(u64, u64), VfdError> {
        let Some(Vfd::Allocation(allocation)) = self.table.get_mut(&id) else {
            return Err(VfdError::Unknown);
        };
        let lease = match allocation.lease.take() {
            Some(lease) => lease,
            None => self.window.map(allocation.as_fd(), allocation.context)?,
        };
        let place = (self.window.pfn(&lease), lease.length());
        allocation.lease = Some(lease);
        Ok(place)
    }

    /// Maps allocation `id` where the driver wants it. Blocks.
    pub(super) fn place(&mut self, id: u32, offset: u64) -> Result<(), VfdError> {
        let Some(Vfd::Allocation(allocation)) = self.table.get(&id) else {
            return Err(VfdError::Unknown);
        };
        Ok(self.window.place(offset, allocation.as_fd())?)
    }

    /// Size of allocation `id` when it is mapped, in bytes.
    pub(super) fn length(&self, id: u32) -> Result<u64, VfdError> {
        match self.table.get(&id) {
            Some(Vfd::Allocation(allocation)) => Ok(window::length(allocation.as_fd())?),
            Some(Vfd::Context(_) | Vfd::Pipe(_) | Vfd::Reports(_)) | None => Err(VfdError::Unknown),
        }
    }

    /// fds for the vfds that a guest sends, all or none. Pipes give their other end away.
    pub(super) fn take_fds(&mut self, ids: &[u32]) -> Result<Vec<Carried>, VfdError> {
        let fds = ids.iter().map(|&id| self.sendable(id)).collect::<Result<Vec<_>, _>>()?;
        for id in ids {
            if let Some(Vfd::Pipe(pipe)) = self.table.get_mut(id) {
                pipe.give_away();
            }
        }
        Ok(fds)
    }

    fn sendable(&self, id: u32) -> Result<Carried, VfdError> {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        Ok(match self.table.get(&id).ok_or(VfdError::Unknown)? {
            Vfd::Context(_) | Vfd::Reports(_) => return Err(VfdError::NotSendable),
            Vfd::Allocation(allocation) => {
                Carried::memory(own(allocation.as_fd())?, allocation.piece())
            }
            Vfd::Pipe(pipe) => {
                let remote = pipe.remote().ok_or(VfdError::NotSendable)?;
                Carried::pipe(own(remote)?, pipe.toll().clone())
            }
        })
    }

    /// Number of the VM of whose clients vfd `id` is, if it is of any.
    pub(super) fn client_vm(&self, id: u32) -> Option<Vm> {
        match self.table.get(&id) {
            Some(Vfd::Context(context)) => context.vm(),
            _ => self.origins.get(&id)?.share.map(|(vm, _)| vm),
        }
    }

    /// Closes a vfd. What a context still has to write is written in the background.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let Some(mut vfd) = self.table.remove(&id) else { return false };
        self.uncount(&vfd);
        let origin = self.origins.remove(&id);
        if let Some((vm, less)) = origin.and_then(|origin| origin.share) {
            self.shares.sub(vm, less);
        }
        if let Some(context) = origin.and_then(|origin| origin.context)
            && let Some(&count) = self.brought.get(&context)
        {
            self.set_brought(context, count - 1);
        }
        match &mut vfd {
            Vfd::Context(context) => {
                if let Some(vm) = context.vm() {
                    self.shares.sub(vm, Amount { contexts: 1, ..NOTHING });
                }
                self.window.end_context(id);
                // Another one may get its id.
                if self.brought.remove(&id).is_some() {
                    let of = self.origins.values_mut().filter(|of| of.context == Some(id));
                    of.for_each(|origin| origin.context = None);
                }
                if let Some(stream) = context.finish() {
                    self.lingering.add(stream);
                }
            }
            Vfd::Allocation(allocation) => {
                if let Some(lease) = allocation.lease.take() {
                    self.window.release(lease);
                }
            }
            Vfd::Pipe(_) | Vfd::Reports(_) => {}
        }
        true
    }

    /// The poller found something under `key`. Returns the id if it is a vfd's.
    pub(super) fn polled(&mut self, key: u64) -> Option<u32> {
        if let Ok(id) = u32::try_from(key) {
            return Some(id);
        }
        self.lingering.polled(key);
        None
    }

    /// [`RETRY`](super::poller::RETRY) is due: lets stuck streams go on that are closed; returns the contexts with such, and
    /// those that have something to tell the guest.
    pub(super) fn retry(&mut self) -> Vec<u32> {
        self.lingering.retry();
        let stuck = |vfd: &Vfd| matches!(vfd, Vfd::Context(context) if context.is_stuck() || context.has_replies());
        self.table.iter().filter(|(_, vfd)| stuck(vfd)).map(|(&id, _)| id).collect()
    }

    /// There may be something to read from vfd `id`, as `flags` have it. Whether it may be read, whoever reads it.
    pub(super) fn is_told(&mut self, id: u32, flags: EpollFlags) -> bool {
        match self.table.get_mut(&id) {
            Some(Vfd::Context(context)) => context.is_told(),
            // That there is something, a call may say that was for a context of this number; and to read a pipe that is
            // written is to end it.
            Some(Vfd::Pipe(pipe)) => {
                pipe.direction() == Direction::Read
                    || flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            }
            Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => true,
        }
    }

    /// Waits for what vfd `id` has to wait for; for bytes only if `may_read`.
    pub(super) fn watch(&mut self, id: u32, may_read: bool) -> Result<(), End> {
        match self.table.get_mut(&id) {
            Some(Vfd::Context(context)) => {
                if context.is_stuck() || may_read && context.has_replies() {
                    self.poller.retry_later()?;
                }
                Ok(context.watch(may_read)?)
            }
            Some(Vfd::Pipe(pipe)) => Ok(pipe.watch(may_read)?),
            Some(Vfd::Allocation(_) | Vfd::Reports(_)) | None => Ok(()),
        }
    }

    /// Calls the devices to which something was written since the last time. They have to be visited.
    pub(super) fn calls(&self) -> Vec<Arc<dyn Host>> {
        self.presence.as_ref().map_or_else(Vec::new, Presence::calls)
    }

    fn insert(&mut self, id: u32, vfd: Vfd) {
        self.counters.vfds.add(1);
        match &vfd {
            Vfd::Context(_) => self.counters.contexts.add(1),
            Vfd::Allocation(allocation) => {
                self.memory = self.memory.saturating_add(allocation.length());
            }
            Vfd::Pipe(_) | Vfd::Reports(_) => {}
        }
        let before = self.table.insert(id, vfd);
        debug_assert!(before.is_none(), "vfd {id:#x} made twice");
    }

    fn uncount(&mut self, vfd: &Vfd) {
        self.counters.vfds.sub(1);
        match vfd {
            Vfd::Context(_) => self.counters.contexts.sub(1),
            Vfd::Allocation(allocation) => {
                self.memory = self.memory.saturating_sub(allocation.length());
            }
            Vfd::Pipe(_) | Vfd::Reports(_) => {}
        }
    }
}

/// Each SEND is one report, and the last one counts. An agent that told something else is heard no more.
pub(super) fn take_report(reporter: Option<&mut Reporter>, bytes: &[u8]) -> Result<Sent, End> {
    if let Some(reporter) = reporter {
        reporter.tell(Report::decode(bytes)?);
    }
    Ok(Sent::Done)
}

impl Drop for Vfds {
    fn drop(&mut self) {
        let table = std::mem::take(&mut self.table);
        table.values().for_each(|vfd| self.uncount(vfd));
    }
}
