//! The render node itself: the ioctls of mainline Linux' virtio_gpu driver.

#![allow(unsafe_code)]

use super::device::{Blob, Device, File};
use crate::memory::Mapping;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::read;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr;
use wlproxy_protocol::cross_domain::{CHANNEL_WAYLAND, Capset, RING_CHANNEL};
use wlproxy_protocol::render_node::{
    self as drm, ContextInit, CreateBlob, EVENT, EVENT_FENCE, ExecBuffer, GemClose, GetCaps,
    GetParam, MAX_RINGS, Map, PRIME_FLAGS, Prime, ResourceInfo, Version, Wait, blob, context_param,
    exec, param,
};
use wlproxy_protocol::virtio_gpu::{CAPSET_CROSS_DOMAIN, blob_mem};

/// Longest name of a driver that is looked at, in bytes.
const MAX_NAME: usize = 64;

/// Room for so many events. There is never more than one, since there is one POLL at a time.
const EVENTS: usize = 8;

/// What is behind a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A virtio-gpu with the cross-domain capset, and all that this channel needs.
    CrossDomain,
    /// A virtio-gpu without, or under a kernel that is too old. What is missing.
    Without(&'static str),
    /// Something else.
    Other,
}

/// A device node.
#[derive(Debug)]
pub(super) struct Node(pub(super) PathBuf);

impl Node {
    /// Looks at what is there.
    pub(super) fn kind(&self) -> io::Result<Kind> {
        let file = Render::open(&self.0)?;
        match file.name() {
            Ok(name) if name == drm::DRIVER => {}
            Ok(_) | Err(Errno::ENOTTY | Errno::EINVAL) => return Ok(Kind::Other),
            Err(errno) => return Err(errno.into()),
        }
        // A driver that doesn't know a parameter is one without that.
        let has = |param| matches!(file.param(param), Ok(value) if value != 0);
        Ok(if !has(param::RESOURCE_BLOB) {
            Kind::Without("blob resources")
        } else if !has(param::HOST_VISIBLE) {
            Kind::Without("a window for the host's memory")
        } else if !has(param::CONTEXT_INIT) {
            Kind::Without("contexts of capsets")
        } else if !file.has_cross_domain() {
            Kind::Without("the cross-domain capset")
        } else {
            Kind::CrossDomain
        })
    }
}

impl Device for Node {
    fn open(&self) -> nix::Result<Box<dyn File>> {
        let unknown = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let file = Render::open(&self.0).map_err(unknown)?;
        file.init()?;
        Ok(Box::new(file))
    }
}

/// The open device node.
#[derive(Debug)]
struct Render(OwnedFd);

/// The address of something that the driver reads or writes during a call.
fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<()>().expose_provenance() as u64
}

