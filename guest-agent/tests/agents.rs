//! The agents as the processes that they are, without a host behind them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest that anything here may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that doesn't outlive its test.
struct Agent(Child);

impl Agent {
    /// Has a shell start an agent in `folder`: after `before`, with these arguments.
    fn start(folder: &Path, before: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]);
        shell.arg(env!("CARGO_BIN_EXE_guest-agent")).args(arguments);
        shell.current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("RUST_LOG", "info");
        Self(shell.spawn().unwrap())
    }

    fn end(&mut self) -> ExitStatus {
        until("the agent's end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nobody listens there.
const NOBODY: [&str; 2] = ["--channel", "process:nobody"];

#[test]
fn an_agent_may_open_more_files_than_its_application() {
    let folder = tempfile::tempdir().unwrap();
    let limits = r#"cat /proc/$PPID/limits > limits; test "$(ulimit -Sn)" = 100"#;
    let run = [&["run"], &NOBODY[..], &["--", "sh", "-c", limits]].concat();
    assert!(Agent::start(folder.path(), "ulimit -Sn 100", &run).end().success());
    let soft = |limits: String| {
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).unwrap()
    };
    assert!(soft(fs::read_to_string(folder.path().join("limits")).unwrap()) > 100);

    let serve = [&["serve"], &NOBODY[..], &["--compositor", "wayland-0"]].concat();
    let agent = Agent::start(folder.path(), "ulimit -Sn 100", &serve);
    until("a higher limit", || {
        let limits = fs::read_to_string(format!("/proc/{}/limits", agent.0.id())).unwrap();
        (soft(limits) > 100).then_some(())
    });
}

#[test]
fn the_end_of_an_application_is_noticed_where_ends_of_children_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let run = [&["run"], &NOBODY[..], &["--", "sh", "-c", "exit 7"]].concat();
    // Not every shell's trap is inherited.
    let ignoring = r#"exec env --ignore-signal=CHLD "$@""#;
    let mut agent = Agent::start(folder.path(), ignoring, &run);
    assert_eq!(agent.end().code(), Some(7));
}

/// A socket that takes connections from the moment on at which it is there.
fn listen_at(path: &Path) -> UnixListener {
    let new = path.with_extension("new");
    let listener = UnixListener::bind(&new).unwrap();
    fs::rename(new, path).unwrap();
    listener
}

/// Does what a compositor does for a client that asks whether it is there.
fn answer(compositor: &UnixListener) -> UnixStream {
    let (client, _) = compositor.accept().unwrap();
    answer_to(&client).unwrap();
    client
}

fn answer_to(mut client: &UnixStream) -> io::Result<()> {
    // get_registry and sync, of 12 bytes each; the latter's callback is object 3.
    client.read_exact(&mut [0; 24])?;
    client.write_all(&[3, 12 << 16, 0, 1, 12 << 16 | 1, 3].map(u32::to_ne_bytes).concat())
}

/// A second agent of a VM waits for the first to end: its device is busy. It can be asked to end meanwhile.
#[test]
fn an_agent_whose_device_does_not_answer_says_why_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let compositor = UnixListener::bind(folder.path().join("wayland-0")).unwrap();
    let _busy = UnixListener::bind(folder.path().join("busy")).unwrap();
    let channel = ["--channel", "process:busy"];
    let run = [&["run"], &channel[..], &["--", "sleep", "60"]].concat();
    let serve = [&["serve"], &channel[..], &["--compositor", "wayland-0"]].concat();
    for arguments in [run, serve] {
        let log = folder.path().join(format!("{}.log", arguments[0]));
        let before = format!("exec 2> {}", log.display());
        let mut agent = Agent::start(folder.path(), &before, &arguments);
        let _connection = (arguments[0] == "serve").then(|| answer(&compositor));
        until("a reason", || {
            let log = fs::read_to_string(&log).ok()?;
            log.contains("another agent may be connected").then_some(())
        });
        kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        agent.end();
    }
}

