use super::*;
use crate::counters::{ConnectionSnapshot, MAX_LISTED};
use crate::few_fds::{alone, fill};
use crate::histogram::{BUCKETS, Durations};
use crate::packet::MAX_PACKET;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::net::UnixStream;
use wlproxy_protocol::wayland::Offer;

fn token() -> Token {
    Token::new(*b"0123456789abcdef")
}

fn request(text: &str) -> Result<Request, ControlError> {
    let (host, worker) = pair().unwrap();
    worker.socket.send(text.as_bytes(), None).unwrap();
    match host.receive()? {
        Received::Message(request, None) => Ok(request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_that_cannot_be_handed_out_is_refused() {
    alone("control::tests::a_stream_that_cannot_be_handed_out_is_refused", || {
        let (host, worker) = pair().unwrap();
        let opened = || Opened { stream: UnixStream::pair().unwrap().0, role: Role::Main };
        let full = fill();
        host.answer("work", 1, Ok(opened())).unwrap();
        drop(full);
        host.answer("work", 2, Ok(opened())).unwrap();
        host.answer("work", 3, Err(OpenError::Limit)).unwrap();
        let order = || match worker.receive().unwrap() {
            Received::Message(order, fd) => (order, fd.is_some()),
            other => panic!("{other:?}"),
        };
        assert_eq!(order(), (Order::Refused { ticket: 1, error: OpenError::Failed }, false));
        assert_eq!(order(), (Order::Opened { ticket: 2, role: Role::Main }, true));
        assert_eq!(order(), (Order::Refused { ticket: 3, error: OpenError::Limit }, false));
        drop(worker);
        assert!(host.answer("work", 4, Ok(opened())).is_err());
    });
}

#[test]
fn requests_arrive() {
    let (host, worker) = pair().unwrap();
    let buckets = Durations { buckets: vec![0; BUCKETS + 1], total_us: 0 };
    let largest = Snapshot {
        commit_in: buckets.clone(),
        commit_out: buckets,
        connections: vec![ConnectionSnapshot::default(); MAX_LISTED],
        ..Snapshot::default()
    };
    let json = serde_json::to_string(&largest).unwrap();
    let numbers = [":", "[", ","].map(|before| format!("{before}0"));
    let largest = numbers
        .iter()
        .fold(json, |json, number| json.replace(number, &format!("{}{}", &number[..1], u64::MAX)));
    let snapshot: Snapshot = serde_json::from_str(&largest).unwrap();
    assert_eq!(snapshot.connections[0].receiving_bytes, u64::MAX);
    assert_eq!(snapshot.commit_out.count(), u64::MAX);
    for sent in [
        Request::Open { ticket: u64::MAX, target: Target::Default },
        Request::Open { ticket: 0, target: Target::Accepted(token()) },
        Request::Open { ticket: 1, target: Target::Channel(u32::MAX) },
        Request::Connected(true),
        Request::TraceTaken,
        Request::PolicyTaken,
        Request::Stats(Box::new(snapshot)),
    ] {
        worker.send(&sent, None).unwrap();
        let Received::Message(got, None) = host.receive().unwrap() else { panic!("{sent:?}") };
        assert_eq!(got, sent);
    }
    assert!(largest.len() < MAX_PACKET * 15 / 16, "room for more counters: {}", largest.len());
    assert!(matches!(host.receive().unwrap(), Received::WouldBlock));
    drop(worker);
    assert!(matches!(host.receive().unwrap(), Received::Eof));
}

#[test]
fn orders_arrive() {
    let (host, worker) = pair().unwrap();
    for sent in [
        Order::Opened { ticket: 1, role: Role::Link { connection: 3 } },
        Order::Opened { ticket: 2, role: Role::Main },
        Order::Opened { ticket: 3, role: Role::Accepted { connection: 4, vm: 0, token: token() } },
        Order::Refused { ticket: 4, error: OpenError::Unknown },
        Order::Refused { ticket: 4, error: OpenError::Limit },
        Order::Refused { ticket: 4, error: OpenError::Failed },
        Order::Policy(Policy::of("work")),
        Order::Trace { connection: u64::MAX },
        Order::Shutdown,
    ] {
        let null = File::open("/dev/null").unwrap();
        host.send(&sent, Some(null.as_fd())).unwrap();
        let Received::Message(got, Some(_)) = worker.receive().unwrap() else { panic!("{sent:?}") };
        assert_eq!(got, sent);
    }
}

#[test]
fn the_format_is_as_documented() {
    let open = request(r#"{"open":{"ticket":7,"target":"default"}}"#).unwrap();
    assert_eq!(open, Request::Open { ticket: 7, target: Target::Default });
    let open =
        request(r#"{"open":{"ticket":7,"target":{"accepted":"MDEyMzQ1Njc4OWFiY2RlZg"}}}"#).unwrap();
    assert_eq!(open, Request::Open { ticket: 7, target: Target::Accepted(token()) });
}

#[test]
fn hostile_packets_are_refused() {
    for text in [
        "x",
        "null",
        "{}",
        "[]",
        "\"shutdown\"",
        r#"{"open":{"ticket":7}}"#,
        r#"{"open":{"ticket":-7,"target":"default"}}"#,
        r#"{"open":{"ticket":1e3,"target":"default"}}"#,
        r#"{"open":{"ticket":7,"target":"default","vm":"gui"}}"#,
        r#"{"open":{"ticket":7,"target":"default"},"connected":true}"#,
        r#"{"open":{"ticket":7,"ticket":8,"target":"default"}}"#,
        r#"{"open":{"ticket":7,"target":{"accepted":"MDEyMzQ1Njc4OWFiY2RlZh"}}}"#,
        r#"{"open":{"ticket":7,"target":{"accepted":"MDEyMzQ1Njc4OWFiY2RlZg=="}}}"#,
        r#"{"open":{"ticket":7,"target":{"accepted":""}}}"#,
        r#"{"open":{"ticket":7,"target":{"accepted":"MDEyMzQ1Njc4OWFiY2RlZgMDEyMzQ1Njc4OWFiY2RlZg"}}}"#,
        r#"{"stats":{}}"#,
        r#"{"connected":1}"#,
        r#"{"connected":true} {"connected":true}"#,
    ] {
        let error = request(text).unwrap_err();
        assert!(matches!(error, ControlError::Json(_)), "{text}: {error}");
    }
    let deep = "[".repeat(MAX_PACKET);
    assert!(request(&deep).is_err());
}

#[test]
fn all_answers_that_may_be_outstanding_fit_into_the_socket() {
    let (host, _worker) = pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let role = Role::Accepted { connection: u64::MAX, vm: 0, token: token() };
    for _ in 0..MAX_OUTSTANDING {
        host.send(&Order::Opened { ticket: u64::MAX, role }, Some(null.as_fd())).unwrap();
    }
    for _ in 0..MAX_TRACE_ORDERS {
        host.send(&Order::Trace { connection: u64::MAX }, Some(null.as_fd())).unwrap();
    }
    let everything = Policy { offer: Offer::everything(), ..Policy::of(&"w".repeat(64)) };
    for _ in 0..MAX_POLICY_ORDERS {
        host.send(&Order::Policy(everything.clone()), None).unwrap();
    }
    host.send(&Order::Shutdown, None).unwrap();
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let (host, worker) = pair().unwrap();
        worker.socket.send(&bytes, None).unwrap();
        let _ = host.receive();
    }
}
