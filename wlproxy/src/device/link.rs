//! A link: the relay of one client, and what the device does with what that finds.

use super::carried::Carried;
use super::toll::Transfer;
use crate::counters::{self, Counters};
use crate::pace::Pace;
use crate::policy;
use crate::relay::{Begun, Relay, Tally, Violation};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use wlproxy_protocol::wayland::Batch;

/// The relay of a client, and whose it is.
#[derive(Debug)]
pub(super) struct Link {
    relay: Relay<Carried>,
    pace: Pace,
    /// For the log.
    vm: Arc<str>,
    connection: u64,
    /// The log was told that something of selections is left out.
    has_told_refusal: bool,
    /// The log was told that not all transfers are told.
    has_told_many: bool,
    counters: Arc<Counters>,
}

impl Link {
    /// A client that comes now, and has the policy of now.
    pub(super) fn new(
        vm: Arc<str>,
        connection: u64,
        policy: &policy::Current,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            relay: Relay::with(&policy.get(), policy.rates(), policy.census()),
            pace: Pace::new(policy.crowd(), Instant::now()),
            vm,
            connection,
            has_told_refusal: false,
            has_told_many: false,
            counters,
        }
    }

    /// So many requests came. It may have to wait for that.
    pub(super) fn pay(&mut self, requests: u64, numbers: Option<&counters::Connection>) {
        if self.pace.is_paid(requests) {
            return;
        }
        let now = Instant::now();
        let paid = self.pace.pay(requests, now);
        self.counters.messages.set(paid.all);
        self.counters.most_messages.raise(paid.all.at(now));
        self.counters.most_client_messages.raise(paid.own.at(now));
        if let Some(numbers) = numbers {
            numbers.messages.set(paid.own);
        }
        self.counters.pauses.add(paid.pauses.into());
        if let Some(why) = paid.news {
            let (vm, connection) = (&*self.vm, self.connection);
            tracing::warn!(vm, connection, "a client is made to wait: {why}");
        }
    }

    /// Whether it has to wait, as far as was looked.
    pub(super) fn is_paused(&self) -> bool {
        self.pace.is_paused()
    }

    /// Whether it still has to.
    pub(super) fn waits(&mut self) -> bool {
        self.pace.is_paused() && self.pace.waits(Instant::now())
    }

    /// Takes what the client has said, at this time; appends to `out` what the compositor is to get.
    pub(super) fn requests(
        &mut self,
        bytes: &[u8],
        fds: Vec<Carried>,
        now: Instant,
        out: &mut Batch<Carried>,
    ) -> io::Result<Result<(), Violation>> {
        self.relay.set_time(now);
        let relayed = self.relay.from_client(bytes, fds, out);
        for begun in self.relay.take_begun() {
            let transfer = self.transfer(&begun);
            if let Some(fd) = out.fds.get_mut(begun.fd) {
                fd.leave(transfer)?;
            }
        }
        Ok(relayed)
    }

    /// The same of the compositor, for the client.
    pub(super) fn events(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = OwnedFd>,
        now: Instant,
        out: &mut Batch<Carried>,
    ) -> Result<(), Violation> {
        self.relay.set_time(now);
        let fds = fds.into_iter().map(Carried::foreign);
        let relayed = self.relay.from_compositor(bytes, fds, out);
        for begun in self.relay.take_begun() {
            let transfer = self.transfer(&begun);
            if let Some(fd) = out.fds.get_mut(begun.fd) {
                fd.arrive(transfer);
            }
        }
        relayed
    }

    /// The same for a client that doesn't take anything now: it waits in here.
    pub(super) fn hold(
        &mut self,
        bytes: &[u8],
        fds: impl IntoIterator<Item = OwnedFd>,
        now: Instant,
    ) -> Result<(), Violation> {
        self.relay.set_time(now);
        let held = self.relay.hold(bytes, fds.into_iter().map(Carried::foreign));
        for begun in self.relay.take_begun() {
            let transfer = self.transfer(&begun);
            if let Some(fd) = self.relay.held_fd(begun.fd) {
                fd.arrive(transfer);
            }
        }
        held
    }

    /// Whether more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.relay.has_room()
    }

    /// Bytes that wait in here.
    pub(super) fn held(&self) -> usize {
        self.relay.held()
    }

    /// Takes what has waited longest, at most `limit` bytes unless one message is longer.
    pub(super) fn take_held(&mut self, limit: usize, out: &mut Batch<Carried>) {
        self.relay.take_held(limit, out);
    }

    /// Forgets what waits in here.
    pub(super) fn forget_held(&mut self) {
        self.relay.forget_held();
    }

    /// What passed since the last call. The log is told of the first thing of selections that was left out; others of this
    /// connection are counted.
    pub(super) fn take_tally(&mut self) -> Tally {
        let tally = self.relay.take_tally();
        if let Some(why) = tally.refusal
            && !std::mem::replace(&mut self.has_told_refusal, true)
        {
            let (vm, connection) = (&*self.vm, self.connection);
            tracing::info!(
                vm,
                connection,
                "a selection is refused, and more of them are only counted: {why}"
            );
        }
        tally
    }

    /// Objects that exist now.
    pub(super) fn objects(&self) -> usize {
        self.relay.objects()
    }

    /// Whether there is something to tell the client that the compositor doesn't say.
    pub(super) fn has_replies(&self) -> bool {
        self.relay.has_replies()
    }

    /// That: whole events.
    pub(super) fn take_replies(&mut self) -> Vec<u8> {
        self.relay.take_replies()
    }

    /// Keeps what passes as text from now on, or doesn't any more.
    pub(super) fn set_traced(&mut self, traced: bool) {
        if self.relay.is_traced() != traced {
            self.relay.set_traced(traced);
        }
    }

    /// What passed since the last call, as text.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.relay.take_lines()
    }

    fn transfer(&mut self, begun: &Begun) -> Transfer {
        if !begun.is_told && !std::mem::replace(&mut self.has_told_many, true) {
            let (vm, connection) = (&*self.vm, self.connection);
            tracing::info!(
                vm,
                connection,
                "others take more from this VM in a minute than its `rate`: what is beyond that is only counted"
            );
        }
        Transfer::new(&self.vm, self.connection, begun, self.counters.clone())
    }
}
