//! The render node, as any program of the VM can open it: the ioctls of mainline Linux' virtio_gpu driver.
//!
//! The driver tells nobody what the device refused, so all that is counted is what it refused itself.

#![allow(unsafe_code)]

use crate::memory::Memory;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use wlproxy_hostile::{Names, Random, context_command, is_poll};
use wlproxy_protocol::limits::PAGE_SIZE;
use wlproxy_protocol::render_node::{
    self as drm, ContextInit, CreateBlob, ExecBuffer, GemClose, Map, PRIME_FLAGS, Prime, Wait,
    blob, context_param, exec,
};
use wlproxy_protocol::virtio_gpu::{CAPSET_CROSS_DOMAIN, blob_mem};

/// Files that are open at once, each a context of its own.
const FILES: usize = 6;

/// Most POLLs of one file. Each waits in the control queue for as long as the file is open, and once that is full, so
/// does the caller: all files together stay far below the 256 descriptors that a queue has at least.
const MAX_POLLS: usize = 8;

/// Most blobs of one file.
const MAX_BLOBS: usize = 24;

/// How often it is told how far it is, in commands.
const TOLD: u64 = 2_000;

/// `WAIT` returns at once (`VIRTGPU_WAIT_NOWAIT`).
const NO_WAIT: u32 = 1;

/// Says so many commands.
pub(crate) fn run(random: &mut Random, commands: u64) -> Result<()> {
    let path = find()?;
    let mut files = Vec::new();
    for _ in 0..FILES {
        files.push(Node::open(&path, random)?);
    }
    let (mut tally, mut told) = (Tally::default(), 0);
    while tally.taken < commands {
        if tally.taken / TOLD > told {
            told = tally.taken / TOLD;
            println!("{} commands", told * TOLD);
        }
        let at = random.index(FILES);
        if files[at].polls >= MAX_POLLS || random.one_in(200) {
            // The old one is closed first.
            drop(files.swap_remove(at));
            files.push(Node::open(&path, random)?);
        }
        let at = random.index(FILES);
        let result = if random.one_in(32) {
            let fd = files[at].export(random);
            fd.and_then(|fd| files[random.index(FILES)].import(fd))
        } else {
            files[at].act(random)
        };
        tally.count(result);
    }
    let Tally { taken, refused } = tally;
    let path = path.display();
    println!("{taken} commands over {path}, and {refused} that the driver refused itself");
    Ok(())
}

/// What became of commands.
#[derive(Default)]
struct Tally {
    taken: u64,
    refused: u64,
}

impl Tally {
    fn count(&mut self, result: nix::Result<()>) {
        match result {
            Ok(()) => self.taken += 1,
            Err(_) => self.refused += 1,
        }
    }
}

/// The render node. There is one GPU in these VMs.
fn find() -> Result<PathBuf> {
    let entries = Path::new("/dev/dri").read_dir().context("there is no /dev/dri")?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
    names
        .filter(|path| path.to_string_lossy().contains("renderD"))
        .min()
        .context("there is no render node")
}

/// An open render node.
struct Node {
    file: File,
    blobs: Vec<Blob>,
    polls: usize,
}

/// A blob of one file.
struct Blob {
    handle: u32,
    resource: u32,
    of_guest: bool,
    memory: Option<Memory>,
}

