//! Connections of an agent over this channel.

use super::fake::{Fake, Peer};
use super::*;
use crate::agent::Agent;
use crate::connection::Link;
use crate::lend::tests::App;
use crate::outbox::Outbox;
use crate::passage::Passage;
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_unix::{Read, Stream, memory};

/// What a kernel keeps of a Unix stream at most, in bytes, with room to spare.
const SOCKET: usize = 1 << 20;

struct Desk {
    agent: Agent,
    fake: Arc<Fake>,
}

impl Desk {
    fn new() -> Self {
        Self::with_stack(STACK)
    }

    /// One whose sending threads have stacks of so many bytes.
    fn with_stack(stack: usize) -> Self {
        let fake = Fake::silent();
        let mut channel = VirtioWlChannel::new(fake.clone()).unwrap();
        channel.stack = stack;
        Self { agent: Agent::new(Box::new(channel)).unwrap(), fake }
    }

    /// A compositor or client, non-blocking, and the other side of the context that it is joined to.
    fn passage(&mut self) -> (UnixStream, Peer) {
        let (local, joined) = UnixStream::pair().unwrap();
        local.set_nonblocking(true).unwrap();
        let context = self.agent.world.channel.connect().unwrap();
        let link = Link { local: Stream::new(joined).unwrap(), out: Outbox::default() };
        let role = Box::new(Passage::new("work"));
        self.agent.connect("test".into(), link, context, role).unwrap();
        (local, self.fake.newest())
    }

    fn dispatch(&mut self) {
        self.agent.dispatch(&mut Vec::new()).unwrap();
    }

