//! What is shut in is tried, each call in a process of its own.
#![allow(unsafe_code)]

use super::*;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::ptr::null;
use std::thread;

/// Names what is tried in a process that the test starts.
const CASE: &str = "WLPROXY_TEST_SANDBOX";

/// How a process ends in which what was tried failed, as it should, and in which it didn't. Tests end otherwise.
const FAILED: i32 = 70;
const DONE: i32 = 71;

/// Does something, and says whether it could.
type Try = fn() -> bool;

/// A system call with these arguments. What they point to is there, or nothing is.
fn call(number: i64, arguments: [usize; 4]) -> bool {
    let [a, b, c, d] = arguments;
    // SAFETY: no case passes a pointer but null or to a static C string, and no case but those for memory changes memory:
    // these make a mapping of their own.
    unsafe { libc::syscall(number, a, b, c, d, -1, 0) >= 0 }
}

/// A mapping of its own, and what it is to be for.
fn map(protection: i32) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(libc::SYS_mmap, [0, 4096, protection as usize, flags as usize])
}

fn make_executable() -> bool {
    let size = 4096;
    // SAFETY: a mapping of its own, which nobody uses.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, -1, 0);
        page != libc::MAP_FAILED
            && libc::mprotect(page, size, libc::PROT_READ | libc::PROT_EXEC) == 0
    }
}

fn parent() -> usize {
    nix::unistd::getppid().as_raw() as usize
}

/// What no worker does.
const FORBIDDEN: &[(&str, Try)] = &[
    ("read a file", || File::open("/etc/passwd").is_ok()),
    ("make a file", || File::create("/tmp/wlproxy-sandbox-test").is_ok()),
    ("list a folder", || std::fs::read_dir("/").is_ok()),
    ("ask whether a file is there", || std::fs::metadata("/etc/passwd").is_ok()),
    ("remove a file", || std::fs::remove_file("/tmp/wlproxy-sandbox-nothing").is_ok()),
    ("start a program", || Command::new("/bin/true").status().is_ok()),
    ("become a program", || call(libc::SYS_execve, [c"/bin/true".as_ptr() as usize, 0, 0, 0])),
    ("fork", || call(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0])),
    ("listen to TCP", || TcpListener::bind("127.0.0.1:0").is_ok()),
    ("connect to a socket", || UnixStream::connect("/tmp/wlproxy-sandbox-nothing").is_ok()),
    ("make a socket", || {
        call(libc::SYS_socket, [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, 0])
    }),
    ("make a socket of virtual machines", || {
        // The kind is refused before the kernel looks whether it has it.
        call(libc::SYS_socket, [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0, 0])
    }),
    ("map code", || map(libc::PROT_READ | libc::PROT_EXEC)),
    ("make memory code", make_executable),
    ("signal another process", || call(libc::SYS_kill, [parent(), 0, 0, 0])),
    ("signal another process's thread", || call(libc::SYS_tgkill, [parent(), parent(), 0, 0])),
    ("read another process", || call(libc::SYS_process_vm_readv, [parent(), 0, 0, 0])),
    ("trace another process", || {
        call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, parent(), 0, 0])
    }),
    ("take another process's fd", || call(libc::SYS_pidfd_open, [parent(), 0, 0, 0])),
    ("ask for more memory than is allowed", || Vec::<u8>::new().try_reserve_exact(3 << 30).is_ok()),
    ("raise a limit", || call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, 0, 0])),
    ("open an io_uring", || call(libc::SYS_io_uring_setup, [1, null::<u8>() as usize, 0, 0])),
    ("load a BPF program", || call(libc::SYS_bpf, [0, 0, 0, 0])),
    ("handle page faults", || call(libc::SYS_userfaultfd, [0, 0, 0, 0])),
    ("enter a namespace", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0])),
    ("use keys", || call(libc::SYS_keyctl, [0, 0, 0, 0])),
    ("use a terminal", || {
        let mut size = [0_u16; 4];
        call(libc::SYS_ioctl, [0, libc::TIOCGWINSZ as usize, (&raw mut size) as usize, 0])
    }),
];

/// What any worker may do.
const ALLOWED: &[(&str, Try)] = &[
    ("start a thread", || {
        thread::Builder::new().name("named".into()).spawn(|| ()).unwrap().join().is_ok()
    }),
    ("make an allocation", || wlproxy_unix::memory::allocate("test", 4096).is_ok()),
    ("take memory", || vec![1_u8; 64 << 20].iter().all(|&byte| byte == 1)),
    ("write to the log", || std::io::stderr().write_all(b"a line\n").is_ok()),
    ("make an fd non-blocking", || {
        // Its standard input, which the test has made a socket.
        let input = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        input.set_nonblocking(true).is_ok()
            && (&input).read(&mut [0]).unwrap_err().kind() == io::ErrorKind::WouldBlock
    }),
];

