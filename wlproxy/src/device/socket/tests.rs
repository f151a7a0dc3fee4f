mod haste;

use super::*;
use crate::device::lingering::MAX_LINGERING;
use crate::device::opener::Role;
use crate::device::virtio_wl::tests::driver::FakeOpener;
use crate::device::virtio_wl::tests::{give, take, wayland};
use crate::device::{Dialect, trace};
use crate::policy::{Current, Policy};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use wlproxy_protocol::accept::{Hello, Ways};
use wlproxy_protocol::limits::MAX_QUEUED;
use wlproxy_unix::memory;

const LINK: Role = Role::Link { connection: 7 };

/// Connections of one VM, with the test on both sides of them.
struct Rig {
    connections: Connections,
    poller: Poller,
    /// The poller's epoll set.
    set: OwnedFd,
    opener: Arc<FakeOpener>,
    counters: Arc<Counters>,
}

impl Rig {
    fn new(side: Side) -> Self {
        Self::with(side, Policy::of_test(side))
    }

    fn with(side: Side, policy: Policy) -> Self {
        let (opener, counters) = (Arc::new(FakeOpener::default()), Arc::new(Counters::default()));
        let options = Options {
            vm: "test".into(),
            side,
            dialect: Dialect::default(),
            opener: opener.clone(),
            counters: counters.clone(),
            policy: Arc::new(Current::new(policy.with_any_types())),
            traces: Arc::new(trace::Requests::default()),
            neighbours: None,
            window_size: 0,
            on_panic: Arc::new(|| ()),
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let set = epoll.0.try_clone().unwrap();
        let poller = Poller::new(epoll).unwrap();
        let connections = Connections::new(&options, poller.clone());
        Self { connections, poller, set, opener, counters }
    }

    /// Turns until there is nothing to do.
    fn turn(&mut self) {
        for _ in 0..1000 {
            // Nothing is left of a wake-up but that.
            let mut ready = [PollFd::new(self.set.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::ZERO) == Ok(0) {
                return;
            }
            let mut events = Vec::new();
            self.poller.wait(&mut events, EpollTimeout::ZERO).unwrap();
            self.connections.turn(&events);
        }
        panic!("it spins");
    }

    /// The device dials.
    fn dial(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.connections.add(Stream::new(ours).unwrap());
        theirs.set_nonblocking(true).unwrap();
        self.turn();
        theirs
    }

    /// Answers the oldest request for a stream. Returns what was asked for, and the other end.
    fn open(&mut self, role: Role) -> (Target, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (target, answer) = self.opener.0.lock().unwrap().pop_front().expect("a request");
        answer(Ok(Opened { stream: ours, role }));
        self.turn();
        theirs.set_nonblocking(true).unwrap();
        (target, theirs)
    }

    fn is_asked(&self) -> bool {
        !self.opener.0.lock().unwrap().is_empty()
    }

    /// A client, and the compositor's end of its link, with an object of each kind that the messages of [`wayland`] need.
    fn link(&mut self) -> (UnixStream, UnixStream) {
        let mut guest = self.dial();
        let (target, mut peer) = self.open(LINK);
        assert_eq!(target, Target::Default);
        guest.write_all(&wayland::get_registry()).unwrap();
        self.turn();
        peer.write_all(&wayland::globals()).unwrap();
        self.turn();
        assert_eq!(take(&guest).0, wayland::globals());
        guest.write_all(&wayland::objects()).unwrap();
        self.turn();
        assert_eq!(take(&peer).0, [wayland::get_registry(), wayland::objects()].concat());
        peer.write_all(&wayland::offer()).unwrap();
        self.turn();
        assert_eq!(take(&guest).0, wayland::offer());
        (guest, peer)
    }

    /// The compositor VM says [`SAID`] bytes to a client that doesn't read, and leaves. The client's end.
    fn linger(&mut self) -> UnixStream {
        let mut stream = self.dial();
        stream.write_all(token().as_bytes()).unwrap();
        self.turn();
        let (_, peer) = self.open(Role::Accepted { connection: 7, vm: 0, token: token() });
        self.say_and_leave(stream);
        peer
    }

    /// A VM says [`SAID`] bytes and leaves.
    fn say_and_leave(&mut self, mut stream: UnixStream) {
        let said = vec![3; SAID];
        let mut rest = &said[..];
        while !rest.is_empty() {
            let length = stream.write(rest).unwrap();
            rest = &rest[length..];
            self.turn();
        }
        drop(stream);
        self.turn();
    }

    /// How many bytes there are until nothing more comes.
    fn rest(&mut self, peer: &UnixStream) -> usize {
        let mut got = 0;
        loop {
            let length = take(peer).0.len();
            self.turn();
            if length == 0 {
                return got;
            }
            got += length;
        }
    }

    /// A client says this again and again until all is full: the link's socket, and then its own. What it has said.
    fn fill(&mut self, guest: &mut UnixStream, message: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        while sent.len() < 4 << 20 {
            match guest.write(message) {
                Ok(length) => sent.extend_from_slice(&message[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
                Err(error) => panic!("{error}"),
            }
            self.turn();
        }
        panic!("somebody takes it all");
    }

    fn assert_empty(&self) {
        let Counters { frontends, contexts, .. } = &*self.counters;
        let Connections { all, lingering, .. } = &self.connections;
        assert_eq!((frontends.get(), contexts.get(), all.len(), lingering.len()), (0, 0, 0, 0));
    }
}

/// More than a socket takes, and less than is queued at most.
const SAID: usize = MAX_QUEUED / 2;

/// Whether the other side has closed it, and nothing is left to read.
fn is_closed(mut stream: &UnixStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        other => panic!("{other:?}"),
    }
}

fn token() -> Token {
    Token::new([5; Token::LEN])
}

#[test]
fn a_client_passes_through_the_relay() {
    let mut rig = Rig::new(Side::Client);
    let (guest, peer) = rig.link();
    let memory = memory::allocate("test", 4096).unwrap();
    give(&guest, &wayland::create_pool(wayland::FREE), [memory]);
    rig.turn();
    let (bytes, fds) = take(&peer);
    assert_eq!((bytes, fds.len()), (wayland::create_pool(wayland::FREE), 1));
    give(&peer, &wayland::keymap(), [memory::allocate("test", 4096).unwrap()]);
    rig.turn();
    let (bytes, fds) = take(&guest);
    assert_eq!((bytes, fds.len()), (wayland::keymap(), 1));
    assert_eq!((rig.counters.frontends.get(), rig.counters.contexts.get()), (1, 1));
    drop(guest);
    rig.turn();
    assert!(is_closed(&peer));
    rig.assert_empty();
}

#[test]
fn what_a_client_says_before_its_stream_is_there_is_not_lost() {
    let mut rig = Rig::new(Side::Client);
    let mut guest = rig.dial();
    guest.write_all(&wayland::get_registry()).unwrap();
    rig.turn();
    let (_, peer) = rig.open(LINK);
    assert_eq!(take(&peer).0, wayland::get_registry());
}

#[test]
fn a_client_that_breaks_the_rules_is_told_and_ended_alone() {
    let mut rig = Rig::new(Side::Client);
    let (mut guest, peer) = rig.link();
    let (mut other, other_peer) = rig.link();
    guest.write_all(&wayland::bad_request()).unwrap();
    rig.turn();
    assert_eq!(take(&guest).0, wayland::complaint());
    assert!(is_closed(&guest) && is_closed(&peer));
    assert_eq!(rig.counters.violations.get(), 1);
    other.write_all(&wayland::commit()).unwrap();
    rig.turn();
    assert_eq!(take(&other_peer).0, wayland::commit());
}

#[test]
fn a_client_whose_compositor_does_not_read_is_not_read() {
    let mut rig = Rig::new(Side::Client);
    let (mut guest, peer) = rig.link();
    let message = wayland::request(&"x".repeat(3000));
    let sent = rig.fill(&mut guest, &message);
    let mut got = Vec::new();
    loop {
        let bytes = take(&peer).0;
        rig.turn();
        if bytes.is_empty() {
            break;
        }
        got.extend(bytes);
    }
    // What was cut off isn't let through before the rest comes.
    assert!(sent.starts_with(&got) && sent.len() - got.len() < message.len());
}

#[test]
fn a_vm_that_does_not_read_holds_its_compositor_back_and_nothing_grows() {
    let mut rig = Rig::new(Side::Client);
    let (guest, mut peer) = rig.link();
    let event = wayland::report(&"x".repeat(3000));
    let mut sent = Vec::new();
    for _ in 0..10_000 {
        match peer.write(&event) {
            Ok(length) => sent.extend_from_slice(&event[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        rig.turn();
    }
    let queued: usize = rig.connections.all.values().map(|of| of.guest.queued()).sum();
    assert!(sent.len() < 4 << 20 && queued <= READ, "{} bytes, {queued} of them here", sent.len());
    let mut got = Vec::new();
    loop {
        let bytes = take(&guest).0;
        rig.turn();
        if bytes.is_empty() {
            break;
        }
        got.extend(bytes);
    }
    assert!(sent.starts_with(&got) && sent.len() - got.len() < event.len());
}

#[test]
fn the_compositor_vm_says_what_a_connection_is() {
    let mut rig = Rig::new(Side::Compositor);
    let mut main = rig.dial();
    assert!(!rig.is_asked(), "nobody knows yet");
    let hello = Hello { ways: Ways::DIAL_BACK }.encode();
    main.write_all(&hello[..3]).unwrap();
    rig.turn();
    assert!(!rig.is_asked());
    main.write_all(&hello[3..]).unwrap();
    rig.turn();
    let (target, mut wlproxy) = rig.open(Role::Main);
    assert_eq!((target, take(&wlproxy).0), (Target::Default, hello.to_vec()));
    wlproxy.write_all(b"record").unwrap();
    rig.turn();
    assert_eq!(take(&main).0, b"record");

    let mut stream = rig.dial();
    stream.write_all(&token().as_bytes()[..15]).unwrap();
    rig.turn();
    assert!(!rig.is_asked());
    stream.write_all(&token().as_bytes()[15..]).unwrap();
    stream.write_all(b"globals").unwrap();
    rig.turn();
    let (target, peer) = rig.open(Role::Accepted { connection: 7, vm: 0, token: token() });
    assert_eq!((target, take(&peer).0), (Target::Accepted(token()), b"globals".to_vec()));
    give(&peer, b"pool", [memory::allocate("test", 4096).unwrap()]);
    rig.turn();
    let (bytes, fds) = take(&stream);
    assert_eq!((&bytes[..], fds.len()), (&b"pool"[..], 1));
    drop(peer);
    rig.turn();
    assert!(is_closed(&stream) && !is_closed(&main));
    drop(main);
    rig.turn();
    assert!(is_closed(&wlproxy));
    rig.assert_empty();
}

#[test]
fn a_connection_that_nobody_waits_for_is_closed() {
    let mut rig = Rig::new(Side::Compositor);
    let mut stream = rig.dial();
    stream.write_all(&[9; 40]).unwrap();
    rig.turn();
    let (target, answer) = rig.opener.0.lock().unwrap().pop_front().unwrap();
    assert_eq!(target, Target::Accepted(Token::new([9; 16])));
    answer(Err(OpenError::Unknown));
    rig.turn();
    assert!(is_closed(&stream));
    rig.assert_empty();
    // Left before its stream was there.
    drop(rig.dial());
    rig.turn();
    rig.assert_empty();
}

#[test]
fn those_who_stay_silent_make_room() {
    let mut rig = Rig::new(Side::Compositor);
    let silent: Vec<UnixStream> = (0..=MAX_SILENT).map(|_| rig.dial()).collect();
    assert!(is_closed(&silent[0]) && !is_closed(&silent[1]));
    assert_eq!(rig.connections.all.len(), MAX_SILENT);
}

#[test]
fn a_client_that_does_not_read_is_given_up_by_the_compositor_vm() {
    let mut rig = Rig::new(Side::Compositor);
    let mut stream = rig.dial();
    stream.write_all(token().as_bytes()).unwrap();
    rig.turn();
    let (_, peer) = rig.open(Role::Accepted { connection: 7, vm: 0, token: token() });
    let chunk = vec![1; READ];
    let mut sent = 0;
    while !is_closed(&stream) {
        match stream.write(&chunk) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => panic!("{error}"),
        }
        rig.turn();
        assert!(sent < 4 * MAX_QUEUED, "it is still read");
    }
    assert!(sent > MAX_QUEUED, "{sent}");
    drop(peer);
    rig.turn();
    rig.assert_empty();
}

#[test]
fn what_a_vm_said_before_it_left_is_written() {
    let mut rig = Rig::new(Side::Compositor);
    let peer = rig.linger();
    assert_eq!(rig.counters.contexts.get(), 0);
    assert_eq!(rig.rest(&peer), SAID);
    rig.assert_empty();
}

/// Whose other side doesn't read keeps nobody else away, and no more of them are kept than of other devices'.
#[test]
fn those_that_linger_do_not_count_and_the_oldest_is_cut_off() {
    let mut rig = Rig::new(Side::Compositor);
    let peers: Vec<_> = (0..=MAX_LINGERING).map(|_| rig.linger()).collect();
    let Connections { all, lingering, .. } = &rig.connections;
    assert_eq!((all.len(), lingering.len()), (0, MAX_LINGERING));
    let rests: Vec<_> = peers.iter().map(|peer| rig.rest(peer)).collect();
    assert!(rests[0] < SAID && rests[1..].iter().all(|&rest| rest == SAID), "{rests:?}");
    rig.assert_empty();
}

/// The VM has left, which shows when something comes for it; and with that something is wrong, too.
#[test]
fn a_client_that_has_left_is_over_once() {
    let mut rig = Rig::new(Side::Client);
    let (mut guest, peer) = rig.link();
    rig.fill(&mut guest, &wayland::commit());
    drop(guest);
    rig.turn();
    give(&peer, &[wayland::report("x"), wayland::bad_event()].concat(), []);
    rig.turn();
    drop(peer);
    rig.turn();
    rig.assert_empty();
    assert!(!rig.connections.is_full());
}

/// What the VM itself doesn't read keeps nothing back of what it has said.
#[test]
fn what_a_vm_said_is_written_though_it_never_read() {
    let mut rig = Rig::new(Side::Compositor);
    let mut stream = rig.dial();
    stream.write_all(token().as_bytes()).unwrap();
    rig.turn();
    let (_, mut peer) = rig.open(Role::Accepted { connection: 7, vm: 0, token: token() });
    while rig.connections.all.values().all(|of| of.guest.queued() == 0) {
        peer.write_all(&[4; 4096]).unwrap();
        rig.turn();
    }
    rig.say_and_leave(stream);
    rig.connections.turn(&[(RETRY, EpollFlags::EPOLLIN)]);
    assert_eq!(rig.rest(&peer), SAID);
    rig.assert_empty();
}

#[test]
fn fds_before_it_is_known_what_a_connection_is_end_it() {
    let mut rig = Rig::new(Side::Compositor);
    let stream = rig.dial();
    let memory = memory::allocate("test", 4096).unwrap();
    give(&stream, &token().as_bytes()[..1], [memory]);
    rig.turn();
    assert!(is_closed(&stream));
    rig.assert_empty();
}
