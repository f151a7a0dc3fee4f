//! Pairs client contexts with compositor contexts: what a worker's request for a stream leads to.
//!
//! wlproxy holds a client's stream only while it waits for the compositor VM. Once both workers have their ends, bytes
//! go straight from one to the other.

use crate::accept::{Accept, Action, MAX_PENDING, MainId, Pulled};
use crate::config::Compositor;
use crate::device::opener::{OpenError, Opened, Role, Target};
use crate::device::{Kind, Side};
use calloop::generic::Generic;
use calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use wlproxy_protocol::accept::Token;

/// Most bytes read from a main context at a time: many answers of 24 bytes.
const READ: usize = 4096;

/// Most bytes of records that wait for room in a main context's socket: twice the longest records (100 bytes) of all
/// clients that can wait. If there are more, nobody reads them.
const MAX_UNSENT: usize = 2 * 100 * MAX_PENDING;

/// How soon they are tried again. The compositor VM answers what it reads, so that this is seldom needed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What an event loop's data must have for [`Links`] to live in it.
pub trait HasLinks {
    /// The links.
    fn links(&mut self) -> &mut Links<Self>
    where
        Self: Sized + 'static;
}

/// A client's stream that waits, watched for its hangup.
#[derive(Debug)]
struct Waiting {
    stream: Rc<UnixStream>,
    watch: RegistrationToken,
}

/// wlproxy's end of a main context, or of what may become one.
#[derive(Debug)]
struct Main {
    id: MainId,
    stream: Rc<UnixStream>,
    watch: RegistrationToken,
    /// What is to be written to it.
    unsent: Vec<u8>,
}

/// All links that are being made. `D` is the event loop's data.
#[derive(Debug)]
pub struct Links<D: 'static> {
    compositor: Compositor,
    handle: LoopHandle<'static, D>,
    accept: Accept<Waiting>,
    /// Two at most: `accept` sees to that.
    mains: Vec<Main>,
    connections: u64,
    /// Client VMs that have had clients, by their numbers.
    vms: Vec<String>,
}

