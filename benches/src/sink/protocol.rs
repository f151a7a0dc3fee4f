//! What the sink answers to each request.

use super::State;
use crate::pixels::{Layout, Pool};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use wayland_server::protocol::{
    wl_buffer::WlBuffer,
    wl_callback::WlCallback,
    wl_compositor::{self, WlCompositor},
    wl_data_device::{self, WlDataDevice},
    wl_data_device_manager::{self, WlDataDeviceManager},
    wl_data_offer::{self, WlDataOffer},
    wl_data_source::{self, WlDataSource},
    wl_pointer::{self, WlPointer},
    wl_region::WlRegion,
    wl_seat::{self, Capability, WlSeat},
    wl_shm::{self, Format, WlShm},
    wl_shm_pool::{self, WlShmPool},
    wl_surface::{self, WlSurface},
};
use wayland_server::{Client, DataInit, DisplayHandle, GlobalDispatch, New, Resource};
use wlproxy_tests::requests;

/// What was copied, and by whom.
#[derive(Debug)]
pub(super) struct Selection {
    owner: u64,
    source: WlDataSource,
}

/// A wl_surface.
#[derive(Debug, Default)]
struct Surface {
    /// What the next commit shows, if that is another.
    attached: Option<Option<WlBuffer>>,
    shown: Option<WlBuffer>,
    frames: Vec<WlCallback>,
}

/// A wl_buffer.
#[derive(Debug)]
struct Buffer {
    pool: Arc<Pool>,
    layout: Layout,
}

/// Every global that there is.
pub(super) fn advertise(handle: &DisplayHandle) {
    handle.create_global::<State, WlCompositor, ()>(4, ());
    handle.create_global::<State, WlShm, ()>(1, ());
    handle.create_global::<State, WlSeat, ()>(5, ());
    handle.create_global::<State, WlDataDeviceManager, ()>(3, ());
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn commit(&mut self, surface: &mut Surface) {
        if let Some(attached) = surface.attached.take() {
            let before = std::mem::replace(&mut surface.shown, attached);
            if let Some(before) = before.filter(|before| surface.shown.as_ref() != Some(before)) {
                before.release();
            }
            if let Some(Buffer { pool, layout }) = surface.shown.as_ref().and_then(Resource::data) {
                self.shown = Some((pool.clone(), *layout));
            }
        }
        surface.frames.drain(..).for_each(|frame| frame.done(0));
    }

    /// Tells a client what was copied last.
    fn offer(&self, handle: &DisplayHandle, device: &WlDataDevice) {
        let Some(Selection { source, .. }) = &self.selection else { return };
        let Some(client) = device.client() else { return };
        let offer = client.create_resource::<WlDataOffer, _, Self>(handle, device.version(), ());
        let Ok(offer) = offer else { return };
        device.data_offer(&offer);
        if let Some(kinds) = source.data::<Mutex<Vec<String>>>() {
            locked(kinds).iter().for_each(|kind| offer.offer(kind.clone()));
        }
        device.selection(Some(&offer));
    }
}

/// Globals that are bound and say nothing.
macro_rules! silent_global {
    ($($interface:ty),*) => {$(
        impl GlobalDispatch<$interface, ()> for State {
            fn bind(
                _: &mut Self,
                _: &DisplayHandle,
                _: &Client,
                resource: New<$interface>,
                (): &(),
                init: &mut DataInit<'_, Self>,
            ) {
                init.init(resource, ());
            }
        }
    )*};
}

silent_global!(WlCompositor, WlDataDeviceManager);

impl GlobalDispatch<WlShm, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        resource: New<WlShm>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        let shm = init.init(resource, ());
        shm.format(Format::Argb8888);
        shm.format(Format::Xrgb8888);
    }
}

impl GlobalDispatch<WlSeat, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        resource: New<WlSeat>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ()).capabilities(Capability::Pointer);
    }
}

