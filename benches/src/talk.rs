//! What the harness tells its processes over their stdin, and what they answer on stdout: a line of JSON each.

use crate::cell::{Cell, Pace};
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use wlproxy_tests::Process;

/// How long the harness waits for an answer. Much longer than any single order takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client is told to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Tell the process id.
    Who,
    /// Be ready for a task.
    Take(Task),
    /// Have others beside, from now on.
    Beside(Beside),
    /// Be ready to flood.
    Flood(Flood),
    /// Flood from now on.
    Wake,
    /// Flood no more, and tell how it was.
    Hush,
    /// Measure.
    Burst(Burst),
    /// Tell what the window shows.
    Checksum,
    /// Forget the task, and close what it needed.
    Close,
}

/// What a client measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Frames of a window: from the commit until all was processed.
    Window(Cell),
    /// No client at all: how long a copy of a frame takes.
    Copy(Cell, Copyist),
    /// `wl_display.sync`.
    Sync,
    /// Connecting, until the first global is announced.
    Connect,
    /// So many small requests, until all were processed.
    Requests(u32),
    /// So many small events, from the request that they answer.
    Events(u32),
    /// Pasting so many bytes, which somebody has copied.
    Paste(u64),
    /// Nothing; but whoever pastes gets so many bytes.
    Offer(u64),
}

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Copyist {
    /// The thread that has drawn the frame: it is in the caches of the same processor, as far as it fits.
    Painter,
    /// Another thread, which is woken up for it: as an agent copies, maybe on another processor.
    Other,
}

/// Who else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Beside {
    /// So many clients of the same VM that do nothing.
    Idle(u32),
    /// One client of the same VM that sends as much as it can, as long as somebody measures.
    Flood,
}

/// What somebody sends as fast as it can, and who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Flood {
    /// Small requests, of which many fit into a packet. Whoever sends them waits for the compositor now and then.
    Requests,
    /// Frames: attach, 64x64 damage, commit. As above.
    Commits,
    /// `wl_display.sync`, the answers to which nobody reads. Who gets stuck with it connects again.
    Syncs,
    /// Connections, until the first global of each is announced.
    Connections,
}

impl Flood {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Commits, Self::Syncs, Self::Connections];
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::Commits => "commits",
            Self::Syncs => "syncs",
            Self::Connections => "connections",
        })
    }
}

/// What a flood was.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Poured {
    /// How many of what it consists of.
    pub count: u64,
    /// In what time, in nanoseconds.
    pub ns: u64,
}

impl Poured {
    /// How many in a second; 0 if there was no time.
    pub fn rate(self) -> f64 {
        self.count as f64 * 1e9 / self.ns.max(1) as f64
    }

    /// Has what another flood was as well.
    pub(crate) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.ns += other.ns;
    }
}

/// How much is measured in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// This many before anything is measured.
    pub warm_up: u32,
    /// This many.
    pub count: u32,
    /// No further one after this time, in milliseconds, but one at least.
    pub limit_ms: u64,
    /// What is between them.
    pub pace: Pace,
}

/// What a client answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Its process id.
    Process(u32),
    /// What was measured, in nanoseconds each, and what it cost this client.
    Measured(Measured),
    /// What was flooded meanwhile.
    Poured(Poured),
    /// What the window shows.
    Checksum(u64),
    /// It failed.
    Failed(String),
}

/// What a burst was.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Each measurement, in nanoseconds.
    pub samples: Vec<u64>,
    /// How many there were with the warm-up.
    pub all: u64,
    /// Processor time of the client for all of them, drawing included, in nanoseconds.
    pub client_ns: u64,
    /// What somebody else flooded the path with meanwhile.
    pub beside: Poured,
}

impl Measured {
    /// Has what another burst was as well.
    pub(crate) fn add(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.all += other.all;
        self.client_ns += other.client_ns;
        self.beside.add(other.beside);
    }
}

/// A process that takes orders.
#[derive(Debug)]
pub(crate) struct Listener {
    process: Process,
    heard: Vec<u8>,
}

impl Listener {
    /// `process` has pipes as stdin and stdout.
    pub(crate) fn new(process: Process) -> Self {
        Self { process, heard: Vec::new() }
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Gives an order and waits for the answer.
    pub(crate) fn tell<A: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<A> {
        let name = self.process.name().to_owned();
        self.try_tell(order).with_context(|| {
            let log = self.process.log();
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            let tail: Vec<&str> = lines.into_iter().rev().collect();
            format!("{name} doesn't do what it is told; its log ends with\n{}", tail.join("\n"))
        })
    }

    fn try_tell<A: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<A> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let stdin = self.process.child().stdin.as_mut().context("its stdin is closed")?;
        stdin.write_all(&line).context("it doesn't listen any more")?;
        Ok(serde_json::from_slice(&self.line()?)?)
    }

    /// The next line that it says.
    fn line(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                return Ok(self.heard.drain(..=end).collect());
            }
            let stdout = self.process.child().stdout.as_mut().context("its stdout is closed")?;
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).expect("it fits");
            if poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                bail!("no answer within {PATIENCE:?}");
            }
            let mut bytes = [0; 16 * 1024];
            match stdout.read(&mut bytes)? {
                0 => bail!("it has ended"),
                count => self.heard.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

/// Takes orders from stdin until that is closed, and answers on stdout.
pub(crate) fn listen<O: DeserializeOwned, A: Serialize>(
    mut obey: impl FnMut(O) -> A,
) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let answer = obey(serde_json::from_str(&line?)?);
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        stdout.write_all(&bytes)?;
        stdout.flush()?;
    }
    Ok(())
}