/// Tries one of them in a process of its own, which is shut in first by `enter`.
fn run(test: &str, name: &str) -> Output {
    let (input, _other) = UnixStream::pair().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CASE, name).env("RUST_BACKTRACE", "0");
    command.stdin(std::os::fd::OwnedFd::from(input)).output().unwrap()
}

/// In that process: tries, and ends.
fn attempt(cases: &[(&str, Try)], enter: impl FnOnce()) {
    let Some(name) = std::env::var_os(CASE) else { return };
    let (_, attempt) = cases.iter().find(|(case, _)| name == *case).expect("a case");
    // The thread of the test isn't alone in its process; all are shut in.
    enter();
    std::process::exit(if attempt() { DONE } else { FAILED });
}

#[test]
fn a_worker_does_nothing_that_it_need_not() {
    attempt(FORBIDDEN, || enter_worker("work", Side::Client).unwrap());
    let test = "sandbox::tests::a_worker_does_nothing_that_it_need_not";
    for (name, _) in FORBIDDEN {
        let status = run(test, name).status;
        let killed = status.signal() == Some(Signal::SIGSYS as i32);
        assert!(killed || status.code() == Some(FAILED), "{name}: {status}");
    }
}

/// All VMs' clients have something in its queues.
#[test]
fn the_worker_of_the_compositor_vm_may_have_more_memory() {
    attempt(FORBIDDEN, || enter_worker("gui", Side::Compositor).unwrap());
    let test = "sandbox::tests::the_worker_of_the_compositor_vm_may_have_more_memory";
    let status = run(test, "ask for more memory than is allowed").status;
    assert_eq!(status.code(), Some(DONE), "{status}");
}

/// So none of the cases above fails for another reason than that.
#[test]
fn without_a_sandbox_most_of_it_is_possible() {
    attempt(FORBIDDEN, || ());
    let test = "sandbox::tests::without_a_sandbox_most_of_it_is_possible";
    let possible = |(name, _): &&(&str, Try)| run(test, name).status.code() == Some(DONE);
    let possible = FORBIDDEN.iter().filter(possible).count();
    assert!(possible > FORBIDDEN.len() / 2, "{possible} of {}", FORBIDDEN.len());
}

#[test]
fn a_worker_does_what_it_has_to() {
    attempt(ALLOWED, || enter_worker("work", Side::Client).unwrap());
    for (name, _) in ALLOWED {
        let output = run("sandbox::tests::a_worker_does_what_it_has_to", name);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(DONE), "{name}: {}: {said}", output.status);
    }
}

/// A call that isn't in the list is the end of the whole process, not of a thread.
#[test]
fn what_is_forbidden_ends_the_process() {
    attempt(FORBIDDEN, || enter_worker("work", Side::Client).unwrap());
    for name in ["open an io_uring", "fork", "make memory code"] {
        let status = run("sandbox::tests::what_is_forbidden_ends_the_process", name).status;
        assert_eq!(status.signal(), Some(Signal::SIGSYS as i32), "{name}: {status}");
    }
}

/// What wlproxy itself doesn't do. What it does is what all of its tests do.
const FORBIDDEN_TO_WLPROXY: &[&str] = &[
    "make a file",
    "listen to TCP",
    "make a socket of virtual machines",
    "read another process",
    "trace another process",
    "open an io_uring",
    "load a BPF program",
    "handle page faults",
    "enter a namespace",
    "use keys",
    "signal another process",
];

#[test]
fn wlproxy_changes_its_own_folders_alone() {
    let folder = tempfile::tempdir().unwrap();
    attempt(FORBIDDEN, || enter_wlproxy(&[folder.path()]).unwrap());
    for name in FORBIDDEN_TO_WLPROXY {
        let status = run("sandbox::tests::wlproxy_changes_its_own_folders_alone", name).status;
        assert_eq!(status.code(), Some(FAILED), "{name}: {status}");
    }
}

/// What can't be opened now stays closed, and nobody would know why what is done there fails.
#[test]
fn a_folder_that_is_not_there_is_told() {
    const NOTHING: &str = "/wlproxy-sandbox-nothing";
    attempt(ALLOWED, || {
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        enter_wlproxy(&[NOTHING.as_ref()]).unwrap();
    });
    let output = run("sandbox::tests::a_folder_that_is_not_there_is_told", "make an allocation");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(DONE), "{said}");
    assert!(said.contains("WARN") && said.contains(NOTHING), "{said}");
}
