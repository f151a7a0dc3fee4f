use super::*;
use crate::channel::VfdId;
use crate::channel::fake::Fake;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, listen};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use tempfile::TempDir;
use wlproxy_protocol::accept::{Answer, HELLO, Hello, Token, Way, Ways};

const MAIN: VfdId = VfdId(1);

/// A compositor that can say no more than that it is there.
struct Mute {
    listener: UnixListener,
    serve: UnixStream,
    socket: PathBuf,
    _folder: TempDir,
}

/// Such a compositor with room for `queue` more clients, and who serves it, after hellos.
fn open(fake: &Fake, queue: i32) -> (Mute, Serve) {
    open_offering(fake, queue, &[])
}

/// The same, where the compositor offers what these events of its registry, object 2, say.
fn open_offering(fake: &Fake, queue: i32, globals: &[u8]) -> (Mute, Serve) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wayland-1");
    let listener = UnixListener::bind(&socket).unwrap();
    listen(&listener, Backlog::new(queue).unwrap()).unwrap();
    let mut compositor = Compositor::connect(&socket, true).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    // get_registry and sync, of 12 bytes each; the latter's callback is object 3.
    stream.read_exact(&mut [0; 24]).unwrap();
    assert!(!compositor.is_complete());
    let done = [3, 12 << 16, 0, 1, 12 << 16 | 1, 3].map(u32::to_ne_bytes).concat();
    stream.write_all(&[globals, &done].concat()).unwrap();
    compositor.dispatch().unwrap();
    assert!(compositor.is_complete());
    let mut serve = Serve::new(Box::new(fake.clone())).unwrap();
    serve.open(compositor).unwrap();
    fake.deliver(MAIN, &Hello { ways: Ways::NAME }.encode(), vec![]);
    serve.dispatch().unwrap();
    (Mute { listener, serve: stream, socket, _folder: folder }, serve)
}

fn record() -> Record {
    Record { vm: "work".into(), connection: 1, token: Token::new([7; 16]), way: Way::Name }
}

fn announce(fake: &Fake, serve: &mut Serve) {
    announce_all(fake, &[record()]);
    serve.dispatch().unwrap();
}

/// In one message.
fn announce_all(fake: &Fake, records: &[Record]) {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    fake.deliver(MAIN, &bytes, vec![]);
}

fn answer(fake: &Fake) -> Option<Answer> {
    Answer::decode(&mut &fake.bytes_to(MAIN)[HELLO..]).unwrap()
}

/// Has `serve` do what there is to do until something is so.
fn dispatch_until(serve: &mut Serve, what: &str, is_so: impl Fn(&Serve) -> bool) {
    while !is_so(serve) {
        let patience = PollTimeout::from(20_000u16);
        let ready = poll(&mut [PollFd::new(serve.poll_fd(), PollFlags::POLLIN)], patience);
        assert_eq!(ready, Ok(1), "{what}");
        serve.dispatch().unwrap();
    }
}

#[test]
fn a_client_waits_for_room_in_the_compositor_s_queue_but_nobody_else_does() {
    let fake = Fake::new();
    let (compositor, mut serve) = open(&fake, 1);
    let _queue: Vec<_> =
        std::iter::from_fn(|| wlproxy_unix::connect(&compositor.socket).ok()).collect();
    announce(&fake, &mut serve);
    assert_eq!((answer(&fake), serve.agent().connections()), (None, 0));
    // It is tried more than once.
    let pause = serve.pause;
    dispatch_until(&mut serve, "another try", |serve| serve.pause > pause);
    assert_eq!((answer(&fake), serve.is_open()), (None, true));
    compositor.listener.accept().unwrap();
    dispatch_until(&mut serve, "the client", |serve| serve.agent().connections() > 0);
    assert_eq!(answer(&fake), Some(Answer { token: record().token, outcome: Ok(()) }));
    assert_eq!(serve.pause, FIRST_PAUSE);
}

