//! Runs in a VM of `cargo xtask vm`, and does what the host asks for.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use wlproxy_runner::{Answer, Inbox, MAX_BODY, PORT, Request};

/// How often a file that is waited for is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Where those that go on write.
const LOGS: &str = "/run/log";

fn main() -> Result<()> {
    let path = port()?;
    let mut port = OpenOptions::new().read(true).write(true).open(&path);
    let port = port.as_mut().ok().with_context(|| format!("can't open {}", path.display()))?;
    let out = Mutex::new(port.try_clone()?);
    let mut runner = Runner { out, running: Vec::new() };
    runner.say(&Answer::Ready)?;
    let mut inbox = Inbox::default();
    let mut bytes = vec![0; MAX_BODY];
    loop {
        let length = port.read(&mut bytes).context("can't read from the host")?;
        if length == 0 {
            // The host's end is closed: so is QEMU soon.
            thread::sleep(LOOK);
        }
        inbox.push(&bytes[..length]);
        while let Some(request) = inbox.request()? {
            // Whoever has ended is taken from the kernel, and how is kept.
            for (_, child) in &mut runner.running {
                let _ = child.try_wait();
            }
            let answer = match runner.answer(request) {
                Ok(status) => Answer::Exit(status),
                Err(error) => Answer::Fail(format!("{error:#}")),
            };
            runner.say(&answer)?;
        }
    }
}

/// The device node of the port: its number depends on what else the VM has.
fn port() -> Result<PathBuf> {
    let folder = Path::new("/sys/class/virtio-ports");
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    bail!("the VM has no port {PORT}")
}

struct Runner {
    out: Mutex<File>,
    /// Those that were started, by name.
    running: Vec<(String, Child)>,
}

impl Runner {
    fn say(&self, answer: &Answer) -> Result<()> {
        let mut out = self.out.lock().expect("nobody panics with it");
        out.write_all(&answer.to_bytes()).context("can't write to the host")
    }

    /// Does it. Returns its status.
    fn answer(&mut self, request: Request) -> Result<i32> {
        match request {
            Request::Run { uid, script } => self.run(uid, &script),
            Request::Start { uid, name, script } => {
                if let Some(at) = self.find(&name) {
                    if self.running[at].1.try_wait()?.is_none() {
                        bail!("{name} runs already");
                    }
                    self.running.remove(at);
                }
                let log = Path::new(LOGS).join(&name);
                fs::create_dir_all(LOGS)?;
                let log = File::create(&log).with_context(|| format!("{}", log.display()))?;
                let mut command = shell(uid, &script);
                // A group of its own, so that it can be ended with all that it started.
                command.stdout(log.try_clone()?).stderr(log).process_group(0);
                let child = command.spawn().with_context(|| format!("can't start {name}"))?;
                self.running.push((name, child));
                Ok(0)
            }
            Request::End { milliseconds, name } => {
                self.end(&name, Duration::from_millis(milliseconds.into()))
            }
            Request::Wait { milliseconds, path } => {
                let end = Instant::now() + Duration::from_millis(milliseconds.into());
                while fs::symlink_metadata(&path).is_err() {
                    if Instant::now() >= end {
                        return Ok(1);
                    }
                    thread::sleep(LOOK);
                }
                Ok(0)
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.running.iter().position(|(found, _)| found == name)
    }

    /// Ends one that goes on, and its process group.
    fn end(&mut self, name: &str, patience: Duration) -> Result<i32> {
        let at = self.find(name).with_context(|| format!("nothing called {name} was started"))?;
        let (_, mut child) = self.running.remove(at);
        let group = Pid::from_raw(i32::try_from(child.id())?);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let end = Instant::now() + patience;
            while Instant::now() < end {
                // Each time: who was just being forked may have missed the one before.
                let left = killpg(group, signal).is_ok();
                if let (false, Some(status)) = (left, child.try_wait()?) {
                    return Ok(code(status));
                }
                thread::sleep(LOOK);
            }
        }
        bail!("{name} doesn't end when it is killed")
    }

    fn run(&self, uid: u32, script: &str) -> Result<i32> {
        let mut command = shell(uid, script);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't run sh")?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = (out.expect("it is piped"), err.expect("it is piped"));
        let passed = thread::scope(|scope| {
            let err = scope.spawn(|| self.pass_on(err, Answer::Err));
            self.pass_on(out, Answer::Out).and(err.join().expect("it doesn't panic"))
        });
        let status = child.wait()?;
        passed?;
        Ok(code(status))
    }

    fn pass_on(&self, mut from: impl Read, answer: fn(Vec<u8>) -> Answer) -> Result<()> {
        let mut bytes = vec![0; MAX_BODY];
        loop {
            match from.read(&mut bytes)? {
                0 => return Ok(()),
                length => self.say(&answer(bytes[..length].to_vec()))?,
            }
        }
    }
}

/// An exit status, or 128 and the signal that came before one.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// `sh` with a script, as it is for whoever logs in.
fn shell(uid: u32, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
    // There is one other user.
    let home = if uid == 0 { "/root" } else { "/home/user" };
    command.current_dir(home).env("HOME", home).uid(uid).gid(uid);
    command
}
