//! A client's connection, with no more between it and the socket than there has to be.
//!
//! It makes the system calls that libwayland makes for `wl_display_roundtrip`: a sendmsg, a poll, a recvmsg. For what has
//! no pixels, and for many clients at once; windows are libwayland's.

use crate::opcode;
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use wlproxy_protocol::limits::MAX_EVENT;
use wlproxy_protocol::wayland::wire::{self, HEADER};
use wlproxy_protocol::wayland::{Arg, Message, WL_DISPLAY};
use wlproxy_unix::{Stream, receive};

/// How long a client waits for anything. Longer than any frame takes, on any path and machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that are received at once. libwayland's buffers grow; this one is there from the start.
const ROOM: usize = 64 * 1024;

/// The same of a client that does nothing: enough for the events of a frame.
const LITTLE_ROOM: usize = 1024;

/// The first id that isn't the display's or the registry's.
const FIRST_ID: u32 = REGISTRY + 1;

/// The id of the registry.
const REGISTRY: u32 = WL_DISPLAY + 1;

/// What the compositor said, as far as anybody here wants to know.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Name, interface and version of each global.
    pub(crate) globals: Vec<(u32, CString, u32)>,
    /// `wl_pointer.motion`, how often.
    pub(crate) motions: u64,
    /// The newest selection: 0 if it is none.
    pub(crate) selection: Option<u32>,
    /// Where somebody wants what this client has copied.
    pub(crate) asked: VecDeque<OwnedFd>,
    /// Callbacks that are done and whose ids are free again.
    free: Vec<u32>,
    /// The callback that was done last.
    done: u32,
}

/// What objects are, as far as their events matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Callback,
    Pointer,
    DataDevice,
    DataSource,
    Other,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    requests: Vec<u8>,
    /// fds that go with `requests`.
    fds: Vec<OwnedFd>,
    room: Vec<u8>,
    /// Bytes of `room` that are the start of an event.
    rest: usize,
    received_fds: VecDeque<OwnedFd>,
    /// By id, from the display's on.
    kinds: Vec<Kind>,
    pub(crate) heard: Heard,
}