impl Render {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Reading events must not wait.
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        Ok(Self(options.open(path)?.into()))
    }

    /// Calls the driver, with `argument` for it to read and write. Starts again if a signal came in between, as libdrm
    /// does.
    ///
    /// # Safety
    /// `request` must be one of [`wlproxy_protocol::render_node`] that takes a `T`, and all addresses in it must be
    /// valid for what the driver does with them.
    unsafe fn ioctl<T>(&self, request: u32, argument: &mut T) -> nix::Result<()> {
        loop {
            // SAFETY: the caller vouches for the type. The reference is valid and exclusive for the length of the call,
            // and the driver keeps no pointer.
            let result = unsafe {
                let argument = ptr::from_mut(argument);
                libc::ioctl(self.0.as_raw_fd(), request as libc::Ioctl, argument)
            };
            match Errno::result(result) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                result => return result.map(drop),
            }
        }
    }

    /// The driver's name, or as much of it as is looked at.
    fn name(&self) -> nix::Result<Vec<u8>> {
        let mut name = [0_u8; MAX_NAME];
        let (room, place) = (name.len() as u64, address(name.as_mut_ptr()));
        let mut version = Version { name_length: room, name: place, ..Default::default() };
        // SAFETY: VERSION takes a Version, and writes to `name` no more than it has room for; of the rest there is
        // room for nothing.
        unsafe { self.ioctl(drm::VERSION, &mut version) }?;
        let length = usize::try_from(version.name_length).unwrap_or(MAX_NAME).min(MAX_NAME);
        Ok(name[..length].to_vec())
    }

    fn param(&self, param: u64) -> nix::Result<u32> {
        let mut value = [0_u32; 2];
        let mut get = GetParam { param, value: address(value.as_mut_ptr()) };
        // SAFETY: GETPARAM takes a GetParam, and writes an int to `value`, which has room for two.
        unsafe { self.ioctl(drm::GETPARAM, &mut get) }?;
        Ok(value[0])
    }

    fn has_cross_domain(&self) -> bool {
        let listed = self.param(param::SUPPORTED_CAPSETS);
        if !matches!(listed, Ok(capsets) if capsets & 1 << CAPSET_CROSS_DOMAIN != 0) {
            return false;
        }
        let mut capset = Capset::default();
        let mut get = GetCaps {
            id: CAPSET_CROSS_DOMAIN,
            address: address(&raw mut capset),
            size: size_of::<Capset>() as u32,
            ..Default::default()
        };
        // SAFETY: GET_CAPS takes a GetCaps, and writes no more than `size` bytes to the capset, which may be anything.
        let got = unsafe { self.ioctl(drm::GET_CAPS, &mut get) };
        got.is_ok() && capset.channels & 1 << CHANNEL_WAYLAND != 0
    }

    /// Makes the context.
    fn init(&self) -> nix::Result<()> {
        let params: [[u64; 2]; 3] = [
            [context_param::CAPSET_ID, CAPSET_CROSS_DOMAIN.into()],
            [context_param::NUM_RINGS, MAX_RINGS.into()],
            [context_param::POLL_RINGS_MASK, 1 << RING_CHANNEL],
        ];
        let (count, params_at) = (params.len() as u32, address(params.as_ptr()));
        let mut init = ContextInit { count, padding: 0, params: params_at };
        // SAFETY: CONTEXT_INIT takes a ContextInit, and reads as many pairs as it counts, which are there.
        unsafe { self.ioctl(drm::CONTEXT_INIT, &mut init) }
    }

    fn exec(
        &self,
        command: &[u8],
        ring: u32,
        handle: Option<u32>,
        flags: u32,
    ) -> nix::Result<ExecBuffer> {
        let handles = handle.as_slice();
        let mut exec = ExecBuffer {
            flags: exec::RING | flags,
            size: u32::try_from(command.len()).map_err(|_| Errno::EMSGSIZE)?,
            command: address(command.as_ptr()),
            handles: address(handles.as_ptr()),
            num_handles: handles.len() as u32,
            fence: -1,
            ring,
            padding: 0,
        };
        // SAFETY: EXECBUFFER takes an ExecBuffer, and reads the command and as many handles as it counts, which are
        // there.
        unsafe { self.ioctl(drm::EXECBUFFER, &mut exec) }?;
        Ok(exec)
    }

    fn create(&self, memory: u32, flags: u32, id: u32, size: u64) -> nix::Result<Blob> {
        let mut create =
            CreateBlob { memory, flags, blob_id: id.into(), size, ..Default::default() };
        // SAFETY: RESOURCE_CREATE_BLOB takes a CreateBlob, and this one names no command.
        unsafe { self.ioctl(drm::RESOURCE_CREATE_BLOB, &mut create) }?;
        Ok(Blob { handle: create.handle, resource: create.resource })
    }
}

