//! The whole command `cargo xtask demo`, with a cargo that builds nothing and stand-ins for what it would have built.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const WLPROXY_SCRIPT: &str = include_str!("stand-ins/wlproxy.sh");
const AGENT_SCRIPT: &str = include_str!("stand-ins/guest-agent.sh");

/// How long a demo may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// A demo that runs.
struct Demo {
    child: Child,
    /// What it says on standard error.
    lines: Receiver<String>,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start(agent: &str) -> Self {
        let turn = turn();
        let dir = TempDir::new().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // Its log tells where the rooms are.
        let wlproxy = WLPROXY_SCRIPT.replace("\ntrap", "\npwd\ntrap");
        script(&dir.path().join("wlproxy"), &wlproxy);
        script(&dir.path().join("guest-agent"), agent);
        let built = ["wlproxy", "guest-agent"].map(|name| {
            let target = format!(r#""target":{{"kind":["bin"],"name":"{name}"}}"#);
            let program = dir.path().join(name);
            format!(
                r#"echo '{{"reason":"compiler-artifact",{target},"executable":"{}"}}'"#,
                program.display()
            )
        });
        script(&bin.join("cargo"), &format!("#!/bin/sh\n{}\n", built.join("\n")));
        // A test installs nothing.
        for name in ["apt-get", "sudo"] {
            script(&bin.join(name), "#!/bin/sh\nexit 1\n");
        }
        let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("demo")
            .arg("--out")
            .arg(dir.path().join("out"))
            .env("CARGO", bin.join("cargo"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, dir, _turn: turn }
    }

    /// Waits until it says this.
    fn wait_for(&self, text: &str) {
        while !self.line().expect("it goes on").contains(text) {}
    }

    /// Waits until it ends. Returns its status and what it said since the last wait.
    fn end(&mut self) -> (Option<i32>, String) {
        let said: Vec<String> = std::iter::from_fn(|| self.line()).collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }

    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the demo hangs"),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a demo leaves comes to this process, so there is one at a time.
fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    prctl::set_child_subreaper(true).unwrap();
    turn
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a process is left. The dead are forgotten.
fn something_is_left() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) => {}
            Err(Errno::ECHILD) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_left_is_noticed() {
    let _turn = turn();
    let output = Command::new("sh").args(["-c", "sleep 1000 >&- 2>&- & echo $!"]).output().unwrap();
    let sleep = Pid::from_raw(String::from_utf8_lossy(&output.stdout).trim().parse().unwrap());
    assert!(something_is_left());
    kill(sleep, Signal::SIGKILL).unwrap();
    waitpid(sleep, None).unwrap();
    assert!(!something_is_left());
}

#[test]
fn a_signal_of_the_user_leaves_nothing() {
    // More frames than wlproxy tells of: the demo goes on asking, with all parts and clients running.
    let agent = AGENT_SCRIPT.replace(r#"\"frames\": 5"#, r#"\"frames\": 6"#);
    assert_ne!(agent, AGENT_SCRIPT);
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut demo = Demo::start(&agent);
        demo.wait_for("... counting");
        let log = fs::read_to_string(demo.dir.path().join("out/logs/wlproxy.log")).unwrap();
        let room = Path::new(log.trim());
        assert!(room.is_dir(), "{log}");
        kill(Pid::from_raw(demo.child.id() as i32), signal).unwrap();
        let (status, said) = demo.end();
        assert_eq!(status, Some(code), "{said}");
        assert!(said.ends_with(&format!("error: stopped by {signal}")), "{said}");
        assert!(!something_is_left(), "{said}");
        assert!(!room.exists());
    }
}

#[test]
fn what_fails_while_stopping_is_told_with_its_log() {
    let agent = AGENT_SCRIPT.replace(
        "trap 'exit 0' TERM\n",
        "case ${PWD##*/} in
            work) trap 'echo no rest; exit 7' TERM;;
            untrusted) echo no channel; exit 3;;
        esac\n",
    );
    let mut demo = Demo::start(&agent);
    let (status, said) = demo.end();
    assert_eq!(status, Some(1), "{said}");
    for text in [
        "\nno rest\n",
        "\nwhile stopping: agent-work exited with status 7 when it was told to stop\n",
        "\nno channel\nerror: agent-untrusted exited with status 3",
    ] {
        assert!(said.contains(text), "{said}");
    }
    assert!(!something_is_left());
}
