//! One context: a file of the driver's, connected to one stream.

use super::device::{Blob, File, RING_SEND};
use super::outgoing::Outgoing;
use super::{Arriving, VfdId};
use crate::memory::Mapping;
use nix::errno::Errno;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use wlproxy_protocol::cross_domain::{
    GUEST_PIPE, GetImageRequirements, HEARS_ENDS, Header, Identifier, ImageRequirements, Init,
    PipeTransfer, RING_CHANNEL, RING_QUERY, ReadWrite, SendReceive, Transfer, command,
};
use wlproxy_protocol::limits::{MAX_QUEUED, PAGE_SIZE};
use wlproxy_protocol::virtio_wl::read;

/// Size of the channel ring, in bytes: the most that our device writes at once. Others write one page. Each event takes
/// the host and the VM a wake-up, so few large ones are better than many.
const CHANNEL_RING: u64 = 64 * 1024;

/// Format of an image that is plain bytes: one per pixel.
const BYTES: u32 = u32::from_le_bytes(*b"R8  ");

/// Something that the host sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) arriving: Vec<Arriving>,
}

impl Message {
    /// What it counts for, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + size_of::<SendReceive>()
    }
}

/// What was in the channel ring.
#[derive(Debug)]
pub(super) enum Heard {
    /// Of the stream.
    Message(Vec<u8>, Vec<Identifier>),
    /// The stream has hung up.
    HangUp,
    /// Of a pipe, and whether it was the last.
    Pipe(u32, Vec<u8>, bool),
    /// Nothing, or what can't be read: the device doesn't know this context. It was refused when it was made.
    Nothing,
}

/// How a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The other side of the stream is gone. Pipes go on.
    HungUp,
    /// Nothing goes on.
    Over,
}

/// A context. Nothing here waits but [`Context::ask`].
pub(super) struct Context {
    query: Mapping,
    query_ring: Blob,
    channel: Mapping,
    // After what is mapped of it.
    pub(super) file: Box<dyn File>,
    /// What it was connected to.
    pub(super) channel_type: u32,
    /// Whether the device has a POLL of ours.
    polling: bool,
    pub(super) state: State,
    pub(super) outgoing: Outgoing,
    /// What waits to be received.
    pub(super) queue: VecDeque<Message>,
    /// What it and all pipes' counts for, in bytes.
    pub(super) queued: usize,
    /// Pipes that both sides know.
    pub(super) pipes: HashMap<u32, VfdId>,
    last_pipe: u32,
    /// Nobody knows the vfd any more.
    pub(super) closed: bool,
    /// The device was told to hang up.
    pub(super) hangs_up: bool,
}

impl Context {
    /// Connects the file's context to what `channel` stands for, without waiting for that.
    pub(super) fn connect(file: Box<dyn File>, channel: u32) -> io::Result<Self> {
        let (query_ring, query) = file.ring(PAGE_SIZE)?;
        let (channel_ring, ring) = file.ring(CHANNEL_RING)?;
        let init = Init {
            header: Header { padding: HEARS_ENDS, ..header::<Init>(command::INIT, RING_QUERY) },
            query_ring: query_ring.resource,
            channel_ring: channel_ring.resource,
            channel,
        };
        file.submit(bytemuck::bytes_of(&init), RING_QUERY.into(), None)?;
        let mut context = Self {
            query,
            query_ring,
            channel: ring,
            file,
            channel_type: channel,
            polling: false,
            state: State::Open,
            outgoing: Outgoing::default(),
            queue: VecDeque::new(),
            queued: 0,
            pipes: HashMap::new(),
            last_pipe: 0,
            closed: false,
            hangs_up: false,
        };
        context.poll()?;
        Ok(context)
    }

