//! A VM that the test itself plays: a driver on its device, and nobody who would behave in between.

use crate::{PATIENCE, until};
use guest_agent::channel::process::{Options, ProcessChannel};
use guest_agent::channel::{Allocation, Arrived, Channel, Error, PipeEnd, Received, Sent, VfdId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;
use wlproxy_protocol::accept::{Token, Way};

/// A VM on a `process` channel; [`Desk::puppet`](crate::Desk::puppet) makes it. Dropping it ends the VM.
pub struct Puppet {
    name: String,
    /// `None` only while a call is under way.
    channel: Option<ProcessChannel>,
}

impl Puppet {
    /// Starts the VM whose device is at `socket`, with a driver like `options`.
    pub(crate) fn start(socket: &Path, options: Options) -> Self {
        let name = socket.file_stem().expect("NAME.sock").to_string_lossy().into_owned();
        let mut last = None;
        let channel = until(&format!("the device of {name}"), || {
            let socket = socket.to_owned();
            match within(&name, "the start", move || ProcessChannel::connect(&socket, options)) {
                Ok(channel) => Some(channel),
                // wlproxy may have to make the socket first.
                Err(Error::Lost(why)) => {
                    if last.replace(why.clone()).as_ref() != Some(&why) {
                        eprintln!("{name} doesn't start: {why}");
                    }
                    None
                }
                Err(error) => panic!("{name} doesn't start: {error}"),
            }
        });
        Self { name, channel: Some(channel) }
    }

    /// Does something with the channel that waits for the device.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn call<T: Send + 'static>(
        &mut self,
        what: &str,
        call: impl FnOnce(&mut ProcessChannel) -> T + Send + 'static,
    ) -> T {
        let mut channel = self.channel.take().expect("calls don't nest");
        let (channel, result) = within(&self.name, what, move || {
            let result = call(&mut channel);
            (channel, result)
        });
        self.channel = Some(channel);
        result
    }

    /// The channel, for what doesn't wait.
    pub fn channel(&mut self) -> &mut ProcessChannel {
        self.channel.as_mut().expect("calls don't nest")
    }

    /// Resets the VM.
    pub fn reset(&mut self) {
        self.call("the reset", ProcessChannel::reset).expect("the device stays");
    }

    /// A context to the default socket.
    pub fn connect(&mut self) -> VfdId {
        self.call("a context", |channel| channel.connect()).expect("a context")
    }

    /// A context by a token.
    pub fn open(&mut self, token: Token) -> Result<VfdId, Error> {
        self.call("a named context", move |channel| channel.open(Way::Name, token))
    }

    /// An allocation.
    pub fn allocate(&mut self, size: u64) -> Allocation {
        self.call("an allocation", move |channel| channel.allocate(size)).expect("memory")
    }

    /// A pipe.
    pub fn pipe(&mut self, end: PipeEnd) -> VfdId {
        self.call("a pipe", move |channel| channel.pipe(end)).expect("a pipe")
    }

    /// Closes a vfd.
    pub fn close(&mut self, vfd: VfdId) {
        self.channel().close(vfd);
    }

    /// Sends, waiting for what was sent before.
    pub fn send(&mut self, vfd: VfdId, bytes: &[u8], vfds: &[VfdId]) {
        self.wait("room for a message", |channel| {
            (channel.send(vfd, bytes, vfds).expect("an open vfd") == Sent::Accepted).then_some(())
        });
    }

    /// Receives one message; `None` if the other side has hung up.
    pub fn receive(&mut self, vfd: VfdId) -> Option<(Vec<u8>, Vec<Arrived>)> {
        let what = format!("a message for {vfd}");
        self.wait(&what, |channel| {
            let mut bytes = Vec::new();
            match channel.receive(vfd, &mut bytes).expect("an open vfd") {
                Received::Message(arrived) => Some(Some((bytes, arrived))),
                Received::Nothing => None,
                Received::HangUp => Some(None),
            }
        })
    }

    /// Receives until there are `length` bytes, and expects no more than those.
    ///
    /// # Panics
    /// If the other side hangs up before.
    pub fn read(&mut self, vfd: VfdId, length: usize) -> (Vec<u8>, Vec<Arrived>) {
        let (mut bytes, mut arrived) = (Vec::new(), Vec::new());
        while bytes.len() < length {
            let (more, with) = self.receive(vfd).unwrap_or_else(|| {
                panic!("{}: a hang-up after {} of {length} bytes", self.name, bytes.len())
            });
            bytes.extend(more);
            arrived.extend(with);
        }
        assert_eq!(bytes.len(), length, "{}: more bytes than expected", self.name);
        (bytes, arrived)
    }

    /// Receives until the hang-up; what came before.
    pub fn rest(&mut self, vfd: VfdId) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((more, _)) = self.receive(vfd) {
            bytes.extend(more);
        }
        bytes
    }

    /// Looks again whenever the device has done something, until `look` finds something.
    ///
    /// # Panics
    /// If it doesn't in time, or the channel is lost.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut ProcessChannel) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let name = &self.name;
        let channel = self.channel.as_mut().expect("calls don't nest");
        loop {
            channel.dispatch(&mut Vec::new()).unwrap_or_else(|error| panic!("{name}: {error}"));
            if let Some(found) = look(channel) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{name}: waited {PATIENCE:?} in vain for {what}");
            let timeout = PollTimeout::try_from(left).expect("a short time");
            let _ = poll(&mut [PollFd::new(channel.poll_fd(), PollFlags::POLLIN)], timeout);
        }
    }
}

impl std::fmt::Debug for Puppet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Puppet").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs `work` in a thread of its own, so that a device that never answers fails the test instead of hanging it.
fn within<T: Send + 'static>(
    name: &str,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    done.recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{name}: waited {PATIENCE:?} in vain for {what}"))
}
