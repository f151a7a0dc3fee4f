//! A child process that doesn't outlive the test.

use crate::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Most of a log that a failed test shows, in bytes.
const LOG_SHOWN: u64 = 16 * 1024;

/// A running program whose output goes to a log; killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`. Its stderr goes to `LOGS/NAME.log`, and its stdout too unless the caller has piped it
    /// (`piped`: stdin and stdout are pipes).
    pub fn spawn(name: &str, mut command: Command, logs: &Path, piped: bool) -> Self {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log can be made");
        if piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file.try_clone().expect("fds are left"));
        }
        command.stderr(file);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child: its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).unwrap_or_else(|errno| panic!("{signal} to {}: {errno}", self.name));
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it doesn't end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until(&format!("the end of {}", self.name), || {
            child.try_wait().expect("a child can be waited for")
        })
    }

    /// Asks it to end by SIGTERM and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        if self.running() {
            self.signal(Signal::SIGTERM);
        }
        self.wait()
    }

    /// Closes its stdin, if that is a pipe, and waits for the end.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where it says it.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of a log, for a failed test.
    pub fn tail(log: &Path) -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_SHOWN)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs `command` to its end and returns its stdout.
///
/// # Panics
/// If it fails, or takes longer than `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
    let id = Pid::from_raw(child.id().cast_signed());
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (sender, finished) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let (mut bytes, mut said) = (Vec::new(), String::new());
        let _ = stdout.read_to_end(&mut bytes);
        let _ = stderr.read_to_string(&mut said);
        let _ = sender.send(());
        (bytes, said)
    });
    let in_time = finished.recv_timeout(limit).is_ok();
    if !in_time {
        let _ = kill(id, Signal::SIGKILL);
    }
    let status = child.wait().expect("a child can be waited for");
    let (bytes, said) = reader.join().expect("reading doesn't panic");
    assert!(in_time, "{command:?} took longer than {limit:?}: {said}");
    assert!(status.success(), "{command:?}: {status}: {said}");
    bytes
}
