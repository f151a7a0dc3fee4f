//! A client in C, with the interposer and without, and an agent that lends.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use wlproxy_protocol::lend::{Answer, Parting, RECORD, Request};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind,
    listen, sendmsg, socket,
};
use nix::sys::stat::fstat;

/// How long a client may take, in milliseconds.
const PATIENCE: u16 = 30_000;

/// What was built for the tests.
pub(crate) struct Built {
    pub(crate) library: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) stress: PathBuf,
    pub(crate) meanwhile: PathBuf,
    /// What stands for libwayland.
    pub(crate) wayland: PathBuf,
}

/// Builds the interposer, and the programs in C. The C compiler is the one that links Rust's programs, too.
pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = std::env::current_exe().expect("a test knows its own path");
        // TARGET/PROFILE/deps/TEST
        let profile = test.ancestors().nth(2).expect("a test lies in TARGET/PROFILE/deps");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--package", "wlproxy-interposer", "--manifest-path"]);
        cargo.arg(manifest.join("Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().expect("TARGET/PROFILE has a parent"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo can be started").success());

        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        let wayland = folder.join("libwayland-client.so.0");
        let [client, stress, meanwhile] =
            ["client", "stress", "meanwhile"].map(|name| folder.join(name));
        let compile = |arguments: &[&str], from: &str, to: &Path| {
            // Test processes may build at the same time: each replaces what is there by the same.
            let made = folder.join(format!("{from}.{}", std::process::id()));
            let mut cc = Command::new("cc");
            cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]);
            cc.arg(manifest.join("tests/c").join(from)).args(arguments).arg("-o").arg(&made);
            assert!(cc.status().expect("a C compiler").success(), "{from}");
            std::fs::rename(made, to).expect("in the same folder");
        };
        compile(&["-shared", "-fPIC", "-Wl,-soname,libwayland-client.so.0"], "wayland.c", &wayland);
        let path = format!("-Wl,-rpath,{}", folder.display());
        let wayland_file = wayland.to_str().expect("text");
        compile(&[wayland_file, &path, "-pthread"], "client.c", &client);
        compile(&[wayland_file, &path, "-pthread"], "stress.c", &stress);
        compile(&[wayland_file, &path, "-pthread"], "meanwhile.c", &meanwhile);
        let library = profile.join("libwlproxy_interposer.so");
        Built { library, client, stress, meanwhile, wayland }
    })
}

/// What an agent was asked for, or told.
#[derive(Debug)]
pub(crate) enum Event {
    Lent {
        id: u32,
        size: u64,
    },
    Refused,
    Closed(Parting),
    /// The file that came along.
    Demoted(Parting, File),
    /// The application's connection is over.
    Ended,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    /// It lends so often; then it refuses.
    pub(crate) lends: usize,
    /// So often it hangs up instead of the answer to a demotion.
    pub(crate) hangs_up: usize,
    /// All that it lends seems to be one file, as in a VM.
    pub(crate) one_file: bool,
    /// Before it lends, it ends what is written to the FIFO `asked`, and waits for the end of `done`.
    pub(crate) waits: bool,
}

impl Manners {
    pub(crate) const GOOD: Self =
        Self { lends: usize::MAX, hangs_up: 0, one_file: false, waits: false };
}

