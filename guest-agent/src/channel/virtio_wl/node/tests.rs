#![allow(unsafe_code)]

use super::*;
use std::fs::File;
use std::os::fd::IntoRawFd;
use wlproxy_unix::memory;

fn open(path: &Path) -> Error {
    Node::open(path).unwrap_err()
}

#[test]
fn a_node_that_is_not_there_is_named_with_a_cure() {
    let nowhere = tempfile::tempdir().unwrap().path().join("wl0");
    let Error::Lost(why) = open(&nowhere) else { panic!("it isn't there") };
    assert!(why.contains(nowhere.to_str().unwrap()) && why.contains("load its driver"), "{why}");
}

#[test]
fn a_node_that_is_something_else_is_named_with_a_cure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [Path::new("/dev/null"), file.path()] {
        let Error::Refused(why) = open(path) else { panic!("{}", path.display()) };
        assert!(why.contains(path.to_str().unwrap()) && why.contains("/dev/wl0"), "{why}");
    }
    assert!(matches!(open(Path::new("/")), Error::Lost(_)));
}

#[test]
fn a_node_that_may_not_be_opened_is_named_with_a_cure() {
    // Root may open anything, so this asks for the words only.
    for errno in [Errno::EACCES, Errno::EPERM] {
        let Error::Refused(why) = unopened(Path::new("/dev/wl0"), &errno.into()) else {
            panic!("{errno}");
        };
        assert!(why.contains("/dev/wl0") && why.contains("udev rule"), "{why}");
    }
}

#[test]
fn other_drivers_know_none_of_the_ioctls() {
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let (pipe, _) = std::io::pipe().unwrap();
    let node = Node(null.try_clone().unwrap());
    assert_eq!(node.create(NewIoctl::plain(0)).unwrap_err(), Errno::ENOTTY);
    for fd in [null.as_fd(), pipe.as_fd()] {
        let (mut bytes, mut vfds) = (Vec::new(), Vec::new());
        assert_eq!(node.send(fd, b"bytes", &[fd]), Err(Errno::ENOTTY));
        assert_eq!(node.receive(fd, &mut bytes, &mut vfds), Err(Errno::ENOTTY));
        assert!(bytes.is_empty() && vfds.is_empty());
        assert!(node.map_page(fd, 0).is_err());
    }
}

#[test]
fn more_than_fits_is_not_even_sent() {
    let null = File::open("/dev/null").unwrap();
    let node = Node(null.into());
    let fd = node.0.as_fd();
    assert_eq!(node.send(fd, &[0; ROOM + 1], &[]), Err(Errno::EMSGSIZE));
    assert_eq!(node.send(fd, b"x", &[fd; MAX_FDS + 1]), Err(Errno::EMSGSIZE));
}

#[test]
fn a_send_is_laid_out_as_the_driver_reads_it() {
    let null = File::open("/dev/null").unwrap();
    let number = null.as_raw_fd();
    let transaction = Transaction::send(b"bytes", &[null.as_fd(), null.as_fd()]).unwrap();
    assert_eq!(transaction.header.fds[..3], [number, number, -1]);
    assert_eq!((transaction.header.len, &transaction.bytes[..6]), (5, &b"bytes\0"[..]));
    let full = Transaction::send(&[1; ROOM], &[null.as_fd(); MAX_FDS]).unwrap();
    assert!(full.header.fds == [number; MAX_FDS] && full.bytes == [1; ROOM]);
}

#[test]
fn what_the_driver_wrote_is_received() {
    let (mut bytes, mut vfds) = (b"before".to_vec(), Vec::new());
    let mut transaction = Transaction::receive();
    assert_eq!(transaction.header.len as usize, MAX_RECV);
    transaction.bytes[..4].copy_from_slice(b"more");
    transaction.header.len = 4;
    let (read, write) = std::io::pipe().unwrap();
    transaction.header.fds[..2].copy_from_slice(&[read.into_raw_fd(), write.into_raw_fd()]);
    // SAFETY: they were given up for it.
    unsafe { transaction.received(&mut bytes, &mut vfds) }
    assert_eq!((&bytes[..], vfds.len()), (&b"beforemore"[..], 2));
    assert!(memory::same_file(&vfds[0], &vfds[1]), "both ends of one pipe");
    // Nothing at all is the end, and more than there was room for isn't believed.
    for (len, taken) in [(0, 0), (u32::MAX, MAX_RECV)] {
        let mut transaction = Transaction::receive();
        transaction.header.len = len;
        let (mut bytes, mut vfds) = (Vec::new(), Vec::new());
        // SAFETY: there are none.
        unsafe { transaction.received(&mut bytes, &mut vfds) }
        assert_eq!((bytes.len(), vfds.len()), (taken, 0));
    }
}

#[test]
fn a_page_of_memory_can_be_mapped() {
    let memory = memory::allocate("test", 8192).unwrap();
    let node = Node(File::open("/dev/null").unwrap().into());
    assert_eq!(node.map_page(memory.as_fd(), 0), Ok(()));
    assert_eq!(node.map_page(memory.as_fd(), 1), Ok(()));
    assert_eq!(node.map_page(memory.as_fd(), u64::MAX), Err(Errno::EINVAL));
}
