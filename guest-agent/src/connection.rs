//! One connection: a local Wayland socket, a context, and the role that translates between them.

use crate::carry::CarryError;
use crate::channel::{Arrived, Error, Received, VfdId};
use crate::outbox::Outbox;
use crate::outq;
use crate::turns::Account;
use crate::world::World;
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use wlproxy_protocol::limits::{MAX_FDS, MAX_QUEUED};
use wlproxy_protocol::wayland::Violation;
use wlproxy_unix::{Read, Stream};

/// Bytes that one read of a local socket takes at most: libwayland writes 4 KiB at a time, and a burst of several.
const READ: usize = 16 * 1024;

/// Messages in each direction in one step, however small they are.
const BURST: usize = 4;

/// Once so many bytes wait for a peer, in bytes, its source isn't read any more. One burst may come on top, and stays
/// far below [`MAX_QUEUED`].
const HIGH_WATER: usize = MAX_QUEUED / 4;

/// The same for fds, or vfds, that wait: two full messages. They are this process's, and thousands may be named in few
/// bytes. What one read brings comes on top (Linux, `SCM_MAX_FD`: 253 of them).
const HIGH_WATER_FDS: usize = 2 * MAX_FDS;

/// Where a role puts what goes on.
#[derive(Debug)]
pub struct Link {
    /// The local peer: a client, or the compositor.
    pub local: Stream,
    /// The context.
    pub out: Outbox,
}

impl Link {
    /// Whether the local peer has to catch up before the context is read again.
    fn is_local_behind(&self) -> bool {
        self.local.queued() > HIGH_WATER || self.local.queued_fds() > HIGH_WATER_FDS
    }

