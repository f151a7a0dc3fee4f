//! A context: one Wayland stream of a guest, with the relay of its link if it has one.

use super::carried::Carried;
use super::flow::{Incoming, Sent};
use super::link::Link;
use super::neighbours::Place;
use super::opener::{Opened, Role};
use super::poller::{Poller, Watched};
use super::shares::Vm;
use crate::counters::{self, Counters};
use crate::policy;
use crate::relay::{Tally, Violation};
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::{KEPT, MAX_QUEUED};
use wlproxy_protocol::report::Malformed;
use wlproxy_protocol::wayland::Batch;
use wlproxy_unix::{Read, Stream};

/// Most fds that wait for a peer that does not read, per context: the usual limit of open files (`RLIMIT_NOFILE`,
/// soft) is what Linux lets be in flight anyway.
pub(super) const MAX_QUEUED_FDS: usize = 1024;

/// Why a context or a pipe ends before the guest or its peer closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// Either side of a link broke the Wayland protocol.
    #[error("{0}")]
    Violation(Violation),
    /// An accepted stream didn't prove itself.
    #[error("its first bytes are not the token that was announced")]
    Token,
    /// Somebody else's device has dialled, and it isn't known yet for what.
    #[error("file descriptors come before it has said what it is")]
    Early,
    /// The peer of an accepted stream doesn't read.
    #[error(
        "its peer does not read: more bytes than may, or more than {MAX_QUEUED_FDS} file descriptors, wait"
    )]
    Full,
    /// The guest doesn't wait though it is made to.
    #[error(
        "it doesn't wait, though it or its VM sends more messages in a second than the quotas `client_messages_per_second` \
         and `messages_per_second` have: more bytes than may, or more than {MAX_QUEUED_FDS} file descriptors, wait"
    )]
    Hasty,
    /// What an agent told is no report.
    #[error("{0}")]
    Report(#[from] Malformed),
    /// A pipe's reader doesn't read, and other pipes wait too.
    #[error("nobody has read from this pipe for the longest time, and too many pipes wait")]
    Unread,
    /// A selection has more bytes than it may have.
    #[error("it has more bytes than the selections of this VM may have")]
    TooMuch,
    /// An fd arrived that can't be given to the guest.
    #[error("a file descriptor came that can't cross: {0}")]
    Fd(String),
    /// The stream broke.
    #[error("its stream failed: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
enum Kind {
    /// Everything passes through the relay.
    Link(Box<Link>),
    /// So many bytes of the token have come.
    Unproven(Token, usize),
    /// Plain bytes.
    Plain,
}

/// How a stream has ended that was read before its guest had taken all.
#[derive(Debug)]
enum Ended {
    HangUp,
    Fault(End),
}

/// One stream of a guest.
#[derive(Debug)]
pub(super) struct Context {
    kind: Kind,
    /// Number of the connection, for the log.
    connection: Option<u64>,
    /// Whose client is at the other end, if it is an accepted one.
    vm: Option<Vm>,
    /// `None` when it is over.
    stream: Option<Watched<Stream<Carried>>>,
    /// At the link's end, if devices of this process are at both.
    place: Option<Box<Place>>,
    /// There may be something to read, though nobody would tell once more.
    unread: bool,
    /// Nobody reads what is written, but what was written before can still be read.
    deaf: bool,
    /// How the stream has ended, to be told after what waits in the relay.
    ended: Option<Box<Ended>>,
    /// On its way into the stream; fds wait here for a byte to go with.
    out: Batch<Carried>,
    queued_fds: usize,
    /// Bytes that may wait there for who doesn't read. A link's client is made to wait before.
    most_queued: usize,
    /// Commits that are not all written: how many, and when the first of their SENDs was taken from the ring.
    commits: Option<(u64, Instant)>,
    counters: Arc<Counters>,
    /// The main context has none.
    numbers: Option<counters::Connection>,
}

impl Context {
    /// A context over a stream that was just opened. It has the policy of now.
    pub(super) fn new(
        opened: Opened,
        poller: &Poller,
        key: u64,
        vm: Arc<str>,
        counters: Arc<Counters>,
        policy: &policy::Current,
    ) -> io::Result<Self> {
        let most_queued = match opened.role {
            Role::Accepted { .. } => policy.vm_quota().waiting_events(),
            Role::Link { .. } | Role::Main => MAX_QUEUED,
        };
        let (kind, connection) = match opened.role {
            Role::Link { connection } => {
                let link = Link::new(vm, connection, policy, counters.clone());
                (Kind::Link(Box::new(link)), Some(connection))
            }
            Role::Main => (Kind::Plain, None),
            Role::Accepted { connection, token, .. } => {
                (Kind::Unproven(token, 0), Some(connection))
            }
        };
        let vm = opened.role.client_vm();
        let stream = Some(poller.watched(key, Stream::carrying(opened.stream)?));
        let numbers = connection.map(|number| counters.connection(number));
        Ok(Self {
            kind,
            connection,
            vm,
            stream,
            place: None,
            unread: true,
            deaf: false,
            ended: None,
            out: Batch::default(),
            queued_fds: 0,
            most_queued,
            commits: None,
            counters,
            numbers,
        })
    }

    /// Number of the connection; the main context has none.
    pub(super) fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Number of the client's VM, if a client's requests come over it.
    pub(super) fn vm(&self) -> Option<Vm> {
        self.vm
    }

    /// It is told by calls of what comes, as long as there is a place at the other end.
    pub(super) fn take_place(&mut self, place: Place) {
        self.place = Some(Box::new(place));
    }

    /// There may be something to read. Whether it may be read.
    pub(super) fn is_told(&mut self) -> bool {
        self.unread = true;
        self.is_proven()
    }

    /// Takes what the guest sent, and when it was `taken` from the ring. There are no fds without bytes.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        fds: Vec<Carried>,
        taken: Instant,
    ) -> Result<Sent, End> {
        if self.stream.is_none() || self.deaf {
            return Ok(Sent::Done);
        }
        if let Some(numbers) = &self.numbers {
            numbers.sent_bytes.add(bytes.len() as u64);
        }
        let before = self.out.fds.len();
        let violation = match &mut self.kind {
            Kind::Link(link) => {
                let relayed = link.requests(bytes, fds, taken, &mut self.out)?;
                let tally = count(link, &self.counters, self.numbers.as_ref());
                if tally.commits > 0 {
                    let (before, since) = self.commits.unwrap_or((0, taken));
                    self.commits = Some((before + tally.commits, since));
                }
                link.pay(tally.requests, self.numbers.as_ref());
                relayed.err()
            }
            kind => {
                let bytes = prove(kind, bytes)?;
                if bytes.is_empty() && !fds.is_empty() {
                    return Err(End::Token);
                }
                self.out.bytes.extend_from_slice(bytes);
                self.out.fds.extend(fds);
                None
            }
        };
        self.queued_fds += self.out.fds.len() - before.min(self.out.fds.len());
        if let Some(stream) = self.stream.as_mut().filter(|_| !self.out.bytes.is_empty()) {
            let fds = self.out.fds.drain(..).map(Carried::pass);
            stream.queue(&self.out.bytes, fds);
            self.out.bytes.clear();
            self.out.bytes.shrink_to(KEPT);
        }
        let sent = self.flush();
        if let Some(violation) = violation {
            return Err(End::Violation(violation));
        }
        let queued = self.stream.as_ref().map_or(0, |stream| stream.queued());
        if queued > self.most_queued && !self.is_link() || self.queued_fds > MAX_QUEUED_FDS {
            return Err(End::Full);
        }
        Ok(sent)
    }

    /// Writes what the stream takes now.
    pub(super) fn flush(&mut self) -> Sent {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.deaf) else { return Sent::Done };
        let before = stream.queued();
        let flushed = stream.flush();
        if stream.queued() < before
            && let Some(place) = &self.place
        {
            place.wrote();
        }
        match flushed {
            Ok(true) => {
                self.queued_fds = self.out.fds.len();
                if let Some((commits, since)) = self.commits.take() {
                    self.counters.commit_in.add(since.elapsed(), commits);
                }
            }
            Ok(false) if self.is_link() => return Sent::Waiting,
            Ok(false) => {}
            Err(_) => self.deaf = true,
        }
        if !self.deaf && self.waits() { Sent::Waiting } else { Sent::Done }
    }

    /// Whether its client isn't to be read now, though nothing of what it has said waits.
    pub(super) fn waits(&mut self) -> bool {
        match &mut self.kind {
            Kind::Link(link) => link.waits(),
            Kind::Unproven(..) | Kind::Plain => false,
        }
    }

    /// Reads once, at most `limit` bytes, unless something waits here: then that is first. After an error, `batch` is still
    /// to be delivered.
    pub(super) fn read(
        &mut self,
        limit: usize,
        batch: &mut Batch<Carried>,
    ) -> Result<Incoming, End> {
        if let Kind::Link(link) = &mut self.kind
            && self.stream.is_some()
            && link.has_replies()
        {
            batch.bytes = link.take_replies();
            return Ok(Incoming::Batch(std::mem::take(batch)));
        }
        if let Kind::Link(link) = &mut self.kind
            && link.held() > 0
        {
            link.take_held(limit, batch);
            return Ok(Incoming::Batch(std::mem::take(batch)));
        }
        match self.ended.take().map(|ended| *ended) {
            Some(Ended::HangUp) => {
                (self.stream, self.place) = (None, None);
                return Ok(Incoming::HangUp);
            }
            Some(Ended::Fault(end)) => return Err(end),
            None => {}
        }
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        match self.read_stream(limit, &mut bytes, &mut fds)? {
            Read::WouldBlock => return Ok(Incoming::Nothing),
            Read::Eof => {
                (self.stream, self.place) = (None, None);
                return Ok(Incoming::HangUp);
            }
            Read::Bytes(_) => {}
        }
        match &mut self.kind {
            Kind::Link(link) => {
                let relayed = link.events(&bytes, fds, Instant::now(), batch);
                count(link, &self.counters, self.numbers.as_ref());
                relayed.map_err(End::Violation)?;
            }
            _ => {
                batch.bytes = bytes;
                batch.fds = fds.into_iter().map(Carried::foreign).collect();
            }
        }
        Ok(Incoming::Batch(std::mem::take(batch)))
    }

    /// Reads once, at most `limit` bytes, though the guest hasn't taken what came before: what comes waits in the relay,
    /// which needs little room for a mouse that moves. Only for a link, and within bounds.
    pub(super) fn read_ahead(&mut self, limit: usize) {
        if !self.reads_ahead() {
            return;
        }
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        let ended = match self.read_stream(limit, &mut bytes, &mut fds) {
            Ok(Read::WouldBlock) => None,
            // What the guest still sends finds that out by itself.
            Ok(Read::Eof) => Some(Ended::HangUp),
            Err(end) => Some(Ended::Fault(end)),
            Ok(Read::Bytes(_)) => match &mut self.kind {
                Kind::Link(link) => {
                    let held = link.hold(&bytes, fds, Instant::now());
                    count(link, &self.counters, self.numbers.as_ref());
                    held.err().map(|violation| Ended::Fault(End::Violation(violation)))
                }
                Kind::Unproven(..) | Kind::Plain => None,
            },
        };
        self.ended = ended.map(Box::new);
    }

    /// Whether it may be read though the guest hasn't taken what came before.
    fn reads_ahead(&self) -> bool {
        let has_room = matches!(&self.kind, Kind::Link(link) if link.has_room());
        has_room && self.ended.is_none()
    }

    /// Whether something for the guest is here, and needs nobody to come.
    pub(super) fn is_ahead(&self) -> bool {
        self.held() > 0 || self.ended.is_some()
    }

    /// Bytes that wait here for the guest.
    fn held(&self) -> usize {
        match &self.kind {
            Kind::Link(link) => link.held(),
            Kind::Unproven(..) | Kind::Plain => 0,
        }
    }

    fn read_stream(
        &mut self,
        limit: usize,
        bytes: &mut Vec<u8>,
        fds: &mut VecDeque<OwnedFd>,
    ) -> Result<Read, End> {
        let Some(stream) = self.stream.as_mut() else { return Ok(Read::WouldBlock) };
        let read = stream.read(bytes, fds, limit)?;
        match read {
            Read::WouldBlock => self.unread = false,
            Read::Eof => {}
            Read::Bytes(length) => {
                // Linux ends a read early at bytes that fds came with; without any there was no more.
                self.unread = length == limit || !fds.is_empty();
                if let Some(numbers) = &self.numbers {
                    numbers.received_bytes.add(length as u64);
                }
            }
        }
        Ok(read)
    }

    /// Whether there is something to tell the guest that didn't come over the stream.
    pub(super) fn has_replies(&self) -> bool {
        matches!(&self.kind, Kind::Link(link) if self.stream.is_some() && link.has_replies())
    }

    /// Ends it from this side: nothing comes for the guest any more. Returns the stream if something still has to be written.
    pub(super) fn finish(&mut self) -> Option<Watched<Stream<Carried>>> {
        if let Kind::Link(link) = &mut self.kind {
            link.forget_held();
        }
        self.ended = None;
        // Whoever is at the other end has to see the socket close, sooner or later.
        self.place = None;
        self.stream.take().filter(|stream| stream.queued() > 0 && !self.deaf)
    }

    /// Waits for what there is to wait for; for bytes only if `may_read`, or they may wait here.
    pub(super) fn watch(&mut self, may_read: bool) -> io::Result<()> {
        let is_called = self.place.as_ref().is_some_and(|place| place.is_called());
        let may_read = may_read && self.ended.is_none() || self.reads_ahead();
        let reads = may_read && self.is_proven() && (self.unread || !is_called);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, reads);
        let writes = stream.queued() > 0 && !self.deaf && !stream.is_stuck();
        interest.set(EpollFlags::EPOLLOUT, writes);
        stream.watch((!interest.is_empty()).then_some(interest))
    }

    fn is_proven(&self) -> bool {
        !matches!(self.kind, Kind::Unproven(..))
    }

    /// Whether what it has to write waits for something that no poller tells of.
    pub(super) fn is_stuck(&self) -> bool {
        let stream = self.stream.as_ref().filter(|_| !self.deaf);
        stream.is_some_and(|stream| self.is_paused() || stream.is_stuck())
    }

    /// Whether its client has sent more than it may, and is not read until it may again.
    pub(super) fn is_paused(&self) -> bool {
        matches!(&self.kind, Kind::Link(link) if link.is_paused())
    }

    /// Keeps what passes as text from now on, or doesn't any more. Only a link understands it.
    pub(super) fn set_traced(&mut self, traced: bool) {
        if let Kind::Link(link) = &mut self.kind {
            link.set_traced(traced);
        }
    }

    /// What passed since the last call, as text.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        match &mut self.kind {
            Kind::Link(link) => link.take_lines(),
            Kind::Unproven(..) | Kind::Plain => Vec::new(),
        }
    }

    /// Tells what waits for it: of the guest's SENDs `held` bytes that it hasn't got yet, and for the guest `receiving`
    /// bytes.
    pub(super) fn count_queues(&self, held: usize, receiving: usize) {
        let Some(numbers) = &self.numbers else { return };
        let (bytes, fds) =
            self.stream.as_ref().map_or((0, 0), |stream| (stream.queued(), stream.queued_fds()));
        let (sending, receiving) = ((bytes + held) as u64, (receiving + self.held()) as u64);
        self.counters.most_sending_bytes.raise(sending);
        self.counters.most_receiving_bytes.raise(receiving);
        numbers.sending_bytes.set(sending);
        numbers.sending_fds.set(fds as u64);
        numbers.receiving_bytes.set(receiving);
    }

    /// So many vfds that came over it exist now.
    pub(super) fn count_vfds(&self, vfds: usize) {
        if let Some(numbers) = &self.numbers {
            numbers.vfds.set(vfds as u64);
        }
    }

    /// Whether what comes over it is a client's requests.
    pub(super) fn brings_requests(&self) -> bool {
        matches!(self.kind, Kind::Unproven(..) | Kind::Plain) && self.connection.is_some()
    }

    /// A link's client may wait; a compositor never does.
    pub(super) fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }
}

/// Counts what passed, and returns it.
fn count(link: &mut Link, counters: &Counters, numbers: Option<&counters::Connection>) -> Tally {
    let tally = link.take_tally();
    counters.requests.add(tally.requests);
    counters.events.add(tally.events);
    counters.commits.add(tally.commits);
    counters.selections_refused.add(tally.refused);
    if let Some(numbers) = numbers {
        numbers.requests.add(tally.requests);
        numbers.events.add(tally.events);
        numbers.commits.add(tally.commits);
        numbers.objects.set(link.objects() as u64);
    }
    tally
}

/// Swallows the token at the start of an accepted stream.
fn prove<'a>(kind: &mut Kind, bytes: &'a [u8]) -> Result<&'a [u8], End> {
    let Kind::Unproven(token, have) = kind else { return Ok(bytes) };
    let due = &token.as_bytes()[*have..];
    let (now, rest) = bytes.split_at(bytes.len().min(due.len()));
    if now != &due[..now.len()] {
        return Err(End::Token);
    }
    *have += now.len();
    if *have == Token::LEN {
        *kind = Kind::Plain;
    }
    Ok(rest)
}