#[test]
fn clients_beyond_the_bound_are_refused() {
    let fake = Fake::new();
    let (compositor, mut serve) = open(&fake, 1);
    let _queue: Vec<_> =
        std::iter::from_fn(|| wlproxy_unix::connect(&compositor.socket).ok()).collect();
    for _ in 0..crate::queue::MAX_WAITING {
        announce(&fake, &mut serve);
    }
    assert_eq!(answer(&fake), None);
    announce(&fake, &mut serve);
    let refused = Answer { token: record().token, outcome: Err(Refusal::NoCompositor) };
    assert_eq!(answer(&fake), Some(refused));
    // Those that wait are left to the next main context.
    drop(compositor.serve);
    serve.dispatch().unwrap();
    assert!(!serve.is_open() && serve.queue.is_empty());
}

#[test]
fn clients_come_one_in_a_turn_and_vms_take_turns() {
    let fake = Fake::new();
    let (_compositor, mut serve) = open(&fake, 200);
    let of = |vm: &str, connection| Record { vm: vm.into(), connection, ..record() };
    let flood = (1..=64).map(|connection| of("flood", connection));
    let quiet = (65..=66).map(|connection| of("quiet", connection));
    announce_all(&fake, &flood.chain(quiet).collect::<Vec<_>>());
    let accepted = |serve: &Serve, vm: &str| serve.agent().connections_of(vm);
    for turn in 1..=66 {
        // Nothing else happens that would wake it.
        let ready = poll(&mut [PollFd::new(serve.poll_fd(), PollFlags::POLLIN)], 20_000u16);
        assert_eq!(ready, Ok(1), "turn {turn}");
        serve.dispatch().unwrap();
        assert_eq!(serve.agent().connections(), turn);
        assert_eq!(accepted(&serve, "quiet"), (turn / 2).min(2));
    }
    assert!(serve.queue.is_empty());
}

#[test]
fn the_main_context_ends_with_the_compositor_and_other_contexts_by_themselves() {
    let fake = Fake::new();
    let (compositor, mut serve) = open(&fake, 1);
    announce(&fake, &mut serve);
    assert_eq!((serve.agent().connections(), fake.open().len()), (1, 2));
    drop(compositor.serve);
    serve.dispatch().unwrap();
    assert!(!serve.is_open() && !fake.is_open(MAIN));
    assert_eq!(serve.agent().connections(), 1);
    drop(compositor.listener);
    serve.dispatch().unwrap();
    assert_eq!((serve.agent().connections(), fake.open().len()), (0, 0));
}

#[test]
fn a_client_that_finds_nobody_is_left_to_the_next_main_context() {
    let fake = Fake::new();
    let (compositor, mut serve) = open(&fake, 1);
    drop(compositor.listener);
    announce(&fake, &mut serve);
    assert_eq!(answer(&fake), None);
    assert!(!serve.is_open() && fake.open().is_empty());
}

/// Uses up the fds that its user may have in flight: [`a_client_waits_until_it_can_be_tagged`] runs it.
#[test]
#[ignore = "changes its user and its limits, so it needs a process of its own"]
fn a_client_comes_where_too_many_fds_are_in_flight() {
    let in_flight = crate::alone::fill_flight();
    let fake = Fake::new();
    // wl_registry.global(1, "wp_security_context_manager_v1", 1); the string is 31 bytes long with its end.
    let mut global = [2, 52 << 16, 1, 31].map(u32::to_ne_bytes).concat();
    global.extend(b"wp_security_context_manager_v1\0\0");
    global.extend(1u32.to_ne_bytes());
    let (compositor, mut serve) = open_offering(&fake, 1, &global);
    announce(&fake, &mut serve);
    let pause = serve.pause;
    dispatch_until(&mut serve, "another try", |serve| serve.pause > pause);
    assert_eq!((answer(&fake), serve.is_open(), serve.agent().connections()), (None, true, 0));

    drop(in_flight);
    dispatch_until(&mut serve, "the client", |serve| serve.agent().connections() > 0);
    assert_eq!(answer(&fake), Some(Answer { token: record().token, outcome: Ok(()) }));
    assert!(serve.is_open());
    let mut stream = Stream::new(compositor.serve).unwrap();
    let (mut bytes, mut fds) = (Vec::new(), Default::default());
    stream.read(&mut bytes, &mut fds, 4096).unwrap();
    assert_eq!(fds.len(), 2, "where it listens, and when it doesn't any more");
}

#[test]
fn a_client_waits_until_it_can_be_tagged() {
    crate::alone::run("serve::tests::a_client_comes_where_too_many_fds_are_in_flight");
}