/// An agent: where clients connect, and where they borrow.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
    events: Arc<Mutex<Vec<Event>>>,
    /// Files that came over the display, and over the socket of somebody else.
    arrived: [Arc<Mutex<Vec<OwnedFd>>>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start(manners: Manners) -> Self {
        let folder = tempfile::Builder::new().prefix("wlp").tempdir().expect("a folder of ours");
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let arrived: [Arc<Mutex<Vec<OwnedFd>>>; 2] = Default::default();
        let mut threads = Vec::new();
        for (name, arrived) in ["display", "other"].iter().zip(&arrived) {
            let listener = UnixListener::bind(folder.path().join(name)).expect("a fresh path");
            let arrived = arrived.clone();
            threads.push(std::thread::spawn(move || {
                while let Ok((client, _)) = listener.accept() {
                    if !take_files(&client, &arrived) {
                        return;
                    }
                }
            }));
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let lender = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&folder.path().join("lend")).unwrap();
        bind(lender.as_raw_fd(), &address).unwrap();
        listen(&lender, Backlog::new(8).unwrap()).unwrap();
        let log = events.clone();
        let fifos = ["asked", "done"].map(|name| folder.path().join(name));
        for fifo in fifos.iter().filter(|_| manners.waits) {
            nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fresh path");
        }
        threads.push(std::thread::spawn(move || lend(&lender, manners, &fifos, &log)));
        Self { folder, events, arrived, threads }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What was asked and told, in order, after the last client has ended.
    pub(crate) fn end(self) -> (Vec<Event>, [Vec<OwnedFd>; 2]) {
        for name in ["display", "other"] {
            // A byte that no client sends: the end.
            let mut stream = UnixStream::connect(self.path(name)).expect("it listens");
            stream.write_all(b"e").expect("it reads");
        }
        let end = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
        let end = end.expect("a socket");
        let address = UnixAddr::new(&self.path("lend")).expect("a short path");
        nix::sys::socket::connect(end.as_raw_fd(), &address).expect("it listens");
        nix::sys::socket::send(end.as_raw_fd(), b"e", MsgFlags::empty()).expect("it reads");
        self.threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        (events, self.arrived.map(|arrived| std::mem::take(&mut *arrived.lock().unwrap())))
    }
}

fn wait(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(PATIENCE)).expect("poll");
    assert_ne!(ready, 0, "nothing came in {PATIENCE} ms");
}

/// Takes what a client sends until it hangs up. `false` if it is the end of all.
fn take_files(client: &UnixStream, arrived: &Mutex<Vec<OwnedFd>>) -> bool {
    let mut bytes = [0; 64];
    loop {
        wait(client);
        let mut fds = Vec::new();
        match wlproxy_unix::receive(client, &mut bytes, &mut fds) {
            Ok(len) if len > 0 && bytes[..len].contains(&b'e') => return false,
            Ok(len) if len > 0 => arrived.lock().unwrap().extend(fds),
            _ => return true,
        }
    }
}

/// Lends to one client after the other.
fn lend(
    listener: &OwnedFd,
    manners: Manners,
    [asked, done]: &[PathBuf; 2],
    log: &Mutex<Vec<Event>>,
) {
    use std::os::fd::FromRawFd;
    let (mut lent, mut hung_up, mut inodes) = (0, 0, Vec::new());
    let shared = wlproxy_unix::memory::allocate("allocation", 102_400).unwrap();
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    loop {
        let client = accept(listener.as_raw_fd()).expect("accept");
        // SAFETY: the kernel has just made it for us.
        let client = unsafe { OwnedFd::from_raw_fd(client) };
        loop {
            wait(&client);
            let (mut bytes, mut fds) = ([0; RECORD + 1], Vec::new());
            let len = wlproxy_unix::receive(&client, &mut bytes, &mut fds).unwrap_or(0);
            if bytes[..len] == *b"e" {
                return;
            }
            if len == 0 {
                log.lock().unwrap().push(Event::Ended);
                break;
            }
            let request = Request::from_bytes(&bytes[..len]).expect("a request");
            let (event, answer, fd) = match request {
                Request::Lend { size } if lent < manners.lends => {
                    if manners.waits {
                        drop(File::options().write(true).open(asked).expect("a FIFO"));
                        std::fs::read(done).expect("a FIFO");
                    }
                    lent += 1;
                    let id = lent as u32;
                    let pages = size.next_multiple_of(4096);
                    let fd: OwnedFd = match manners.one_file {
                        true => File::options().read(true).write(true).open(&path).unwrap().into(),
                        false => wlproxy_unix::memory::allocate("allocation", pages).unwrap(),
                    };
                    inodes.push(fstat(&fd).unwrap().st_ino);
                    (Event::Lent { id, size }, Some(Answer::Lent { id }), Some(fd))
                }
                Request::Lend { .. } => (Event::Refused, Some(Answer::Refused), None),
                Request::Close(parting) => (Event::Closed(parting), None, None),
                Request::Demote(parting) => {
                    let file = fds.pop().expect("a file").into();
                    let allocation = fds.pop().expect("what was lent");
                    assert!(inodes.contains(&fstat(allocation).unwrap().st_ino));
                    let answer = Answer::Demoted { id: parting.id };
                    (Event::Demoted(parting, file), Some(answer), None)
                }
            };
            assert!(fds.is_empty(), "no fd that isn't asked for");
            let hangs_up = hung_up < manners.hangs_up && matches!(event, Event::Demoted(..));
            hung_up += usize::from(hangs_up);
            log.lock().unwrap().push(event);
            if hangs_up {
                break;
            }
            if let Some(answer) = answer {
                let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
                let rights = [ControlMessage::ScmRights(&fds)];
                let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
                let record = answer.to_bytes();
                let bytes = [IoSlice::new(&record)];
                let flags = MsgFlags::MSG_NOSIGNAL;
                // A client may be gone.
                let _ = sendmsg::<()>(client.as_raw_fd(), &bytes, rights, flags, None);
            }
        }
    }
}

