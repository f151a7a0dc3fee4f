//! Runs a set of programs, notices when one ends too early, and leaves none behind.

use crate::failure::{Blame, Failure, Interrupted};
use crate::family;
use crate::part::{End, Identity, Part, Spec};
use crate::progress::Progress;
use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a part may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How long processes that outlive the part that started them may take to notice that it is gone.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(2);

/// How long the kernel may take to end a process that was sent SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(1);

/// How long it may take until a part is seen to have ended: its sockets close before, and so do its windows.
const DEATH_DEADLINE: Duration = Duration::from_secs(1);

/// How often what is left is looked for and killed.
const SWEEP_TURNS: usize = 8;

/// Longest time between two looks at the state: the progress line shows the seconds.
const TICK: Duration = Duration::from_millis(250);

/// What a wait found.
pub(crate) enum Step<T> {
    /// What was waited for.
    Done(T),
    /// Not yet; how far it is.
    Waiting(String),
}

/// Whether a wait goes on when the user or a part ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watchful {
    /// Both end it.
    Yes,
    /// Neither does: what is waited for is the end itself.
    No,
}

/// Programs that run together. What still runs when this is dropped is killed.
///
/// It must stay on the thread that made it: the programs end with that thread.
pub(crate) struct Supervisor {
    parts: Vec<Part>,
    /// The part whose early end was already told.
    failed: Option<String>,
    signals: SignalFd,
    identity: Option<Identity>,
    logs: PathBuf,
    /// Where to tell how a wait is going.
    pub(crate) progress: Progress,
}

