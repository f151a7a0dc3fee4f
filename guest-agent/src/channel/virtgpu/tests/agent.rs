//! Connections of an agent over this channel.

use super::fake::Fake;
use super::*;
use crate::agent::Agent;
use crate::channel::scenarios::PATIENCE;
use crate::connection::Link;
use crate::lend::tests::App;
use crate::outbox::Outbox;
use crate::passage::Passage;
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::lend::{Answer, MIN_LENT, Request};
use wlproxy_unix::{Read, Stream, memory};

/// What a kernel keeps of a Unix stream at most, in bytes, with room to spare.
const SOCKET: usize = 1 << 20;

struct Desk {
    agent: Agent,
    fake: Fake,
}

impl Desk {
    fn new() -> Self {
        let fake = Fake::new();
        let channel = VirtgpuChannel::new(Box::new(fake.clone())).unwrap();
        Self { agent: Agent::new(Box::new(channel)).unwrap(), fake }
    }

    /// A compositor or client, non-blocking, and the file that it is joined to.
    fn passage(&mut self) -> (UnixStream, u32) {
        let (local, joined) = UnixStream::pair().unwrap();
        local.set_nonblocking(true).unwrap();
        let context = self.agent.world.channel.connect().unwrap();
        let link = Link { local: Stream::new(joined).unwrap(), out: Outbox::default() };
        let role = Box::new(Passage::new("work"));
        self.agent.connect("test".into(), link, context, role).unwrap();
        (local, self.fake.newest())
    }

