use super::*;
use crate::channel::fake::Fake;
use crate::channel::{Arrived, PipeEnd};
use crate::connection::End;
use crate::outbox::Outbox;
use crate::passage::Passage;
use crate::turns::Account;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::limits::{MAX_FDS, MAX_QUEUED};
use wlproxy_protocol::wayland::Violation;
use wlproxy_unix::Stream;

/// What a kernel keeps of a Unix stream at most, in bytes, with room to spare.
const SOCKET: usize = 1 << 20;

/// Many fds, and far from the usual limit of a process.
const FDS: usize = 300;

struct Desk {
    agent: Agent,
    fake: Fake,
}

impl Desk {
    fn new() -> Self {
        let fake = Fake::new();
        Self { agent: Agent::new(Box::new(fake.clone())).unwrap(), fake }
    }

    /// A local peer, non-blocking, and the context that it is joined to.
    fn join(&mut self, role: Box<dyn Role>) -> (UnixStream, VfdId) {
        let (peer, local) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        let context = self.agent.world.channel.connect().unwrap();
        let link = Link { local: Stream::new(local).unwrap(), out: Outbox::default() };
        self.agent.connect("test".into(), link, context, role).unwrap();
        (peer, context)
    }

    /// What a connection has queued.
    fn link(&mut self, context: VfdId) -> &mut Link {
        let key = self.agent.contexts[&context];
        &mut self.agent.connections.get_mut(&key).unwrap().link
    }

    fn passage(&mut self) -> (UnixStream, VfdId) {
        self.passage_of("work")
    }

    /// Of a client of this VM.
    fn passage_of(&mut self, vm: &str) -> (UnixStream, VfdId) {
        self.join(Box::new(Passage::new(vm)))
    }

    /// As an event loop does it: until nothing is to be done any more.
    fn settle(&mut self) -> Vec<Event> {
        let mut others = Vec::new();
        loop {
            self.agent.dispatch(&mut others).unwrap();
            let mut fd =
                [nix::poll::PollFd::new(self.agent.poll_fd(), nix::poll::PollFlags::POLLIN)];
            if nix::poll::poll(&mut fd, nix::poll::PollTimeout::ZERO).unwrap() == 0 {
                return others;
            }
        }
    }

    /// Reads all that reaches a local peer. Whether it came to an end.
    fn read(&mut self, peer: &mut UnixStream, bytes: &mut Vec<u8>) -> bool {
        loop {
            self.settle();
            let before = bytes.len();
            match peer.read_to_end(bytes) {
                Ok(_) => return true,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if bytes.len() == before {
                return false;
            }
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Takes nothing from its local peer.
struct Strict(Account);

impl Role for Strict {
    fn account(&self) -> &Account {
        &self.0
    }

    fn take_local(
        &mut self,
        _: &[u8],
        _: &mut VecDeque<OwnedFd>,
        _: &mut Link,
        _: &mut World,
    ) -> Result<(), End> {
        let subject = "test".to_owned();
        Err(Violation { object: 1, code: 0, subject, reason: "not that".into() }.into())
    }

    fn take_remote(
        &mut self,
        bytes: &[u8],
        _: Vec<Arrived>,
        link: &mut Link,
        _: &mut World,
    ) -> Result<(), End> {
        link.local.queue(bytes, []);
        Ok(())
    }

    fn farewell(&self, end: &End) -> Vec<u8> {
        end.to_string().into()
    }

    fn close(self: Box<Self>, _: &mut World) {}
}

#[test]
fn a_local_peer_that_leaves_is_still_heard() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    desk.fake.set_credit(Some(1));
    peer.write_all(&bytes(10_000)).unwrap();
    drop(peer);
    desk.settle();
    assert!(desk.agent.is_delivering() && desk.agent.connections() == 1);
    desk.fake.set_credit(None);
    desk.settle();
    assert!(desk.fake.bytes_to(context) == bytes(10_000));
    assert!(!desk.agent.is_delivering() && !desk.fake.is_open(context));
    assert_eq!((desk.agent.connections(), desk.agent.world.stats.connections_now), (0, 0));
}

#[test]
fn a_remote_peer_that_hangs_up_is_still_heard() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    let sent = bytes(4 * SOCKET);
    sent.chunks(4000).for_each(|piece| desk.fake.deliver(context, piece, vec![]));
    desk.fake.hang_up(context);
    desk.settle();
    assert_eq!(desk.agent.connections(), 1);
    let mut got = Vec::new();
    assert!(desk.read(&mut peer, &mut got) && got == sent);
    assert!(!desk.fake.is_open(context));
}

#[test]
fn a_slow_channel_holds_its_local_peer_back() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    desk.fake.set_credit(Some(0));
    let sent = bytes(8 * SOCKET);
    let mut written = 0;
    while let Ok(n) = peer.write(&sent[written..]) {
        written += n;
        desk.settle();
    }
    assert!(written < MAX_QUEUED + SOCKET, "{written} bytes were taken");
    // All that was written goes, though the local peer does nothing more.
    desk.fake.set_credit(None);
    desk.settle();
    assert!(desk.fake.bytes_to(context) == sent[..written]);
}

#[test]
fn a_slow_local_peer_holds_the_other_side_back() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    let sent = bytes(8 * SOCKET);
    sent.chunks(4000).for_each(|piece| desk.fake.deliver(context, piece, vec![]));
    desk.settle();
    let taken = sent.len() - desk.fake.undelivered(context) * 4000;
    assert!(taken < MAX_QUEUED + SOCKET, "{taken} bytes were taken");
    let mut got = Vec::new();
    assert!(!desk.read(&mut peer, &mut got) && got == sent);
}

