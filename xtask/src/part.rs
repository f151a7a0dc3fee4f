//! One supervised program: its own process group, its own log, and an end when its supervisor ends.

#![allow(unsafe_code)] // `pre_exec`, once.

use crate::failure::Blame;
use crate::family;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getppid};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whom the parts run as, when that isn't the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Spec {
    /// What it is called in messages; its log is `NAME.log`.
    pub(crate) name: String,
    /// The program, found in `PATH` unless it has a slash.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Its working directory.
    pub(crate) dir: PathBuf,
    /// Where standard output goes, if not into the log.
    pub(crate) stdout: Option<PathBuf>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(Signal),
}

impl End {
    /// Whether a program that was sent SIGTERM may end this way: by itself, by the signal, or as a shell tells of the
    /// signal.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(self, End::Exited(0) | End::Killed(Signal::SIGTERM))
            || self == End::Exited(128 + Signal::SIGTERM as i32)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exited with status {status}"),
            End::Killed(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    pid: Pid,
}

impl Part {
    /// Starts a program, with its log in `logs`.
    ///
    /// When the calling thread ends, however it ends, the kernel kills the program.
    pub(crate) fn start(spec: &Spec, identity: Option<Identity>, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", spec.name));
        let out = open_log(&log)?;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(spec.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&spec.dir)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .process_group(0);
        match &spec.stdout {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("{}", path.display()))?;
                command.stdout(file)
            }
            None => command.stdout(out),
        };
        if let Some(Identity { uid, gid }) = identity {
            command.uid(uid).gid(gid); // Supplementary groups are dropped with these.
        }
        // A program with file capabilities would lose the death signal at exec; without new privileges it keeps it.
        // SAFETY: it is a system call, and nothing else.
        unsafe { command.pre_exec(|| Ok(prctl::set_no_new_privs()?)) };
        end_with_caller(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("can't start {}", spec.program.display()))
            .with_context(|| Blame::on(&[&spec.name]))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
        Ok(Self { name: spec.name.clone(), log, pid })
    }

    /// How it ended, if it did. Doesn't block.
    ///
    /// The dead process isn't reaped, so that its id, which is also its group's, can't become another's.
    pub(crate) fn end(&self) -> Option<End> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::Exited(_, status)) => Some(End::Exited(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(End::Killed(signal)),
            _ => None,
        }
    }

    /// Whether it and everything else in its process group has ended. Doesn't block.
    pub(crate) fn is_gone(&self) -> bool {
        family::descendants().iter().all(|process| process.group != self.pid)
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("can't send {signal} to {}", self.name))
    }

    /// Sends a signal to its whole process group, which may outlive it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("can't write the log {}", path.display()))
}

/// Makes the kernel kill the program when the calling thread ends.
pub(crate) fn end_with_caller(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(Errno::ESRCH.into()); // The parent ended before it was watched.
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates, locks or panics.
    unsafe { command.pre_exec(prepare) };
}
