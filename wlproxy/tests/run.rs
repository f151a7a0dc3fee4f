//! `wlproxy run` as the process that it is: its workers, its sockets, its end.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use wlproxy::status::{Status, VmStatus};
use wlproxy_protocol::accept::{Answer, HELLO, Hello, Record, Way, Ways};

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

fn wlproxy(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wlproxy"));
    command.args(arguments).arg("--config").arg(config).env("RUST_LOG", "debug");
    command
}

/// What a command says that ends by itself. It says less than a pipe holds.
fn finished(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} goes on: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// Whether a process runs, or a thread of it. One that is dead stays until its parent has waited for it, and not every
/// init does that.
fn exists(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (name) state ...", where the name may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let fields: Vec<_> = rest.split(' ').collect();
    // The 20th field tells how many threads there are (proc(5)); the state, the first here, is the 3rd. If the first
    // thread is dead and another is not yet, what the process had open still is.
    !matches!(fields[0], "Z" | "X") || fields[20 - 3].parse::<u32>().unwrap() > 1
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// A configuration in a directory of its own, which may have its wlproxy running.
struct Rig {
    temp: tempfile::TempDir,
    running: Option<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Rig {
    fn new(isolation: &str) -> Self {
        Self::with_device(isolation, "virtio_wl")
    }

    /// One whose VMs have this device.
    fn with_device(isolation: &str, device: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let rig = Self { temp, running: None };
        let mut text = format!(
            "runtime_dir = {:?}\nisolation = {isolation:?}\n[compositor]\nvm = \"gui\"\n",
            rig.runtime_dir()
        );
        for vm in ["gui", "work"] {
            text.push_str(&format!("[vm.{vm}]\ndevice = {device:?}\n"));
        }
        fs::write(rig.config(), text).unwrap();
        rig
    }

    fn running(isolation: &str) -> Self {
        let mut rig = Self::new(isolation);
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.start_with_log(Stdio::inherit());
    }

    fn start_with_log(&mut self, log: impl Into<Stdio>) {
        self.start_with(&["run"], log);
    }

    fn start_with(&mut self, arguments: &[&str], log: impl Into<Stdio>) {
        let mut command = wlproxy(arguments, &self.config());
        self.running = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        until("all workers are up", || {
            self.status().filter(|s| s.vms.values().all(|vm| vm.pid.is_some()))
        });
    }

    fn config(&self) -> PathBuf {
        self.temp.path().join("wlproxy.toml")
    }

    fn runtime_dir(&self) -> PathBuf {
        self.temp.path().join("run")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.runtime_dir()).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finished(&mut wlproxy(arguments, &self.config()))
    }

    fn status(&self) -> Option<Status> {
        let output = self.run(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn vm(&self, name: &str) -> VmStatus {
        self.status().expect("wlproxy runs").vms.remove(name).unwrap()
    }

    fn pids(&self) -> Vec<u32> {
        self.status().expect("wlproxy runs").vms.values().filter_map(|vm| vm.pid).collect()
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    fn ended(&mut self) -> ExitStatus {
        let child = self.running.as_mut().unwrap();
        let status = until("wlproxy ends", || child.try_wait().unwrap());
        self.running = None;
        status
    }
}

#[test]
fn status_shows_who_is_connected() {
    let rig = Rig::running("process");
    let status = rig.status().unwrap();
    assert_eq!((status.pid, status.pending, status.compositor.ready), (rig.pid(), 0, false));
    assert_eq!(rig.vm("gui").side, "compositor");
    assert!(!rig.vm("work").connected);
    let frontend = UnixStream::connect(rig.runtime_dir().join("work.sock")).unwrap();
    until("the frontend shows", || rig.vm("work").connected.then_some(()));
    assert!(!rig.vm("gui").connected);
    let table = String::from_utf8(rig.run(&["status"]).stdout).unwrap();
    let line = table.lines().find(|line| line.starts_with("work")).unwrap();
    assert!(line.contains("client") && line.contains("yes"), "{table}");
    drop(frontend);
    until("the frontend is gone", || (!rig.vm("work").connected).then_some(()));
}

#[test]
fn a_compositor_vm_whose_device_knows_one_path_dials_back() {
    for isolation in ["process", "none"] {
        let mut rig = Rig::with_device(isolation, "socket");
        rig.start();
        // What the VMs' monitors do, of whatever kind: dial one path for each context.
        let dial = |vm: &str| {
            let stream = UnixStream::connect(rig.runtime_dir().join(format!("{vm}.sock"))).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let mut main = dial("gui");
        let hello = Hello { ways: Ways::DIAL_BACK }.encode();
        main.write_all(&hello).unwrap();
        let mut answered = [0; HELLO];
        main.read_exact(&mut answered).unwrap();
        assert_eq!(answered, hello);
        let mut client = dial("work");
        // wl_display.get_registry, and as it may be answered: wl_registry.global of wl_shm.
        let request = [1, 12 << 16 | 1, 2].map(u32::to_ne_bytes).concat();
        client.write_all(&request).unwrap();
        let mut record = vec![0; 36 + "work".len()];
        main.read_exact(&mut record).unwrap();
        let record = Record::decode(&mut &record[..]).unwrap().unwrap();
        assert_eq!((&record.vm[..], record.way), ("work", Way::DialBack));
        let mut stream = dial("gui");
        stream.write_all(record.token.as_bytes()).unwrap();
        let mut answer = Vec::new();
        Answer { token: record.token, outcome: Ok(()) }.encode(&mut answer);
        main.write_all(&answer).unwrap();
        let mut got = vec![0; request.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, request, "{isolation}");
        let event = [&[2, 28 << 16, 1, 7][..], &[u32::from_ne_bytes(*b"wl_s")]].concat();
        let event = [event, vec![u32::from_ne_bytes(*b"hm\0\0"), 1]].concat();
        let event: Vec<u8> = event.into_iter().flat_map(u32::to_ne_bytes).collect();
        stream.write_all(&event).unwrap();
        let mut got = vec![0; event.len()];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, event, "{isolation}");
        // The token was good for once.
        let mut again = dial("gui");
        again.write_all(record.token.as_bytes()).unwrap();
        assert_eq!(again.read(&mut [0]).unwrap(), 0, "{isolation}");
        until("the client shows", || {
            (rig.vm("work").connected && rig.vm("gui").connected).then_some(())
        });
        drop(client);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{isolation}");
        until("the client is gone", || (!rig.vm("work").connected).then_some(()));
    }
}

#[test]
fn a_trace_that_can_not_be_is_refused_with_the_reason() {
    let rig = Rig::running("process");
    let refused = |arguments: &[&str]| {
        let output = rig.run(arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (arguments, reason) in [
        (&["trace", "3"][..], "lists no connection 3"),
        (&["trace", "3", "--vm", "nobody"], "no VM nobody"),
        (&["trace", "3", "--vm", "gui"], "is the compositor VM"),
        (&["trace", "3", "--vm", "work"], "isn't connected"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(reason), "{error}");
    }
    for _ in 0..40 {
        assert!(refused(&["trace", "3", "--vm", "work"]).contains("isn't connected"));
    }
}

#[test]
fn a_killed_worker_comes_back_alone() {
    let rig = Rig::running("process");
    let (gui, socket) = (rig.vm("gui").pid, rig.runtime_dir().join("work.sock"));
    for restarts in 1..=3 {
        let old = rig.vm("work").pid.unwrap();
        let frontend = UnixStream::connect(&socket).unwrap();
        until("the frontend shows", || rig.vm("work").connected.then_some(()));
        signal(old, Signal::SIGKILL);
        let new = until("the worker is back", || rig.vm("work").pid.filter(|&pid| pid != old));
        assert!(!exists(old) && exists(new));
        assert_eq!((rig.vm("work").restarts, rig.vm("work").connected), (restarts, false));
        drop(frontend);
    }
    assert_eq!((rig.vm("gui").pid, rig.vm("gui").restarts), (gui, 0));
    let _frontend = UnixStream::connect(&socket).unwrap();
    until("the frontend shows", || rig.vm("work").connected.then_some(()));
}

#[test]
fn sigterm_leaves_nothing() {
    for isolation in ["process", "none"] {
        let mut rig = Rig::running(isolation);
        let _frontend = UnixStream::connect(rig.runtime_dir().join("work.sock")).unwrap();
        let pids = rig.pids();
        assert_eq!(rig.files(), ["control.sock", "gui.sock", "work.sock"]);
        signal(rig.pid(), Signal::SIGTERM);
        assert_eq!(rig.ended().code(), Some(0), "{isolation}");
        assert!(pids.iter().all(|&pid| !exists(pid)), "{isolation}");
        assert!(rig.files().is_empty(), "{isolation}");
    }
}

/// What has to be logged may find no room.
#[test]
fn a_full_disk_ends_nobody() {
    for isolation in ["process", "none"] {
        let mut rig = Rig::new(isolation);
        rig.start_with_log(File::options().write(true).open("/dev/full").unwrap());
        let pids = rig.pids();
        // A worker's end is logged, and so is all that comes after it.
        if isolation == "process" {
            signal(rig.vm("work").pid.unwrap(), Signal::SIGKILL);
            until("another worker", || rig.vm("work").pid.filter(|pid| !pids.contains(pid)));
        }
        assert!(rig.run(&["reload"]).status.success(), "{isolation}");
        signal(rig.pid(), Signal::SIGTERM);
        assert_eq!(rig.ended().code(), Some(0), "{isolation}");
    }
}

#[test]
fn systemd_is_told_when_the_sockets_are_there_and_when_the_end_comes() {
    let mut rig = Rig::new("process");
    let path = rig.temp.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 64];
        let length = systemd.recv(&mut buffer).expect("systemd is told");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut command = wlproxy(&["run"], &rig.config());
    rig.running = Some(command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).spawn().unwrap());
    assert_eq!(told(), "READY=1");
    assert_eq!(rig.files(), ["control.sock", "gui.sock", "work.sock"]);
    signal(rig.pid(), Signal::SIGTERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(rig.ended().code(), Some(0));
}

#[test]
fn a_stopped_worker_does_not_hold_up_the_end() {
    let mut rig = Rig::running("process");
    let pid = rig.vm("work").pid.unwrap();
    signal(pid, Signal::SIGSTOP);
    signal(rig.pid(), Signal::SIGINT);
    assert_eq!(rig.ended().code(), Some(0));
    assert!(!exists(pid));
}

#[test]
fn a_second_wlproxy_is_told_why_it_can_not_run() {
    let rig = Rig::running("process");
    let pids = rig.pids();
    let output = rig.run(&["run"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let needles = ["another wlproxy", rig.temp.path().to_str().unwrap()];
    assert!(needles.iter().all(|needle| error.contains(needle)), "{error}");
    assert_eq!(rig.pids(), pids, "the first one goes on");
}

#[test]
fn a_killed_wlproxy_takes_its_workers_along_and_the_next_one_starts() {
    let mut rig = Rig::running("process");
    let pids = rig.pids();
    signal(rig.pid(), Signal::SIGKILL);
    rig.ended();
    until("the workers are gone", || pids.iter().all(|&pid| !exists(pid)).then_some(()));
    let stale = rig.runtime_dir().join("work.sock");
    assert!(fs::metadata(&stale).unwrap().file_type().is_socket());
    rig.start();
    UnixStream::connect(&stale).unwrap();
}

#[test]
fn workers_inherit_nothing_but_their_two_fds() {
    let rig = Rig::running("process");
    // The test itself may have inherited sockets that whatever it starts inherits too.
    let inherited = open_files("self");
    for pid in rig.pids() {
        let mut open = open_files(&pid.to_string());
        open.retain(|file| !inherited.contains(file));
        let sockets = open.iter().filter(|file| file.to_string_lossy().starts_with("socket:"));
        // The VM's listening socket is held twice, to be polled and to be accepted from.
        assert!(sockets.count() <= 3, "{open:?}");
        let named = |file: &PathBuf| file.starts_with(rig.temp.path());
        assert!(!open.iter().any(named), "{open:?}");
    }
}

/// How many programs of seccomp's look at the system calls of each thread of a process.
fn filters(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap());
    let read = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let filters = |status: String| {
        let value = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        assert!(value("Seccomp_filters:") == "0" || value("NoNewPrivs:") == "1", "{status}");
        value("Seccomp_filters:").parse().unwrap()
    };
    threads.filter_map(read).map(filters).collect()
}

#[test]
fn all_threads_are_shut_in_before_a_vm_comes() {
    let outside = filters(std::process::id())[0];
    for isolation in ["process", "none"] {
        let rig = Rig::running(isolation);
        assert!(filters(rig.pid()).iter().all(|&filters| filters == outside + 1));
        for pid in rig.pids().into_iter().filter(|&pid| pid != rig.pid()) {
            let inside = filters(pid);
            assert!(inside.len() > 1 && inside.iter().all(|&filters| filters > outside + 1));
        }
    }
}

#[test]
fn to_do_without_that_is_told_loudly() {
    let mut rig = Rig::new("process");
    let log = rig.temp.path().join("log");
    rig.start_with(&["run", "--no-sandbox"], fs::File::create(&log).unwrap());
    let outside = filters(std::process::id())[0];
    for pid in rig.pids().into_iter().chain([rig.pid()]) {
        assert!(filters(pid).iter().all(|&filters| filters == outside));
    }
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("WARN") && told.contains("--no-sandbox"), "{told}");
}

/// What a process has open; sockets with their inodes.
fn open_files(pid: &str) -> Vec<PathBuf> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap().path());
    fds.filter_map(|fd| fs::read_link(fd).ok()).collect()
}

/// Sets the soft limit of open files of a running process.
fn limit_fds(pid: u32, limit: u64) {
    let [pid, limit] = [format!("--pid={pid}"), format!("--nofile={limit}:")];
    assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
}

#[test]
fn who_asks_while_there_are_no_fds_waits_and_does_not_spin() {
    let mut rig = Rig::new("process");
    let path = rig.temp.path().join("log");
    rig.start_with_log(fs::File::create(&path).unwrap());
    let complaints = || {
        let log = fs::read_to_string(&path).unwrap();
        log.matches("can't accept").count()
    };
    let (usual, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    limit_fds(rig.pid(), 3);
    let mut asking = UnixStream::connect(rig.runtime_dir().join("control.sock")).unwrap();
    asking.write_all(b"{\"ask\":\"status\"}\n").unwrap();
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    until("a complaint", || (complaints() > 0).then_some(()));
    limit_fds(rig.pid(), usual);
    let mut document = String::new();
    asking.read_to_string(&mut document).unwrap();
    assert!(document.contains("\"version\""), "{document}");
    assert_eq!(complaints(), 1);
}

#[test]
fn metrics_are_scraped_while_others_do_not_read() {
    let mut rig = Rig::new("process");
    let path = rig.temp.path().join("metrics.sock");
    let text = fs::read_to_string(rig.config()).unwrap();
    fs::write(rig.config(), format!("metrics = {path:?}\n{text}")).unwrap();
    rig.start();
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // One asks nothing, and some read nothing.
    let _silent = ask("");
    let _stuck = [(); 10].map(|()| ask("GET / HTTP/1.1\r\n\r\n"));
    let mut answer = String::new();
    ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\nwlproxy_worker_up{vm=\"work\"} 1\n"), "{answer}");
    signal(rig.pid(), Signal::SIGTERM);
    assert_eq!(rig.ended().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn threads_do_as_well() {
    let rig = Rig::running("none");
    assert_eq!(rig.pids(), [rig.pid(), rig.pid()]);
    let _frontend = UnixStream::connect(rig.runtime_dir().join("work.sock")).unwrap();
    until("the frontend shows", || rig.vm("work").connected.then_some(()));
}

#[test]
fn check_and_errors() {
    let rig = Rig::new("process");
    let output = rig.run(&["check"]);
    assert!(
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("compositor VM gui")
    );
    let output = rig.run(&["status"]);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("doesn't run")
    );
    fs::write(rig.config(), "isolation = \"most\"").unwrap();
    let output = rig.run(&["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("wlproxy.toml:1: ") && error.contains("most"),
        "{error}"
    );
    let worker = "worker --vm x --window 1 --device virtgpu --listener-fd 900 --control-fd 901";
    let worker = worker.split(' ');
    let output = finished(Command::new(env!("CARGO_BIN_EXE_wlproxy")).args(worker));
    assert!(String::from_utf8_lossy(&output.stderr).contains("wlproxy alone starts workers"));
}

/// The globals that a plain client of the VM "work" is shown, of a compositor that the test plays.
fn shown(socket: &Path, compositor: &UnixListener) -> Vec<String> {
    const GLOBALS: [&str; 3] = ["wl_shm", "wl_shell", "zwlr_layer_shell_v1"];
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // wl_display.get_registry(2)
    client.write_all(&message(1, 1, &[&2u32.to_ne_bytes()])).unwrap();
    let (mut server, _) = compositor.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.read_exact(&mut [0; 12]).unwrap();
    for (name, interface) in (1u32..).zip(GLOBALS) {
        let mut text = [interface.as_bytes(), &[0]].concat();
        let length = text.len() as u32;
        text.resize(text.len().next_multiple_of(4), 0);
        let args: [&[u8]; 4] =
            [&name.to_ne_bytes(), &length.to_ne_bytes(), &text, &1u32.to_ne_bytes()];
        server.write_all(&message(2, 0, &args)).unwrap();
    }
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    let got = String::from_utf8_lossy(&got);
    GLOBALS.into_iter().filter(|name| got.contains(name)).map(str::to_owned).collect()
}

fn message(object: u32, opcode: u16, args: &[&[u8]]) -> Vec<u8> {
    let args = args.concat();
    let header = (args.len() as u32 + 8) << 16 | u32::from(opcode);
    [&object.to_ne_bytes()[..], &header.to_ne_bytes(), &args].concat()
}

/// A policy is read again on SIGHUP and by `wlproxy reload`; a file with an error changes nothing.
#[test]
fn the_policy_is_read_again() {
    const LAYERS: &str = "zwlr_layer_shell_v1";
    for isolation in ["process", "none"] {
        let mut rig = Rig::new(isolation);
        let socket = rig.temp.path().join("compositor");
        let compositor = UnixListener::bind(&socket).unwrap();
        let base = format!(
            "runtime_dir = {:?}\nisolation = {isolation:?}\n[compositor]\nsocket = {socket:?}\n\
             [vm.work]\ndevice = \"socket\"\n",
            rig.runtime_dir()
        );
        let write = |config: &Path, more: &str| fs::write(config, format!("{base}{more}")).unwrap();
        write(&rig.config(), "");
        let log = rig.temp.path().join("log");
        rig.start_with_log(fs::File::create(&log).unwrap());
        let work = rig.runtime_dir().join("work.sock");
        assert_eq!(shown(&work, &compositor), ["wl_shm", "wl_shell"]);
        let told = |output: &Output| {
            let said = [&output.stdout[..], &output.stderr].concat();
            (output.status.success(), String::from_utf8(said).unwrap())
        };
        let log_has = |what: &str| {
            until(what, || fs::read_to_string(&log).unwrap().contains(what).then_some(()));
        };

        let (done, said) = told(&rig.run(&["reload"]));
        assert!(done && said.contains("no policy has changed"), "{said}");
        let more = format!(
            "window = \"16 MiB\"\n[vm.work.globals]\nallow = [{LAYERS:?}]\ndeny = [\"wl_shell\"]\n"
        );
        write(&rig.config(), &more);
        let (done, said) = told(&rig.run(&["reload"]));
        assert!(done && said.contains("clients of work that connect from now on"), "{said}");
        assert!(said.contains("not before wlproxy is started again: vm.work.window"), "{said}");
        assert_eq!(shown(&work, &compositor), ["wl_shm", LAYERS]);

        // An error: by the command, by a question of somebody's who hasn't read the file, by the signal.
        write(&rig.config(), "[vm.work.globals]\ndeny = [\"wl_shll\"]\n");
        let (done, said) = told(&rig.run(&["reload"]));
        assert!(!done && said.contains("the policies stay as they were"), "{said}");
        assert!(said.contains("vm.work.globals.deny: there is no interface"), "{said}");
        let mut asker = UnixStream::connect(rig.runtime_dir().join("control.sock")).unwrap();
        asker.set_read_timeout(Some(PATIENCE)).unwrap();
        asker.write_all(b"{\"ask\":\"reload\"}\n").unwrap();
        let mut answer = String::new();
        asker.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("{\"error\":") && answer.contains("wl_shll"), "{answer}");
        log_has("the configuration is not taken over");
        fs::remove_file(rig.config()).unwrap();
        signal(rig.pid(), Signal::SIGHUP);
        log_has("No such file or directory");
        assert_eq!(shown(&work, &compositor), ["wl_shm", LAYERS]);

        // A worker that is started again has the policy of now.
        write(&rig.config(), "[vm.work.globals]\ndeny = [\"wl_shm\"]\n");
        signal(rig.pid(), Signal::SIGHUP);
        log_has("the configuration was read again policies=[\"work\"]");
        until("the policy", || (shown(&work, &compositor) == ["wl_shell"]).then_some(()));
        if isolation == "process" {
            let worker = rig.pids()[0];
            signal(worker, Signal::SIGKILL);
            until("another worker", || rig.vm("work").pid.filter(|&pid| pid != worker));
            assert_eq!(shown(&work, &compositor), ["wl_shell"]);
        }
        signal(rig.pid(), Signal::SIGTERM);
        assert!(rig.ended().success());
    }
}

/// A VM that is gone from the file is served as before, and so are clients that came before a reload: nobody gets the names of
/// their windows. And a worker that doesn't take its policy ends, or its clients would have the old one for ever.
#[test]
fn a_reload_leaves_nothing_half_done() {
    let mut rig = Rig::new("process");
    let base = format!(
        "runtime_dir = {:?}\n[compositor]\nsocket = {:?}\n",
        rig.runtime_dir(),
        rig.temp.path().join("compositor")
    );
    let write = |config: &Path, more: &str| fs::write(config, format!("{base}{more}")).unwrap();
    write(&rig.config(), "[vm.work]\n[vm.other]\n");
    rig.start();
    write(&rig.config(), "[vm.other]\ntitle_prefix = \"[work] \"\n");
    let output = rig.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let words = "VM other: title_prefix \"[work] \" can't be told from \"[work] \", which windows of VM work may";
    assert!(!output.status.success() && said.contains(words), "{said}");

    write(&rig.config(), "[vm.work]\ntitle_prefix = \"w\"\n[vm.other]\n");
    let worker = rig.vm("work").pid.unwrap();
    signal(worker, Signal::SIGSTOP);
    assert!(rig.run(&["reload"]).status.success());
    until("another worker", || rig.vm("work").pid.filter(|&pid| pid != worker));
    signal(rig.pid(), Signal::SIGTERM);
    assert!(rig.ended().success());
}
