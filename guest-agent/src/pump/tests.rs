use super::*;
use crate::channel::fake::Fake;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{Read as _, Write as _};

/// What crosses in the long tests.
fn megabyte() -> Vec<u8> {
    (0..1u32 << 20).map(|i| (i % 251) as u8).collect()
}

/// A pump, its channel, its vfd, and the other end of its pipe, which doesn't block.
fn pump(end: PipeEnd) -> (Pump, Fake, VfdId, File) {
    let mut fake = Fake::new();
    let vfd = fake.pipe(end).unwrap();
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
    let (ours, theirs) = match end {
        PipeEnd::Read => (write, read),
        PipeEnd::Write => (read, write),
    };
    (Pump::new(vfd, end, ours).unwrap(), fake, vfd, theirs.into())
}

#[test]
fn a_megabyte_reaches_a_dawdling_reader() {
    let (mut pump, mut fake, vfd, mut reader) = pump(PipeEnd::Read);
    let sent = megabyte();
    sent.chunks(4000).for_each(|piece| fake.deliver(vfd, piece, vec![]));
    fake.hang_up(vfd);
    let (mut got, mut piece) = (Vec::new(), [0; 1500]);
    loop {
        let left = fake.undelivered(vfd);
        let progress = pump.progress(&mut fake).unwrap();
        assert!(pump.held.len() <= 4000, "more than one message is held");
        assert!(left - fake.undelivered(vfd) <= BURST, "others never get their turn");
        if progress == Progress::Done {
            break;
        }
        if let Ok(n) = reader.read(&mut piece) {
            got.extend(&piece[..n]);
        }
    }
    drop(pump);
    reader.read_to_end(&mut got).unwrap();
    assert!(got == sent);
}

#[test]
fn a_megabyte_reaches_a_dawdling_channel() {
    let (mut pump, mut fake, vfd, mut writer) = pump(PipeEnd::Write);
    let sent = megabyte();
    let mut rest = &sent[..];
    let mut writer = Some(&mut writer);
    loop {
        if let Some(open) = &mut writer {
            rest = &rest[open.write(rest).unwrap_or(0)..];
        }
        fake.set_credit(Some(1));
        let before = fake.state.borrow().sent.len();
        let progress = pump.progress(&mut fake).unwrap();
        assert!(fake.state.borrow().sent.len() <= before + 1 && pump.held.len() <= MAX_SEND);
        if rest.is_empty() {
            break;
        }
        assert_ne!(progress, Progress::Done);
        writer = writer.take();
    }
    fake.set_credit(None);
    while pump.progress(&mut fake).unwrap() == Progress::More {}
    assert!(fake.bytes_to(vfd) == sent);
}

#[test]
fn the_end_of_the_local_writer_comes_after_its_bytes() {
    let (mut pump, mut fake, vfd, mut writer) = pump(PipeEnd::Write);
    fake.set_credit(Some(0));
    writer.write_all(b"last words").unwrap();
    drop(writer);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Waiting);
    fake.set_credit(None);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Done);
    assert_eq!(fake.bytes_to(vfd), b"last words");
}

#[test]
fn a_fast_writer_leaves_others_their_turn() {
    let (mut pump, mut fake, vfd, mut writer) = pump(PipeEnd::Write);
    writer.write_all(&[0; 60_000]).unwrap();
    for _ in 0..BURST {
        writer.write_all(&[0; 100]).unwrap_or(());
    }
    let mut turns = 1;
    while pump.progress(&mut fake).unwrap() == Progress::More {
        turns += 1;
    }
    assert!(turns == 1 + fake.state.borrow().sent.len() / BURST);
    assert!(fake.bytes_to(vfd).len() >= 60_000);
}

#[test]
fn a_reader_that_leaves_is_noticed_though_the_writer_is_silent() {
    let (mut pump, mut fake, _, reader) = pump(PipeEnd::Read);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Waiting);
    drop(reader);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Done);
}

#[test]
fn a_reader_that_leaves_ends_a_pump_that_has_bytes() {
    let (mut pump, mut fake, vfd, reader) = pump(PipeEnd::Read);
    fake.deliver(vfd, b"nobody wants this", vec![]);
    drop(reader);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Done);
}

#[test]
fn a_remote_reader_that_leaves_is_noticed() {
    let (mut pump, mut fake, vfd, _writer) = pump(PipeEnd::Write);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Waiting);
    fake.hang_up(vfd);
    assert_eq!(pump.progress(&mut fake).unwrap(), Progress::Done);
}

#[test]
fn vfds_on_a_pipe_are_closed() {
    for end in [PipeEnd::Read, PipeEnd::Write] {
        let (mut pump, mut fake, vfd, _other) = pump(end);
        let stray = fake.arriving_pipe(PipeEnd::Read);
        let id = stray.vfd();
        fake.deliver(vfd, b"?", vec![stray]);
        pump.progress(&mut fake).unwrap();
        assert!(!fake.is_open(id));
    }
}
