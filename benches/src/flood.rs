//! A client that floods its path while it is let.

use crate::connection::Connection;
use crate::opcode;
use crate::pixels::{PIXEL, Pool};
use crate::talk::{Flood, Poured};
use crate::task::{connect, push_requests, surface};
use anyhow::{Context, Result};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};
use wlproxy_protocol::wayland::Arg;

/// Requests that are sent before the compositor is waited for: more than a socket takes (Linux, `net.core.wmem_default`,
/// 208 KiB), so everybody on the way has as much to do as there is room for.
const REQUESTS: u32 = 10_000;

/// Frames that are sent before the compositor is waited for: as many bytes as [`REQUESTS`] have.
const COMMITS: u32 = 4_000;

/// Syncs that are sent at once, by who reads no answers: 12 KiB.
const SYNCS: u32 = 1_000;

/// How long who reads no answers waits until it may send more. Then nobody will let it any more.
const STUCK: Duration = Duration::from_millis(20);

/// Connections at once: as many as may wait for a compositor VM, of one VM (`MAX_PENDING` of wlproxy's accept).
const CONNECTIONS: usize = 64;

/// Edge of the buffer of frames, in pixels.
const EDGE: i32 = 64;

/// The thread of such a client.
#[derive(Debug)]
pub(crate) struct Flooder {
    may: Arc<AtomicBool>,
    start: Sender<()>,
    stopped: Receiver<Result<Poured>>,
}

impl Flooder {
    /// One that is ready.
    pub(crate) fn start(flood: Flood, display: &Path) -> Result<Self> {
        let mut source = Source::open(flood, display)?;
        let may = Arc::new(AtomicBool::new(false));
        let (start, started) = channel();
        let (stop, stopped) = channel();
        spawn({
            let may = may.clone();
            move || {
                while let Ok(()) = started.recv() {
                    if stop.send(pour(&mut source, &may)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { may, start, stopped })
    }

    /// Lets it begin.
    pub(crate) fn wake(&self) {
        self.may.store(true, Ordering::Relaxed);
        let _ = self.start.send(());
    }

    /// Lets it end, and waits until it has; what it was.
    pub(crate) fn hush(&self) -> Result<Poured> {
        self.may.store(false, Ordering::Relaxed);
        self.stopped.recv().context("the flood is gone")?.context("the flood failed")
    }
}

/// Floods while it may.
fn pour(source: &mut Source, may: &AtomicBool) -> Result<Poured> {
    let begin = Instant::now();
    let mut count = 0;
    while may.load(Ordering::Relaxed) {
        count += source.pour(may)?;
    }
    Ok(Poured { count, ns: begin.elapsed().as_nanos() as u64 })
}

/// Where it comes from.
enum Source {
    Requests { connection: Connection, surface: u32 },
    Commits { connection: Connection, surface: u32, buffer: u32 },
    Syncs { display: PathBuf },
    Connections { display: PathBuf },
}

impl Source {
    fn open(flood: Flood, display: &Path) -> Result<Self> {
        Ok(match flood {
            Flood::Requests => {
                let mut connection = connect(display)?;
                let surface = surface(&mut connection)?;
                Self::Requests { connection, surface }
            }
            Flood::Commits => {
                let mut connection = connect(display)?;
                let surface = surface(&mut connection)?;
                let buffer = buffer(&mut connection)?;
                Self::Commits { connection, surface, buffer }
            }
            Flood::Syncs => Self::Syncs { display: display.to_owned() },
            Flood::Connections => Self::Connections { display: display.to_owned() },
        })
    }

    /// Sends much, as long as it may; how many of what it sends that was.
    fn pour(&mut self, may: &AtomicBool) -> Result<u64> {
        match self {
            Self::Requests { connection, surface } => {
                push_requests(connection, *surface, REQUESTS);
                connection.sync()?;
                Ok(REQUESTS.into())
            }
            Self::Commits { connection, surface, buffer } => {
                let attach = [Arg::Object(*buffer), Arg::Int(0), Arg::Int(0)];
                let damage = [Arg::Int(0), Arg::Int(0), Arg::Int(EDGE), Arg::Int(EDGE)];
                for _ in 0..COMMITS {
                    connection.push(*surface, opcode::WL_SURFACE_ATTACH, &attach);
                    connection.push(*surface, opcode::WL_SURFACE_DAMAGE_BUFFER, &damage);
                    connection.push(*surface, opcode::WL_SURFACE_COMMIT, &[]);
                }
                connection.sync()?;
                Ok(COMMITS.into())
            }
            Self::Syncs { display } => {
                let mut connection = Connection::connect(display)?;
                let mut count = 0;
                // Until it is stuck, or was disconnected for what it does: both are as it should be.
                while may.load(Ordering::Relaxed) {
                    (0..SYNCS).for_each(|_| _ = connection.push_sync());
                    if !connection.flush_unheard(STUCK).unwrap_or(false) {
                        break;
                    }
                    count += u64::from(SYNCS);
                }
                Ok(count)
            }
            Self::Connections { display } => {
                let connect = |_| Connection::connect(display);
                let connections: Result<Vec<_>> = (0..CONNECTIONS).map(connect).collect();
                for mut connection in connections? {
                    connection.wait(|heard| !heard.globals.is_empty())?;
                }
                Ok(CONNECTIONS as u64)
            }
        }
    }
}

/// A wl_buffer with nothing in it.
fn buffer(connection: &mut Connection) -> Result<u32> {
    let stride = EDGE * PIXEL as i32;
    let size = NonZeroUsize::new((stride * EDGE) as usize).context("a buffer has pixels")?;
    let (_, file) = Pool::new(size).context("no pool")?;
    let shm = connection.bind(c"wl_shm", 1)?;
    let (pool, buffer) = (connection.id(), connection.id());
    let args = [Arg::NewId(pool), Arg::Fd, Arg::Int(stride * EDGE)];
    connection.push(shm, opcode::WL_SHM_CREATE_POOL, &args);
    connection.push_fd(file);
    let [width, height, stride, format] = [EDGE, EDGE, stride, 1].map(Arg::Int);
    let args = [Arg::NewId(buffer), Arg::Int(0), width, height, stride, format];
    connection.push(pool, opcode::WL_SHM_POOL_CREATE_BUFFER, &args);
    connection.sync()?;
    Ok(buffer)
}