impl<D: HasLinks + 'static> Links<D> {
    /// No links yet. `device` is the compositor VM's.
    pub fn new(compositor: Compositor, device: Kind, handle: LoopHandle<'static, D>) -> Self {
        let accept = Accept::new(device.ways());
        Self { compositor, handle, accept, mains: Vec::new(), connections: 0, vms: Vec::new() }
    }

    /// Carries out what the worker of `vm` asks for.
    pub fn open(&mut self, vm: &str, side: Side, target: Target) -> Result<Opened, OpenError> {
        let opened = match (side, target) {
            (Side::Client, Target::Default) => self.open_link(vm),
            (Side::Compositor, Target::Default) => self.open_main(vm),
            (Side::Compositor, Target::Accepted(token)) => self.pull(vm, token),
            (Side::Compositor, Target::Channel(channel)) => self.pull_channel(vm, channel),
            (Side::Client, Target::Accepted(_) | Target::Channel(_)) => {
                warn!(vm, "a client VM may not open accepted streams: refused");
                Err(OpenError::Unknown)
            }
        };
        self.settle();
        opened
    }

    /// Lets time pass; returns when to be called again at the latest.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        self.accept.handle_time(now);
        self.settle();
        let unsent = self.mains.iter().any(|main| !main.unsent.is_empty());
        let retry = unsent.then(|| now + RETRY_PAUSE);
        self.accept.next_deadline().into_iter().chain(retry).min()
    }

    /// When [`Links::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.accept.next_deadline()
    }

    /// The compositor VM's worker ended, and its main context with it.
    pub fn compositor_worker_ended(&mut self) {
        for main in self.mains.drain(..) {
            self.accept.handle_main_end(main.id);
            self.handle.remove(main.watch);
        }
    }

    /// Clients that wait for the compositor VM.
    pub fn pending(&self) -> usize {
        self.accept.pending()
    }

    /// Whether new clients find a compositor: for one on the host, that is known only when they come.
    pub fn is_ready(&self) -> bool {
        matches!(self.compositor, Compositor::Socket(_)) || self.accept.is_ready()
    }

    fn open_link(&mut self, vm: &str) -> Result<Opened, OpenError> {
        self.connections += 1;
        let connection = self.connections;
        let stream = match &self.compositor {
            Compositor::Socket(path) => wlproxy_unix::connect(path).map_err(|error| {
                warn!(vm, connection, %error, path = %path.display(), "can't reach the compositor");
                OpenError::Failed
            })?,
            Compositor::Vm(_) => {
                let (ours, theirs) = pair(vm)?;
                self.wait(vm, connection, ours)?;
                theirs
            }
        };
        info!(vm, connection, "a client arrived");
        Ok(Opened { stream, role: Role::Link { connection } })
    }

    /// Lets a client wait for the compositor VM.
    fn wait(&mut self, vm: &str, connection: u64, stream: UnixStream) -> Result<(), OpenError> {
        let stream = Rc::new(stream);
        // Bytes may wait there, they are not ours; a hangup is told without being asked for.
        let source = Generic::new(stream.clone(), Interest::EMPTY, Mode::Level);
        let watch = self.handle.insert_source(source, move |_, _, data| {
            let links = data.links();
            links.accept.handle_hangup(connection);
            links.settle();
            Ok(PostAction::Continue)
        });
        let watch = watch.map_err(|error| {
            warn!(vm, connection, %error, "can't watch a client");
            OpenError::Failed
        })?;
        self.accept
            .handle_client(vm, connection, Waiting { stream, watch }, Instant::now())
            .map_err(|error| {
                warn!(vm, connection, %error, "client refused");
                self.handle.remove(watch);
                OpenError::Limit
            })
    }

    fn open_main(&mut self, vm: &str) -> Result<Opened, OpenError> {
        let (ours, theirs) = pair(vm)?;
        let failed = |error: &dyn std::fmt::Display| {
            warn!(vm, %error, "can't watch the main context");
            OpenError::Failed
        };
        ours.set_nonblocking(true).map_err(|error| failed(&error))?;
        let stream = Rc::new(ours);
        let id = self.accept.handle_main();
        let source = Generic::new(stream.clone(), Interest::READ, Mode::Level);
        let watch = self.handle.insert_source(source, move |_, _, data| {
            data.links().read_main(id);
            Ok(PostAction::Continue)
        });
        let watch = watch.map_err(|error| {
            self.accept.handle_main_end(id);
            failed(&error)
        })?;
        self.mains.push(Main { id, stream, watch, unsent: Vec::new() });
        info!(vm, "the compositor VM opened a main context");
        Ok(Opened { stream: theirs, role: Role::Main })
    }

    fn pull_channel(&mut self, vm: &str, channel: u32) -> Result<Opened, OpenError> {
        match self.accept.token_of(channel) {
            Some(token) => self.pull(vm, token),
            None if self.accept.channel_has_left(channel) => {
                info!(vm, channel, "the client has left meanwhile");
                Err(OpenError::Unknown)
            }
            None => {
                warn!(vm, channel, "a wrong, old or used channel type: refused");
                Err(OpenError::Unknown)
            }
        }
    }

    fn pull(&mut self, vm: &str, token: Token) -> Result<Opened, OpenError> {
        let Some(Pulled { vm: client, connection, stream }) = self.accept.handle_pull(token) else {
            if self.accept.has_left(token) {
                info!(vm, ?token, "the client has left meanwhile");
            } else {
                warn!(vm, ?token, "a wrong, old or used token: refused");
            }
            return Err(OpenError::Unknown);
        };
        info!(vm = client, connection, "the compositor VM took the client");
        self.handle.remove(stream.watch);
        let stream = Rc::try_unwrap(stream.stream).or_else(|shared| shared.try_clone());
        let stream = stream.map_err(|error| {
            warn!(vm = client, connection, %error, "can't hand out the client's stream");
            OpenError::Failed
        })?;
        let vm = self.number(client);
        Ok(Opened { stream, role: Role::Accepted { connection, vm, token } })
    }

    /// The number of a client VM.
    fn number(&mut self, vm: String) -> u32 {
        let known = self.vms.iter().position(|other| *other == vm);
        let number = known.unwrap_or(self.vms.len());
        if known.is_none() {
            self.vms.push(vm);
        }
        // There are at most as many as in the configuration.
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    fn read_main(&mut self, id: MainId) {
        let Some(main) = self.mains.iter().find(|main| main.id == id) else { return };
        let mut bytes = [0; READ];
        // read(2) drops fds that come along, so none can pile up here.
        match (&*main.stream).read(&mut bytes) {
            Ok(0) => self.main_is_over(id, "it was closed"),
            Ok(length) => self.accept.handle_main_bytes(id, &bytes[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => self.main_is_over(id, &error.to_string()),
        }
        self.settle();
    }

    /// Carries out what the state machine decided.
    fn settle(&mut self) {
        while let Some(action) = self.accept.poll_action(fresh_token) {
            match action {
                Action::Send { main: id, bytes } => {
                    if let Some(main) = self.mains.iter_mut().find(|main| main.id == id) {
                        main.unsent.extend(bytes);
                    }
                }
                Action::EndMain { main, why } => {
                    warn!(%why, "a main context ends");
                    self.drop_main(main);
                }
                Action::Close { vm, connection, stream, why } => {
                    info!(vm, connection, %why, "client closed");
                    self.handle.remove(stream.watch);
                }
                Action::Dropped { connection, why } => {
                    info!(connection, %why, "the compositor VM dropped a client that it had taken");
                }
            }
        }
        self.send();
    }

    /// Writes all records that are due together: each write takes room of its own in the socket, however short it is.
    fn send(&mut self) {
        let mut over = Vec::new();
        for main in self.mains.iter_mut().filter(|main| !main.unsent.is_empty()) {
            match (&*main.stream).write(&main.unsent) {
                Ok(written) => drop(main.unsent.drain(..written)),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => over.push((main.id, error.to_string())),
            }
            if main.unsent.len() > MAX_UNSENT {
                over.push((main.id, "it doesn't read its records".to_owned()));
            }
        }
        over.into_iter().for_each(|(id, why)| self.main_is_over(id, &why));
    }

    fn main_is_over(&mut self, id: MainId, why: &str) {
        debug!(pending = self.accept.pending(), "clients wait for the next main context");
        info!(why, "a main context is gone");
        self.accept.handle_main_end(id);
        self.drop_main(id);
    }

    fn drop_main(&mut self, id: MainId) {
        for main in self.mains.extract_if(.., |main| main.id == id) {
            self.handle.remove(main.watch);
        }
    }
}

fn pair(vm: &str) -> Result<(UnixStream, UnixStream), OpenError> {
    UnixStream::pair().map_err(|error| {
        warn!(vm, %error, "can't make a socket pair");
        OpenError::Failed
    })
}

fn fresh_token() -> Token {
    loop {
        let mut bits = [0; Token::LEN];
        getrandom::fill(&mut bits)
            .expect("Linux has random bits for every process, once it has booted");
        let token = Token::new(bits);
        if token.is_distinct() {
            return token;
        }
    }
}

#[cfg(test)]
mod tests;
