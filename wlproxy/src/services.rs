//! Unix sockets where others ask: one question, one answer, and whoever is slow waits alone.
//!
//! Lives in wlproxy's event loop, which never waits for an asker: what is read, written and kept of each is bounded, and
//! so is the time that it has.

use crate::sockets::Listening;
use anyhow::{Context as _, Result};
use calloop::generic::Generic;
use calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};

/// Longest question, in bytes: what HTTP servers usually take of headers.
const MAX_QUESTION: usize = 8 * 1024;

/// How long an asker may take to ask and to read its answer: many times what one takes that does nothing else.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Most askers at a time, each with an answer of a MiB at most. When another one comes, the one that has been
/// there longest goes: only who doesn't ask or doesn't read stays longer than a moment.
const MAX_ASKERS: usize = 32;

/// Most askers that are accepted in one go, before other work gets its turn.
const MAX_ACCEPTED: usize = 8;

/// How long nobody is accepted after one couldn't be: the socket stays readable meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The control socket: see [`crate::ask`].
    Control,
    /// The metrics socket: see [`crate::metrics`].
    Metrics,
}

/// What an event loop's data must have for [`Services`] to live in it.
pub trait HasServices: Sized + 'static {
    /// The services.
    fn services(&mut self) -> &mut Services<Self>;

    /// The answer to a question, or `None` if it isn't whole yet. An empty one closes the connection at once; `asker` may
    /// have been given to somebody else.
    fn answer(&mut self, service: Service, question: &[u8], asker: &UnixStream) -> Option<Vec<u8>>;
}

/// A socket that is listened to.
#[derive(Debug)]
struct Door {
    watch: RegistrationToken,
    /// Accepting failed, and hasn't succeeded since.
    fails: bool,
    /// It isn't watched until then.
    rests: Option<Instant>,
}

#[derive(Debug)]
struct Asker {
    id: u64,
    service: Service,
    stream: Rc<UnixStream>,
    watch: RegistrationToken,
    until: Instant,
    question: Vec<u8>,
    /// No more of the question comes: whoever asks may end its side as soon as it has asked.
    ended: bool,
    /// What is still to be written. While there is nothing, the question isn't whole.
    answer: Vec<u8>,
}

/// All sockets where others ask, and those who do. `D` is the event loop's data.
#[derive(Debug)]
pub struct Services<D: 'static> {
    handle: LoopHandle<'static, D>,
    doors: Vec<Door>,
    /// The one that has been there longest first.
    askers: Vec<Asker>,
    last: u64,
}

impl<D: HasServices> Services<D> {
    /// None yet.
    pub fn new(handle: LoopHandle<'static, D>) -> Self {
        Self { handle, doors: Vec::new(), askers: Vec::new(), last: 0 }
    }

    /// Answers at this socket from now on.
    pub fn listen(&mut self, service: Service, listening: Listening) -> Result<()> {
        listening.listener().set_nonblocking(true)?;
        let index = self.doors.len();
        let source = Generic::new(listening, Interest::READ, Mode::Level);
        let inserted = self.handle.insert_source(source, move |_, listening, data| {
            Ok(data.services().accept(index, service, listening.listener()))
        });
        let watch = inserted.map_err(|error| error.error).context("can't watch a socket")?;
        self.doors.push(Door { watch, fails: false, rests: None });
        Ok(())
    }