    /// Whether the other side has to catch up before the local peer is read again.
    fn is_remote_behind(&self) -> bool {
        self.out.queued() > HIGH_WATER || self.out.queued_vfds() > HIGH_WATER_FDS
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// Somebody broke the protocol; the local peer is told, if it is a client.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// Something could not be carried over.
    #[error("{0}")]
    Carry(CarryError),
    /// The channel failed.
    #[error("{0}")]
    Channel(#[from] Error),
}

impl From<CarryError> for End {
    fn from(error: CarryError) -> Self {
        match error {
            CarryError::Channel(error) => Self::Channel(error),
            error => Self::Carry(error),
        }
    }
}

/// Translates between a local peer and a context.
pub trait Role {
    /// Who shares a turn with this.
    fn account(&self) -> &Account;

    /// Bytes and fds of the local peer arrived. Nothing does while [`Role::has_more`]: then it is about what came before.
    fn take_local(
        &mut self,
        bytes: &[u8],
        fds: &mut VecDeque<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End>;

    /// Whether something of the local peer's waits until others had their turn.
    fn has_more(&self) -> bool {
        false
    }

    /// Bytes and vfds arrived over the context.
    fn take_remote(
        &mut self,
        bytes: &[u8],
        vfds: Vec<Arrived>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End>;

    /// The bytes that tell the local peer why it is disconnected, if there is a way to tell it.
    fn farewell(&self, end: &End) -> Vec<u8>;

    /// The connection is over.
    fn close(self: Box<Self>, world: &mut World);
}

/// What a connection wants after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// To be called when something happens.
    Wait,
    /// To be called again.
    More,
    /// To be closed.
    End,
}

/// How far a connection's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The local peer is gone: what it sent before still goes on.
    LocalGone,
    /// The other side is gone, or somebody broke the protocol: what is queued for the local peer still goes to it.
    RemoteGone,
}

/// See the module's text.
pub(crate) struct Connection {
    name: String,
    pub(crate) link: Link,
    /// `None` when it was closed.
    context: Option<VfdId>,
    role: Box<dyn Role>,
    life: Life,
    /// Whether the local peer may have sent something: it was told so since a read found nothing more.
    may_read: bool,
    /// Whether the local peer has shut its side: what a read finds then is never the last of it.
    is_shut: bool,
    /// The local stream was stuck a moment ago. Trying again at once would be no use, and each failure makes the socket
    /// tell that it is writable.
    rests: bool,
    /// Something may have arrived over the context: it was told so since it had nothing.
    may_receive: bool,
    /// Bytes that the next step may write to the local peer.
    room: usize,
    /// Whether the local peer has said anything.
    is_answered: bool,
}

impl Connection {
    pub(crate) fn new(name: String, link: Link, context: VfdId, role: Box<dyn Role>) -> Self {
        let (life, context) = (Life::Open, Some(context));
        Self {
            name,
            link,
            context,
            role,
            life,
            may_read: true,
            is_shut: false,
            rests: false,
            may_receive: true,
            room: usize::MAX,
            is_answered: false,
        }
    }

    /// The local socket is ready: it is watched edge-triggered, so this is told once.
    pub(crate) fn local_is_ready(&mut self, flags: EpollFlags) {
        let shut = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.is_shut |= flags.intersects(shut);
        self.may_read |= flags.intersects(EpollFlags::EPOLLIN) || self.is_shut;
    }

    /// Something may have arrived over the context.
    pub(crate) fn remote_is_ready(&mut self) {
        self.may_receive = true;
    }

    /// Whether there may be something for the local peer.
    pub(crate) fn wants_to_write(&self) -> bool {
        self.may_receive || self.link.local.queued() > 0
    }

    /// Whether the local peer has read all that was written to it.
    pub(crate) fn is_read(&self) -> bool {
        outq::is_read(&self.link.local)
    }

    /// Whether the local peer has said anything. Until then it may not even have accepted.
    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// The next step may write so many bytes to the local peer. Once they are written, it is to be told that the peer has read
    /// some.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Bytes that were written to the local peer.
    pub(crate) fn written(&self) -> u64 {
        self.link.local.written()
    }

    /// Whether something that the local peer sent is still to go on.
    pub(crate) fn is_delivering(&self) -> bool {
        let has_more = self.link.out.queued() > 0 || self.role.has_more();
        self.context.is_some() && (self.life == Life::LocalGone || has_more)
    }

    /// Whether a vfd waits to be sent.
    pub(crate) fn holds(&self, vfd: VfdId) -> bool {
        self.link.out.holds(vfd)
    }

    /// The context, unless it was closed.
    pub(crate) fn context(&self) -> Option<VfdId> {
        self.context
    }

    /// Who shares a turn with this.
    pub(crate) fn account(&self) -> &Account {
        self.role.account()
    }

    /// Moves what can be moved, in each direction until it is `quantum` bytes, and how many they were. Fails only with
    /// [`Error::Lost`].
    pub(crate) fn step(
        &mut self,
        world: &mut World,
        quantum: usize,
    ) -> Result<(Step, usize), Error> {
        let (mut remote, mut local) = (false, false);
        let mut moved = 0;
        if self.life == Life::Open {
            let pulled = self.pull_remote(world, quantum, &mut moved).and_then(|more| {
                remote = more;
                local = self.pull_local(world, quantum, &mut moved)?;
                Ok(())
            });
            match pulled {
                Ok(()) => {}
                Err(End::Channel(error @ Error::Lost(_))) => return Err(error),
                Err(end) => self.end(&end, world),
            }
        }
        let sent = match self.flush(world) {
            Err(error @ Error::Lost(_)) => return Err(error),
            // Something that it sends along doesn't exist any more: it never will be sent.
            Err(error @ Error::NotFound) if self.life == Life::Open => {
                self.end(&End::Channel(error), world);
                true
            }
            // The context is gone; that it hung up is seen when it is read.
            Err(_) => true,
            Ok(sent) => sent,
        };
        let written = self.write(world);
        // Who wasn't read for want of room won't tell again that there is something.
        let more = remote && self.has_room() || local && !self.link.is_remote_behind();
        let step = match self.life {
            Life::LocalGone if sent => Step::End,
            Life::RemoteGone if written => Step::End,
            Life::Open if more => Step::More,
            _ => Step::Wait,
        };
        // Also if the local peer doesn't read its farewell: it would keep its windows.
        if step == Step::End || self.life == Life::RemoteGone && sent {
            self.hang_up(world);
        }
        // What it does in its own time is as much as a turn may be.
        Ok((step, if self.role.has_more() { quantum } else { moved }))
    }

    /// Whether more may be queued for the local peer.
    fn has_room(&self) -> bool {
        !self.link.is_local_behind() && self.link.local.queued() < self.room
    }

    /// Writes what the local peer takes, and may get. `true` if nothing is left: a local peer that can't be written to is gone.
    fn write(&mut self, world: &World) -> bool {
        if self.rests {
            return false;
        }
        let before = self.written();
        let written = self.link.local.flush_at_most(self.room).unwrap_or(true);
        self.room = self.room.saturating_sub((self.written() - before) as usize);
        self.rests = !written && self.link.local.is_stuck() && world.rest().is_ok();
        written
    }

    /// The rest is over. Whether there was one.
    pub(crate) fn end_rest(&mut self) -> bool {
        std::mem::take(&mut self.rests)
    }

    /// Sends what the channel takes. `true` if nothing is left, or the context is closed.
    fn flush(&mut self, world: &mut World) -> Result<bool, Error> {
        match self.context {
            Some(context) => self.link.out.flush(&mut *world.channel, context),
            None => Ok(true),
        }
    }

    /// Closes the context; what wasn't sent never will be.
    fn hang_up(&mut self, world: &mut World) {
        if let Some(context) = self.context.take() {
            self.link.out.drain_vfds().for_each(|vfd| world.abandon(vfd));
            world.channel.close(context);
        }
    }

    fn end(&mut self, end: &End, world: &mut World) {
        tracing::warn!(connection = self.name, "disconnected: {end}");
        if matches!(end, End::Violation(_)) {
            world.stats.violations += 1;
        }
        let farewell = self.role.farewell(end);
        if !farewell.is_empty() {
            self.link.local.queue(&farewell, []);
        }
        self.life = Life::RemoteGone;
    }

    /// Takes what arrived over the context, until it is `quantum` bytes, and adds how many they were. Whether there may be more.
    fn pull_remote(
        &mut self,
        world: &mut World,
        quantum: usize,
        moved: &mut usize,
    ) -> Result<bool, End> {
        let Some(context) = self.context else { return Ok(false) };
        let end = *moved + quantum;
        for _ in 0..BURST {
            if !self.has_room() || *moved >= end {
                return Ok(true);
            }
            let mut bytes = Vec::new();
            match world.channel.receive(context, &mut bytes)? {
                Received::Message(vfds) => {
                    *moved += bytes.len();
                    self.role.take_remote(&bytes, vfds, &mut self.link, world)?
                }
                Received::Nothing => {
                    self.may_receive = false;
                    return Ok(false);
                }
                Received::HangUp => {
                    tracing::debug!(connection = self.name, "the other side hung up");
                    self.life = Life::RemoteGone;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The same of what the local peer sent.
    fn pull_local(
        &mut self,
        world: &mut World,
        quantum: usize,
        moved: &mut usize,
    ) -> Result<bool, End> {
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        let end = *moved + quantum;
        for _ in 0..BURST {
            if self.life != Life::Open {
                return Ok(false);
            }
            if self.link.is_remote_behind() {
                return Ok(true);
            }
            bytes.clear();
            if !self.role.has_more() {
                if !self.may_read {
                    return Ok(false);
                }
                let most = READ.min(end.saturating_sub(*moved));
                if most == 0 {
                    return Ok(true);
                }
                let before = fds.len();
                match self.link.local.read(&mut bytes, &mut fds, most).unwrap_or(Read::Eof) {
                    // Linux ends a read early at bytes that fds came with; without any there was no more.
                    Read::Bytes(count) => {
                        *moved += count;
                        self.is_answered = true;
                        self.may_read = count == most || fds.len() > before || self.is_shut
                    }
                    Read::WouldBlock => {
                        self.may_read = false;
                        return Ok(false);
                    }
                    Read::Eof => {
                        tracing::debug!(connection = self.name, "the local peer is gone");
                        self.life = Life::LocalGone;
                        return Ok(false);
                    }
                }
            }
            self.role.take_local(&bytes, &mut fds, &mut self.link, world)?;
            if self.role.has_more() {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// After [`Step::End`].
    pub(crate) fn close(self, world: &mut World) {
        self.role.close(world);
    }
}