#[test]
fn without_an_application_the_socket_is_there_until_the_end_is_asked_for() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        let run = [&["run"], &NOBODY[..], &["--socket", "wayland-7"]].concat();
        let mut agent = Agent::start(folder.path(), ":", &run);
        until("a socket", || UnixStream::connect(folder.path().join("wayland-7")).ok());
        kill(Pid::from_raw(agent.0.id().cast_signed()), signal).unwrap();
        assert_eq!(agent.end().code(), Some(0), "{signal}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{signal}");
    }
}

/// Starts an agent as systemd would: `sockets` are its fds from 3 on. Its log goes to `log` in `folder`.
fn activated(folder: &Path, sockets: [Option<&UnixListener>; 2], arguments: &[&str]) -> Agent {
    let given = |socket: Option<&UnixListener>| match socket {
        Some(socket) => Stdio::from(socket.as_fd().try_clone_to_owned().unwrap()),
        None => Stdio::null(),
    };
    let count = sockets.iter().flatten().count();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"LISTEN_PID=$$ exec "$@" 3<&0 4>&1 2>log"#, "sh"]);
    shell.stdin(given(sockets[0])).stdout(given(sockets[1])).env("LISTEN_FDS", count.to_string());
    shell.arg(env!("CARGO_BIN_EXE_guest-agent")).args(arguments);
    shell.current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("RUST_LOG", "info");
    Agent(shell.spawn().unwrap())
}

#[test]
fn a_socket_of_systemd_is_served_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wayland-vm");
    let socket = UnixListener::bind(&path).unwrap();
    let says = r#"echo "$WAYLAND_DISPLAY,$LISTEN_FDS,$LISTEN_PID" > said"#;
    let run = [&["run"], &NOBODY[..], &["--", "sh", "-c", says]].concat();
    assert!(activated(folder.path(), [Some(&socket), None], &run).end().success());
    assert_eq!(fs::read_to_string(folder.path().join("said")).unwrap(), "wayland-vm,,\n");
    // Whoever connects meanwhile is the next agent's client.
    UnixStream::connect(&path).unwrap();
    assert!(!folder.path().join("wayland-vm.lock").exists());
}

#[test]
fn what_cannot_be_a_session_s_socket_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let bind = |name| UnixListener::bind(folder.path().join(name)).unwrap();
    let (one, two) = (bind("one"), bind("two"));
    let nameless = SocketAddr::from_abstract_name(folder.path().as_os_str().as_encoded_bytes());
    let nameless = UnixListener::bind_addr(&nameless.unwrap()).unwrap();
    let run = [&["run"], &NOBODY[..]].concat();
    let named = [&run[..], &["--socket", "three"]].concat();
    for (sockets, arguments, cure) in [
        ([Some(&one), Some(&two)], &run, "keep one ListenStream="),
        ([Some(&nameless), None], &run, "ListenStream=%t/NAME"),
        ([Some(&one), None], &named, "don't name another with --socket"),
    ] {
        assert_eq!(activated(folder.path(), sockets, arguments).end().code(), Some(1), "{cure}");
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.contains(cure), "{log}");
    }
}

/// What systemd hears.
struct Systemd(UnixDatagram);

/// Has an agent tell a [`Systemd`] that listens in its folder.
const NOTIFY: &str = "export NOTIFY_SOCKET=$PWD/notify";

