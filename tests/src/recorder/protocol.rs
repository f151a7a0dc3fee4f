//! What the recorder answers to each request.

use super::{Who, keymap};
use crate::{Digest, requests};
use guest_agent::memory::Mapping;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wayland_protocols::xdg::shell::server::{
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::XdgToplevel,
    xdg_wm_base::{self, XdgWmBase},
};
use wayland_server::protocol::{
    wl_buffer::WlBuffer,
    wl_callback::WlCallback,
    wl_compositor::{self, WlCompositor},
    wl_data_device::{self, WlDataDevice},
    wl_data_device_manager::{self, WlDataDeviceManager},
    wl_data_offer::{self, WlDataOffer},
    wl_data_source::{self, WlDataSource},
    wl_keyboard::{KeymapFormat, WlKeyboard},
    wl_region::WlRegion,
    wl_seat::{self, Capability, WlSeat},
    wl_shm::{self, Format, WlShm},
    wl_shm_pool::{self, WlShmPool},
    wl_subcompositor::{self, WlSubcompositor},
    wl_subsurface::WlSubsurface,
    wl_surface::{self, WlSurface},
};
use wayland_server::{Client, DataInit, DisplayHandle, GlobalDispatch, New, Resource};

/// Bytes of a pixel: of the formats that are offered.
const PIXEL: usize = 4;

/// What the clients share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What was copied last.
    selection: Option<WlDataSource>,
    /// Everybody who wants to know.
    devices: Vec<WlDataDevice>,
}

/// A wl_surface.
#[derive(Debug, Default)]
struct Surface {
    /// What the next commit shows, if that is another.
    attached: Option<Option<WlBuffer>>,
    shown: Option<WlBuffer>,
    frames: Vec<WlCallback>,
}

/// A wl_shm_pool, mapped whole.
#[derive(Debug)]
struct Pool {
    file: OwnedFd,
    memory: Mutex<Mapping>,
}

/// A wl_buffer.
#[derive(Debug)]
struct Buffer {
    pool: Arc<Pool>,
    offset: usize,
    width: usize,
    height: usize,
    stride: usize,
}