#[test]
fn fds_that_a_local_peer_leaves_hold_the_other_side_back_too() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    while desk.link(context).local.queued() == 0 {
        desk.fake.deliver(context, &[0; 4000], vec![]);
        desk.settle();
    }
    for _ in 0..FDS {
        let memory = desk.fake.arriving_memory(b"pool");
        desk.fake.deliver(context, b"create_pool", vec![memory]);
    }
    desk.settle();
    let queued = desk.link(context).local.queued_fds();
    assert!((MAX_FDS..4 * MAX_FDS).contains(&queued), "{queued} fds are queued");
    assert_eq!(queued + desk.fake.undelivered(context), FDS);
    let mut got = Vec::new();
    desk.read(&mut peer, &mut got);
    assert!(got.ends_with(b"create_pool"));
    assert_eq!(desk.fake.undelivered(context) + desk.link(context).local.queued(), 0);
}

#[test]
fn vfds_that_a_slow_channel_leaves_hold_the_local_peer_back_too() {
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    desk.fake.set_credit(Some(0));
    let mut peer = Stream::new(peer).unwrap();
    for _ in 0..FDS {
        peer.queue(b"keymap", [std::fs::File::open("/dev/null").unwrap().into()]);
        peer.flush().unwrap();
        desk.settle();
    }
    let queued = desk.link(context).out.queued_vfds();
    assert!((MAX_FDS..4 * MAX_FDS).contains(&queued), "{queued} vfds are queued");
    desk.fake.set_credit(None);
    desk.settle();
    assert_eq!(desk.fake.vfds_to(context).len(), FDS);
}

#[test]
fn a_busy_connection_leaves_others_their_turn() {
    let mut desk = Desk::new();
    let (mut loud, loud_context) = desk.passage();
    let (mut quiet, quiet_context) = desk.passage();
    let mut sent = 0;
    while let Ok(n) = loud.write(&[0; 4096]) {
        sent += n;
    }
    quiet.write_all(b"now").unwrap();
    desk.settle();
    assert_eq!(desk.fake.bytes_to(loud_context).len(), sent);
    let state = desk.fake.state.borrow();
    let before: usize = (state.sent.iter().take_while(|m| m.to != quiet_context))
        .map(|message| message.bytes.len())
        .sum();
    assert!(before <= 64 * 1024, "{before} of {sent} bytes went first");
}