    /// Asks for the next event, if there is room for it and it isn't asked for.
    pub(super) fn poll(&mut self) -> nix::Result<()> {
        let goes_on = match self.state {
            State::Open => true,
            State::HungUp => !self.pipes.is_empty(),
            State::Over => false,
        };
        if self.polling || !goes_on || self.queued >= MAX_QUEUED {
            return Ok(());
        }
        // So that an event is told from none: a POLL that is refused signals its fence as well.
        self.channel.write(0, &[0; size_of::<Header>()]);
        let poll = [header::<[u64; 2]>(command::POLL, RING_CHANNEL), Header::default()];
        self.file.submit(bytemuck::bytes_of(&poll), RING_CHANNEL.into(), None)?;
        self.polling = true;
        Ok(())
    }

    /// Takes the event that was asked for, if it is there.
    pub(super) fn hear(&mut self) -> nix::Result<Option<Heard>> {
        if self.file.fences()? == 0 || !std::mem::take(&mut self.polling) {
            return Ok(None);
        }
        let fixed = self.channel.read(0, size_of::<SendReceive>());
        let whole = |fixed: usize, length: u32| {
            let length = fixed.saturating_add(length as usize).min(self.channel.size());
            self.channel.read(0, length)
        };
        let heard = match fixed.first() {
            Some(&command::RECEIVE) => {
                let length = read::<SendReceive>(&fixed).map_or(0, |fixed| fixed.length);
                let message = whole(size_of::<SendReceive>(), length);
                Transfer::parse(&message).map(|Transfer { ids, bytes }| {
                    if ids.is_empty() && bytes.is_empty() {
                        Heard::HangUp
                    } else {
                        Heard::Message(bytes.to_vec(), ids)
                    }
                })
            }
            Some(&command::READ) => {
                let length = read::<ReadWrite>(&fixed).map_or(0, |fixed| fixed.length);
                let message = whole(size_of::<ReadWrite>(), length);
                PipeTransfer::parse(&message)
                    .map(|part| Heard::Pipe(part.id, part.bytes.to_vec(), part.hang_up))
            }
            _ => None,
        };
        Ok(Some(heard.unwrap_or(Heard::Nothing)))
    }

    /// Sends to the stream.
    pub(super) fn send(&mut self, bytes: &[u8], ids: Vec<Identifier>) -> nix::Result<OwnedFd> {
        let message = Transfer { ids, bytes }.encode(command::SEND);
        self.file.submit_fenced(&message, RING_SEND)
    }

    /// A name for a pipe. They are counted from 1, as other devices want it.
    pub(super) fn name_pipe(&mut self) -> u32 {
        loop {
            self.last_pipe = self.last_pipe.wrapping_add(1) & !GUEST_PIPE;
            let name = GUEST_PIPE | self.last_pipe;
            if self.last_pipe != 0 && !self.pipes.contains_key(&name) {
                return name;
            }
        }
    }

    /// Asks how memory of so many whole pages is made. Waits for the answer; `None` if it is refused.
    pub(super) fn ask(&mut self, size: u32) -> nix::Result<Option<ImageRequirements>> {
        self.query.write(0, &[0; size_of::<ImageRequirements>()]);
        let question = GetImageRequirements {
            header: header::<GetImageRequirements>(command::GET_IMAGE_REQUIREMENTS, RING_QUERY),
            width: PAGE_SIZE as u32,
            height: size / PAGE_SIZE as u32,
            format: BYTES,
            flags: 0,
        };
        let handle = self.query_ring.handle;
        self.file.submit(bytemuck::bytes_of(&question), RING_QUERY.into(), Some(handle))?;
        self.file.wait(handle)?;
        let answer = self.query.read(0, size_of::<ImageRequirements>());
        let answer: ImageRequirements = read(&answer).ok_or(Errno::EPROTO)?;
        Ok(Some(answer).filter(|answer| answer.size >= size.into()))
    }
}

fn header<T>(command: u8, ring: u8) -> Header {
    Header { command, ring, size: size_of::<T>() as u16, padding: 0 }
}