impl Systemd {
    fn listen(folder: &Path) -> Self {
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.0.recv(&mut buffer).expect("systemd is told");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

#[test]
fn systemd_is_told_when_the_socket_is_there_and_what_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Systemd::listen(folder.path());
    let told = || systemd.told();
    let run = [&["run"], &NOBODY[..], &["--socket", "wayland-7"]].concat();
    let mut agent = Agent::start(folder.path(), NOTIFY, &run);
    assert_eq!(told(), "READY=1");
    UnixStream::connect(folder.path().join("wayland-7")).unwrap();
    let status = told();
    assert!(status.starts_with("STATUS=waiting for the host: "), "{status}");
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(agent.end().code(), Some(0));
}

/// A user manager: its socket, and a `systemctl` that notes its arguments in `told` and then does as `outcome` says.
fn user_manager(folder: &Path, outcome: &str) {
    for name in ["systemd", "bin"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("systemd/private"), "").unwrap();
    let systemctl = folder.join("bin/systemctl");
    fs::write(&systemctl, format!("#!/bin/sh\necho \"$*\" >> told; {outcome}\n")).unwrap();
    fs::set_permissions(systemctl, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Puts the `systemctl` of [`user_manager`] before the real one.
const FAKE_SYSTEMCTL: &str = "export PATH=$PWD/bin:$PATH";

#[test]
fn a_session_s_socket_is_exported_to_the_user_manager() {
    let folder = tempfile::tempdir().unwrap();
    user_manager(folder.path(), "exit 0");
    let told = || fs::read_to_string(folder.path().join("told")).unwrap_or_default();
    let run = [&["run"], &NOBODY[..], &["--socket", "wayland-7"]].concat();
    let mut agent = Agent::start(folder.path(), FAKE_SYSTEMCTL, &run);
    let set = "--user set-environment WAYLAND_DISPLAY=wayland-7\n";
    until("an export", || (told() == set).then_some(()));
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(agent.end().code(), Some(0));
    assert_eq!(told(), format!("{set}--user unset-environment WAYLAND_DISPLAY=wayland-7\n"));

    // An application is told by its own environment, and who doesn't want it isn't told.
    fs::remove_file(folder.path().join("told")).unwrap();
    let application = [&run[..], &["--", "true"]].concat();
    assert!(Agent::start(folder.path(), FAKE_SYSTEMCTL, &application).end().success());
    let silent = [&run[..], &["--no-export"]].concat();
    let mut agent = Agent::start(folder.path(), FAKE_SYSTEMCTL, &silent);
    until("a socket", || UnixStream::connect(folder.path().join("wayland-7")).ok());
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!((agent.end().code(), told().as_str()), (Some(0), ""));
}

#[test]
fn a_user_manager_that_fails_or_hangs_holds_up_nothing() {
    for (outcome, complaint) in [("exit 3", "ended with"), ("exec sleep 60", "took too long")] {
        let folder = tempfile::tempdir().unwrap();
        user_manager(folder.path(), outcome);
        let run = [&["run"], &NOBODY[..], &["--socket", "wayland-7"]].concat();
        let before = format!("{FAKE_SYSTEMCTL}; exec 2> log");
        let mut agent = Agent::start(folder.path(), &before, &run);
        until("a socket", || UnixStream::connect(folder.path().join("wayland-7")).ok());
        until("an export", || folder.path().join("told").exists().then_some(()));
        kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(agent.end().code(), Some(0));
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.contains(complaint) && log.contains("--no-export"), "{log}");
    }
}

#[test]
fn serve_waits_for_an_fd_to_watch_the_compositor_by() {
    let folder = tempfile::tempdir().unwrap();
    let serve = [&["serve"], &NOBODY[..], &["--compositor", "wayland-1"]].concat();
    let mut agent = Agent::start(folder.path(), "exec 2> log", &serve);
    let until_log = |text: &str| {
        until(text, || {
            fs::read_to_string(folder.path().join("log")).ok()?.contains(text).then_some(())
        });
    };
    until_log("nobody takes clients");
    let pid = agent.0.id();
    let is_free = |fd: &u64| !Path::new(&format!("/proc/{pid}/fd/{fd}")).is_symlink();
    let second = (0..).filter(is_free).nth(1).unwrap();
    let limit = |fds: u64| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args([format!("--pid={pid}"), format!("--nofile={fds}:")]);
        assert!(prlimit.status().unwrap().success());
    };
    // For the connection itself, and no other.
    limit(second);
    let compositor = listen_at(&folder.path().join("wayland-1"));
    until_log("it can't be watched");
    limit(second + 20);
    // Those before have been given up.
    compositor.set_nonblocking(true).unwrap();
    let mut connections = Vec::new();
    until("the host to be waited for", || {
        if let Ok((client, _)) = compositor.accept() {
            let _ = answer_to(&client);
            connections.push(client);
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        log.contains("waiting for the host").then_some(())
    });
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(agent.end().code(), Some(0));
}

#[test]
fn serve_waits_for_a_compositor_that_answers_and_then_for_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Systemd::listen(folder.path());
    let serve = [&["serve"], &NOBODY[..], &["--compositor", "wayland-1"]].concat();
    let mut agent = Agent::start(folder.path(), NOTIFY, &serve);
    let status = systemd.told();
    assert!(status.starts_with("STATUS=waiting for the compositor: nobody takes"), "{status}");
    // One that dies before it has answered, then one that answers.
    let path = folder.path().join("wayland-1");
    let dying = listen_at(&path);
    drop(dying.accept().unwrap());
    until("the compositor's end", || {
        systemd.told().starts_with("STATUS=waiting for the compositor: the comp").then_some(())
    });
    drop(dying);
    fs::remove_file(&path).unwrap();
    let compositor = listen_at(&path);
    until("the compositor's answer to be waited for", || {
        systemd.told().ends_with("it hasn't answered yet").then_some(())
    });
    let _connection = answer(&compositor);
    let status = until("the host to be waited for", || {
        Some(systemd.told()).filter(|status| !status.contains("compositor"))
    });
    assert!(status.starts_with("STATUS=waiting for the host: "), "{status}");
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(systemd.told(), "STOPPING=1");
    assert_eq!(agent.end().code(), Some(0));
}

#[test]
fn a_log_that_goes_to_a_file_has_no_colours() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let serve = [&["serve"], &NOBODY[..], &["--compositor", "wayland-0"]].concat();
    let _agent = Agent::start(folder.path(), &format!("exec 2> {}", log.display()), &serve);
    let log = until("a line", || {
        let log = fs::read_to_string(&log).ok()?;
        log.contains("waiting for").then_some(log)
    });
    assert!(!log.contains('\x1b'), "{log:?}");
}

