//! What a VM may copy and paste, and what is told of it.

use super::driver::{Driver, Event, event, new};
use super::wayland::{self, link};
use super::{OK, fill, give, pipe, take};
use crate::child::child;
use crate::policy::{Kind, Selections};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use wlproxy_protocol::virtio_wl::{VfdNew, flags, message};

/// What a process has said, and of that what it logs of transfers, without what stands before the reason.
struct Ended {
    said: String,
    lines: Vec<String>,
}

/// What `run` says. Where other threads log, too, not all of it would be seen: so it is run in a process of its own, and `None`
/// there.
fn transfers(test: &str, run: impl FnOnce()) -> Option<Ended> {
    let Some(output) = child(&format!("device::virtio_wl::tests::selections::{test}")) else {
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        run();
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = said.lines().filter_map(|line| line.split_once("a transfer ends: "));
    let lines = lines.map(|(_, rest)| rest.to_owned()).collect();
    Some(Ended { said, lines })
}

fn limit(bytes: u64) -> Driver {
    Driver::selecting(Selections { bytes, ..Selections::default() })
}

#[test]
fn what_is_taken_is_counted_and_cut_off_at_its_limit() {
    let name = "what_is_taken_is_counted_and_cut_off_at_its_limit";
    let lines = transfers(name, || {
        for (written, reaches) in [("abcd", "abcd"), ("abcdefghij", "abcd")] {
            let mut driver = limit(4);
            let peer = link(&mut driver, 1);
            pipe(&mut driver, 2, flags::READ);
            assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
            let mut writer = File::from(take(&peer).1.pop().unwrap());
            writer.write_all(written.as_bytes()).unwrap();
            let mut events = driver.events();
            if written == reaches {
                drop(writer);
            } else {
                let error = writer.write(b"more").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }
            events.extend(driver.events());
            assert_eq!(events, [Event::Recv(2, vec![], reaches.into()), Event::Hup(2)]);
            let now = driver.counters.snapshot();
            assert_eq!((now.transfers, now.transfer_bytes, now.selections_refused), (1, 4, 0));
            assert_eq!(driver.sent(1, &wayland::commit(), &[]), OK, "its client goes on");
        }
    });
    let fields = "vm=\"test\" connection=1 direction=take kind=\"unknown\" type=\"text/plain\"";
    let whys = [
        "whoever wrote it has closed it",
        "it has more bytes than the selections of this VM may have",
    ];
    let expected = whys.map(|why| format!("{why} {fields} bytes=4"));
    lines.into_iter().for_each(|ended| assert_eq!(ended.lines, expected));
}

#[test]
fn what_is_given_is_counted_and_cut_off_at_its_limit() {
    let name = "what_is_given_is_counted_and_cut_off_at_its_limit";
    let lines = transfers(name, || {
        let mut driver = limit(4);
        let peer = link(&mut driver, 1);
        for written in ["abcd", "abcdefghij"] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            give(&peer, &wayland::send("text/plain"), [writer]);
            let events = driver.events();
            let [Event::New(VfdNew { id, .. }), Event::Recv(1, ..)] = events[..] else {
                panic!("{events:?}")
            };
            assert_eq!(driver.sent(id, written.as_bytes(), &[]), OK);
            if written.len() > 4 {
                assert_eq!(driver.events(), [Event::Hup(id)]);
            }
            let close = driver.close(id);
            assert_eq!(driver.kind(close), OK);
            let mut got = String::new();
            File::from(reader).read_to_string(&mut got).unwrap();
            assert_eq!(got, "abcd");
        }
    });
    let Some(Ended { lines, .. }) = lines else { return };
    let [whole, cut] = &lines[..] else { panic!("{lines:?}") };
    assert!(whole.starts_with("the VM has closed it") && whole.ends_with("bytes=4"), "{whole}");
    assert!(cut.contains("more bytes than") && cut.contains("direction=give"), "{cut}");
}