/// Every global that there is.
pub(super) fn advertise(handle: &DisplayHandle) {
    handle.create_global::<State, WlCompositor, ()>(4, ());
    handle.create_global::<State, WlSubcompositor, ()>(1, ());
    handle.create_global::<State, WlShm, ()>(1, ());
    handle.create_global::<State, XdgWmBase, ()>(3, ());
    handle.create_global::<State, WlSeat, ()>(7, ());
    handle.create_global::<State, WlDataDeviceManager, ()>(3, ());
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Surface {
    fn commit(&mut self) {
        let told = match self.attached.take() {
            Some(attached) => {
                let before = std::mem::replace(&mut self.shown, attached);
                if let Some(before) = before.filter(|before| self.shown.as_ref() != Some(before)) {
                    before.release();
                }
                0
            }
            None if self.frames.is_empty() => return,
            None => self.shown.as_ref().and_then(Resource::data).map_or(0, Buffer::digest),
        };
        self.frames.drain(..).for_each(|frame| frame.done(told));
    }
}

impl Pool {
    fn new(file: OwnedFd, size: i32) -> io::Result<Self> {
        let memory = Mutex::new(Mapping::new(&file, size.max(0) as u64)?);
        Ok(Self { file, memory })
    }

    fn resize(&self, size: i32) -> io::Result<()> {
        let memory = Mapping::new(&self.file, size.max(0) as u64)?;
        *locked(&self.memory) = memory;
        Ok(())
    }
}

impl Buffer {
    /// `None` if it doesn't lie in its pool.
    fn new(pool: &Arc<Pool>, [offset, width, height, stride]: [i32; 4]) -> Option<Self> {
        let [offset, width, height, stride] =
            [offset, width, height, stride].map(|number| usize::try_from(number).ok());
        let buffer = Self {
            pool: pool.clone(),
            offset: offset?,
            width: width?,
            height: height?,
            stride: stride?,
        };
        let row = buffer.width.checked_mul(PIXEL).filter(|&row| row <= buffer.stride)?;
        let rows = buffer.stride.checked_mul(buffer.height.checked_sub(1)?)?;
        let end = buffer.offset.checked_add(rows)?.checked_add(row)?;
        (end <= locked(&pool.memory).size()).then_some(buffer)
    }

    /// The digest of its rows.
    fn digest(&self) -> u32 {
        let memory = locked(&self.pool.memory);
        let mut digest = Digest::default();
        for y in 0..self.height {
            digest.add(&memory.read(self.offset + y * self.stride, self.width * PIXEL));
        }
        digest.finish()
    }
}

impl State {
    /// Tells a client what was copied last.
    fn offer(&self, handle: &DisplayHandle, device: &WlDataDevice) {
        let Some(client) = device.client() else { return };
        let source = self.selection.as_ref().filter(|source| source.is_alive());
        let Some(source) = source else { return device.selection(None) };
        let version = device.version();
        let offer = client.create_resource::<WlDataOffer, _, Self>(handle, version, source.clone());
        let Ok(offer) = offer else { return };
        device.data_offer(&offer);
        if let Some(kinds) = source.data::<Mutex<Vec<String>>>() {
            locked(kinds).iter().for_each(|kind| offer.offer(kind.clone()));
        }
        device.selection(Some(&offer));
    }
}

/// `GlobalDispatch` without what every implementation says alike.
macro_rules! global {
    ($interface:ty, |$client:ident, $resource:ident| $greeting:expr) => {
        impl GlobalDispatch<$interface, ()> for State {
            fn bind(
                _: &mut Self,
                _: &DisplayHandle,
                $client: &Client,
                resource: New<$interface>,
                (): &(),
                init: &mut DataInit<'_, Self>,
            ) {
                let $resource = init.init(resource, ());
                $greeting
            }
        }
    };
}

global!(WlCompositor, |_client, _compositor| {});
global!(WlSubcompositor, |_client, _subcompositor| {});
global!(WlShm, |_client, shm| {
    shm.format(Format::Argb8888);
    shm.format(Format::Xrgb8888);
});
global!(XdgWmBase, |_client, _wm_base| {});
global!(WlSeat, |client, seat| {
    seat.capabilities(Capability::Keyboard);
    if seat.version() >= wl_seat::EVT_NAME_SINCE {
        seat.name(client.get_data::<Who>().map(Who::seat).unwrap_or_default());
    }
});
global!(WlDataDeviceManager, |_client, _manager| {});

requests!(WlCompositor, (), |_state, _compositor, request, _data, _handle, init| match request {
    wl_compositor::Request::CreateSurface { id } => {
        init.init(id, Mutex::new(Surface::default()));
    }
    wl_compositor::Request::CreateRegion { id } => {
        init.init(id, ());
    }
    _ => {}
});

requests!(WlSurface, Mutex<Surface>, |_state, _surface, request, surface, _handle, init| {
    let mut surface = locked(surface);
    match request {
        wl_surface::Request::Attach { buffer, .. } => surface.attached = Some(buffer),
        wl_surface::Request::Frame { callback } => {
            let callback = init.init(callback, ());
            surface.frames.push(callback);
        }
        wl_surface::Request::Commit => surface.commit(),
        _ => {}
    }
});

requests!(WlSubcompositor, (), |_state, _subcompositor, request, _data, _handle, init| {
    if let wl_subcompositor::Request::GetSubsurface { id, .. } = request {
        init.init(id, ());
    }
});

requests!(WlShm, (), |_state, shm, request, _data, _handle, init| {
    if let wl_shm::Request::CreatePool { id, fd, size } = request {
        match Pool::new(fd, size) {
            Ok(pool) => {
                init.init(id, Arc::new(pool));
            }
            Err(error) => shm.post_error(wl_shm::Error::InvalidFd, format!("no pool: {error}")),
        }
    }
});

requests!(WlShmPool, Arc<Pool>, |_state, resource, request, pool, _handle, init| match request {
    wl_shm_pool::Request::CreateBuffer { id, offset, width, height, stride, .. } => {
        match Buffer::new(pool, [offset, width, height, stride]) {
            Some(buffer) => {
                init.init(id, buffer);
            }
            None => resource.post_error(wl_shm::Error::InvalidStride, "not in its pool"),
        }
    }
    wl_shm_pool::Request::Resize { size } => {
        if let Err(error) = pool.resize(size) {
            resource.post_error(wl_shm::Error::InvalidFd, format!("no resize: {error}"));
        }
    }
    _ => {}
});

requests!(XdgWmBase, (), |_state, _wm_base, request, _data, _handle, init| {
    if let xdg_wm_base::Request::GetXdgSurface { id, .. } = request {
        init.init(id, ());
    }
});

requests!(XdgSurface, (), |_state, xdg_surface, request, _data, _handle, init| {
    if let xdg_surface::Request::GetToplevel { id } = request {
        let toplevel = init.init(id, ());
        toplevel.configure(0, 0, Vec::new());
        xdg_surface.configure(0);
    }
});

requests!(WlSeat, (), |_state, _seat, request, _data, _handle, init| {
    if let wl_seat::Request::GetKeyboard { id } = request {
        let keyboard = init.init(id, ());
        let keymap = keymap();
        match wlproxy_unix::memory::constant("keymap", &keymap) {
            Ok(file) => keyboard.keymap(KeymapFormat::XkbV1, file.as_fd(), keymap.len() as u32),
            Err(error) => keyboard.post_error(0u32, format!("no keymap: {error}")),
        }
    }
});

requests!(WlDataDeviceManager, (), |state, _manager, request, _data, handle, init| match request {
    wl_data_device_manager::Request::CreateDataSource { id } => {
        init.init(id, Mutex::<Vec<String>>::default());
    }
    wl_data_device_manager::Request::GetDataDevice { id, .. } => {
        let device = init.init(id, ());
        state.offer(handle, &device);
        state.devices.push(device);
    }
    _ => {}
});

requests!(WlDataSource, Mutex<Vec<String>>, |_state, source, request, kinds, _handle, _init| {
    if let wl_data_source::Request::Offer { mime_type } = request {
        source.target(Some(mime_type.clone()));
        locked(kinds).push(mime_type);
    }
});

requests!(WlDataDevice, (), |state, _device, request, _data, handle, _init| {
    if let wl_data_device::Request::SetSelection { source, .. } = request {
        if let Some(before) = std::mem::replace(&mut state.selection, source) {
            before.cancelled();
        }
        state.devices.retain(Resource::is_alive);
        state.devices.iter().for_each(|device| state.offer(handle, device));
    }
});

requests!(WlDataOffer, WlDataSource, |_state, _offer, request, source, _handle, _init| {
    if let wl_data_offer::Request::Receive { mime_type, fd } = request {
        source.send(mime_type, fd.as_fd());
    }
});

requests!(WlBuffer, Buffer, |_state, _buffer, _request, _data, _handle, _init| {});
requests!(WlCallback, (), |_state, _callback, _request, _data, _handle, _init| {});
requests!(WlKeyboard, (), |_state, _keyboard, _request, _data, _handle, _init| {});
requests!(WlRegion, (), |_state, _region, _request, _data, _handle, _init| {});
requests!(XdgToplevel, (), |_state, _toplevel, _request, _data, _handle, _init| {});
requests!(WlSubsurface, (), |_state, _subsurface, _request, _data, _handle, _init| {});
