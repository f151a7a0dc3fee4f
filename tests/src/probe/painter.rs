//! A window in memory that its client maps whole, as toolkits draw; and no library between it and its socket. So what an
//! agent lends takes the memory's place.

use crate::{Arg, Digest, Display, Event, Flood, Raw, memfd, message};
use anyhow::{Context, Result, bail, ensure};
use guest_agent::memory::Mapping;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The display's id (Wayland).
const DISPLAY: u32 = 1;

/// Bytes of a pixel.
const PIXEL: usize = 4;

/// How many buffers: the compositor has one, and the client draws in the other.
const BUFFERS: usize = 2;

/// By how many bytes one row is apart from the next in what is drawn.
const SHIFT: usize = 8;

/// Opcodes of requests (wayland.xml).
mod request {
    pub(super) const CREATE_SURFACE: u16 = 0;
    pub(super) const CREATE_POOL: u16 = 0;
    pub(super) const CREATE_BUFFER: u16 = 0;
    pub(super) const DESTROY_POOL: u16 = 1;
    pub(super) const ATTACH: u16 = 1;
    pub(super) const FRAME: u16 = 3;
    pub(super) const COMMIT: u16 = 6;
    pub(super) const DAMAGE_BUFFER: u16 = 9;
}

/// `wl_shm.format`, xrgb8888 (wayland.xml).
const XRGB8888: u32 = 1;

/// A client with one surface.
pub(super) struct Painter {
    raw: Raw,
    /// What it is mapped from, until that is closed.
    file: Option<File>,
    memory: Mapping,
    surface: u32,
    buffers: [Buffer; BUFFERS],
    /// Width and height in pixels.
    size: (usize, usize),
    /// Which buffer was drawn last.
    current: usize,
    frames: u64,
    /// A callback that is done, whose id may be used again.
    callback: Option<u32>,
}

#[derive(Clone, Copy)]
struct Buffer {
    id: u32,
    busy: bool,
}

impl Painter {
    /// A surface that shows nothing yet.
    pub(super) fn connect(display: &Display, size: (usize, usize)) -> Result<Self> {
        let mut raw = Raw::connect(display);
        raw.sync();
        let (compositor, shm) = (raw.bind("wl_compositor", 4), raw.bind("wl_shm", 1));
        let (surface, pool) = (raw.id(), raw.id());
        let (stride, bytes) = (size.0 * PIXEL, size.0 * PIXEL * size.1);
        let file = memfd((bytes * BUFFERS) as u64);
        let memory = Mapping::new(&file, (bytes * BUFFERS) as u64)?;
        raw.send(&message(compositor, request::CREATE_SURFACE, &[Arg::Uint(surface)]), []);
        let args = [Arg::Uint(pool), Arg::Int((bytes * BUFFERS) as i32)];
        let theirs = OwnedFd::from(file.try_clone()?);
        raw.send(&message(shm, request::CREATE_POOL, &args), [theirs]);
        let buffers = std::array::from_fn(|at| {
            let id = raw.id();
            let numbers =
                [at * bytes, size.0, size.1, stride].map(|number| Arg::Int(number as i32));
            let args = [&[Arg::Uint(id)][..], &numbers, &[Arg::Uint(XRGB8888)]].concat();
            raw.send(&message(pool, request::CREATE_BUFFER, &args), []);
            Buffer { id, busy: false }
        });
        raw.send(&message(pool, request::DESTROY_POOL, &[]), []);
        raw.sync();
        let file = Some(file);
        Ok(Self {
            raw,
            file,
            memory,
            surface,
            buffers,
            size,
            current: 0,
            frames: 0,
            callback: None,
        })
    }

    /// Closes the file, as most clients do when the pool is made.
    pub(super) fn close_file(&mut self) {
        self.file = None;
    }

    /// Does with the file what can be done with no allocation: it is written to, with what is there already.
    pub(super) fn write_to_file(&self) -> Result<()> {
        let file = self.file.as_ref().context("it is closed")?;
        Ok(file.write_all_at(&self.memory.read(0, PIXEL), 0)?)
    }

    /// Bytes of a frame.
    pub(super) fn bytes(&self) -> u64 {
        (self.size.0 * self.size.1 * PIXEL) as u64
    }

    /// Draws a frame that is like none before, and shows it. How long it took from the commit until the compositor had
    /// seen it.
    pub(super) fn frame(&mut self) -> Result<Duration> {
        self.current = (self.current + 1) % BUFFERS;
        while self.buffers[self.current].busy {
            self.hear()?;
        }
        self.frames += 1;
        self.draw();
        let buffer = &mut self.buffers[self.current];
        buffer.busy = true;
        let attach = [Arg::Uint(buffer.id), Arg::Int(0), Arg::Int(0)];
        let (width, height) = (Arg::Int(self.size.0 as i32), Arg::Int(self.size.1 as i32));
        let damage = [Arg::Int(0), Arg::Int(0), width, height];
        let requests = [
            message(self.surface, request::ATTACH, &attach),
            message(self.surface, request::DAMAGE_BUFFER, &damage),
        ];
        let begin = Instant::now();
        self.commit(requests.concat())?;
        Ok(begin.elapsed())
    }

    /// Makes sure that a recorder sees what was drawn last.
    pub(super) fn check(&mut self) -> Result<()> {
        let seen = self.commit(Vec::new())?;
        let (row, start) = (self.size.0 * PIXEL, self.current * self.bytes() as usize);
        let mut digest = Digest::default();
        (0..self.size.1).for_each(|y| digest.add(&self.memory.read(start + y * row, row)));
        let (drawn, frame) = (digest.finish(), self.frames);
        ensure!(seen == drawn, "frame {frame}: {seen:#x} is seen, and {drawn:#x} was drawn");
        Ok(())
    }

    fn draw(&mut self) {
        let (width, height) = (self.size.0 * PIXEL, self.size.1);
        let noise = Flood::new(self.frames).take(width + height * SHIFT);
        let start = self.current * self.bytes() as usize;
        for y in 0..height {
            self.memory.write(start + y * width, &noise[y * SHIFT..][..width]);
        }
    }

    /// Commits, after other requests. What the frame callback is done with.
    fn commit(&mut self, mut requests: Vec<u8>) -> Result<u32> {
        let callback = self.callback.take().unwrap_or_else(|| self.raw.id());
        requests.extend(message(self.surface, request::FRAME, &[Arg::Uint(callback)]));
        requests.extend(message(self.surface, request::COMMIT, &[]));
        self.raw.send(&requests, []);
        let mut done = None;
        // Until its id is free, so that the next one may have it.
        while self.callback.is_none() {
            let event = self.hear()?;
            match (event.object, event.opcode) {
                (object, 0) if object == callback => done = Some(event.uint(0)),
                (DISPLAY, 1) if event.uint(0) == callback => self.callback = Some(callback),
                _ => {}
            }
        }
        done.context("a callback ended that wasn't done")
    }

    /// The next event.
    fn hear(&mut self) -> Result<Event> {
        let event = self.raw.event().context("the compositor has closed the connection")?;
        if (event.object, event.opcode) == (DISPLAY, 0) {
            bail!("error {} of object {}: {}", event.uint(4), event.uint(0), event.text(8));
        }
        let released = self.buffers.iter_mut().find(|buffer| buffer.id == event.object);
        released.into_iter().for_each(|buffer| buffer.busy = false);
        Ok(event)
    }
}