    /// Lets time pass; returns when to be called again at the latest.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let late = self.askers.extract_if(.., |asker| asker.until <= now);
        for Asker { watch, service, .. } in late {
            debug!(?service, "somebody took too long to ask or to read");
            self.handle.remove(watch);
        }
        for door in self.doors.iter_mut().filter(|door| door.rests.is_some_and(|at| at <= now)) {
            door.rests = None;
            if let Err(error) = self.handle.enable(&door.watch) {
                error!(%error, "can't watch a socket any more");
            }
        }
        let rests = self.doors.iter().filter_map(|door| door.rests);
        self.askers.iter().map(|asker| asker.until).chain(rests).min()
    }

    /// Takes those who wait, or lets the socket rest if somebody can't be accepted, for want of fds.
    fn accept(&mut self, index: usize, service: Service, listener: &UnixListener) -> PostAction {
        let accepted = self.accept_some(service, listener);
        let door = &mut self.doors[index];
        let failed = std::mem::replace(&mut door.fails, accepted.is_err());
        let Err(error) = accepted else { return PostAction::Continue };
        if !failed {
            warn!(%error, ?service, "can't accept; trying again and again");
        }
        door.rests = Some(Instant::now() + ACCEPT_PAUSE);
        PostAction::Disable
    }

    fn accept_some(&mut self, service: Service, listener: &UnixListener) -> io::Result<()> {
        for _ in 0..MAX_ACCEPTED {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            if self.askers.len() >= MAX_ASKERS {
                self.handle.remove(self.askers.remove(0).watch);
            }
            self.last += 1;
            let (id, stream) = (self.last, Rc::new(stream));
            let watch = self.watch(id, &stream)?;
            self.askers.push(Asker {
                id,
                service,
                stream,
                watch,
                until: Instant::now() + PATIENCE,
                question: Vec::new(),
                ended: false,
                answer: Vec::new(),
            });
        }
        Ok(())
    }

    /// Watches for both directions, and for changes only: so nothing is to be said to the event loop when a question is
    /// whole. Each time as much is read or written as can be.
    fn watch(&self, id: u64, stream: &Rc<UnixStream>) -> io::Result<RegistrationToken> {
        let source = Generic::new(stream.clone(), Interest::BOTH, Mode::Edge);
        let inserted = self.handle.insert_source(source, move |_, _, data| {
            go_on(data, id);
            Ok(PostAction::Continue)
        });
        inserted.map_err(|error| io::Error::other(error.error))
    }

    /// Puts an asker back to its place.
    fn keep(&mut self, asker: Asker) {
        let at = self.askers.partition_point(|other| other.id < asker.id);
        self.askers.insert(at, asker);
    }
}

/// An asker has asked, or reads.
fn go_on<D: HasServices>(data: &mut D, id: u64) {
    let services = data.services();
    let Some(at) = services.askers.iter().position(|asker| asker.id == id) else { return };
    let mut asker = services.askers.remove(at);
    if !asker.answer.is_empty() {
        return match asker.write() {
            Written::Some => data.services().keep(asker),
            Written::All => data.services().handle.remove(asker.watch),
        };
    }
    if !asker.read() {
        return data.services().handle.remove(asker.watch);
    }
    let answer = data.answer(asker.service, &asker.question, &asker.stream);
    let services = data.services();
    match answer {
        None if asker.ended || asker.question.len() >= MAX_QUESTION => {
            services.handle.remove(asker.watch)
        }
        None => services.keep(asker),
        Some(answer) => {
            asker.answer = answer;
            match asker.write() {
                Written::Some => services.keep(asker),
                Written::All => services.handle.remove(asker.watch),
            }
        }
    }
}

/// What became of an answer.
enum Written {
    /// There is more of it.
    Some,
    /// All is written, or nobody is there to read it.
    All,
}

impl Asker {
    /// Reads what there is. `false` if that is no question and nothing will come.
    fn read(&mut self) -> bool {
        let mut bytes = [0; MAX_QUESTION];
        while self.question.len() < MAX_QUESTION {
            let room = MAX_QUESTION - self.question.len();
            match (&*self.stream).read(&mut bytes[..room]) {
                Ok(0) => {
                    self.ended = true;
                    return !self.question.is_empty();
                }
                Ok(length) => self.question.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Writes what the socket takes.
    fn write(&mut self) -> Written {
        while !self.answer.is_empty() {
            match (&*self.stream).write(&self.answer) {
                Ok(length) => drop(self.answer.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Some,
                Err(error) => {
                    debug!(%error, service = ?self.service, "somebody didn't want the answer");
                    return Written::All;
                }
            }
        }
        Written::All
    }
}

#[cfg(test)]
mod tests;
