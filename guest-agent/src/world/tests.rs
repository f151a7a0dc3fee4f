use super::*;
use crate::channel::fake::Fake;
use nix::unistd::{read, write};
use std::fs;
use std::os::fd::AsRawFd;

const PEER: Peer<'_> = Peer { vm: "work", account: "work" };

fn world() -> (World, Fake) {
    let fake = Fake::new();
    (World::new(Box::new(fake.clone())).unwrap(), fake)
}

/// Runs a pump to its end.
fn finish(world: &mut World, vfd: VfdId) {
    let key = world.pump_of(vfd).unwrap();
    assert_eq!(world.run_pump(key).unwrap(), Progress::Done);
    world.close_retired(|_| false);
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC).unwrap()
}

fn open(path: impl AsRef<std::path::Path>) -> OwnedFd {
    File::open(path).unwrap().into()
}

#[test]
fn files_devices_and_directories() {
    let (mut world, fake) = world();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keymap");
    fs::write(&path, "xkb").unwrap();
    let vfd = world.carry_out(open(&path), PEER).unwrap();
    assert_eq!(fake.state.borrow().open[&vfd], PAGE_SIZE);
    assert_eq!(world.carry_out(open(&path), PEER).unwrap(), vfd);
    world.carry_out(open("/dev/null"), PEER).unwrap();
    let before = fake.open();
    for refused in ["/dev/zero".as_ref(), folder.path()] {
        assert!(matches!(world.carry_out(open(refused), PEER), Err(CarryError::Kind(_))));
    }
    File::create(&path).unwrap().set_len(MAX_CONSTANT + 1).unwrap();
    assert!(matches!(world.carry_out(open(&path), PEER), Err(CarryError::Limit(_))));
    assert_eq!(fake.open(), before, "what failed left nothing");
}

#[test]
fn a_file_to_write_to_gets_what_arrives() {
    let (mut world, fake) = world();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write_only = fs::OpenOptions::new().write(true).open(file.path()).unwrap();
    let vfd = world.carry_out(write_only.into(), PEER).unwrap();
    fake.deliver(vfd, b"pasted", vec![]);
    fake.hang_up(vfd);
    finish(&mut world, vfd);
    assert_eq!(fs::read(file.path()).unwrap(), b"pasted");
    assert!(!fake.is_open(vfd) && world.stats.pipes == 0);
}

#[test]
fn a_target_is_written_to_though_it_could_be_read() {
    let (mut world, fake) = world();
    let file = tempfile::NamedTempFile::new().unwrap();
    let targets = [file.reopen().unwrap().into(), open("/dev/null")];
    for target in targets {
        let vfd = world.carry_target(target, PEER).unwrap();
        fake.deliver(vfd, b"pasted", vec![]);
        fake.hang_up(vfd);
        finish(&mut world, vfd);
    }
    assert_eq!(fs::read(file.path()).unwrap(), b"pasted");
    assert!(matches!(world.carry_target(open("/"), PEER), Err(CarryError::Kind(_))));
    assert!(fake.open().is_empty(), "what failed left nothing");
}

#[test]
fn one_pipe_too_many_ends_the_oldest_of_its_account() {
    let (mut world, fake) = world();
    let other = Peer { account: "another", ..PEER };
    let others = world.carry_out(pipe().0, other).unwrap();
    let (mut vfds, mut ends) = (Vec::new(), Vec::new());
    for number in 0..=MAX_PUMPS {
        assert_eq!(world.stats.pipes as usize, 1 + number);
        let vfd = fake.arriving_pipe(PipeEnd::Read).vfd();
        vfds.push(vfd);
        ends.push(world.carry_pipe_in(vfd, PipeEnd::Read, PEER).unwrap());
    }
    vfds.push(world.carry_out(pipe().0, PEER).unwrap());
    assert_eq!(world.stats.pipes as usize, 1 + MAX_PUMPS);
    world.close_retired(|_| false);
    let open: Vec<VfdId> = std::iter::once(others).chain(vfds[2..].iter().copied()).collect();
    assert_eq!(fake.open(), open);
    assert_eq!(read(&ends[0], &mut [0]).unwrap(), 0, "whoever reads there sees an end");
}

#[test]
fn one_unread_pipe_too_many_ends_the_oldest_of_who_has_most() {
    let (mut world, fake) = world();
    let (mut vfds, mut readers) = (Vec::new(), Vec::new());
    // All are on accounts that have less than they may.
    let accounts = [("few", 1), ("most", MAX_STUCK / 2 + 1), ("many", MAX_STUCK / 2 - 1)];
    for (account, count) in accounts {
        for _ in 0..count {
            let vfd = fake.arriving_pipe(PipeEnd::Read).vfd();
            readers
                .push(world.carry_pipe_in(vfd, PipeEnd::Read, Peer { account, ..PEER }).unwrap());
            vfds.push(vfd);
        }
    }
    for (n, &vfd) in vfds.iter().enumerate() {
        assert_eq!(world.stats.pipes as usize, vfds.len(), "after {n} of them");
        // More than the pipe takes.
        (0..20).for_each(|_| fake.deliver(vfd, &[0; 4000], vec![]));
        let key = world.pump_of(vfd).unwrap();
        while world.run_pump(key).unwrap() == Progress::More {}
    }
    world.close_retired(|_| false);
    assert_eq!(vfds.iter().filter(|&&vfd| !fake.is_open(vfd)).collect::<Vec<_>>(), [&vfds[1]]);
}

#[test]
fn an_fd_may_be_sent_again_after_its_pump_ended() {
    let (mut world, fake) = world();
    let (reader, writer) = pipe();
    // The sender keeps its own fd, so the open file lives on; the second fd gets the number of the first.
    for _ in 0..3 {
        let vfd = world.carry_out(writer.try_clone().unwrap(), PEER).unwrap();
        fake.deliver(vfd, b"x", vec![]);
        fake.hang_up(vfd);
        finish(&mut world, vfd);
    }
    let mut bytes = [0; 8];
    assert_eq!(read(&reader, &mut bytes).unwrap(), 3);
    assert!(writer.as_raw_fd() > 0);
}

#[test]
fn a_pipe_that_fails_ends_alone() {
    let (mut world, fake) = world();
    let (reader, writer) = pipe();
    let vfd = world.carry_out(reader, PEER).unwrap();
    write(&writer, b"x").unwrap();
    fake.state.borrow_mut().send_failures.push_back(Error::Refused("broken pipe".into()));
    finish(&mut world, vfd);
    assert!(!fake.is_open(vfd));
}

#[test]
fn a_constant_file_is_not_longer_than_its_memory() {
    let (mut world, fake) = world();
    let Arrived::Allocation(memory) = fake.arriving_memory(b"keymap") else { unreachable!() };
    assert!(world.constant_file(&memory, 6).is_ok());
    assert!(world.constant_file(&memory, 0).is_ok());
    assert!(matches!(world.constant_file(&memory, 4097), Err(CarryError::Limit(_))));
}

#[test]
fn the_placeholder_is_shared() {
    let (mut world, _fake) = world();
    assert_eq!(world.placeholder().unwrap(), world.placeholder().unwrap());
}
