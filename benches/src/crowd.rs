//! Other clients of the same VM, beside the one that measures.

use crate::connection::Connection;
use crate::opcode;
use crate::talk::Beside;
use crate::task::{connect, surface};
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use wlproxy_protocol::wayland::Arg;

/// Requests that a flood sends before it waits for the compositor: more than a socket takes (Linux,
/// `net.core.wmem_default`, 208 KiB), so everybody on the way has as much to do as there is room for.
const FLOOD: u32 = 10_000;

/// Clients that are there.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    idle: Vec<Connection>,
    flood: Option<Flood>,
}

/// A client that sends as much as it can while it is let.
#[derive(Debug)]
struct Flood {
    may: Arc<AtomicBool>,
    start: Sender<()>,
    stopped: Receiver<Result<()>>,
}

impl Crowd {
    /// Has so many in all.
    pub(crate) fn grow(&mut self, beside: Beside, display: &Path) -> Result<()> {
        match beside {
            Beside::Idle(count) => {
                let first = self.idle.len();
                // All of them at once, then each by itself.
                for _ in first..count as usize {
                    self.idle.push(Connection::connect(display)?);
                }
                for client in &mut self.idle[first..] {
                    client.sync()?;
                    surface(client)?;
                    client.shrink();
                }
            }
            Beside::Flood => self.flood = Some(Flood::start(connect(display)?)?),
        }
        Ok(())
    }

    /// Lets the flood begin, if there is one.
    pub(crate) fn wake(&self) {
        if let Some(flood) = &self.flood {
            flood.may.store(true, Ordering::Relaxed);
            let _ = flood.start.send(());
        }
    }

    /// Lets it end, and waits until it has.
    pub(crate) fn hush(&self) -> Result<()> {
        let Some(flood) = &self.flood else { return Ok(()) };
        flood.may.store(false, Ordering::Relaxed);
        flood.stopped.recv().context("the flood is gone")?.context("the flood failed")
    }
}

impl Flood {
    fn start(mut connection: Connection) -> Result<Self> {
        let surface = surface(&mut connection)?;
        let may = Arc::new(AtomicBool::new(false));
        let (start, started) = channel();
        let (stop, stopped) = channel();
        spawn({
            let may = may.clone();
            move || {
                while let Ok(()) = started.recv() {
                    let mut result = Ok(());
                    while result.is_ok() && may.load(Ordering::Relaxed) {
                        result = flood(&mut connection, surface);
                    }
                    if stop.send(result).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { may, start, stopped })
    }
}

fn flood(connection: &mut Connection, surface: u32) -> Result<()> {
    let damage = [Arg::Int(0), Arg::Int(0), Arg::Int(1), Arg::Int(1)];
    for _ in 0..FLOOD {
        connection.push(surface, opcode::WL_SURFACE_DAMAGE_BUFFER, &damage);
    }
    // A surface may not have any number of rectangles until its commit.
    connection.push(surface, opcode::WL_SURFACE_COMMIT, &[]);
    connection.sync()
}
