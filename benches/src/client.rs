//! The client, a process of its own: a plain wl_shm client that does what it is told, and times it.

use crate::cell::Pace;
use crate::crowd::Crowd;
use crate::flood::Flooder;
use crate::talk::{Answer, Burst, Measured, Order, listen};
use crate::task::Work;
use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wlproxy_tests::Dice;

/// The shortest pause of a paced client, in microseconds.
const PAUSE: u64 = 1000;

/// By how much the pauses differ, in microseconds: no clock of anybody's stays in step with them.
const SPREAD: u32 = 2000;

/// Obeys until its stdin is closed. `WAYLAND_DISPLAY` and `XDG_RUNTIME_DIR` tell where the compositor is, as for any
/// client.
pub(crate) fn main() -> Result<()> {
    wlproxy_unix::fd_limit::raise().context("can't raise the limit of open files")?;
    let mut client = Client {
        display: display()?,
        work: None,
        crowd: Crowd::default(),
        flooder: None,
        dice: Dice::new(1),
    };
    listen(|order| match client.obey(order) {
        Ok(answer) => answer,
        Err(error) => Answer::Failed(format!("{error:#}")),
    })
}

/// The compositor's socket.
fn display() -> Result<PathBuf> {
    let name = std::env::var_os("WAYLAND_DISPLAY").context("WAYLAND_DISPLAY isn't set")?;
    let folder = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
    // An absolute name stands for itself.
    Ok(PathBuf::from(folder).join(name))
}

struct Client {
    display: PathBuf,
    work: Option<Work>,
    crowd: Crowd,
    /// What floods the path of somebody else's, if this client is there for that.
    flooder: Option<Flooder>,
    dice: Dice,
}

impl Client {
    fn obey(&mut self, order: Order) -> Result<Answer> {
        match order {
            Order::Who => return Ok(Answer::Process(std::process::id())),
            Order::Take(task) => self.work = Some(Work::begin(task, &self.display)?),
            Order::Beside(beside) => self.crowd.grow(beside, &self.display)?,
            Order::Flood(flood) => self.flooder = Some(Flooder::start(flood, &self.display)?),
            Order::Wake => self.flooder.iter().for_each(Flooder::wake),
            Order::Hush => {
                let hushed = self.flooder.as_ref().map(Flooder::hush).transpose()?;
                return Ok(Answer::Poured(hushed.unwrap_or_default()));
            }
            Order::Burst(burst) => return self.measure(burst).map(Answer::Measured),
            Order::Checksum => match &self.work {
                Some(Work::Window(window)) => return Ok(Answer::Checksum(window.checksum())),
                _ => bail!("there is no window"),
            },
            Order::Close => self.work = None,
        }
        Ok(Answer::Done)
    }

    fn measure(&mut self, burst: Burst) -> Result<Measured> {
        let work = self.work.as_mut().context("there is nothing to measure")?;
        self.crowd.wake();
        let begin = Instant::now();
        let cpu = cpu_time()?;
        let mut measured = Measured::default();
        for at in 0..burst.warm_up + burst.count {
            if burst.pace == Pace::Paced {
                let spread = self.dice.roll(SPREAD).unsigned_abs();
                std::thread::sleep(Duration::from_micros(PAUSE + u64::from(spread)));
            }
            let took = work.once()?;
            measured.all += 1;
            if at >= burst.warm_up {
                measured.samples.push(took.as_nanos() as u64);
                if begin.elapsed() >= Duration::from_millis(burst.limit_ms) {
                    break;
                }
            }
        }
        measured.client_ns = (cpu_time()? - cpu).as_nanos() as u64;
        self.crowd.hush()?;
        Ok(measured)
    }
}

/// Processor time that this thread has used.
fn cpu_time() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time))
}
