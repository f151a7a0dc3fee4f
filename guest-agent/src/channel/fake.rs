//! A channel in memory, for tests: the other side of it is the test.

use super::{Allocation, Arrived, Channel, Error, Event, PipeEnd, Received, Sent, VfdId};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use wlproxy_protocol::accept::{Token, Way, Ways};
use wlproxy_protocol::limits::{MAX_FDS, MAX_SEND, PAGE_SIZE};

/// One SEND that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) to: VfdId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) vfds: Vec<VfdId>,
}

/// Bytes of one message, and what came with them.
type Arrival = (Vec<u8>, Vec<Arrived>);

#[derive(Default)]
pub(crate) struct State {
    /// vfds that are open; memory with its size, contexts and pipes with 0.
    pub(crate) open: BTreeMap<VfdId, u64>,
    pub(crate) closed: Vec<VfdId>,
    pub(crate) sent: Vec<Message>,
    /// How many sends are accepted before the channel is busy; `None`: all.
    credit: Option<usize>,
    busy: BTreeSet<VfdId>,
    incoming: BTreeMap<VfdId, VecDeque<Arrival>>,
    hung_up: BTreeSet<VfdId>,
    events: Vec<Event>,
    /// What the next calls that make a vfd fail with.
    pub(crate) refusals: VecDeque<Error>,
    /// What the next sends fail with.
    pub(crate) send_failures: VecDeque<Error>,
    pub(crate) takes_reports: bool,
    pub(crate) lost: bool,
    last: u32,
    /// Whether [`Channel::poll_fd`] is readable.
    flag: bool,
}

/// Both the channel and the other side of it.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) state: Rc<RefCell<State>>,
    wake: Rc<EventFd>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap();
        Self { state: Rc::default(), wake: Rc::new(wake) }
    }

    fn notify(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        state.events.push(event);
        if !std::mem::replace(&mut state.flag, true) {
            self.wake.write(1).unwrap();
        }
    }

    fn make(&self, size: u64) -> Result<VfdId, Error> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        if let Some(refusal) = state.refusals.pop_front() {
            return Err(refusal);
        }
        state.last += 1;
        let vfd = VfdId(state.last);
        state.open.insert(vfd, size);
        Ok(vfd)
    }

    /// Makes a vfd that the other side will deliver.
    pub(crate) fn arriving_pipe(&self, end: PipeEnd) -> Arrived {
        Arrived::Pipe(self.make(0).unwrap(), end)
    }

    /// Makes memory with this content that the other side will deliver.
    pub(crate) fn arriving_memory(&self, content: &[u8]) -> Arrived {
        let allocation = self.clone().allocate(content.len() as u64).unwrap();
        let mut mapping = crate::memory::Mapping::new(&allocation.fd, allocation.size).unwrap();
        mapping.write(0, content);
        Arrived::Allocation(allocation)
    }

    /// The other side sends.
    pub(crate) fn deliver(&self, to: VfdId, bytes: &[u8], vfds: Vec<Arrived>) {
        let mut state = self.state.borrow_mut();
        let queue = state.incoming.entry(to).or_default();
        queue.push_back((bytes.to_vec(), vfds));
        let first = queue.len() == 1;
        drop(state);
        if first {
            self.notify(Event::Readable(to));
        }
    }

    /// The other side hangs up.
    pub(crate) fn hang_up(&self, vfd: VfdId) {
        self.state.borrow_mut().hung_up.insert(vfd);
        self.notify(Event::Readable(vfd));
    }

    /// From now on only so many sends are accepted; who had to wait hears of it.
    pub(crate) fn set_credit(&self, credit: Option<usize>) {
        self.state.borrow_mut().credit = credit;
        let busy = std::mem::take(&mut self.state.borrow_mut().busy);
        busy.into_iter().for_each(|vfd| self.notify(Event::Writable(vfd)));
    }

    pub(crate) fn lose(&self) {
        self.state.borrow_mut().lost = true;
        self.wake.write(1).unwrap();
    }

    pub(crate) fn is_open(&self, vfd: VfdId) -> bool {
        self.state.borrow().open.contains_key(&vfd)
    }

    pub(crate) fn open(&self) -> Vec<VfdId> {
        self.state.borrow().open.keys().copied().collect()
    }

    /// Messages that wait to be received.
    pub(crate) fn undelivered(&self, vfd: VfdId) -> usize {
        self.state.borrow().incoming.get(&vfd).map_or(0, VecDeque::len)
    }

    /// All bytes that were sent to a vfd.
    pub(crate) fn bytes_to(&self, vfd: VfdId) -> Vec<u8> {
        let state = self.state.borrow();
        state.sent.iter().filter(|m| m.to == vfd).flat_map(|m| m.bytes.clone()).collect()
    }

    /// All vfds that were sent to a vfd.
    pub(crate) fn vfds_to(&self, vfd: VfdId) -> Vec<VfdId> {
        let state = self.state.borrow();
        state.sent.iter().filter(|m| m.to == vfd).flat_map(|m| m.vfds.clone()).collect()
    }
}

