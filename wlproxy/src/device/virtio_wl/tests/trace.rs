//! Traces of connections, and readers that don't read.

use super::driver::Driver;
use super::wayland::{self, link, request};
use super::{OK, drain, give};
use crate::device::Side;
use crate::device::trace::MAX_TRACES;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Asks for a trace of connection 1.
fn trace(driver: &mut Driver) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    driver.traces.push(1, theirs).unwrap();
    driver.turn();
    ours
}

fn read(reader: &mut UnixStream) -> Vec<String> {
    let text = String::from_utf8(drain(reader)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What follows the time in each line.
fn said(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split_once("] ").unwrap().1).collect()
}

const GREETING: &str = r#"{"begins":1}"#;

#[test]
fn a_reader_sees_what_passes_until_the_connection_ends() {
    let mut driver = Driver::new(Side::Client);
    let peer = link(&mut driver, 1);
    let mut readers = [trace(&mut driver), trace(&mut driver)];
    assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK);
    give(&peer, &wayland::report("done"), []);
    driver.events();
    let lines = read(&mut readers[0]);
    assert_eq!(lines[0], GREETING);
    assert!(lines[1].starts_with('[') && lines[1].as_bytes()[8] == b'.', "{}", lines[1]);
    let [request, event] = said(&lines[1..])[..] else { panic!("{lines:?}") };
    assert_eq!(request, "wl_surface@7.commit()");
    assert!(event.starts_with(" -> ") && event.contains("\"done\""), "{event}");
    assert_eq!(read(&mut readers[1]).len(), 3);

    assert_eq!(driver.sent(1, &wayland::bad_request(), &[]), OK);
    let lines = read(&mut readers[0]);
    assert_eq!(said(&lines), ["-- object 99: no such object"]);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(said(&read(&mut readers[0])), ["-- the connection has ended"]);
    assert_eq!(readers[0].read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_connection_that_is_not_there_is_refused() {
    let mut driver = Driver::new(Side::Client);
    let mut reader = trace(&mut driver);
    assert_eq!(read(&mut reader), [r#"{"error":"VM test has no connection 1"}"#]);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    driver.device = None;
    assert!(driver.traces.push(1, reader).is_err(), "no device runs");
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_and_learns_what_it_missed() {
    let mut driver = Driver::new(Side::Client);
    let mut peer = link(&mut driver, 1);
    let mut reader = trace(&mut driver);
    let text = "x".repeat(190);
    let sent = 5000;
    for _ in 0..sent {
        assert_eq!(driver.sent(1, &request(&text), &[]), OK);
        drain(&mut peer);
    }
    let mut lines = Vec::new();
    // It goes on when there is room, without anything else happening.
    while lines.last().is_none_or(|line: &String| !line.starts_with("... ")) {
        lines.extend(read(&mut reader));
        driver.turn();
    }
    let missing: usize = lines.last().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    // Less the greeting and this note; a line may have been read in two parts.
    let whole = lines.iter().filter(|line| line.starts_with('[')).count();
    assert_eq!(whole + missing, sent);
    assert!(missing > 0 && whole > 0);
    assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK);
    assert_eq!(said(&read(&mut reader)), ["wl_surface@7.commit()"]);
}

#[test]
fn a_reader_that_ends_its_side_reads_on() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    let (mut reader, theirs) = UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    reader.write_all(b"more").unwrap();
    reader.shutdown(Shutdown::Write).unwrap();
    driver.traces.push(1, theirs).unwrap();
    driver.turn();
    driver.turn();
    assert_eq!(read(&mut reader), [GREETING]);
    assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK);
    assert_eq!(said(&read(&mut reader)), ["wl_surface@7.commit()"]);
}

#[test]
fn readers_may_go_and_are_few() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    let mut readers: Vec<_> = (0..MAX_TRACES).map(|_| trace(&mut driver)).collect();
    let mut refused = trace(&mut driver);
    assert_eq!(read(&mut refused), [r#"{"error":"8 traces of VM test are read already"}"#]);
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    drop(readers.pop());
    driver.turn();
    let mut last = trace(&mut driver);
    assert_eq!(read(&mut last), [GREETING]);
    drop((readers, last));
    driver.turn();
    assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK);
    let mut again = trace(&mut driver);
    assert_eq!(read(&mut again), [GREETING], "nothing was kept for nobody");
}