/// Bytes that nobody has read, and that the pipe didn't take, were not given.
#[test]
fn what_was_never_written_does_not_count() {
    // Divides the pages of all machines, so that a pipe is filled to its last byte.
    const PART: usize = 4096;
    let name = "what_was_never_written_does_not_count";
    let lines = transfers(name, || {
        let mut driver = limit(1 << 30);
        let peer = link(&mut driver, 1);
        let (reader, writer) = nix::unistd::pipe().unwrap();
        // How much it takes depends on the machine, and on how many pipes there are.
        let room = usize::try_from(fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap()).unwrap();
        give(&peer, &wayland::send("text/plain"), [writer]);
        let Some(Event::New(VfdNew { id, .. })) = driver.events().into_iter().next() else {
            panic!("no vfd")
        };
        for _ in 0..room / PART {
            assert_eq!(driver.sent(id, &[7; PART], &[]), OK);
        }
        assert_eq!(driver.sent(id, &[7; PART], &[]), None, "there is no more room");
        drop(reader);
        driver.turn();
        assert_eq!(driver.events(), [Event::Hup(id)]);
        assert_eq!(driver.counters.snapshot().transfer_bytes, (room + PART) as u64);
        writeln!(std::io::stderr(), "the pipe took {room} bytes").unwrap();
    });
    let Some(Ended { said, lines }) = lines else { return };
    assert_eq!(lines.len(), 1);
    let room = said.split_once("the pipe took ").and_then(|(_, rest)| rest.split(' ').next());
    let end = format!("bytes={}", room.unwrap());
    assert!(
        lines[0].starts_with("nobody reads it any more") && lines[0].ends_with(&end),
        "{lines:?}"
    );
}

/// A transfer may begin behind events that the guest doesn't take yet, and its fd waits with them.
#[test]
fn what_is_asked_for_behind_what_waits_is_counted() {
    let name = "what_is_asked_for_behind_what_waits_is_counted";
    let lines = transfers(name, || {
        // What the client does meanwhile: nothing; it leaves; it breaks the rules.
        for meanwhile in 0..3 {
            let mut driver = limit(1 << 20);
            let mut peer = link(&mut driver, 1);
            let vfds = driver.counters.vfds.get();
            fill(&mut driver, &mut peer);
            let mut unread = driver.received();
            let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
            give(&peer, &wayland::send("text/plain"), [writer]);
            unread.extend(driver.received());
            let news = |event: &Event| matches!(event, Event::New(_));
            assert!(!unread.iter().any(|one| news(&event(&one.bytes))), "it doesn't wait");
            assert_eq!(driver.counters.snapshot().transfers, 1);
            if meanwhile > 0 {
                match meanwhile {
                    1 => {
                        let close = driver.close(1);
                        assert_eq!(driver.kind(close), OK);
                    }
                    _ => assert_eq!(driver.sent(1, &wayland::bad_request(), &[]), OK),
                }
                // Nobody has it any more.
                assert_eq!(nix::unistd::read(&reader, &mut [0]), Ok(0));
            }
            let (mut made, mut brought) = (Vec::new(), Vec::new());
            while !unread.is_empty() {
                for received in &unread {
                    match event(&received.bytes) {
                        Event::New(new) => made.push(new.id),
                        Event::Recv(1, vfds, _) => brought.extend(vfds),
                        Event::Recv(..) => panic!("of another"),
                        Event::Hup(id) => assert_eq!((id, meanwhile), (1, 2)),
                    }
                }
                driver.give_back(unread);
                unread = driver.received();
            }
            assert_eq!(made, brought);
            if meanwhile > 0 {
                assert_eq!(made, [0; 0]);
                continue;
            }
            let [id] = made[..] else { panic!("{made:?}") };
            assert_eq!(driver.sent(id, b"abcd", &[]), OK);
            let close = driver.close(id);
            assert_eq!((driver.kind(close), driver.counters.vfds.get()), (OK, vfds));
            let mut got = String::new();
            File::from(reader).read_to_string(&mut got).unwrap();
            assert_eq!(got, "abcd");
        }
    });
    let Some(Ended { lines, .. }) = lines else { return };
    let fields = "vm=\"test\" connection=1 direction=give kind=\"unknown\" type=\"text/plain\"";
    let expected =
        [4, 0, 0].map(|bytes| format!("the VM has closed it, or is gone {fields} bytes={bytes}"));
    assert_eq!(lines, expected);
}

