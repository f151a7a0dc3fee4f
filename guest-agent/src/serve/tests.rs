use super::*;
use crate::channel::VfdId;
use crate::channel::fake::Fake;
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
    stream.write_all(&done).unwrap();
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
    let mut bytes = Vec::new();
    record().encode(&mut bytes);
    fake.deliver(MAIN, &bytes, vec![]);
    serve.dispatch().unwrap();
}

fn answer(fake: &Fake) -> Option<Answer> {
    Answer::decode(&mut &fake.bytes_to(MAIN)[HELLO..]).unwrap()
}

#[test]
fn a_compositor_that_takes_no_more_clients_is_not_waited_for() {
    let fake = Fake::new();
    let (compositor, mut serve) = open(&fake, 1);
    let _queue: Vec<_> =
        std::iter::from_fn(|| wlproxy_unix::connect(&compositor.socket).ok()).collect();
    announce(&fake, &mut serve);
    let refused = Answer { token: record().token, outcome: Err(Refusal::NoCompositor) };
    assert_eq!(answer(&fake), Some(refused));
    assert_eq!(serve.agent().connections(), 0);
    assert!(serve.is_open());
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
