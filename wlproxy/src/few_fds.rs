//! For tests: a process in which few fds may be in flight.

use crate::child::child;
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{Uid, setuid};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// The first of the users as whom such processes run if the tests run as root, each as one of its own: root may have as
/// many in flight as it likes.
const USERS: u32 = 20_000;

/// More open files than a test has, and soon reached.
const LIMIT: u64 = 200;

/// Runs `test`, the whole of the test called `name`, in a process of its own.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    // One after the other: without root they are all one user's.
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(output) = child(name) {
        drop(turn);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    if Uid::effective().is_root() {
        setuid(Uid::from_raw(USERS + std::process::id() % USERS)).unwrap();
    }
    // Linux allows as many fds in flight, of all processes of this user together, as this one may have open.
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).unwrap();
    test();
}

/// Puts fds in flight until no more may be. They are as long as this lives.
pub(crate) fn fill() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_raw_fd(); 28];
    for _ in 0..LIMIT {
        let rights = [ControlMessage::ScmRights(&fds)];
        let slices = [IoSlice::new(b"x")];
        match sendmsg::<()>(a.as_raw_fd(), &slices, &rights, MsgFlags::MSG_DONTWAIT, None) {
            Ok(_) => {}
            Err(Errno::ETOOMANYREFS) => return (a, b),
            Err(errno) => panic!("{errno}"),
        }
    }
    panic!("as many as it likes may be in flight");
}