requests!(WlCompositor, (), |_state, _compositor, request, _data, _handle, init| match request {
    wl_compositor::Request::CreateSurface { id } => {
        init.init(id, Mutex::new(Surface::default()));
    }
    wl_compositor::Request::CreateRegion { id } => {
        init.init(id, ());
    }
    _ => {}
});

requests!(WlSurface, Mutex<Surface>, |state, _surface, request, surface, _handle, init| {
    let mut surface = locked(surface);
    match request {
        wl_surface::Request::Attach { buffer, .. } => surface.attached = Some(buffer),
        wl_surface::Request::Frame { callback } => {
            let callback = init.init(callback, ());
            surface.frames.push(callback);
        }
        wl_surface::Request::Commit => state.commit(&mut surface),
        _ => {}
    }
});

requests!(WlShm, (), |_state, shm, request, _data, _handle, init| {
    if let wl_shm::Request::CreatePool { id, fd, size } = request {
        let size = usize::try_from(size).ok().and_then(NonZeroUsize::new);
        match size.map(|size| Pool::map(&fd, size)) {
            Some(Ok(pool)) => {
                init.init(id, Arc::new(pool));
            }
            wrong => shm.post_error(wl_shm::Error::InvalidFd, format!("no pool: {wrong:?}")),
        }
    }
});

requests!(WlShmPool, Arc<Pool>, |_state, resource, request, pool, _handle, init| match request {
    wl_shm_pool::Request::CreateBuffer { id, offset, width, height, stride, .. } => {
        let [offset, width, height, stride] =
            [offset, width, height, stride].map(|number| number.max(0) as usize);
        let pool = pool.clone();
        init.init(id, Buffer { pool, layout: Layout { offset, stride, width, height } });
    }
    // Clients here know the size of their windows.
    wl_shm_pool::Request::Resize { size } => {
        resource.post_error(wl_shm::Error::InvalidFd, format!("the sink can't resize to {size}"));
    }
    _ => {}
});

requests!(WlSeat, (), |_state, _seat, request, _data, _handle, init| {
    if let wl_seat::Request::GetPointer { id } = request {
        init.init(id, ());
    }
});

// How the harness asks for events: the "serial" of a cursor is how many motions are to come.
requests!(WlPointer, (), |_state, pointer, request, _data, _handle, _init| {
    if let wl_pointer::Request::SetCursor { serial, .. } = request {
        (0..serial).for_each(|time| pointer.motion(time, 1.0, 1.0));
    }
});

requests!(WlDataDeviceManager, (), |state, _manager, request, _data, handle, init| match request {
    wl_data_device_manager::Request::CreateDataSource { id } => {
        init.init(id, Mutex::<Vec<String>>::default());
    }
    wl_data_device_manager::Request::GetDataDevice { id, .. } => {
        let device = init.init(id, ());
        state.offer(handle, &device);
        state.devices.push((state.current, handle.clone(), device));
    }
    _ => {}
});

requests!(WlDataSource, Mutex<Vec<String>>, |_state, _source, request, kinds, _handle, _init| {
    if let wl_data_source::Request::Offer { mime_type } = request {
        locked(kinds).push(mime_type);
    }
});

requests!(WlDataDevice, (), |state, _device, request, _data, _handle, _init| {
    if let wl_data_device::Request::SetSelection { source, .. } = request {
        state.selection = source.map(|source| Selection { owner: state.current, source });
        for (token, handle, device) in &state.devices {
            state.offer(handle, device);
            state.touched.push(*token);
        }
    }
});

requests!(WlDataOffer, (), |state, _offer, request, _data, _handle, _init| {
    if let (wl_data_offer::Request::Receive { mime_type, fd }, Some(selection)) =
        (request, &state.selection)
    {
        selection.source.send(mime_type, fd.as_fd());
        state.touched.push(selection.owner);
    }
});

requests!(WlBuffer, Buffer, |_state, _buffer, _request, _data, _handle, _init| {});
requests!(WlRegion, (), |_state, _region, _request, _data, _handle, _init| {});
requests!(WlCallback, (), |_state, _callback, _request, _data, _handle, _init| {});