impl State {
    fn check(&self) -> Result<(), Error> {
        if self.lost { Err(Error::Lost("the test said so".into())) } else { Ok(()) }
    }
}

impl Channel for Fake {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        let _ = self.wake.read();
        state.flag = false;
        events.append(&mut state.events);
        Ok(())
    }

    fn ways(&self) -> Ways {
        Ways::NAME
    }

    fn connect(&mut self) -> Result<VfdId, Error> {
        self.make(0)
    }

    fn open(&mut self, _: Way, _: Token) -> Result<VfdId, Error> {
        self.make(0)
    }

    fn open_reports(&mut self) -> Result<VfdId, Error> {
        if self.state.borrow().takes_reports { self.make(0) } else { Err(Error::NotFound) }
    }

    fn allocate(&mut self, size: u64) -> Result<Allocation, Error> {
        assert!(size > 0);
        let size = size.next_multiple_of(PAGE_SIZE);
        let vfd = self.make(size)?;
        let fd = wlproxy_unix::memory::allocate("test", size).unwrap();
        Ok(Allocation { vfd, fd, size })
    }

    fn pipe(&mut self, _: PipeEnd) -> Result<VfdId, Error> {
        self.make(0)
    }

    fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) -> Result<Sent, Error> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        assert!(bytes.len() <= MAX_SEND && vfds.len() <= MAX_FDS);
        if let Some(failure) = state.send_failures.pop_front() {
            return Err(failure);
        }
        if !state.open.contains_key(&vfd) || !vfds.iter().all(|vfd| state.open.contains_key(vfd)) {
            return Err(Error::NotFound);
        }
        if state.credit == Some(0) {
            state.busy.insert(vfd);
            return Ok(Sent::Busy);
        }
        state.credit = state.credit.map(|credit| credit - 1);
        state.sent.push(Message { to: vfd, bytes: bytes.to_vec(), vfds: vfds.to_vec() });
        Ok(Sent::Accepted)
    }

    fn receive(&mut self, vfd: VfdId, bytes: &mut Vec<u8>) -> Result<Received, Error> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        if !state.open.contains_key(&vfd) {
            return Err(Error::NotFound);
        }
        match state.incoming.get_mut(&vfd).and_then(VecDeque::pop_front) {
            Some((arrived, vfds)) => {
                bytes.extend(arrived);
                Ok(Received::Message(vfds))
            }
            None if state.hung_up.contains(&vfd) => Ok(Received::HangUp),
            None => Ok(Received::Nothing),
        }
    }

    fn close(&mut self, vfd: VfdId) {
        let mut state = self.state.borrow_mut();
        if state.open.remove(&vfd).is_some() {
            state.closed.push(vfd);
        }
    }
}
