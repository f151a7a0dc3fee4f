mod agent;
mod fake;

use super::*;
use crate::channel::scenarios::{Lab as _, PATIENCE, test_scenarios};
use fake::{Fake, Peer};
use std::time::{Duration, Instant};
use wlproxy_protocol::limits::MAX_RECV;
use wlproxy_protocol::wayland::inbox::MAX_PENDING_FDS;

/// A channel, and what stands in for the driver.
struct Lab {
    channel: VirtioWlChannel,
    fake: Arc<Fake>,
    events: Vec<Event>,
}

impl Lab {
    fn new(fake: Arc<Fake>) -> Self {
        let channel = VirtioWlChannel::new(fake.clone()).unwrap();
        Self { channel, fake, events: Vec::new() }
    }

    fn obedient() -> Self {
        Self::new(Fake::obedient())
    }

    fn silent() -> Self {
        Self::new(Fake::silent())
    }

    /// A context, and its other side.
    fn connect(&mut self) -> (VfdId, Peer) {
        let context = self.channel.connect().unwrap();
        (context, self.fake.newest())
    }

    fn is_closed(&self, peer: Peer) -> bool {
        self.fake.is_closed(peer, PATIENCE.into())
    }

    /// Waits until as many bytes were sent.
    fn sent(&self, peer: Peer, count: usize) -> Vec<u8> {
        within_patience(|| self.fake.bytes_to(peer).len() >= count);
        self.fake.bytes_to(peer)
    }
}

impl crate::channel::scenarios::Lab for Lab {
    fn channel(&mut self) -> &mut dyn Channel {
        &mut self.channel
    }

    fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
}

/// Waits for what threads do that tell nobody.
fn within_patience(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_millis(PATIENCE.into());
    while !is_so() {
        assert!(Instant::now() < deadline, "it doesn't come");
        std::thread::yield_now();
    }
}

test_scenarios!([Lab::obedient()]);

#[test]
fn pipes_have_a_direction() {
    let mut lab = Lab::silent();
    let read = lab.channel.pipe(PipeEnd::Read).unwrap();
    lab.fake.deliver(lab.fake.newest(), b"from the pipe", vec![]);
    lab.fake.hang_up(lab.fake.newest());
    assert_eq!(lab.receive(read).unwrap().0, b"from the pipe");
    assert!(lab.receive(read).is_none());
    assert!(matches!(lab.channel.send(read, b"no", &[]), Err(Error::Refused(_))));
    let write = lab.channel.pipe(PipeEnd::Write).unwrap();
    let reader = lab.fake.newest();
    lab.send(write, b"one, ", &[]);
    lab.send(write, b"two", &[]);
    assert_eq!(lab.sent(reader, 8), b"one, two");
    assert!(matches!(lab.channel.receive(write, &mut Vec::new()), Ok(Received::Nothing)));
    lab.fake.hang_up(reader);
    assert!(lab.receive(write).is_none(), "nobody reads any more");
    let memory = lab.channel.allocate(1).unwrap();
    assert!(matches!(lab.channel.send(memory.vfd, b"no", &[]), Err(Error::Refused(_))));
    assert!(matches!(lab.channel.receive(memory.vfd, &mut Vec::new()), Ok(Received::Nothing)));
}

#[test]
fn a_vfd_closes_after_what_it_sends_and_keeps_nobody_waiting() {
    let mut lab = Lab::silent();
    let ((slow, slow_peer), (other, other_peer)) = (lab.connect(), lab.connect());
    lab.fake.hold(slow_peer);
    let allocation = lab.channel.allocate(1).unwrap();
    let memory = Peer::of(&allocation.fd);
    lab.send(slow, b"create_pool", &[allocation.vfd]);
    lab.channel.close(allocation.vfd);
    drop(allocation);
    lab.channel.close(slow);
    lab.fake.deliver(slow_peer, b"late", vec![]);
    lab.channel.dispatch(&mut lab.events).unwrap();
    assert_eq!(lab.events, []);
    lab.send(other, b"on", &[]);
    assert_eq!(lab.sent(other_peer, 2), b"on");
    lab.channel.close(other);
    assert!(lab.is_closed(other_peer));
    assert!(!lab.fake.is_closed(slow_peer, 0u16.into()));
    lab.fake.release();
    assert!(lab.is_closed(slow_peer));
    assert_eq!(lab.fake.bytes_to(slow_peer), b"create_pool");
    assert_eq!(lab.fake.vfds_to(slow_peer), [memory]);
}