impl File for Render {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn fences(&self) -> nix::Result<usize> {
        let mut events = [0; EVENTS * EVENT];
        let length = match read(&self.0, &mut events) {
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            result => result?,
        };
        // All events of this driver are as long as that.
        let kinds = events[..length].chunks_exact(EVENT).map(|event| event.first_chunk());
        Ok(kinds.flatten().filter(|&&kind| u32::from_ne_bytes(kind) == EVENT_FENCE).count())
    }

    fn submit(&self, command: &[u8], ring: u32, handle: Option<u32>) -> nix::Result<()> {
        self.exec(command, ring, handle, 0).map(drop)
    }

    fn submit_fenced(&self, command: &[u8], ring: u32) -> nix::Result<OwnedFd> {
        let fence = self.exec(command, ring, None, exec::FENCE_FD_OUT)?.fence;
        if fence < 0 {
            return Err(Errno::ENOTTY);
        }
        // SAFETY: the driver just opened it for this process, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(fence) })
    }

    fn wait(&self, handle: u32) -> nix::Result<()> {
        // SAFETY: WAIT takes a Wait.
        unsafe { self.ioctl(drm::WAIT, &mut Wait { handle, flags: 0 }) }
    }

    fn ring(&self, size: u64) -> io::Result<(Blob, Mapping)> {
        let made = self.create(blob_mem::GUEST, blob::MAPPABLE, 0, size)?;
        let mut map = Map { handle: made.handle, ..Default::default() };
        // SAFETY: MAP takes a Map.
        unsafe { self.ioctl(drm::MAP, &mut map) }?;
        Ok((made, Mapping::at(&self.0, map.offset, size)?))
    }

    fn blob(&self, id: u32, size: u64) -> nix::Result<Blob> {
        self.create(blob_mem::HOST3D, blob::MAPPABLE | blob::SHAREABLE, id, size)
    }

    fn export(&self, handle: u32) -> nix::Result<OwnedFd> {
        let mut prime = Prime { handle, flags: PRIME_FLAGS, fd: -1 };
        // SAFETY: PRIME_HANDLE_TO_FD takes a Prime.
        unsafe { self.ioctl(drm::PRIME_HANDLE_TO_FD, &mut prime) }?;
        if prime.fd < 0 {
            return Err(Errno::ENOTTY);
        }
        // SAFETY: the driver just opened it for this process, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(prime.fd) })
    }

    fn import(&self, memory: BorrowedFd<'_>) -> nix::Result<Blob> {
        let mut prime = Prime { handle: 0, flags: 0, fd: memory.as_raw_fd() };
        // SAFETY: PRIME_FD_TO_HANDLE takes a Prime.
        unsafe { self.ioctl(drm::PRIME_FD_TO_HANDLE, &mut prime) }?;
        let mut info = ResourceInfo { handle: prime.handle, ..Default::default() };
        // SAFETY: RESOURCE_INFO takes a ResourceInfo.
        let found = unsafe { self.ioctl(drm::RESOURCE_INFO, &mut info) };
        match found {
            Ok(()) => Ok(Blob { handle: prime.handle, resource: info.resource }),
            Err(errno) => {
                self.close(prime.handle);
                Err(errno)
            }
        }
    }

    fn close(&self, handle: u32) {
        // SAFETY: GEM_CLOSE takes a GemClose.
        let closed = unsafe { self.ioctl(drm::GEM_CLOSE, &mut GemClose { handle, padding: 0 }) };
        debug_assert_eq!(closed, Ok(()));
    }
}

// The driver keeps no more of a name than there is room for, and its own is shorter.
const _: () = assert!(drm::DRIVER.len() < MAX_NAME && size_of::<Version>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_render_node_is_told_apart() {
        for path in ["/dev/null", "/dev/zero"] {
            let kind = Node(path.into()).kind().unwrap();
            assert_eq!(kind, Kind::Other, "{path}");
            assert_eq!(Node(path.into()).open().err(), Some(Errno::ENOTTY), "{path}");
        }
        let error = Node("/dev/dri/nowhere".into()).kind().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