impl Node {
    /// Opens it, mostly with a cross-domain context that has rings.
    fn open(path: &Path, random: &mut Random) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.with_context(|| format!("can't open {}", path.display()))?;
        let mut node = Self { file, blobs: Vec::new(), polls: 0 };
        if random.one_in(8) {
            return Ok(node);
        }
        let value = |random: &mut Random, right: u64| {
            if random.one_in(16) { random.long_number() } else { right }
        };
        let params = [
            [context_param::CAPSET_ID, value(random, CAPSET_CROSS_DOMAIN.into())],
            [context_param::NUM_RINGS, value(random, drm::MAX_RINGS.into())],
            [context_param::POLL_RINGS_MASK, value(random, 2)],
        ];
        let mut init = ContextInit { count: 3, padding: 0, params: address(&raw const params) };
        // SAFETY: CONTEXT_INIT takes a ContextInit, and reads as many pairs as it counts.
        let _ = unsafe { node.ioctl(drm::CONTEXT_INIT, &mut init) };
        for _ in 0..2 {
            let _ = node.create(blob_mem::GUEST, PAGE_SIZE, 0, blob::MAPPABLE);
        }
        Ok(node)
    }

    /// Calls the driver once: what it says is taken as it is.
    ///
    /// # Safety
    /// As ioctl(2): `request` must take a `T`, and addresses in it must be valid for what the driver does with them.
    unsafe fn ioctl<T>(&self, request: u32, argument: &mut T) -> nix::Result<()> {
        // SAFETY: the caller vouches for the type and the addresses.
        let result = unsafe {
            libc::ioctl(self.file.as_raw_fd(), request as libc::Ioctl, std::ptr::from_mut(argument))
        };
        Errno::result(result).map(drop)
    }

    /// Something.
    fn act(&mut self, random: &mut Random) -> nix::Result<()> {
        match random.below(32) {
            0..20 => self.execute(random),
            20..24 if self.blobs.len() < MAX_BLOBS => {
                let of_guest = random.one_in(2);
                let memory = match random.below(16) {
                    0 => random.number(),
                    _ if of_guest => blob_mem::GUEST,
                    _ => blob_mem::HOST3D,
                };
                let pages = 1 + random.below(64);
                // Of its own memory the kernel has no end of its own.
                let size = if memory == blob_mem::HOST3D && random.one_in(8) {
                    random.long_number()
                } else {
                    PAGE_SIZE * pages
                };
                let id = if random.one_in(8) { random.long_number() } else { 0x2000_0000 | pages };
                let flags = if random.one_in(8) {
                    random.number()
                } else {
                    blob::MAPPABLE | blob::SHAREABLE
                };
                self.create(memory, size, id, flags)
            }
            24..27 => self.scribble(random),
            27..29 => self.close(random),
            29 => {
                let mut wait = Wait { handle: self.handle(random), flags: NO_WAIT };
                // SAFETY: WAIT takes a Wait.
                unsafe { self.ioctl(drm::WAIT, &mut wait) }
            }
            _ => self.execute(random),
        }
    }

    fn create(&mut self, memory: u32, size: u64, id: u64, flags: u32) -> nix::Result<()> {
        let mut create = CreateBlob { memory, flags, size, blob_id: id, ..Default::default() };
        // SAFETY: RESOURCE_CREATE_BLOB takes a CreateBlob, and this one names no command.
        unsafe { self.ioctl(drm::RESOURCE_CREATE_BLOB, &mut create) }?;
        let CreateBlob { handle, resource, .. } = create;
        let mut map = Map { handle, ..Default::default() };
        // SAFETY: MAP takes a Map.
        let mapped = unsafe { self.ioctl(drm::MAP, &mut map) };
        // Fails where the device has made nothing.
        let memory_of =
            mapped.ok().and_then(|()| Memory::of_file(&self.file, map.offset, size).ok());
        let of_guest = memory == blob_mem::GUEST;
        self.blobs.push(Blob { handle, resource, of_guest, memory: memory_of });
        Ok(())
    }

    /// Writes anything into a blob: a ring, or what others see.
    fn scribble(&mut self, random: &mut Random) -> nix::Result<()> {
        if self.blobs.is_empty() {
            return Err(Errno::ENOENT);
        }
        let at = random.index(self.blobs.len());
        let memory = self.blobs[at].memory.as_ref().ok_or(Errno::ENOENT)?;
        let length = 1 + random.index(memory.length().min(PAGE_SIZE as usize));
        memory.write_bytes(random.index(memory.length() - length + 1), &random.bytes(length));
        Ok(())
    }

    fn handle(&self, random: &mut Random) -> u32 {
        match self.blobs.len() {
            0 => random.number(),
            _ if random.one_in(16) => random.number(),
            length => self.blobs[random.index(length)].handle,
        }
    }

    /// Gives a blob back, that may be in use as a ring, and may be given back already.
    fn close(&mut self, random: &mut Random) -> nix::Result<()> {
        let handle = self.handle(random);
        if random.one_in(2) {
            self.blobs.retain(|blob| blob.handle != handle);
        }
        // SAFETY: GEM_CLOSE takes a GemClose.
        unsafe { self.ioctl(drm::GEM_CLOSE, &mut GemClose { handle, padding: 0 }) }
    }

    fn export(&self, random: &mut Random) -> nix::Result<OwnedFd> {
        let mut prime = Prime { handle: self.handle(random), flags: PRIME_FLAGS, fd: -1 };
        // SAFETY: PRIME_HANDLE_TO_FD takes a Prime.
        unsafe { self.ioctl(drm::PRIME_HANDLE_TO_FD, &mut prime) }?;
        // SAFETY: the driver just opened it for this process, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(prime.fd) })
    }

    fn import(&mut self, fd: OwnedFd) -> nix::Result<()> {
        let mut prime = Prime { handle: 0, flags: 0, fd: fd.as_fd().as_raw_fd() };
        // SAFETY: PRIME_FD_TO_HANDLE takes a Prime.
        unsafe { self.ioctl(drm::PRIME_FD_TO_HANDLE, &mut prime) }?;
        let blob = Blob { handle: prime.handle, resource: 0, of_guest: false, memory: None };
        self.blobs.push(blob);
        Ok(())
    }

    /// Gives the context a command.
    fn execute(&mut self, random: &mut Random) -> nix::Result<()> {
        let of = |of_guest| {
            let blobs = self.blobs.iter().filter(move |blob| blob.of_guest == of_guest);
            blobs.map(|blob| blob.resource).collect::<Vec<u32>>()
        };
        let bytes = context_command(random, Names { rings: &of(true), memory: &of(false) });
        self.polls += usize::from(is_poll(&bytes));
        let handles = [self.handle(random)];
        let mut flags = if random.one_in(8) { random.number() } else { exec::RING };
        // A fence that it is to wait for, it would find behind any number; what it takes for one it doesn't give.
        flags &= !EXEC_FENCE_IN;
        let mut exec = ExecBuffer {
            flags,
            size: bytes.len() as u32,
            command: address(bytes.as_ptr()),
            handles: address(&raw const handles),
            num_handles: u32::from(random.one_in(4)),
            fence: -1,
            ring: if random.one_in(16) { random.number() } else { random.below(4) as u32 },
            padding: 0,
        };
        // SAFETY: EXECBUFFER takes an ExecBuffer, and reads the command and as many handles as it counts.
        unsafe { self.ioctl(drm::EXECBUFFER, &mut exec) }?;
        if flags & exec::FENCE_FD_OUT != 0 && exec.fence >= 0 {
            // SAFETY: the driver just opened it for this process, and nobody else knows its number.
            drop(unsafe { OwnedFd::from_raw_fd(exec.fence) });
        }
        Ok(())
    }
}

/// EXECBUFFER waits for a fence first (`VIRTGPU_EXECBUF_FENCE_FD_IN`).
const EXEC_FENCE_IN: u32 = 1;

/// The address of something that the driver reads or writes during a call.
fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<()>().expose_provenance() as u64
}