#[test]
fn nothing_is_left() {
    let mut lab = Lab::silent();
    let (held, held_peer) = lab.connect();
    let (used, used_peer) = lab.connect();
    let (_, unused_peer) = lab.connect();
    lab.channel.pipe(PipeEnd::Read).unwrap();
    lab.fake.hold(held_peer);
    lab.send(held, b"x", &[]);
    lab.send(used, b"x", &[]);
    within_patience(|| lab.fake.is_sending(held_peer));
    let Lab { channel, fake, .. } = lab;
    // This doesn't wait for the SEND.
    drop(channel);
    let closed = |peer| fake.is_closed(peer, PATIENCE.into());
    assert!(closed(used_peer) && closed(unused_peer));
    assert!(Arc::strong_count(&fake) > 1, "the count sees a thread");
    fake.release();
    // Each thread has the device.
    within_patience(|| Arc::strong_count(&fake) == 1);
    assert!(closed(held_peer));
}

#[test]
fn a_stream_is_taken_in_parts() {
    let mut lab = Lab::silent();
    let (context, peer) = lab.connect();
    let sent: Vec<u8> = (0..9000).map(|i| (i % 251) as u8).collect();
    sent.chunks(3000).for_each(|part| lab.fake.deliver(peer, part, vec![]));
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let (bytes, _) = lab.receive(context).unwrap();
        assert!(bytes.len() <= MAX_RECV);
        got.extend(bytes);
    }
    assert!(got == sent);
    assert!(matches!(lab.channel.receive(context, &mut got), Ok(Received::Nothing)));
}

#[test]
fn no_byte_is_ahead_of_its_vfds() {
    let mut lab = Lab::silent();
    let (context, peer) = lab.connect();
    let pipes = |count| (0..count).map(|_| lab.fake.pipe(PipeEnd::Write)).collect::<Vec<_>>();
    // One RECV takes all of these bytes, and 28 vfds.
    lab.fake.deliver(peer, b"none", vec![]);
    lab.fake.deliver(peer, b"many", pipes(20));
    lab.fake.deliver(peer, b"more", pipes(28));
    lab.fake.deliver(peer, b"last", pipes(8));
    let (bytes, vfds) = lab.receive(context).unwrap();
    assert_eq!((&bytes[..], vfds.len()), (&b"nonemanymorelast"[..], 56));
    assert!(matches!(lab.channel.receive(context, &mut Vec::new()), Ok(Received::Nothing)));
}

#[test]
fn more_vfds_at_once_than_anybody_needs_end_their_context() {
    let mut lab = Lab::silent();
    let (context, peer) = lab.connect();
    let mut peers = Vec::new();
    for _ in 0..=MAX_PENDING_FDS / MAX_FDS + 1 {
        let pipes: Vec<_> = (0..MAX_FDS).map(|_| lab.fake.pipe(PipeEnd::Write)).collect();
        peers.extend(pipes.iter().map(Peer::of));
        lab.fake.deliver(peer, b"x", pipes);
    }
    let mut bytes = Vec::new();
    let Err(Error::Refused(why)) = lab.channel.receive(context, &mut bytes) else {
        panic!("too many");
    };
    assert!(why.contains("256 vfds") && bytes.is_empty(), "{why}");
    assert!(lab.receive(context).is_none());
    let received = MAX_PENDING_FDS.next_multiple_of(MAX_FDS);
    assert!(peers[..received].iter().all(|&peer| lab.is_closed(peer)));
}

#[test]
fn what_arrives_is_told_apart() {
    let mut lab = Lab::silent();
    let (context, peer) = lab.connect();
    let memory = lab.channel.allocate(5 * 4096).unwrap();
    let fd = memory.fd.try_clone().unwrap();
    let vfds = vec![lab.fake.pipe(PipeEnd::Read), fd, lab.fake.pipe(PipeEnd::Write)];
    lab.fake.deliver(peer, b"x", vfds);
    let (_, arrived) = lab.receive(context).unwrap();
    let [
        Arrived::Pipe(read, PipeEnd::Read),
        Arrived::Allocation(back),
        Arrived::Pipe(write, PipeEnd::Write),
    ] = &arrived[..]
    else {
        panic!("{arrived:?}");
    };
    assert_eq!(back.size, memory.size);
    assert!(read != write && *write != back.vfd && back.vfd != memory.vfd);
    lab.send(*write, b"into it", &[]);
    // A stream both ways is no use to anybody: all that came with it goes.
    let vfds = vec![lab.fake.pipe(PipeEnd::Read), lab.fake.stream(), lab.fake.pipe(PipeEnd::Read)];
    let peers: Vec<Peer> = vfds.iter().map(Peer::of).collect();
    lab.fake.deliver(peer, b"x", vfds);
    let mut bytes = Vec::new();
    let refused = lab.channel.receive(context, &mut bytes);
    assert!(matches!(refused, Err(Error::Refused(_))) && bytes.is_empty());
    assert!(peers.into_iter().all(|peer| lab.is_closed(peer)));
    assert!(lab.receive(context).is_none());
}

