use super::*;
use crate::channel::VfdId;
use crate::channel::fake::Fake;
use nix::sys::socket::{Backlog, listen};
use std::os::unix::net::UnixListener;
use wlproxy_protocol::accept::{Answer, HELLO, Hello, Token, Way, Ways};

const MAIN: VfdId = VfdId(1);

#[test]
fn a_compositor_that_takes_no_more_clients_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wayland-1");
    let compositor = UnixListener::bind(&socket).unwrap();
    listen(&compositor, Backlog::new(1).unwrap()).unwrap();
    let _queue: Vec<_> = std::iter::from_fn(|| wlproxy_unix::connect(&socket).ok()).collect();

    let fake = Fake::new();
    let mut serve = Serve::new(Box::new(fake.clone()), socket).unwrap();
    let mut bytes = Hello { ways: Ways::NAME }.encode().to_vec();
    let token = Token::new([7; 16]);
    let record = Record { vm: "work".into(), connection: 1, token, way: Way::Name };
    record.encode(&mut bytes);
    fake.deliver(MAIN, &bytes, vec![]);
    serve.dispatch().unwrap();

    let said = fake.bytes_to(MAIN);
    let answer = Answer::decode(&mut &said[HELLO..]).unwrap().unwrap();
    assert_eq!(answer, Answer { token, outcome: Err(Refusal::NoCompositor) });
    assert_eq!(serve.agent().connections(), 0);
}