impl Supervisor {
    /// Takes over SIGINT, SIGTERM, SIGHUP and SIGCHLD of this thread, and the children that its children leave behind.
    pub(crate) fn new(identity: Option<Identity>, logs: &Path, progress: Progress) -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        prctl::set_child_subreaper(true)?;
        Ok(Self {
            parts: Vec::new(),
            failed: None,
            signals,
            identity,
            logs: logs.to_owned(),
            progress,
        })
    }

    /// Starts a part that is to run until [`Supervisor::stop`].
    pub(crate) fn start(&mut self, spec: &Spec) -> Result<()> {
        self.parts.push(Part::start(spec, self.identity, &self.logs)?);
        Ok(())
    }

    /// Runs a program to its end, which must be status 0.
    pub(crate) fn run(&mut self, spec: &Spec, deadline: Duration) -> Result<()> {
        let part = Part::start(spec, self.identity, &self.logs)?;
        let result = self.wait_for("end", &[&spec.name], deadline, &[], || {
            Ok(match part.end() {
                Some(end) => Step::Done(end),
                None => Step::Waiting("it still runs".to_owned()),
            })
        });
        match result {
            Ok(End::Exited(0)) => Ok(()),
            Ok(end) => {
                let reason = format!("{} {end}", spec.name);
                Err(Failure::new(reason, vec![part.log]).into())
            }
            Err(error) => {
                part.signal_group(Signal::SIGKILL);
                Err(error)
            }
        }
    }

    /// Sends a signal to the process that a part was started as, not to those that it started.
    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.part(name)?.signal(signal)
    }

    /// Kills a part, and waits until nothing of it is left. It isn't missed.
    pub(crate) fn kill(&mut self, name: &str) -> Result<()> {
        let part = self.parts.iter().position(|part| part.name == name);
        let part = self.parts.remove(part.ok_or_else(|| anyhow!("no part is called {name}"))?);
        part.signal_group(Signal::SIGKILL);
        if self.wait_quietly(KILL_DEADLINE, || part.is_gone()) {
            return Ok(());
        }
        Err(Failure::new(format!("{name} doesn't end when it is killed"), vec![part.log]).into())
    }

    /// Whether a part of this name was started, and wasn't killed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.part(name).is_ok()
    }

    /// Forgets the parts that have ended, which were told of. Returns their names.
    pub(crate) fn bury(&mut self) -> Vec<String> {
        let ended = self.parts.extract_if(.., |part| part.end().is_some());
        let names = ended.map(|part| part.name).collect();
        self.failed = None;
        names
    }

    fn part(&self, name: &str) -> Result<&Part> {
        self.parts
            .iter()
            .find(|part| part.name == name)
            .ok_or_else(|| anyhow!("no part is called {name}"))
    }

    /// Waits until `ready` says so. It is asked at once, whenever one of `wake` is readable, and now and then.
    ///
    /// Fails when a part ends meanwhile, when the user stops the command, or after `deadline`; then the logs of `blame`
    /// may tell why.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        blame: &[&str],
        deadline: Duration,
        wake: &[BorrowedFd<'_>],
        ready: impl FnMut() -> Result<Step<T>>,
    ) -> Result<T> {
        self.wait_loop(Watchful::Yes, deadline, wake, ready).map_err(|error| {
            let detail = match error.downcast::<TimedOut>() {
                Ok(TimedOut(detail)) => detail,
                Err(other) => return other,
            };
            let reason = format!(
                "{}: no {what} after {} s ({detail})",
                blame.join(", "),
                deadline.as_secs_f32()
            );
            Failure::new(reason, self.logs(blame)).into()
        })
    }

    /// Lets time pass until something is to be asked again.
    pub(crate) fn pause(&mut self, time: Duration, why: &str) -> Result<()> {
        let passed: Result<()> =
            self.wait_loop(Watchful::Yes, time, &[], || Ok(Step::Waiting(why.to_owned())));
        passed.or_else(|error| if error.is::<TimedOut>() { Ok(()) } else { Err(error) })
    }

    /// The logs of parts, by name.
    pub(crate) fn logs(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.logs.join(format!("{name}.log"))).collect()
    }

    /// Makes any error a failure with logs, but not a signal of the user. If a part has ended, that is why; else the
    /// error is its [`Blame`]'s, and without one it may be any part's.
    pub(crate) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Failure>() || error.is::<Interrupted>() {
            return error;
        }
        let ended: Result<()> = self.wait_loop(Watchful::Yes, DEATH_DEADLINE, &[], || {
            Ok(Step::Waiting("looking who has ended".to_owned()))
        });
        if let Some(Ok(failure)) = ended.err().map(|ended| ended.downcast::<Failure>()) {
            return failure.seen_as(&error).into();
        }
        let logs = match error.downcast_ref::<Blame>() {
            Some(blame) => self.logs(&blame.parts()),
            None => self.parts.iter().map(|part| part.log.clone()).collect(),
        };
        Failure::new(format!("{error:#}"), logs).into()
    }

    /// Ends all parts, the last one first, and checks that each ended in order and that nothing is left. A part's own
    /// end that a wait has failed with isn't told again.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut problems = Vec::new();
        let mut logs = Vec::new();
        while let Some(part) = self.parts.pop() {
            self.progress.detail(&part.name);
            let early = part.end();
            part.signal_group(Signal::SIGTERM);
            let gone = self.wait_quietly(STOP_DEADLINE, || {
                // A process that was just being forked may have missed the first signal.
                if part.end().is_some() {
                    part.signal_group(Signal::SIGTERM);
                }
                part.is_gone()
            });
            if !gone {
                part.signal_group(Signal::SIGKILL);
                self.wait_quietly(KILL_DEADLINE, || part.is_gone());
            }
            let problem = match (early, gone, part.end()) {
                (Some(_), ..) if self.failed.as_ref() == Some(&part.name) => continue,
                (Some(end), ..) => format!("{} {end} before it was told to", part.name),
                (None, false, _) => {
                    format!("{} didn't end within {} s", part.name, STOP_DEADLINE.as_secs())
                }
                (None, true, Some(end)) if !end.is_orderly() => {
                    format!("{} {end} when it was told to stop", part.name)
                }
                _ => continue,
            };
            problems.push(problem);
            logs.push(part.log);
        }
        let left = self.sweep(ORPHAN_DEADLINE);
        if !left.is_empty() {
            problems.push(format!("processes were left behind: {}", left.join(", ")));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Failure::new(problems.join("; "), logs).into())
    }

    /// Gives all processes below this one some time to end, then kills them. Returns the names of those.
    fn sweep(&mut self, deadline: Duration) -> Vec<String> {
        let gone = || family::descendants().is_empty();
        self.wait_quietly(deadline, gone);
        let mut names = Vec::new();
        // A process that is killed may have had a child a moment before, so this takes turns.
        for _ in 0..SWEEP_TURNS {
            let left = family::descendants();
            if left.is_empty() {
                break;
            }
            for process in &left {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
            names.extend(left.into_iter().map(|process| process.name));
            self.wait_quietly(KILL_DEADLINE, gone);
        }
        family::reap();
        names
    }

    fn wait_quietly(&mut self, deadline: Duration, mut ready: impl FnMut() -> bool) -> bool {
        self.wait_loop(Watchful::No, deadline, &[], || {
            Ok(if ready() { Step::Done(()) } else { Step::Waiting(String::new()) })
        })
        .is_ok()
    }

    fn wait_loop<T>(
        &mut self,
        watchful: Watchful,
        deadline: Duration,
        wake: &[BorrowedFd<'_>],
        mut ready: impl FnMut() -> Result<Step<T>>,
    ) -> Result<T> {
        let end = Instant::now() + deadline;
        loop {
            while let Some(info) = self.signals.read_signal()? {
                let signal = Signal::try_from(info.ssi_signo as i32)?;
                if watchful == Watchful::Yes && signal != Signal::SIGCHLD {
                    return Err(Interrupted(signal).into());
                }
            }
            if watchful == Watchful::Yes {
                self.check_parts()?;
            }
            let detail = match ready()? {
                Step::Done(value) => return Ok(value),
                Step::Waiting(detail) => detail,
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(TimedOut(detail));
            }
            if watchful == Watchful::Yes {
                self.progress.detail(&detail);
            }
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(wake.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
            // Rounded up, so that the last turn isn't many.
            let timeout = PollTimeout::try_from(left.min(TICK) + Duration::from_millis(1))?;
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check_parts(&mut self) -> Result<()> {
        for part in &self.parts {
            if let Some(end) = part.end() {
                let reason = format!("{} {end}", part.name);
                self.failed = Some(part.name.clone());
                return Err(Failure::new(reason, vec![part.log.clone()]).into());
            }
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for part in &self.parts {
            part.signal_group(Signal::SIGKILL);
        }
        self.sweep(Duration::ZERO);
    }
}

/// A wait took too long; how far it was.
#[derive(Debug)]
struct TimedOut(String);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too late ({})", self.0)
    }
}

impl std::error::Error for TimedOut {}

#[cfg(test)]
pub(crate) mod tests;
