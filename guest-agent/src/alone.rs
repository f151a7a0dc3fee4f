//! Tests that count or use up what their process has, and so need one of their own.

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{Uid, setuid};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

/// The first of the users as whom processes run that [`fill_flight`], if the tests run as root, each as one of its own:
/// root may have as many fds in flight as it likes. Not those of wlproxy's tests.
const USERS: u32 = 60_000;

/// More open files than a test has, and soon reached.
const LIMIT: u64 = 200;

/// Runs an ignored test of this crate in a process of its own, by its full name.
#[track_caller]
pub(crate) fn run(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        // Another user may not have what is there.
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// In a process of its own: puts fds in flight until no more may be. They are as long as this lives.
pub(crate) fn fill_flight() -> (UnixStream, UnixStream) {
    if Uid::effective().is_root() {
        setuid(Uid::from_raw(USERS + std::process::id() % USERS)).unwrap();
    }
    // Linux allows as many fds in flight, of all processes of this user together, as this one may have open.
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).unwrap();
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