    /// As an event loop does it: dispatches when there is something to do. Until `is_so`.
    fn until(&mut self, mut is_so: impl FnMut(&Fake, &Agent) -> bool) {
        loop {
            self.dispatch();
            if is_so(&self.fake, &self.agent) {
                return;
            }
            let mut fds = [self.agent.poll_fd(), self.fake.turn.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            assert!(poll(&mut fds, PATIENCE).unwrap() > 0, "it doesn't come");
            let _ = self.fake.turn.read();
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// A duplicate of a vfd is the vfd, and what an application sends back is one.
#[test]
fn what_is_lent_is_known_again() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, 100_000);
    let (other, _) = app.borrow(&mut desk.agent, 100_000);
    let arrived = desk.agent.world.lender.arrived(fd.try_clone().unwrap()).unwrap();
    assert!(arrived.is_all(100_000.try_into().unwrap()));
    drop(arrived);
    app.close(&mut desk.agent, id, 1);
    assert!(desk.agent.world.lender.arrived(&fd).is_none());
    app.close(&mut desk.agent, other, 0);
    assert_eq!(desk.agent.world.stats.lent, 0);
}

#[test]
fn a_local_peer_that_leaves_is_still_heard() {
    let mut desk = Desk::new();
    let (mut local, peer) = desk.passage();
    desk.fake.hold(peer);
    local.write_all(&bytes(10_000)).unwrap();
    drop(local);
    desk.until(|fake, _| fake.is_sending(peer));
    assert!(desk.agent.is_delivering() && desk.agent.connections() == 1);
    desk.fake.release();
    desk.until(|_, agent| agent.connections() == 0);
    assert!(desk.fake.is_closed(peer, PATIENCE.into()));
    assert!(desk.fake.bytes_to(peer) == bytes(10_000));
}

#[test]
fn a_remote_peer_that_hangs_up_is_still_heard() {
    let mut desk = Desk::new();
    let (mut local, peer) = desk.passage();
    let sent = bytes(4 * SOCKET);
    sent.chunks(3900).for_each(|part| desk.fake.deliver(peer, part, vec![]));
    desk.fake.hang_up(peer);
    let mut got = Vec::new();
    desk.until(|_, _| match local.read_to_end(&mut got) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    });
    assert!(got == sent);
    assert_eq!(desk.agent.connections(), 0);
}

#[test]
fn a_device_that_holds_a_send_back_holds_its_local_peer_back_and_no_other() {
    let mut desk = Desk::new();
    let ((mut slow, slow_peer), (mut quick, quick_peer)) = (desk.passage(), desk.passage());
    desk.fake.hold(slow_peer);
    let sent = bytes(8 * SOCKET);
    let mut written = 0;
    while let Ok(count) = slow.write(&sent[written..]) {
        written += count;
        desk.dispatch();
    }
    assert!(written < MAX_QUEUED + SOCKET, "{written} bytes were taken");
    quick.write_all(b"frame").unwrap();
    desk.until(|fake, _| fake.bytes_to(quick_peer) == b"frame");
    assert_eq!(desk.fake.bytes_to(slow_peer), b"");
    // All that was written goes, though the local peer does nothing more.
    desk.fake.release();
    desk.until(|fake, _| fake.bytes_to(slow_peer).len() == written);
    assert!(desk.fake.bytes_to(slow_peer) == sent[..written]);
}

#[test]
fn a_slow_local_peer_holds_the_other_side_back() {
    let mut desk = Desk::new();
    let (mut local, peer) = desk.passage();
    let sent = bytes(8 * SOCKET);
    sent.chunks(3900).for_each(|part| desk.fake.deliver(peer, part, vec![]));
    let before = desk.fake.undelivered(peer);
    // It reads nothing, so once nothing more is taken, nothing will be.
    let mut left = before;
    loop {
        desk.dispatch();
        let now = desk.fake.undelivered(peer);
        if std::mem::replace(&mut left, now) == now {
            break;
        }
    }
    assert!((before - left) * 3900 < MAX_QUEUED + SOCKET, "{left} of {before} are left");
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
    let (local, peer) = desk.passage();
    let mut local = Stream::new(local).unwrap();
    // From the other side: a shadow, and a pipe that the compositor is to write into.
    let pool = desk.agent.world.channel.allocate(8192).unwrap();
    let pipe = desk.fake.pipe(PipeEnd::Write);
    let pipe_peer = Peer::of(&pipe);
    let arriving = vec![pool.fd.try_clone().unwrap(), pipe];
    desk.fake.deliver(peer, b"two", arriving);
    let (mut got, mut fds) = (Vec::new(), VecDeque::new());
    desk.until(|_, _| matches!(local.read(&mut got, &mut fds, 100), Ok(Read::Bytes(_))));
    assert_eq!((&got[..], fds.len()), (&b"two"[..], 2));
    assert!(memory::same_file(&fds[0], &pool.fd));
    nix::unistd::write(&fds[1], b"pasted").unwrap();
    drop(fds);
    desk.until(|fake, _| fake.bytes_to(pipe_peer) == b"pasted");
    desk.until(|_, agent| agent.world.stats.pipes == 0);
    assert!(desk.fake.is_closed(pipe_peer, PATIENCE.into()));
    // From here: a pipe to read from, of which the other side gets the writing end.
    let (read, write) = std::io::pipe().unwrap();
    local.queue(b"send", [write.into()]);
    local.flush().unwrap();
    desk.until(|fake, _| fake.bytes_to(peer) == b"send");
    let [ours] = desk.fake.vfds_to(peer)[..] else { panic!("one vfd goes along") };
    desk.fake.deliver(ours, b"copied", vec![]);
    desk.fake.hang_up(ours);
    desk.until(|_, agent| agent.world.stats.pipes == 0);
    let mut read = read;
    got.clear();
    read.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"copied");
}

#[test]
fn a_broken_ring_reaches_the_top() {
    let mut desk = Desk::new();
    let (mut local, _) = desk.passage();
    desk.fake.fail_send(Errno::EIO);
    local.write_all(b"x").unwrap();
    let lost = loop {
        if let Err(error) = desk.agent.dispatch(&mut Vec::new()) {
            break error;
        }
        let mut fd = [PollFd::new(desk.agent.poll_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fd, PATIENCE).unwrap(), 1, "it isn't noticed");
    };
    assert!(matches!(lost, Error::Lost(_)));
}

#[test]
fn a_client_for_whom_no_thread_can_be_started_is_disconnected() {
    // More than there are addresses.
    let mut desk = Desk::with_stack(1 << 50);
    let (mut local, peer) = desk.passage();
    local.write_all(b"get_registry").unwrap();
    desk.until(|_, agent| agent.connections() == 0);
    assert_eq!(local.read(&mut [0]).unwrap(), 0);
    assert!(desk.fake.is_closed(peer, PATIENCE.into()));
}