impl Connection {
    /// Connects and asks for the registry.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .and_then(Stream::new)
            .with_context(|| format!("can't connect to {}", socket.display()))?;
        let mut connection = Self {
            stream,
            requests: Vec::new(),
            fds: Vec::new(),
            room: vec![0; ROOM],
            rest: 0,
            received_fds: VecDeque::new(),
            kinds: vec![Kind::Other; FIRST_ID as usize],
            heard: Heard::default(),
        };
        connection.push(WL_DISPLAY, opcode::WL_DISPLAY_GET_REGISTRY, &[Arg::NewId(REGISTRY)]);
        connection.flush()?;
        Ok(connection)
    }

    /// Adds a request, to be sent by the next [`Connection::flush`].
    pub(crate) fn push(&mut self, object: u32, opcode: u16, args: &[Arg<'_>]) {
        wire::encode(object, opcode, args, &mut self.requests);
    }

    /// Adds an fd that goes with the request that was added last.
    pub(crate) fn push_fd(&mut self, fd: OwnedFd) {
        self.fds.push(fd);
    }

    /// An id for an object whose events nobody cares for.
    pub(crate) fn id(&mut self) -> u32 {
        self.id_of(Kind::Other)
    }

    /// An id for a wl_pointer.
    pub(crate) fn pointer_id(&mut self) -> u32 {
        self.id_of(Kind::Pointer)
    }

    /// An id for a wl_data_device.
    pub(crate) fn data_device_id(&mut self) -> u32 {
        self.id_of(Kind::DataDevice)
    }

    /// An id for a wl_data_source.
    pub(crate) fn data_source_id(&mut self) -> u32 {
        self.id_of(Kind::DataSource)
    }

    fn id_of(&mut self, kind: Kind) -> u32 {
        self.kinds.push(kind);
        self.kinds.len() as u32 - 1
    }

    /// Binds a global in `version`; its id. Only after a [`Connection::sync`].
    pub(crate) fn bind(&mut self, interface: &CStr, version: u32) -> Result<u32> {
        let global = self.heard.globals.iter().find(|(_, name, _)| name.as_c_str() == interface);
        let (name, ..) = *global.with_context(|| format!("the compositor has no {interface:?}"))?;
        let id = self.id();
        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version), Arg::NewId(id)];
        self.push(REGISTRY, opcode::WL_REGISTRY_BIND, &args);
        Ok(id)
    }

    /// Adds a `wl_display.sync`; its callback.
    pub(crate) fn push_sync(&mut self) -> u32 {
        let callback = match self.heard.free.pop() {
            Some(id) => id,
            None => self.id_of(Kind::Callback),
        };
        self.push(WL_DISPLAY, opcode::WL_DISPLAY_SYNC, &[Arg::NewId(callback)]);
        callback
    }

    /// Sends what was added, and waits until all that was ever sent was processed.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let callback = self.push_sync();
        self.flush()?;
        self.wait_for(callback)
    }

    /// Waits until a callback is done and gone, so that its id may be used again.
    pub(crate) fn wait_for(&mut self, callback: u32) -> Result<()> {
        self.wait(|heard| heard.done == callback && heard.free.last() == Some(&callback))
    }

    /// Sends what was added. Hears the compositor while that has no room.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream.queue(&self.requests, self.fds.drain(..));
        self.requests.clear();
        while !self.stream.flush().context("can't send to the compositor")? {
            self.poll(PollFlags::POLLIN | PollFlags::POLLOUT)?;
            self.hear()?;
        }
        Ok(())
    }

    /// Sends what was added, and hears nothing. `false` if the compositor takes no more of it for so long.
    pub(crate) fn flush_unheard(&mut self, patience: Duration) -> Result<bool> {
        self.stream.queue(&self.requests, self.fds.drain(..));
        self.requests.clear();
        let patience = PollTimeout::try_from(patience)?;
        while !self.stream.flush().context("can't send to the compositor")? {
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, patience) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("can't wait for the compositor"),
            }
        }
        Ok(true)
    }

    /// Gives back memory that only somebody who has much to say needs.
    pub(crate) fn shrink(&mut self) {
        self.room.truncate(LITTLE_ROOM.max(self.rest));
        self.room.shrink_to_fit();
    }

    /// Hears the compositor until `enough`.
    pub(crate) fn wait(&mut self, enough: impl Fn(&Heard) -> bool) -> Result<()> {
        while !enough(&self.heard) {
            self.poll(PollFlags::POLLIN)?;
            self.hear()?;
        }
        Ok(())
    }

    /// The same, for what need never happen.
    pub(crate) fn wait_forever(&mut self, enough: impl Fn(&Heard) -> bool) -> Result<()> {
        while !enough(&self.heard) {
            self.poll_for(PollFlags::POLLIN, PollTimeout::NONE)?;
            self.hear()?;
        }
        Ok(())
    }

    fn poll(&self, events: PollFlags) -> Result<()> {
        self.poll_for(events, PollTimeout::try_from(PATIENCE).expect("it fits"))
    }

    fn poll_for(&self, events: PollFlags, timeout: PollTimeout) -> Result<()> {
        loop {
            match poll(&mut [PollFd::new(self.stream.as_fd(), events)], timeout) {
                Ok(0) => bail!("the compositor didn't answer within {PATIENCE:?}"),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("can't wait for the compositor"),
            }
        }
    }

    /// Receives once.
    fn hear(&mut self) -> Result<()> {
        let free = &mut self.room[self.rest..];
        let count = match receive(&self.stream, free, &mut self.received_fds) {
            Ok(0) => bail!("the connection was closed"),
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno).context("can't receive from the compositor"),
        };
        let end = self.rest + count;
        let mut bytes = &self.room[..end];
        while let Some(event) = wire::split(&mut bytes, MAX_EVENT)
            .map_err(|(object, error)| anyhow::anyhow!("event of object {object}: {error}"))?
        {
            handle(event, &mut self.kinds, &mut self.received_fds, &mut self.heard)?;
        }
        let begin = end - bytes.len();
        self.room.copy_within(begin..end, 0);
        self.rest = end - begin;
        Ok(())
    }
}

fn handle(
    event: Message<'_>,
    kinds: &mut [Kind],
    fds: &mut VecDeque<OwnedFd>,
    heard: &mut Heard,
) -> Result<()> {
    let word = |at: usize| {
        let bytes = event.bytes.get(HEADER + at..HEADER + at + 4);
        bytes.map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four")))
    };
    let text = |at: usize| {
        let bytes = event.bytes.get(HEADER + at + 4..).unwrap_or_default();
        CStr::from_bytes_until_nul(bytes).unwrap_or_default().to_owned()
    };
    let kind = kinds.get(event.object as usize).copied().unwrap_or(Kind::Other);
    match (event.object, kind, event.opcode) {
        (WL_DISPLAY, _, opcode::WL_DISPLAY_ERROR) => {
            bail!("error {} of object {}: {:?}", word(4), word(0), text(8))
        }
        (WL_DISPLAY, _, opcode::WL_DISPLAY_DELETE_ID)
            if kinds.get(word(0) as usize) == Some(&Kind::Callback) =>
        {
            heard.free.push(word(0));
        }
        (REGISTRY, _, opcode::WL_REGISTRY_GLOBAL) => {
            let interface = text(4);
            let version = word(8 + (interface.count_bytes() + 1).next_multiple_of(4));
            heard.globals.push((word(0), interface, version));
        }
        (id, Kind::Callback, opcode::WL_CALLBACK_DONE) => heard.done = id,
        (_, Kind::Pointer, opcode::WL_POINTER_MOTION) => heard.motions += 1,
        (_, Kind::DataDevice, opcode::WL_DATA_DEVICE_SELECTION) => heard.selection = Some(word(0)),
        (_, Kind::DataSource, opcode::WL_DATA_SOURCE_SEND) => {
            let fd = fds.pop_front();
            ensure!(fd.is_some(), "wl_data_source.send came without its fd");
            heard.asked.extend(fd);
        }
        _ => {}
    }
    Ok(())
}
