//! Agents that tell their numbers, and VMs that tell something else.

use super::driver::{Driver, Event, new};
use super::wayland::{link, request};
use super::{OK, pipe};
use crate::counters::ReportedSnapshot;
use crate::device::Side;
use proptest::prelude::*;
use wlproxy_protocol::report::{LENGTH, NAME, Report};
use wlproxy_protocol::virtio_wl::{VfdNew, flags, message};

const REPORT: Report = Report { frames: 3, damaged_bytes: 400, copied_bytes: 500 };

/// Asks for a context for reports; the answer.
fn open(driver: &mut Driver, id: u32) -> VfdNew {
    driver.new_vfd(VfdNew { name: NAME, ..new(message::VFD_NEW_CTX_NAMED, id) })
}

fn opened(driver: &mut Driver, id: u32) {
    let made = open(driver, id);
    let expected = (message::RESP_VFD_NEW, id, flags::READ | flags::WRITE);
    assert_eq!((made.header.kind, made.id, made.flags), expected);
}

fn told(driver: &Driver) -> ReportedSnapshot {
    driver.counters.snapshot().reported
}

#[test]
fn what_an_agent_tells_is_counted_as_its_own_word() {
    let mut driver = Driver::new(Side::Client);
    opened(&mut driver, 1);
    assert!(driver.opener.0.lock().unwrap().is_empty(), "nobody else has to do with it");
    assert_eq!(told(&driver), ReportedSnapshot { agents: 1, ..Default::default() });
    for report in [Report { frames: u64::MAX, ..REPORT }, REPORT] {
        assert_eq!(driver.sent(1, &report.encode(), &[]), OK);
    }
    let expected = ReportedSnapshot { agents: 1, frames: 3, damaged_bytes: 400, copied_bytes: 500 };
    assert_eq!(told(&driver), expected);
    let snapshot = driver.counters.snapshot();
    assert_eq!((snapshot.vfds, snapshot.contexts, snapshot.contexts_opened), (1, 0, 0));
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    assert_eq!(told(&driver), ReportedSnapshot { agents: 0, ..expected });
    assert_eq!(driver.events(), []);
}

#[test]
fn what_is_no_report_ends_its_context_alone() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    opened(&mut driver, 2);
    assert_eq!(driver.sent(2, &REPORT.encode(), &[]), OK);
    let twice = [REPORT.encode(); 2].concat();
    let huge = [7; 60_000];
    let cases = [&b""[..], b"x", b"wlpr\x02\0\0\0", &twice[..LENGTH - 1], &twice, &huge];
    for (at, bytes) in cases.into_iter().enumerate() {
        let id = 10 + at as u32;
        opened(&mut driver, id);
        assert_eq!(driver.sent(id, bytes, &[]), OK);
        assert_eq!(driver.events(), [Event::Hup(id)]);
        // Nothing is heard of it any more, nor said.
        assert_eq!(driver.sent(id, &REPORT.encode(), &[]), OK);
        assert_eq!((driver.events(), told(&driver).frames), (vec![], 3));
    }
    assert_eq!(told(&driver).agents, 1);
    assert_eq!(driver.sent(2, &Report { frames: 4, ..REPORT }.encode(), &[]), OK);
    assert_eq!(driver.sent(1, &request("still there"), &[]), OK);
    assert_eq!((driver.events(), told(&driver).frames), (vec![], 4));
}

#[test]
fn nothing_goes_along_with_a_report_and_its_context_goes_nowhere() {
    let mut driver = Driver::new(Side::Client);
    let _peer = link(&mut driver, 1);
    opened(&mut driver, 2);
    pipe(&mut driver, 3, flags::WRITE);
    let refused = Some(message::RESP_INVALID_TYPE);
    assert_eq!(driver.sent(2, &REPORT.encode(), &[3]), refused);
    assert_eq!(driver.sent(1, &request("take this"), &[2]), refused);
    assert_eq!(told(&driver).frames, 0);
}

#[test]
fn there_are_so_many_and_only_in_client_vms() {
    let mut driver = Driver::new(Side::Client);
    let mut ids = 1..;
    let last = ids.find(|&id| open(&mut driver, id).header.kind != message::RESP_VFD_NEW).unwrap();
    assert_eq!(open(&mut driver, last).header.kind, message::RESP_OUT_OF_MEMORY);
    assert_eq!(told(&driver).agents, u64::from(last) - 1);
    assert_eq!(open(&mut driver, 1).header.kind, message::RESP_INVALID_ID, "it is taken");
    // One that has ended is there until it is closed.
    assert_eq!(driver.sent(1, b"nonsense", &[]), OK);
    assert_eq!(open(&mut driver, last).header.kind, message::RESP_OUT_OF_MEMORY);
    let slot = driver.close(1);
    assert_eq!(driver.kind(slot), OK);
    opened(&mut driver, last);

    let mut driver = Driver::new(Side::Compositor);
    assert_eq!(open(&mut driver, 1).header.kind, message::RESP_INVALID_ID);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn no_reports_panic(
        told in prop::collection::vec((1..4u32, any::<(u64, u64, u64)>(), 0..LENGTH, prop::option::weighted(0.2, any::<u8>())), 0..40)
    ) {
        let mut driver = Driver::new(Side::Client);
        for (id, (frames, damaged_bytes, copied_bytes), at, changed) in told {
            let _ = open(&mut driver, id);
            let mut bytes = Report { frames, damaged_bytes, copied_bytes }.encode();
            if let Some(value) = changed {
                bytes[at] = value;
            }
            prop_assert_eq!(driver.sent(id, &bytes, &[]), OK);
            if changed.is_some() {
                driver.close(id);
            }
            let _ = driver.events();
        }
        driver.device = None;
        let snapshot = driver.counters.snapshot();
        prop_assert_eq!((snapshot.vfds, snapshot.reported.agents), (0, 0));
    }
}