/// What came of a client.
pub(crate) struct Outcome {
    /// What it said.
    pub(crate) said: String,
    pub(crate) events: Vec<Event>,
    /// Files that came over the display.
    pub(crate) pools: Vec<OwnedFd>,
    /// Files that somebody else got.
    pub(crate) others: Vec<OwnedFd>,
}

impl Outcome {
    pub(crate) fn lent(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Lent { .. })).count()
    }

    pub(crate) fn demoted(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Demoted(..))).count()
    }

    pub(crate) fn closed(&self) -> Vec<(u32, u32)> {
        let closed = |event: &Event| match event {
            Event::Closed(parting) => Some((parting.id, parting.sent)),
            _ => None,
        };
        self.events.iter().filter_map(closed).collect()
    }
}

/// A client that does `lines` after it has connected, with the interposer.
pub(crate) fn with(manners: Manners, lines: &[&str]) -> Outcome {
    run(true, manners, lines)
}

/// The same without.
pub(crate) fn without(lines: &[&str]) -> Outcome {
    run(false, Manners::default(), lines)
}

/// A client on both ways, which has to say the same; what came of it with the interposer.
#[track_caller]
pub(crate) fn same(lines: &[&str]) -> Outcome {
    let (with, without) = (with(Manners::GOOD, lines), without(lines));
    assert_eq!(with.said, without.said);
    with
}

fn run(preload: bool, manners: Manners, lines: &[&str]) -> Outcome {
    let agent = Agent::start(manners);
    let mut command = command(&agent, preload, &built().client);
    let (display, other) = (agent.path("display"), agent.path("other"));
    let mut script = format!("connect {}\nconnect-other {}\n", display.display(), other.display());
    lines.iter().for_each(|line| script += &format!("{line}\n"));
    let output = feed(&mut command, &script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && wrong.is_empty(), "{}: {said}{wrong}", output.status);
    let (events, [pools, others]) = agent.end();
    Outcome { said, events, pools, others }
}

/// A command with an environment of its own.
pub(crate) fn command(agent: &Agent, preload: bool, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if preload {
        command.env("LD_PRELOAD", &built().library);
        command.env("WLPROXY_LEND_DISPLAY", agent.path("display"));
        command.env("WLPROXY_LEND_SOCKET", agent.path("lend"));
    }
    command
}

/// Runs it with this as its standard input.
pub(crate) fn feed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    let mut stdin = child.stdin.take().expect("piped");
    // It reads as fast as it goes; what it says fits into a pipe, or we would wait for each other.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    written.expect("it reads all");
    output
}

/// Size of a file in bytes, and what is in it.
pub(crate) fn content(fd: &OwnedFd) -> Vec<u8> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut file = File::open(path).expect("it is ours");
    let mut content = Vec::new();
    file.read_to_end(&mut content).expect("it is a file");
    assert_eq!(content.len() as u64, file.metadata().expect("it is a file").size());
    content
}