/// A hundred connections of one VM, of which each has `each` bytes to go on both ways, and one of another VM that has a few.
fn crowd(desk: &mut Desk, each: usize) -> (Vec<(UnixStream, VfdId)>, (UnixStream, VfdId)) {
    let mut flood: Vec<_> = (0..100).map(|_| desk.passage_of("flood")).collect();
    let (mut quiet, quiet_context) = desk.passage_of("quiet");
    desk.settle();
    for (peer, context) in &mut flood {
        peer.write_all(&bytes(each)).unwrap();
        bytes(each).chunks(4000).for_each(|piece| desk.fake.deliver(*context, piece, vec![]));
    }
    quiet.write_all(b"now").unwrap();
    desk.fake.deliver(quiet_context, b"and here", vec![]);
    (flood, (quiet, quiet_context))
}

#[test]
fn a_vm_with_a_hundred_connections_has_one_turn() {
    let mut desk = Desk::new();
    let (flood, (mut quiet, quiet_context)) = crowd(&mut desk, 64 * 1024);
    desk.settle();
    for (_, context) in &flood {
        assert!(desk.fake.bytes_to(*context) == bytes(64 * 1024));
    }
    let state = desk.fake.state.borrow();
    let before = state.sent.iter().take_while(|message| message.to != quiet_context);
    let before: usize = before.map(|message| message.bytes.len()).sum();
    // In one turn, both ways, and a message on top.
    assert!(before <= 2 * QUANTUM + 4096, "{before} bytes went first");
    let mut got = [0; 8];
    assert!(quiet.read_exact(&mut got).is_ok() && got == *b"and here");
}

#[test]
fn an_agent_that_shares_its_loop_moves_no_more_of_a_vm_than_its_quantum() {
    const SHARE: usize = 4096;
    let mut desk = Desk::new();
    desk.agent.share(SHARE);
    let (mut flood, (_quiet, quiet_context)) = crowd(&mut desk, 40_000);
    let (mut all, mut messages, mut dispatches) = (0, 0, 0);
    while all < 2 * 100 * 40_000 {
        desk.agent.dispatch(&mut Vec::new()).unwrap();
        dispatches += 1;
        if dispatches == 1 {
            assert_eq!(desk.fake.bytes_to(quiet_context), b"now");
        }
        let mut moved = 0;
        for message in &desk.fake.state.borrow().sent[messages..] {
            messages += 1;
            moved += if message.to == quiet_context { 0 } else { message.bytes.len() };
        }
        for (peer, _) in &mut flood {
            let mut piece = [0; 65_536];
            while let Ok(n) = peer.read(&mut piece) {
                moved += n;
            }
        }
        assert!(moved <= 2 * SHARE + 4096, "{moved} bytes in one dispatch");
        all += moved;
        // As few dispatches as its share makes necessary, nearly.
        assert!(dispatches <= 2 * 2 * 100 * 40_000 / SHARE, "{all} bytes in {dispatches}");
    }
}

#[test]
fn a_vm_has_bytes_in_one_socket_of_the_compositor_at_a_time() {
    let mut desk = Desk::new();
    desk.agent.has_one_peer();
    let (mut flood, (mut quiet, _)) = crowd(&mut desk, 0);
    // The compositor has answered all of them.
    flood.iter_mut().for_each(|(peer, _)| peer.write_all(b"globals").unwrap());
    desk.settle();
    for (_, context) in &flood {
        bytes(40_000).chunks(4000).for_each(|piece| desk.fake.deliver(*context, piece, vec![]));
    }
    let (mut got, mut order) = (vec![0; flood.len()], Vec::new());
    let mut piece = [0; 65_536];
    while got.iter().sum::<usize>() < 100 * 40_000 {
        // All connections have something for the compositor, and it reads 4 KiB of each socket in turn.
        desk.settle();
        let before = order.len();
        for (at, (peer, _)) in flood.iter_mut().enumerate() {
            if let Ok(n) = peer.read(&mut piece[..4096]) {
                got[at] += n;
                order.push(at);
            }
        }
        assert_eq!(order.len(), before + 1, "{got:?}");
    }
    assert!(got.iter().all(|&got| got == 40_000));
    // Each was read to its end of what lay there, and then the next had its turn.
    order.dedup();
    assert!(order.len() >= 2 * 100, "{order:?}");
    assert!((0..100).all(|at| order[..100].contains(&at)), "{order:?}");
    assert_eq!(quiet.read(&mut piece).unwrap(), 8);
    // One that ends with bytes in its socket lets the others go on.
    let [(first, first_context), (second, second_context), ..] = &mut flood[..] else { panic!() };
    desk.fake.deliver(*first_context, b"unread", vec![]);
    desk.settle();
    desk.fake.deliver(*second_context, b"waits", vec![]);
    desk.settle();
    assert!(second.read(&mut piece).is_err());
    first.shutdown(std::net::Shutdown::Both).unwrap();
    desk.settle();
    assert_eq!(second.read(&mut piece).unwrap(), 5);
}

