//! A compositor that offers wp_security_context_v1 and nothing to draw on: it notes who its clients are.
//!
//! Not every compositor that the tests run knows the protocol. This one is strict: it stops listening as soon as the
//! protocol allows it to, though clients may still be in the queue.

use crate::{Arg, Event, message};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// The global's interface.
const MANAGER: &str = "wp_security_context_manager_v1";

/// What a client is tagged with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tag {
    /// `set_sandbox_engine`.
    pub engine: String,
    /// `set_app_id`.
    pub app_id: String,
    /// `set_instance_id`.
    pub instance_id: String,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The tag of each tagged client that was accepted.
    clients: Vec<Tag>,
    /// Listeners that it still accepts from.
    listeners: usize,
}

/// A running one. Its threads end with their clients, or with the test.
#[derive(Debug)]
pub struct Tagger {
    socket: PathBuf,
    seen: Arc<Mutex<Seen>>,
    _folder: TempDir,
}

impl Tagger {
    /// Starts one on a socket of its own.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = folder.path().join("wayland-1");
        let listener = UnixListener::bind(&socket).expect("a fresh folder");
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| Client::start(stream, &shared, true));
        });
        Self { socket, seen, _folder: folder }
    }

    /// Its Wayland socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The tag of each tagged client so far, in the order in which they were accepted.
    pub fn clients(&self) -> Vec<Tag> {
        self.seen.lock().expect("no thread panics").clients.clone()
    }

    /// How many listeners are still open.
    pub fn listeners(&self) -> usize {
        self.seen.lock().expect("no thread panics").listeners
    }
}

/// What a client's object is.
enum Object {
    Registry,
    Manager,
    /// Not committed yet.
    Context(Tag, OwnedFd, OwnedFd),
    Spent,
}

/// A client, in a thread of its own.
struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    objects: HashMap<u32, Object>,
    seen: Arc<Mutex<Seen>>,
    /// Whether it is offered the manager: tagged clients aren't.
    trusted: bool,
}

impl Client {
    fn start(stream: UnixStream, seen: &Arc<Mutex<Seen>>, trusted: bool) {
        let (seen, objects) = (seen.clone(), HashMap::new());
        let mut client =
            Self { stream, bytes: Vec::new(), fds: VecDeque::new(), objects, seen, trusted };
        thread::spawn(move || while client.turn().is_some() {});
    }

    /// Handles a request; `None` at the end.
    fn turn(&mut self) -> Option<()> {
        let request = self.request()?;
        if request.object == 1 {
            let id = request.uint(0);
            if request.opcode == 1 {
                self.objects.insert(id, Object::Registry);
                self.say(id, 0, &[Arg::Uint(1), Arg::Text("wl_compositor"), Arg::Uint(4)])?;
                if self.trusted {
                    self.say(id, 0, &[Arg::Uint(2), Arg::Text(MANAGER), Arg::Uint(1)])?;
                }
                return Some(());
            }
            self.say(id, 0, &[Arg::Uint(0)])?;
            return self.say(1, 1, &[Arg::Uint(id)]);
        }
        match (self.objects.remove(&request.object)?, request.opcode) {
            (Object::Registry, _) => {
                let id = request.body.len() - 4;
                self.objects.insert(request.uint(id), Object::Manager);
                self.objects.insert(request.object, Object::Registry);
            }
            (Object::Manager, 1) => {
                let (listen, close) = (self.fds.pop_front()?, self.fds.pop_front()?);
                let context = Object::Context(Tag::default(), listen, close);
                self.objects.insert(request.uint(0), context);
                self.objects.insert(request.object, Object::Manager);
            }
            (Object::Context(_, _, _) | Object::Spent | Object::Manager, 0) => {
                self.say(1, 1, &[Arg::Uint(request.object)])?;
            }
            (Object::Context(tag, listen, close), 4) => {
                let seen = self.seen.clone();
                thread::spawn(move || listen_for(&tag, listen.into(), &close, &seen));
                self.objects.insert(request.object, Object::Spent);
            }
            (Object::Context(mut tag, listen, close), opcode) => {
                let text = request.text(0).to_owned();
                match opcode {
                    1 => tag.engine = text,
                    2 => tag.app_id = text,
                    _ => tag.instance_id = text,
                }
                self.objects.insert(request.object, Object::Context(tag, listen, close));
            }
            (Object::Manager | Object::Spent, _) => return None,
        }
        Some(())
    }

    fn say(&mut self, object: u32, opcode: u16, args: &[Arg]) -> Option<()> {
        self.stream.write_all(&message(object, opcode, args)).ok()
    }

    fn request(&mut self) -> Option<Event> {
        loop {
            let word =
                |at: usize| Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?));
            if let (Some(object), Some(header)) = (word(0), word(4))
                && let Some(body) = self.bytes.get(8..(header >> 16) as usize)
            {
                let body = body.to_vec();
                self.bytes.drain(..8 + body.len());
                return Some(Event { object, opcode: header as u16, body });
            }
            let mut events = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            poll(&mut events, PollTimeout::NONE).ok()?;
            let mut bytes = [0; 4096];
            let count = wlproxy_unix::receive(&self.stream, &mut bytes, &mut self.fds).ok()?;
            if count == 0 {
                return None;
            }
            self.bytes.extend(&bytes[..count]);
        }
    }
}

/// Accepts until `close` hangs up.
fn listen_for(tag: &Tag, listener: UnixListener, close: &OwnedFd, seen: &Arc<Mutex<Seen>>) {
    let lock = || seen.lock().expect("no thread panics");
    lock().listeners += 1;
    loop {
        let mut events = [
            PollFd::new(close.as_fd(), PollFlags::empty()),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        let polled = poll(&mut events, PollTimeout::NONE);
        if polled.is_err() || events[0].any() != Some(false) {
            break;
        }
        if let Ok((stream, _)) = listener.accept() {
            lock().clients.push(tag.clone());
            Client::start(stream, seen, false);
        }
    }
    drop(listener);
    lock().listeners -= 1;
}