/// A library that can be preloaded and does nothing: one that every program has.
fn harmless_library() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let library =
        maps.lines().find_map(|line| line.split_once('/').filter(|(_, p)| p.contains("libc.so")));
    format!("/{}", library.expect("a C library").1)
}

#[test]
fn an_application_that_is_to_copy_nothing_is_told_where_to_borrow() {
    let folder = tempfile::tempdir().unwrap();
    let library = harmless_library();
    let look = "env > env; stat -c '%F %a' wayland-1.lend > socket";
    let zero_copy = ["--zero-copy", "--interposer", &library, "--", "sh", "-c", look];
    let run = [&["run"], &NOBODY[..], &zero_copy].concat();
    assert!(Agent::start(folder.path(), ":", &run).end().success());
    let env = fs::read_to_string(folder.path().join("env")).unwrap();
    let canonical = fs::canonicalize(&library).unwrap();
    let display = folder.path().join("wayland-1");
    for expected in [
        format!("LD_PRELOAD={}", canonical.display()),
        format!("WLPROXY_LEND_DISPLAY={}", display.display()),
        format!("WLPROXY_LEND_SOCKET={}.lend", display.display()),
    ] {
        assert!(env.lines().any(|line| line == expected), "no {expected} in {env}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("socket")).unwrap(), "socket 600\n");
    assert!(!folder.path().join("wayland-1.lend").exists());
}

#[test]
fn what_can_not_be_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_guest-agent"));
        agent.args(["run"]).args(NOBODY).args(arguments).env("XDG_RUNTIME_DIR", folder.path());
        let output = agent.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let nobody = said(&["--zero-copy"]);
    assert!(nobody.contains("<APP>"), "{nobody}");
    let missing = said(&["--zero-copy", "--interposer", "/nowhere.so", "--", "touch", "started"]);
    assert!(missing.contains("can't use /nowhere.so as --interposer"), "{missing}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
