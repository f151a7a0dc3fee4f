//! Runs `apt-get`.

use crate::failure::LOG_TAIL;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write, pipe};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a lock is tried that another one holds.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);

/// How apt-get begins to tell that another one holds a lock, in the language C.
const LOCKED: &str = "E: Could not get lock ";

/// An `apt-get` that asks nothing.
pub(crate) struct AptGet<'a> {
    /// What stands before it so that it may install.
    pub(crate) prefix: &'a [&'a str],
    /// Its `PATH`.
    pub(crate) path: &'a OsStr,
    /// How long to wait for a lock that another one holds.
    pub(crate) lock_deadline: Duration,
    /// Where to write what it says.
    pub(crate) log: File,
    /// Where to tell how it is going.
    pub(crate) progress: &'a mut Progress,
}

impl AptGet<'_> {
    /// Runs it, again and again while another one holds a lock: it can wait for dpkg's by itself, but not for that of
    /// the lists, which `update` takes.
    pub(crate) fn run(&mut self, args: &[&str]) -> Result<()> {
        let begin = Instant::now();
        let mut told = false;
        loop {
            let Err(error) = self.run_once(args) else { return Ok(()) };
            let failure = error.downcast_ref::<Failed>();
            match failure.and_then(Failed::lock) {
                Some(lock) if begin.elapsed() < self.lock_deadline => {
                    let waiting = format!("waiting: {lock}");
                    if !told {
                        self.progress.say(&waiting);
                        told = true;
                    }
                    self.progress.detail(&waiting);
                    sleep(LOCK_INTERVAL);
                }
                _ => return Err(error),
            }
        }
    }

    fn run_once(&mut self, args: &[&str]) -> Result<()> {
        let timeout = format!("DPkg::Lock::Timeout={}", self.lock_deadline.as_secs());
        let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"];
        let apt = ["apt-get", "-y", "-o", &timeout];
        let words = [self.prefix, &environment, &apt, args].concat();
        let (output, input) = pipe()?;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("PATH", self.path);
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let mut child =
            command.spawn().with_context(|| format!("can't run {}", words.join(" ")))?;
        drop(command); // It holds the pipe open.
        let mut tail = VecDeque::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            self.log.write_all(&line)?;
            self.log.write_all(b"\n")?;
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            self.progress.detail(&line);
            if tail.len() == LOG_TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(Failed { command: words.join(" "), status, tail: tail.into() }.into());
        }
        Ok(())
    }
}

/// It failed.
#[derive(Debug)]
struct Failed {
    command: String,
    status: ExitStatus,
    /// The last lines of what it said.
    tail: Vec<String>,
}

impl Failed {
    /// Which lock it didn't get and who holds it, if that is why.
    fn lock(&self) -> Option<&str> {
        self.tail.iter().find(|line| line.starts_with(LOCKED)).map(|line| &line["E: ".len()..])
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed ({}):\n{}", self.command, self.status, self.tail.join("\n"))
    }
}

impl std::error::Error for Failed {}
