use super::*;
use crate::channel::fake::Fake;
use wlproxy_protocol::accept::{HELLO, Token, Way};

const MAIN: VfdId = VfdId(1);

fn record(connection: u64) -> Record {
    let token = Token::new([connection as u8; 16]);
    Record { vm: "work".into(), connection, token, way: Way::Name }
}

/// A listener, before the host's hello.
fn listener() -> (Listener, Fake) {
    let mut fake = Fake::new();
    let listener = Listener::new(&mut fake).unwrap();
    assert_eq!(fake.bytes_to(MAIN), Hello { ways: Ways::NAME }.encode());
    (listener, fake)
}

fn hello() -> Vec<u8> {
    Hello { ways: Ways::NAME }.encode().to_vec()
}

/// The answers that were sent: a refusal or none.
fn answers(fake: &Fake) -> Vec<Vec<u8>> {
    fake.bytes_to(MAIN)[HELLO..].chunks(24).map(<[u8]>::to_vec).collect()
}

fn answer(record: &Record, outcome: Result<(), Refusal>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Answer { token: record.token, outcome }.encode(&mut bytes);
    bytes
}

#[test]
fn records_may_come_in_pieces() {
    let expected: Vec<Record> = (1..4).map(record).collect();
    let mut bytes = hello();
    expected.iter().for_each(|record| record.encode(&mut bytes));
    for size in 1..bytes.len() {
        let (mut listener, mut fake) = listener();
        let mut records = Vec::new();
        for piece in bytes.chunks(size) {
            fake.deliver(MAIN, piece, vec![]);
            listener.dispatch(&mut fake, &mut records).unwrap();
        }
        assert_eq!(records, expected, "in pieces of {size} bytes");
    }
}

#[test]
fn what_is_malformed_ends_the_main_context() {
    let mut wrong = hello();
    wrong.extend([9; 40]);
    for bytes in [&b"not a hello!"[..], &wrong] {
        let (mut listener, mut fake) = listener();
        fake.deliver(MAIN, bytes, vec![]);
        let end = listener.dispatch(&mut fake, &mut Vec::new());
        assert!(matches!(end, Err(ListenError::Malformed(_))), "{end:?}");
    }
}

#[test]
fn vfds_with_a_record_are_closed_and_refused() {
    let (mut listener, mut fake) = listener();
    let stray = fake.arriving_pipe(crate::channel::PipeEnd::Read);
    let vfd = stray.vfd();
    fake.deliver(MAIN, &hello(), vec![stray]);
    let end = listener.dispatch(&mut fake, &mut Vec::new());
    assert!(matches!(end, Err(ListenError::Malformed(_))) && !fake.is_open(vfd));
}

#[test]
fn a_hang_up_and_a_lost_channel_are_told_apart() {
    let (mut listener, mut fake) = listener();
    fake.hang_up(MAIN);
    let end = listener.dispatch(&mut fake, &mut Vec::new());
    assert!(matches!(end, Err(ListenError::Closed)));
    fake.lose();
    let end = listener.dispatch(&mut fake, &mut Vec::new());
    assert!(matches!(end, Err(ListenError::Channel(Error::Lost(_)))));
}

#[test]
fn an_accepted_stream_begins_with_its_token() {
    let (mut listener, mut fake) = listener();
    let (stream, out) = listener.accept(&mut fake, &record(7)).unwrap();
    assert_eq!((fake.bytes_to(stream), out.queued()), (vec![7; 16], 0));
    assert_eq!(answers(&fake), [answer(&record(7), Ok(()))]);
}

#[test]
fn a_token_that_the_channel_does_not_take_yet_is_not_lost() {
    let (mut listener, mut fake) = listener();
    fake.set_credit(Some(0));
    let (stream, mut out) = listener.accept(&mut fake, &record(7)).unwrap();
    assert_eq!(out.queued(), 16);
    fake.set_credit(None);
    assert!(out.flush(&mut fake, stream).unwrap());
    assert_eq!(fake.bytes_to(stream), [7; 16]);
    listener.dispatch(&mut fake, &mut Vec::new()).unwrap();
    assert_eq!(answers(&fake), [answer(&record(7), Ok(()))]);
}

#[test]
fn what_cannot_be_opened_is_refused_with_the_reason() {
    let (mut listener, mut fake) = listener();
    let cases = [(Error::OutOfMemory, Refusal::Limit), (Error::NotFound, Refusal::Open)];
    for (number, (error, refusal)) in cases.into_iter().enumerate() {
        fake.state.borrow_mut().refusals.push_back(error);
        listener.accept(&mut fake, &record(number as u64)).unwrap_err();
        assert_eq!(answers(&fake)[number], answer(&record(number as u64), Err(refusal)));
    }
    // Opened, but not fit for use: it is closed again.
    fake.state.borrow_mut().send_failures.push_back(Error::NotFound);
    listener.accept(&mut fake, &record(9)).unwrap_err();
    assert_eq!(fake.open(), [MAIN]);
    assert_eq!(answers(&fake)[2], answer(&record(9), Err(Refusal::Open)));
    listener.refuse(&mut fake, &record(3), Refusal::NoCompositor).unwrap();
    assert_eq!(answers(&fake)[3], answer(&record(3), Err(Refusal::NoCompositor)));
    fake.lose();
    assert!(matches!(listener.accept(&mut fake, &record(4)), Err(Error::Lost(_))));
}
