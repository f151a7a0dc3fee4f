//! What a client can measure.

use crate::connection::Connection;
use crate::copier::Copier;
use crate::opcode;
use crate::talk::Task;
use crate::window::Window;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wlproxy_protocol::wayland::Arg;

/// What is copied and pasted.
const KIND: &CStr = c"application/octet-stream";

/// Rectangles of damage until a commit: fewer than a surface may have (wlproxy's quota `damage`, 4,096).
const RECTANGLES: u32 = 1_000;

/// Bytes that are written to a pipe at once: more than a pipe holds.
const PIECE: usize = 256 * 1024;

/// A task that was begun.
#[derive(Debug)]
pub(crate) enum Work {
    Window(Window),
    Copy(Copier),
    Sync(Connection),
    Connect(PathBuf),
    Requests { connection: Connection, surface: u32, count: u32 },
    Events { connection: Connection, pointer: u32, count: u64 },
    Paste { connection: Connection, bytes: u64 },
    Nothing,
}

impl Work {
    /// Does all that is needed before something can be measured.
    pub(crate) fn begin(task: Task, display: &Path) -> Result<Self> {
        Ok(match task {
            Task::Window(cell) => Self::Window(Window::open(display, &cell)?),
            Task::Copy(cell, copyist) => Self::Copy(Copier::new(&cell, copyist)?),
            Task::Sync => Self::Sync(connect(display)?),
            Task::Connect => Self::Connect(display.to_owned()),
            Task::Requests(count) => {
                let mut connection = connect(display)?;
                let surface = surface(&mut connection)?;
                Self::Requests { connection, surface, count }
            }
            Task::Events(count) => {
                let mut connection = connect(display)?;
                let seat = connection.bind(c"wl_seat", 5)?;
                let pointer = connection.pointer_id();
                connection.push(seat, opcode::WL_SEAT_GET_POINTER, &[Arg::NewId(pointer)]);
                connection.sync()?;
                Self::Events { connection, pointer, count: count.into() }
            }
            Task::Paste(bytes) => {
                let mut connection = connect(display)?;
                data_device(&mut connection)?;
                connection.wait(|heard| heard.selection.is_some())?;
                Self::Paste { connection, bytes }
            }
            Task::Offer(bytes) => {
                offer(connect(display)?, bytes)?;
                Self::Nothing
            }
        })
    }

    /// Does it once; how long that took.
    pub(crate) fn once(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        match self {
            // What is drawn doesn't count.
            Self::Window(window) => return window.frame(),
            Self::Copy(copier) => return copier.frame(),
            Self::Sync(connection) => connection.sync()?,
            Self::Connect(display) => {
                let mut connection = Connection::connect(display)?;
                connection.wait(|heard| !heard.globals.is_empty())?;
                let took = begin.elapsed();
                // Leave no half-served client for the next to wait for.
                connection.sync()?;
                return Ok(took);
            }
            Self::Requests { connection, surface, count } => {
                push_requests(connection, *surface, *count);
                connection.sync()?;
            }
            Self::Events { connection, pointer, count } => {
                // The sink answers with as many motions.
                let args = [Arg::Uint(*count as u32), Arg::Object(0), Arg::Int(0), Arg::Int(0)];
                let goal = connection.heard.motions + *count;
                connection.push(*pointer, opcode::WL_POINTER_SET_CURSOR, &args);
                connection.flush()?;
                connection.wait(|heard| heard.motions >= goal)?;
            }
            Self::Paste { connection, bytes } => {
                let pasted = paste(connection)?;
                ensure!(pasted == *bytes, "{pasted} bytes were pasted, and {bytes} copied");
            }
            Self::Nothing => {}
        }
        Ok(begin.elapsed())
    }
}

/// Adds `count` small requests, and a few commits.
pub(crate) fn push_requests(connection: &mut Connection, surface: u32, count: u32) {
    let damage = [Arg::Int(0), Arg::Int(0), Arg::Int(1), Arg::Int(1)];
    for at in 1..=count {
        connection.push(surface, opcode::WL_SURFACE_DAMAGE_BUFFER, &damage);
        if at % RECTANGLES == 0 || at == count {
            connection.push(surface, opcode::WL_SURFACE_COMMIT, &[]);
        }
    }
}

/// A connection that knows the globals.
pub(crate) fn connect(display: &Path) -> Result<Connection> {
    let mut connection = Connection::connect(display)?;
    connection.sync()?;
    Ok(connection)
}

/// A wl_surface, and what nearly every client binds.
pub(crate) fn surface(connection: &mut Connection) -> Result<u32> {
    let compositor = connection.bind(c"wl_compositor", 4)?;
    connection.bind(c"wl_shm", 1)?;
    let surface = connection.id();
    connection.push(compositor, opcode::WL_COMPOSITOR_CREATE_SURFACE, &[Arg::NewId(surface)]);
    connection.sync()?;
    Ok(surface)
}

/// A wl_data_device, and its manager.
fn data_device(connection: &mut Connection) -> Result<(u32, u32)> {
    let seat = connection.bind(c"wl_seat", 5)?;
    let manager = connection.bind(c"wl_data_device_manager", 3)?;
    let device = connection.data_device_id();
    let args = [Arg::NewId(device), Arg::Object(seat)];
    connection.push(manager, opcode::WL_DATA_DEVICE_MANAGER_GET_DATA_DEVICE, &args);
    connection.sync()?;
    Ok((device, manager))
}

/// Copies `bytes` bytes: whoever pastes gets them from another thread, until this process ends.
fn offer(mut connection: Connection, bytes: u64) -> Result<()> {
    let (device, manager) = data_device(&mut connection)?;
    let source = connection.data_source_id();
    let args = [Arg::NewId(source)];
    connection.push(manager, opcode::WL_DATA_DEVICE_MANAGER_CREATE_DATA_SOURCE, &args);
    connection.push(source, opcode::WL_DATA_SOURCE_OFFER, &[Arg::Str(Some(KIND))]);
    let args = [Arg::Object(source), Arg::Uint(0)];
    connection.push(device, opcode::WL_DATA_DEVICE_SET_SELECTION, &args);
    connection.sync()?;
    std::thread::spawn(move || {
        loop {
            let asked = connection.wait_forever(|heard| !heard.asked.is_empty());
            let result = asked.and_then(|()| {
                let fds: Vec<OwnedFd> = connection.heard.asked.drain(..).collect();
                fds.into_iter().try_for_each(|fd| write(fd, bytes))
            });
            if let Err(error) = result {
                // The reader learns it: the pipe is closed.
                eprintln!("nothing can be pasted any more: {error:#}");
                return;
            }
        }
    });
    Ok(())
}

fn write(pipe: OwnedFd, bytes: u64) -> Result<()> {
    // waypipe leaves it non-blocking, and so it comes here.
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    let mut pipe = File::from(pipe);
    let piece = vec![0x5a; PIECE];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(PIECE as u64);
        pipe.write_all(&piece[..count as usize]).context("can't write to who pastes")?;
        left -= count;
    }
    Ok(())
}

/// Pastes what was copied last; how many bytes that was.
fn paste(connection: &mut Connection) -> Result<u64> {
    let offer = connection.heard.selection.context("nothing was copied")?;
    let (mut reader, writer) = std::io::pipe()?;
    connection.push(offer, opcode::WL_DATA_OFFER_RECEIVE, &[Arg::Str(Some(KIND)), Arg::Fd]);
    connection.push_fd(writer.into());
    connection.flush()?;
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        match reader.read(&mut piece).context("can't paste")? {
            0 => return Ok(bytes),
            count => bytes += count as u64,
        }
    }
}