#[test]
fn of_a_vm_among_others_little_is_unread_and_of_one_alone_a_turn_s_worth() {
    let mut desk = Desk::new();
    desk.agent.has_one_peer();
    let (mut flood, context) = desk.passage_of("flood");
    flood.write_all(b"globals").unwrap();
    desk.settle();
    let sent = bytes(2_000_000);
    sent.chunks(4000).for_each(|piece| desk.fake.deliver(context, piece, vec![]));
    let (mut got, mut piece) = (Vec::new(), [0; 65_536]);
    let mut take = |desk: &mut Desk| {
        desk.settle();
        let lay = flood.read(&mut piece).unwrap_or(0);
        got.extend_from_slice(&piece[..lay]);
        lay
    };
    assert_eq!(take(&mut desk), QUANTUM);
    let (mut quiet, _) = desk.passage_of("quiet");
    quiet.write_all(b"now").unwrap();
    let shared = std::iter::from_fn(|| Some(take(&mut desk))).take_while(|&lay| lay == SHARE);
    assert!(shared.count() >= 100);
    assert_eq!(take(&mut desk), QUANTUM, "nobody else has said anything for long");
    while take(&mut desk) > 0 {}
    assert!(got == sent);
}

#[test]
fn a_client_that_the_compositor_does_not_take_keeps_nobody_waiting() {
    let mut desk = Desk::new();
    desk.agent.has_one_peer();
    let [(untaken, untaken_context), (mut taken, taken_context)] = [(); 2].map(|()| desk.passage());
    taken.write_all(b"globals").unwrap();
    desk.fake.deliver(untaken_context, b"get_registry", vec![]);
    desk.settle();
    desk.fake.deliver(taken_context, b"commit", vec![]);
    desk.settle();
    let mut got = [0; 6];
    assert!(taken.read_exact(&mut got).is_ok() && got == *b"commit");
    drop(untaken);
}

#[test]
fn a_client_that_the_compositor_does_not_answer_has_no_more_there_than_others() {
    let mut desk = Desk::new();
    desk.agent.has_one_peer();
    let (mut peer, context) = desk.passage();
    let sent = bytes(100_000);
    sent.chunks(4000).for_each(|piece| desk.fake.deliver(context, piece, vec![]));
    let (mut got, mut piece) = (Vec::new(), [0; 65_536]);
    while got.len() < sent.len() {
        desk.settle();
        let lay = peer.read(&mut piece).unwrap();
        assert!(lay <= QUANTUM, "{lay} bytes");
        got.extend_from_slice(&piece[..lay]);
    }
    assert!(got == sent);
}

#[test]
fn many_small_messages_of_one_vm_share_a_turn() {
    let mut desk = Desk::new();
    desk.agent.share(4096);
    let mut peers: Vec<_> = (0..4).map(|_| desk.passage()).collect();
    desk.settle();
    peers.iter_mut().for_each(|(peer, _)| peer.write_all(b"small").unwrap());
    desk.agent.dispatch(&mut Vec::new()).unwrap();
    for (_, context) in &peers {
        assert_eq!(desk.fake.bytes_to(*context), b"small");
    }
}

