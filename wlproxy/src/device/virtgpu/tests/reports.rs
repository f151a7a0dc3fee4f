//! Agents that tell their numbers, and VMs that tell something else.

use super::driver::{Driver, write};
use super::wayland::request;
use super::{HANG_UP, MALFORMED, OK, PIPE, STREAM, WRITE_PIPE};
use crate::counters::ReportedSnapshot;
use crate::device::Side;
use crate::device::virtio_wl::tests::take;
use wlproxy_protocol::report::{CHANNEL, LENGTH, Report};

const REPORT: Report = Report { frames: 3, damaged_bytes: 400, copied_bytes: 500 };

fn told(driver: &Driver) -> ReportedSnapshot {
    driver.counters.snapshot().reported
}

#[test]
fn what_an_agent_tells_is_counted_as_its_own_word() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.begin(1, CHANNEL), OK);
    assert!(driver.opener.0.lock().unwrap().is_empty(), "nobody else has to do with it");
    assert_eq!(told(&driver), ReportedSnapshot { agents: 1, ..Default::default() });
    for report in [Report { frames: u64::MAX, ..REPORT }, REPORT] {
        assert_eq!(driver.send(1, &report.encode(), &[]), OK);
    }
    let expected = ReportedSnapshot { agents: 1, frames: 3, damaged_bytes: 400, copied_bytes: 500 };
    assert_eq!(told(&driver), expected);
    let snapshot = driver.counters.snapshot();
    assert_eq!((snapshot.vfds, snapshot.contexts, snapshot.contexts_opened), (1, 0, 0));
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(told(&driver), ReportedSnapshot { agents: 0, ..expected });
    assert_eq!(driver.counters.vfds.get(), 0);
}

#[test]
fn what_is_no_report_ends_its_context_alone() {
    let mut driver = Driver::new(Side::Client);
    let peer = driver.link(1);
    assert_eq!(driver.begin(2, CHANNEL), OK);
    assert_eq!(driver.send(2, &REPORT.encode(), &[]), OK);
    let twice = [REPORT.encode(); 2].concat();
    let huge = [7; 60_000];
    let cases = [b"x", &b"wlpr\x02\0\0\0"[..], &twice[..LENGTH - 1], &twice, &huge];
    for (at, bytes) in cases.into_iter().enumerate() {
        let id = 10 + at as u32;
        assert_eq!(driver.begin(id, CHANNEL), OK);
        let waits = driver.poll(id);
        assert_eq!((driver.send(id, bytes, &[]), driver.header(waits).unwrap().kind), (OK, OK));
        assert_eq!(driver.event(id), HANG_UP);
        // Nothing is heard of it any more.
        assert_eq!((driver.send(id, &REPORT.encode(), &[]), told(&driver).frames), (OK, 3));
    }
    assert_eq!(told(&driver).agents, 1);
    assert_eq!(driver.send(2, &Report { frames: 4, ..REPORT }.encode(), &[]), OK);
    assert_eq!(told(&driver).frames, 4);
    assert_eq!(driver.send(1, &request("still there"), &[]), OK);
    assert_eq!(take(&peer).0, request("still there"));
}

#[test]
fn nothing_goes_along_with_a_report_and_its_context_hangs_up_when_it_is_told_to() {
    let mut driver = Driver::new(Side::Client);
    assert_eq!(driver.begin(1, CHANNEL), OK);
    assert_eq!(driver.send(1, &REPORT.encode(), &[(WRITE_PIPE, PIPE)]), MALFORMED);
    assert_eq!((driver.send(1, b"", &[]), told(&driver).frames), (OK, 0));
    assert_eq!(driver.counters.vfds.get(), 1, "no pipe was made");
    assert_eq!(driver.executed(1, &write(STREAM, true, b"")), OK);
    assert_eq!((told(&driver).agents, driver.counters.vfds.get()), (0, 0));
}

#[test]
fn there_are_so_many_and_only_in_client_vms() {
    let mut driver = Driver::new(Side::Client);
    let mut ids = 1..;
    let last = ids.find(|&id| driver.begin(id, CHANNEL) != OK).unwrap();
    assert_eq!(told(&driver).agents, u64::from(last) - 1);
    assert_eq!(driver.receive(last), HANG_UP);
    // Not at the expense of streams.
    let _peer = driver.link(last + 1);
    assert_eq!(driver.destroy_context(1), OK);
    assert_eq!(driver.begin(last + 2, CHANNEL), OK);
    assert_eq!(driver.send(last + 2, &REPORT.encode(), &[]), OK);
    assert_eq!(told(&driver).frames, 3);

    let mut driver = Driver::new(Side::Compositor);
    assert_eq!(driver.begin(1, CHANNEL), MALFORMED);
    assert_eq!(told(&driver).agents, 0);
}
