//! A client that says any bytes it likes. Knows nothing of the product's own codec, on purpose.

use crate::{Display, PATIENCE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use wlproxy_unix::{Read, Stream};

/// The display's id (Wayland).
const DISPLAY: u32 = 1;

/// One argument of a request.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// An unsigned number, an object or a new id.
    Uint(u32),
    /// A number.
    Int(i32),
    /// A string, without its NUL.
    Text(&'a str),
    /// Bytes behind a length that may be a lie; padded to four.
    Counted(u32, &'a [u8]),
}

/// A request as bytes.
pub fn message(object: u32, opcode: u16, args: &[Arg]) -> Vec<u8> {
    let mut bytes = [object.to_ne_bytes(), [0; 4]].concat();
    for arg in args {
        match *arg {
            Arg::Uint(number) => bytes.extend(number.to_ne_bytes()),
            Arg::Int(number) => bytes.extend(number.to_ne_bytes()),
            Arg::Text(text) => {
                counted(&mut bytes, text.len() as u32 + 1, &[text.as_bytes(), &[0]].concat())
            }
            Arg::Counted(length, content) => counted(&mut bytes, length, content),
        }
    }
    let header = (bytes.len() as u32) << 16 | u32::from(opcode);
    bytes[4..8].copy_from_slice(&header.to_ne_bytes());
    bytes
}

fn counted(bytes: &mut Vec<u8>, length: u32, content: &[u8]) {
    bytes.extend(length.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who says it.
    pub object: u32,
    /// Which of its events.
    pub opcode: u16,
    /// The arguments.
    pub body: Vec<u8>,
}

impl Event {
    /// The number at `at` bytes from the start of the arguments.
    pub fn uint(&self, at: usize) -> u32 {
        self.body
            .get(at..at + 4)
            .map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four")))
    }

    /// The string whose length is at `at`.
    pub fn text(&self, at: usize) -> &str {
        let length = self.uint(at) as usize;
        let text = self.body.get(at + 4..at + 3 + length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// Why the compositor, or somebody in its place, ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The object that the error names.
    pub object: u32,
    /// The object's error code.
    pub code: u32,
    /// In words.
    pub message: String,
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: Stream,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    next_id: u32,
    callback: Option<u32>,
    registry: u32,
    globals: Vec<(u32, String, u32)>,
}

impl Raw {
    /// Connects and asks for the registry.
    pub fn connect(display: &Display) -> Self {
        Self::try_connect(display).expect("a listening socket")
    }

    /// The same; `None` if nobody listens there.
    pub fn try_connect(display: &Display) -> Option<Self> {
        let stream = Stream::new(UnixStream::connect(&display.socket).ok()?).ok()?;
        let (bytes, fds) = (Vec::new(), VecDeque::new());
        let mut raw = Self {
            stream,
            bytes,
            fds,
            next_id: DISPLAY,
            callback: None,
            registry: 0,
            globals: Vec::new(),
        };
        raw.registry = raw.id();
        raw.send(&message(DISPLAY, 1, &[Arg::Uint(raw.registry)]), []);
        Some(raw)
    }

    /// The next id.
    pub fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends bytes, with fds that go with the first of them. That the other side has closed shows when reading.
    pub fn send(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = OwnedFd>) {
        self.stream.queue(bytes, fds);
        let _ = self.stream.flush();
    }

    /// Whether the socket hasn't taken all that was sent.
    pub fn is_held_back(&self) -> bool {
        self.stream.queued() > 0
    }

    /// Bytes that it hasn't taken.
    pub fn waiting(&self) -> usize {
        self.stream.queued()
    }

    /// Waits until it takes more, at most until `deadline`.
    pub fn wait_for_room(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).expect("a short time");
        let _ = poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)], timeout);
        let _ = self.stream.flush();
    }

    /// Waits until everything sent was handled.
    ///
    /// # Panics
    /// If the connection ends.
    pub fn sync(&mut self) {
        self.try_sync().expect("the connection stays open");
    }

    /// The same; `None` if the connection ends without an error.
    pub fn try_sync(&mut self) -> Option<()> {
        let callback = match self.callback {
            Some(id) => id,
            None => self.id(),
        };
        self.callback = Some(callback);
        self.send(&message(DISPLAY, 0, &[Arg::Uint(callback)]), []);
        loop {
            let event = self.event()?;
            assert!((event.object, event.opcode) != (DISPLAY, 0), "{:?}", fault(&event));
            // Until delete_id, so that the next sync may use the id again.
            if (event.object, event.opcode) == (DISPLAY, 1) && event.uint(0) == callback {
                return Some(());
            }
        }
    }

    /// Reads until an object's event; the error, if there was one, if the connection ends before that.
    pub fn until(&mut self, object: u32, opcode: u16) -> Result<Event, Option<Fault>> {
        while let Some(event) = self.event() {
            match (event.object, event.opcode) {
                (DISPLAY, 0) => return Err(Some(fault(&event))),
                heard if heard == (object, opcode) => return Ok(event),
                _ => {}
            }
        }
        Err(None)
    }

    /// Binds a global in `version`, after a [`Raw::sync`]; its id.
    pub fn bind(&mut self, interface: &str, version: u32) -> u32 {
        let global = self.globals.iter().find(|(_, name, _)| name == interface);
        let name = global.unwrap_or_else(|| panic!("the compositor offers no {interface}")).0;
        let id = self.id();
        let args = [Arg::Uint(name), Arg::Text(interface), Arg::Uint(version), Arg::Uint(id)];
        self.send(&message(self.registry, 0, &args), []);
        id
    }

    /// The same in the newest version up to `version` that is offered; `None` if it isn't.
    pub fn try_bind(&mut self, interface: &str, version: u32) -> Option<u32> {
        let global = self.globals.iter().find(|(_, name, _)| name == interface)?;
        Some(self.bind(interface, version.min(global.2)))
    }

    /// Name, interface and version of each global heard of.
    pub fn globals(&self) -> &[(u32, String, u32)] {
        &self.globals
    }

    /// The next fd that came along with events.
    pub fn fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Reads until the connection ends; the error, if there was one.
    pub fn end(&mut self) -> Option<Fault> {
        let mut found = None;
        while let Some(event) = self.event() {
            if (event.object, event.opcode) == (DISPLAY, 0) {
                found = Some(fault(&event));
            }
        }
        found
    }

    /// The next event; `None` when the connection has ended.
    ///
    /// # Panics
    /// If none comes in time.
    pub fn event(&mut self) -> Option<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.parse() {
                if event.object == self.registry && event.opcode == 0 {
                    let interface = event.text(4).to_owned();
                    let version = event.uint(4 + 4 + (interface.len() + 1).next_multiple_of(4));
                    self.globals.push((event.uint(0), interface, version));
                }
                return Some(event);
            }
            match self.stream.read(&mut self.bytes, &mut self.fds, 65_536) {
                Ok(Read::Bytes(_)) => continue,
                Ok(Read::Eof) | Err(_) => return None,
                Ok(Read::WouldBlock) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} in vain for an event");
            let mut events = PollFlags::POLLIN;
            if self.stream.queued() > 0 {
                events |= PollFlags::POLLOUT;
            }
            let timeout = PollTimeout::try_from(left).expect("a short time");
            let _ = poll(&mut [PollFd::new(self.stream.as_fd(), events)], timeout);
            let _ = self.stream.flush();
        }
    }

    fn parse(&mut self) -> Option<Event> {
        let word =
            |at: usize| Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?));
        let (object, header) = (word(0)?, word(4)?);
        let size = (header >> 16) as usize;
        assert!(size >= 8, "an event of {size} bytes");
        let body = self.bytes.get(8..size)?.to_vec();
        self.bytes.drain(..size);
        Some(Event { object, opcode: header as u16, body })
    }
}

fn fault(event: &Event) -> Fault {
    Fault { object: event.uint(0), code: event.uint(4), message: event.text(8).to_owned() }
}