/// Others may ask for as much as they like: that must not fill the log.
#[test]
fn what_others_take_is_told_no_more_often_than_the_rate() {
    let name = "what_others_take_is_told_no_more_often_than_the_rate";
    let lines = transfers(name, || {
        let mut driver = Driver::selecting(Selections { rate: 2, ..Selections::default() });
        let peer = link(&mut driver, 1);
        for _ in 0..5 {
            let (_reader, writer) = nix::unistd::pipe().unwrap();
            give(&peer, &wayland::send("text/plain"), [writer]);
            let Some(Event::New(VfdNew { id, .. })) = driver.events().into_iter().next() else {
                panic!("no vfd")
            };
            let close = driver.close(id);
            assert_eq!(driver.kind(close), OK);
        }
        assert_eq!(driver.counters.snapshot().transfers, 5);
    });
    let Some(Ended { said, lines }) = lines else { return };
    assert_eq!((lines.len(), said.matches("only counted").count()), (2, 1), "{said}");
}

#[test]
fn what_is_asked_for_in_memory_goes_nowhere() {
    let name = "what_is_asked_for_in_memory_goes_nowhere";
    let lines = transfers(name, || {
        let mut driver = limit(4);
        let peer = link(&mut driver, 1);
        let made = driver.new_vfd(VfdNew { size: 4096, ..new(message::VFD_NEW, 2) });
        assert_eq!(made.header.kind, message::RESP_VFD_NEW);
        assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
        let mut writer = File::from(take(&peer).1.pop().unwrap());
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
    let Some(Ended { lines, .. }) = lines else { return };
    assert!(lines.len() == 1 && lines[0].contains("in memory"), "{lines:?}");
    assert!(!lines[0].contains("bytes="), "{lines:?}");
}

#[test]
fn what_may_not_be_taken_ends_at_once() {
    let mut driver = Driver::selecting(Selections { take: [].into(), ..Selections::default() });
    let peer = link(&mut driver, 1);
    pipe(&mut driver, 2, flags::READ);
    assert_eq!(driver.sent(1, &wayland::receive(), &[2]), OK);
    assert_eq!(driver.events(), [Event::Hup(2)]);
    let (bytes, fds) = take(&peer);
    assert!(bytes.is_empty() && fds.is_empty());
    assert_eq!(driver.counters.snapshot().selections_refused, 1);
}

/// The client is told by the host: nothing comes from the compositor.
#[test]
fn a_drag_that_may_not_be_is_cancelled() {
    let give = [Kind::Clipboard].into();
    let mut driver = Driver::selecting(Selections { give, ..Selections::default() });
    let mut peer = link(&mut driver, 1);
    assert_eq!(driver.sent(1, &wayland::start_drag(), &[]), OK);
    driver.wait();
    assert_eq!(driver.events(), [Event::Recv(1, vec![], wayland::cancelled())]);
    assert!(!driver.is_woken());
    // Between two events, not in one.
    assert_eq!(driver.sent(1, &wayland::start_drag(), &[]), OK);
    peer.write_all(&wayland::report("x")).unwrap();
    driver.wait();
    let mut all = Vec::new();
    while all.len() < wayland::report("x").len() + wayland::cancelled().len() {
        let events = driver.events();
        if events.is_empty() {
            driver.wait();
        }
        for event in events {
            let Event::Recv(1, _, bytes) = event else { panic!("{event:?}") };
            all.extend(bytes);
        }
    }
    let orders = [
        [wayland::report("x"), wayland::cancelled()].concat(),
        [wayland::cancelled(), wayland::report("x")].concat(),
    ];
    assert!(orders.contains(&all));
}