    /// As an event loop does it: dispatches when there is something to do. Until `is_so`.
    fn until(&mut self, mut is_so: impl FnMut(&Fake, &Agent) -> bool) {
        loop {
            self.agent.dispatch(&mut Vec::new()).unwrap();
            if is_so(&self.fake, &self.agent) {
                return;
            }
            let mut fds = [PollFd::new(self.agent.poll_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PATIENCE).unwrap(), 1, "it doesn't come");
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_local_peer_that_leaves_is_still_heard() {
    let mut desk = Desk::new();
    let (mut local, file) = desk.passage();
    desk.fake.file(file).held = true;
    local.write_all(&bytes(10_000)).unwrap();
    drop(local);
    desk.until(|fake, _| !fake.file(file).bytes.is_empty());
    assert!(desk.agent.connections() == 1);
    desk.fake.release();
    desk.until(|fake, agent| agent.connections() == 0 && !fake.is_open(file));
    assert!(desk.fake.file(file).bytes == bytes(10_000));
}

#[test]
fn a_slow_local_peer_holds_the_other_side_back() {
    const PART: usize = 3900;
    let mut desk = Desk::new();
    let (mut local, file) = desk.passage();
    let sent = bytes(8 * SOCKET);
    sent.chunks(PART).for_each(|part| desk.fake.deliver(file, part));
    let before = desk.fake.waiting(file);
    // It reads nothing, so once nothing more is taken, nothing will be.
    let mut left = before;
    loop {
        desk.agent.dispatch(&mut Vec::new()).unwrap();
        let now = desk.fake.waiting(file);
        if std::mem::replace(&mut left, now) == now {
            break;
        }
    }
    // What the agent queues for it, what the channel keeps, and what the kernel does.
    let most = 2 * MAX_QUEUED + SOCKET;
    assert!((before - left) * PART < most, "{left} of {before} are left");
    let mut got = Vec::new();
    desk.until(|_, _| {
        let _ = local.read_to_end(&mut got);
        got.len() == sent.len()
    });
    assert!(got == sent);
}

#[test]
fn memory_and_pipes_reach_a_compositor_and_come_back() {
    let mut desk = Desk::new();
    let (local, file) = desk.passage();
    let mut local = Stream::new(local).unwrap();
    // From the other side: a shadow, and a pipe that the compositor is to write into.
    let pool = memory::allocate("pool", 8192).unwrap();
    let pipe = desk.fake.deliver_all(file, b"two", pool.try_clone().unwrap());
    let (mut got, mut fds) = (Vec::new(), VecDeque::new());
    desk.until(|_, _| matches!(local.read(&mut got, &mut fds, 100), Ok(Read::Bytes(_))));
    assert_eq!((&got[..], fds.len()), (&b"two"[..], 2));
    assert!(memory::same_file(&fds[0], &pool));
    nix::unistd::write(&fds[1], b"pasted").unwrap();
    drop(fds);
    desk.until(|fake, _| fake.file(file).pipes[&pipe].closed);
    assert_eq!(desk.fake.file(file).pipes[&pipe].bytes, b"pasted");
    desk.until(|_, agent| agent.world.stats.pipes == 0);
    // From here: a pipe to read from, of which the other side gets the writing end.
    let (mut read, write) = std::io::pipe().unwrap();
    local.queue(b"send", [write.into()]);
    local.flush().unwrap();
    desk.until(|fake, _| fake.file(file).bytes == b"send");
    let ours = *desk.fake.file(file).pipes.last_key_value().unwrap().0;
    desk.fake.deliver_pipe(file, ours, b"copied", false);
    desk.fake.deliver_pipe(file, ours, b"", true);
    desk.until(|_, agent| agent.world.stats.pipes == 0);
    got.clear();
    read.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"copied");
}

#[test]
fn what_is_lent_is_known_again_and_goes_when_nobody_uses_it() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let early = app.ask(&mut desk.agent, Request::Lend { size: MIN_LENT });
    assert!(matches!(early, Some((Answer::Refused, None))), "there is no context to ask over");
    let (_local, file) = desk.passage();
    let (id, fd) = app.borrow(&mut desk.agent, MIN_LENT);
    // What comes over the Wayland socket is another fd of the same open file.
    let lent = desk.agent.world.lender.arrived(fd.try_clone().unwrap()).unwrap();
    let context = desk.agent.world.channel.connect().unwrap();
    let sent = desk.agent.world.channel.send(context, b"create_pool", &[lent.vfd()]);
    assert!(matches!(sent, Ok(Sent::Accepted)));
    let resource = desk.fake.file(desk.fake.newest()).resources[0];
    drop(lent);
    app.close(&mut desk.agent, id, 1);
    // The next one to have something to do closes what was given back.
    let (next, _) = app.borrow(&mut desk.agent, MIN_LENT);
    assert!(desk.fake.is_open(file) && !desk.fake.has(resource));
    app.close(&mut desk.agent, next, 0);
    assert_eq!(desk.agent.world.stats.lent, 0);
}

#[test]
fn who_writes_what_nobody_reads_any_more_is_told() {
    let mut desk = Desk::new();
    let (local, file) = desk.passage();
    let mut local = Stream::new(local).unwrap();
    let pool = memory::allocate("pool", 4096).unwrap();
    let pipe = desk.fake.deliver_all(file, b"send", pool);
    let (mut got, mut fds) = (Vec::new(), VecDeque::new());
    desk.until(|_, _| matches!(local.read(&mut got, &mut fds, 100), Ok(Read::Bytes(_))));
    nix::unistd::write(&fds[1], b"first").unwrap();
    desk.until(|fake, _| fake.file(file).pipes[&pipe].bytes == b"first");
    desk.fake.deliver_pipe(file, pipe, b"", true);
    desk.until(|_, agent| agent.world.stats.pipes == 0);
    assert_eq!(nix::unistd::write(&fds[1], b"second"), Err(Errno::EPIPE));
}

#[test]
fn a_client_that_leaves_still_gives_what_was_copied() {
    let mut desk = Desk::new();
    let (local, file) = desk.passage();
    let mut local = Stream::new(local).unwrap();
    // It is asked for its selection, writes it, and exits.
    let pool = memory::allocate("pool", 4096).unwrap();
    let pipe = desk.fake.deliver_all(file, b"send", pool);
    let (mut got, mut fds) = (Vec::new(), VecDeque::new());
    desk.until(|_, _| matches!(local.read(&mut got, &mut fds, 100), Ok(Read::Bytes(_))));
    desk.fake.file(file).held = true;
    nix::unistd::write(&fds[1], &bytes(10_000)).unwrap();
    drop((fds, local));
    desk.until(|fake, agent| {
        agent.connections() == 0 && !fake.file(file).pipes[&pipe].bytes.is_empty()
    });
    assert!(desk.fake.file(file).hung_up, "the compositor learns that it left");
    desk.fake.release();
    desk.until(|fake, _| !fake.is_open(file));
    let file = desk.fake.file(file);
    assert!(file.pipes[&pipe].bytes == bytes(10_000) && file.pipes[&pipe].closed);
}