#[test]
fn a_violation_reaches_a_peer_whose_socket_is_full() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.join(Box::new(Strict("test".into())));
    (0..500).for_each(|_| desk.fake.deliver(context, &[b'.'; 4000], vec![]));
    desk.settle();
    peer.write_all(b"?").unwrap();
    desk.settle();
    assert_eq!((desk.agent.connections(), desk.agent.world.stats.violations), (1, 1));
    assert!(!desk.fake.is_open(context), "the other side doesn't wait for it");
    let mut got = Vec::new();
    assert!(desk.read(&mut peer, &mut got), "the connection ends");
    assert!(got.ends_with(b"...test: not that"));
    assert_eq!((desk.agent.connections(), desk.agent.contexts.len()), (0, 0));
}

#[test]
fn a_lost_channel_reaches_the_top() {
    let mut desk = Desk::new();
    desk.fake.lose();
    assert!(matches!(desk.agent.dispatch(&mut Vec::new()), Err(Error::Lost(_))));
    // Also from where an fd is carried.
    let mut desk = Desk::new();
    let (peer, _) = desk.passage();
    let (read, _write) = std::io::pipe().unwrap();
    let mut peer = Stream::new(peer).unwrap();
    peer.queue(b"fd", [read.into()]);
    peer.flush().unwrap();
    desk.fake.state.borrow_mut().refusals.push_back(Error::Lost("now".into()));
    assert!(matches!(desk.agent.dispatch(&mut Vec::new()), Err(Error::Lost(_))));
}

#[test]
fn a_message_that_can_never_be_sent_ends_its_connection_only() {
    let mut desk = Desk::new();
    let (mut peer, context) = desk.passage();
    let (_other, other_context) = desk.passage();
    peer.write_all(b"x").unwrap();
    desk.fake.state.borrow_mut().send_failures.push_back(Error::NotFound);
    desk.settle();
    assert!(!desk.fake.is_open(context) && desk.fake.is_open(other_context));
}

#[test]
fn a_pipe_that_was_never_sent_goes_with_its_connection() {
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    desk.fake.set_credit(Some(0));
    let (_read, write) = std::io::pipe().unwrap();
    let mut peer = Stream::new(peer).unwrap();
    peer.queue(b"receive", [write.into()]);
    peer.flush().unwrap();
    desk.settle();
    assert_eq!(desk.agent.world.stats.pipes, 1);
    desk.fake.hang_up(context);
    desk.settle();
    assert_eq!((desk.agent.world.stats.pipes, desk.fake.open().len()), (0, 0));
}

#[test]
fn a_pipe_that_ends_before_it_was_sent_is_sent_all_the_same() {
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    desk.fake.set_credit(Some(0));
    let (read, write) = std::io::pipe().unwrap();
    let mut peer = Stream::new(peer).unwrap();
    peer.queue(b"send", [write.into()]);
    peer.flush().unwrap();
    desk.settle();
    drop(read);
    desk.settle();
    assert_eq!((desk.agent.world.stats.pipes, desk.agent.connections()), (0, 1));
    desk.fake.set_credit(None);
    desk.settle();
    assert_eq!((desk.fake.vfds_to(context).len(), desk.agent.connections()), (1, 1));
    assert_eq!(desk.fake.open(), [context]);
}

#[test]
fn more_pipes_than_a_vm_may_have_end_no_connection() {
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    desk.fake.set_credit(Some(0));
    let mut peer = Stream::new(peer).unwrap();
    let (_read, write) = std::io::pipe().unwrap();
    for _ in 0..100 {
        peer.queue(b"send", [write.try_clone().unwrap().into()]);
        peer.flush().unwrap();
        desk.settle();
    }
    desk.fake.set_credit(None);
    desk.settle();
    assert_eq!((desk.fake.vfds_to(context).len(), desk.agent.connections()), (100, 1));
    let pipes = desk.agent.world.stats.pipes as usize;
    assert!(pipes < 100 && desk.fake.open().len() == 1 + pipes, "{pipes} pipes are left");
}