#[test]
fn each_error_of_the_driver_is_told() {
    let mut lab = Lab::silent();
    let mut failure = |errno| {
        lab.fake.fail_new(errno);
        lab.channel.connect().unwrap_err()
    };
    for errno in [Errno::ENOMEM, Errno::ENOSPC, Errno::EBUSY] {
        assert!(matches!(failure(errno), Error::OutOfMemory), "{errno}");
    }
    assert!(matches!(failure(Errno::ENOENT), Error::NotFound));
    let refused = [
        (Errno::ENODEV, "ERR"),
        (Errno::EINVAL, "INVALID_TYPE"),
        (Errno::EPERM, "INVALID_FLAGS"),
        (Errno::ENOTTY, "INVALID_CMD"),
        (Errno::EPROTO, "EPROTO"),
        (Errno::EMFILE, "ulimit -n"),
    ];
    for (errno, word) in refused {
        let Error::Refused(why) = failure(errno) else { panic!("{errno}") };
        assert!(why.contains(word), "{why}");
    }
    assert!(matches!(failure(Errno::EIO), Error::Lost(_)));
    assert!(matches!(lab.channel.connect(), Err(Error::Lost(_))), "and stays");
    assert!(matches!(lab.channel.dispatch(&mut Vec::new()), Err(Error::Lost(_))));
}

#[test]
fn a_ring_that_breaks_under_a_send_is_noticed() {
    let mut lab = Lab::silent();
    let (context, _) = lab.connect();
    lab.fake.fail_send(Errno::EIO);
    lab.send(context, b"x", &[]);
    assert!(matches!(lab.turn(), Err(Error::Lost(_))));
    assert!(matches!(lab.channel.receive(context, &mut Vec::new()), Err(Error::Lost(_))));
}

#[test]
fn a_receive_that_fails_ends_its_vfd_only() {
    let mut lab = Lab::silent();
    let ((bad, bad_peer), (good, good_peer)) = (lab.connect(), lab.connect());
    lab.fake.deliver(bad_peer, b"lost", vec![]);
    lab.fake.fail_receive(Errno::EMFILE);
    let Err(Error::Refused(why)) = lab.channel.receive(bad, &mut Vec::new()) else {
        panic!("it failed");
    };
    assert!(why.contains("lost") && why.contains("ulimit -n"), "{why}");
    assert!(lab.receive(bad).is_none());
    lab.fake.deliver(good_peer, b"on", vec![]);
    assert_eq!(lab.receive(good).unwrap().0, b"on");
}

#[test]
fn a_full_ring_is_waited_for() {
    let mut lab = Lab::silent();
    let (context, peer) = lab.connect();
    (0..3).for_each(|_| lab.fake.fail_send(Errno::EAGAIN));
    lab.send(context, b"once", &[]);
    lab.send(context, b"twice", &[]);
    assert_eq!(lab.sent(peer, 9), b"oncetwice");
}

#[test]
fn what_was_closed_makes_room() {
    let mut lab = Lab::silent();
    lab.fake.set_quota(2);
    let [first, _second] = [1, 1].map(|size| lab.channel.allocate(size).unwrap());
    assert!(matches!(lab.channel.allocate(1), Err(Error::OutOfMemory)));
    lab.channel.close(first.vfd);
    drop(first);
    // Again and again, as whoever reuses memory does.
    for _ in 0..20 {
        let third = lab.channel.allocate(1).unwrap();
        assert!(matches!(lab.channel.allocate(1), Err(Error::OutOfMemory)));
        let vfd = third.vfd;
        drop(third);
        lab.channel.close(vfd);
    }
}

#[test]
fn a_hang_up_is_told_though_nothing_was_sent() {
    let mut lab = Lab::silent();
    let ((context, peer), (other, _)) = (lab.connect(), lab.connect());
    assert!(matches!(lab.channel.receive(context, &mut Vec::new()), Ok(Received::Nothing)));
    lab.fake.hang_up(peer);
    assert!(lab.receive(context).is_none());
    lab.channel.close(context);
    lab.channel.close(context);
    assert!(matches!(lab.channel.receive(other, &mut Vec::new()), Ok(Received::Nothing)));
}

#[test]
fn more_vfds_than_one_dispatch_takes_are_all_told() {
    let mut lab = Lab::silent();
    let contexts: Vec<_> = (0..EVENTS + 10).map(|_| lab.connect()).collect();
    contexts.iter().for_each(|&(_, peer)| lab.fake.deliver(peer, b"x", vec![]));
    for (context, _) in contexts {
        lab.wait(Event::Readable(context));
    }
}