/// Uses up the fds of its process: [`if_one_of_several_vfds_fails_all_are_closed`] runs it.
#[test]
#[ignore = "leaves its process without fds, so it needs one of its own"]
fn vfds_arrive_where_fds_are_used_up() {
    let mut desk = Desk::new();
    let (_peer, context) = desk.passage();
    let ends = [PipeEnd::Read, PipeEnd::Write, PipeEnd::Read];
    let arriving = ends.map(|end| desk.fake.arriving_pipe(end)).into();
    desk.fake.deliver(context, b"three", arriving);
    // Room for one pipe.
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next + 2, hard).unwrap();
    desk.settle();
    assert_eq!((desk.agent.connections(), desk.agent.world.stats.pipes), (0, 0));
    assert_eq!(desk.fake.open(), []);
}

#[test]
fn if_one_of_several_vfds_fails_all_are_closed() {
    crate::alone::run("agent::tests::vfds_arrive_where_fds_are_used_up");
}

/// Uses up the fds that its user may have in flight: [`an_fd_that_can_not_be_sent_now_is_sent_later`] runs it.
#[test]
#[ignore = "changes its user and its limits, so it needs a process of its own"]
fn an_fd_arrives_where_too_many_are_in_flight() {
    let in_flight = crate::alone::fill_flight();
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    let mut peer = Stream::new(peer).unwrap();
    let memory = desk.fake.arriving_memory(b"pixels");
    desk.fake.deliver(context, b"keymap", vec![memory]);
    let mut ready = || {
        desk.agent.dispatch(&mut Vec::new()).unwrap();
        let mut fd = [nix::poll::PollFd::new(desk.agent.poll_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fd, nix::poll::PollTimeout::ZERO).unwrap() > 0
    };
    assert!((0..1000).any(|_| !ready()), "it tries again and again");
    let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
    assert_eq!(peer.read(&mut bytes, &mut fds, 100).unwrap(), wlproxy_unix::Read::WouldBlock);
    assert_eq!(desk.agent.connections(), 1);

    drop(in_flight);
    // Nothing else happens on this connection.
    while peer.read(&mut bytes, &mut fds, 100).unwrap() == wlproxy_unix::Read::WouldBlock {
        let mut fd = [nix::poll::PollFd::new(desk.agent.poll_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fd, 10_000u16), Ok(1), "it is never tried again");
        desk.agent.dispatch(&mut Vec::new()).unwrap();
    }
    assert_eq!((&bytes[..], fds.len()), (&b"keymap"[..], 1));
    assert_eq!(desk.settle(), []);
}

#[test]
fn an_fd_that_can_not_be_sent_now_is_sent_later() {
    crate::alone::run("agent::tests::an_fd_arrives_where_too_many_are_in_flight");
}

#[test]
fn events_of_other_vfds_are_handed_on() {
    let mut desk = Desk::new();
    let main = desk.agent.world.channel.connect().unwrap();
    desk.fake.deliver(main, b"record", vec![]);
    assert_eq!(desk.settle(), [Event::Readable(main)]);
}

#[test]
fn memory_is_not_closed_while_a_message_that_names_it_waits() {
    let mut desk = Desk::new();
    let (peer, context) = desk.passage();
    let Desk { agent, fake } = &mut desk;
    let World { memory, channel, stats, .. } = &mut agent.world;
    let allocation = memory.take(4096, &mut **channel, stats).unwrap();
    let vfd = allocation.vfd;
    fake.set_credit(Some(0));
    desk.link(context).out.queue(b"create_pool", [vfd]);
    let World { memory, stats, .. } = &mut desk.agent.world;
    memory.discard(allocation, stats);
    desk.settle();
    assert!(desk.fake.is_open(vfd));
    desk.fake.set_credit(None);
    desk.settle();
    assert_eq!(desk.fake.vfds_to(context), [vfd]);
    assert!(!desk.fake.is_open(vfd));
    drop(peer);
}
