//! A Wayland client that a test drives by hand: what it needs of a toolkit, with deadlines.

mod ask;
mod fractional;
mod output;
mod pointer;
mod popup;

pub use ask::keymap;
pub use output::Output;
pub use pointer::Lock;
pub use popup::Popup;

use crate::exchange::Exchange;
use crate::{Display, PATIENCE, Rect};
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use wayland_client::backend::{ReadEventsGuard, WaylandError};
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::{
    wl_buffer::{self, WlBuffer},
    wl_callback::{self, WlCallback},
    wl_compositor::WlCompositor,
    wl_keyboard::{self, WlKeyboard},
    wl_region::WlRegion,
    wl_registry::{self, WlRegistry},
    wl_seat::{self, WlSeat},
    wl_shm::{self, WlShm},
    wl_shm_pool::WlShmPool,
    wl_subcompositor::WlSubcompositor,
    wl_subsurface::WlSubsurface,
    wl_surface::WlSurface,
};
use wayland_client::{
    Connection, Dispatch, EventQueue, Proxy, QueueHandle, WEnum, delegate_noop,
    protocol::wl_keyboard::KeymapFormat,
};
use wayland_protocols::wp::viewporter::client::{
    wp_viewport::WpViewport, wp_viewporter::WpViewporter,
};
use wayland_protocols::xdg::activation::v1::client::{
    xdg_activation_token_v1::XdgActivationTokenV1, xdg_activation_v1::XdgActivationV1,
};
use wayland_protocols::xdg::shell::client::{
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::{self, XdgToplevel},
    xdg_wm_base::{self, XdgWmBase},
};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::{
    zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1,
    zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1,
};
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

/// What the compositor has told.
#[derive(Debug, Default)]
pub struct State {
    /// Name, interface and version of each global.
    pub globals: Vec<(u32, String, u32)>,
    /// Formats of wl_shm.
    pub formats: Vec<Format>,
    /// Configures of all toplevels.
    pub configures: usize,
    /// Width and height that the last of them asked for, in logical pixels; 0 if the client is to choose.
    pub wanted: (i32, i32),
    /// The states that went with it, as they came.
    pub states: Vec<u8>,
    /// Whether the seat has a keyboard.
    pub keyboard: bool,
    /// Whether the seat has a pointer.
    pub pointer: bool,
    /// The last keymap: its fd and its size in bytes.
    pub keymap: Option<(OwnedFd, u32)>,
    /// Whether some surface has the keyboard's focus.
    pub focused: bool,
    /// Serial of the last button or key, or of the focus's arrival.
    pub serial: u32,
    /// Buttons that are held down.
    pub pressed: u32,
    /// How often one was pressed.
    pub presses: u32,
    /// How often the mouse has moved over a surface.
    pub motions: usize,
    /// Where it was last, in the surface's own pixels.
    pub mouse: Option<(f64, f64)>,
    /// What it hears of a mouse that it has locked in place.
    pub lock: Lock,
    /// What it copies and is offered.
    pub exchange: Exchange,
    /// While the mouse is over a surface: the serial of its coming.
    pub pointer_entered: Option<u32>,
    /// Where the last popup has to be, relative to its parent.
    pub popup_place: Option<Rect>,
    /// The tokens with which popups were placed anew.
    pub popups_moved: Vec<u32>,
    /// How many popups the compositor has dismissed.
    pub popups_done: usize,
    /// Buffer pixels for 120 logical ones that the compositor would like best, of the last surface that it told for.
    pub preferred_scale: Option<u32>,
    /// The outputs that are bound.
    pub outputs: Vec<Output>,
}

/// A connection with what every window needs.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    queue: EventQueue<State>,
    /// What the compositor has told.
    pub state: State,
    registry: WlRegistry,
    /// For surfaces and regions.
    pub compositor: WlCompositor,
    /// For subsurfaces.
    pub subcompositor: WlSubcompositor,
    shm: WlShm,
    wm_base: XdgWmBase,
}

/// A window. Configures are acknowledged, and the acknowledgement committed, whenever events are dispatched.
#[derive(Debug)]
pub struct Toplevel {
    /// Its surface.
    pub surface: WlSurface,
    /// Its role's first half.
    pub xdg_surface: XdgSurface,
    /// Its role's second half.
    pub toplevel: XdgToplevel,
}

/// A wl_shm pool and the memfd behind it.
#[derive(Debug)]
pub struct Pool {
    /// The client's own memory.
    pub file: Arc<File>,
    /// The pool.
    pub pool: WlShmPool,
}

/// A wl_buffer in a pool, with four bytes per pixel unless the format says otherwise.
#[derive(Debug)]
pub struct Buffer {
    /// The buffer.
    pub buffer: WlBuffer,
    /// In pixels.
    pub width: i32,
    /// In pixels.
    pub height: i32,
    file: Arc<File>,
    offset: u64,
    stride: u64,
    busy: Arc<AtomicBool>,
}

/// A memfd of `size` bytes, unsealed, as unmodified clients make theirs.
pub fn memfd(size: u64) -> File {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = File::from(memfd_create("client", MFdFlags::MFD_CLOEXEC).expect("memory is left"));
    file.set_len(size).expect("a memfd can grow");
    file
}

impl Client {
    /// Connects, learns the globals and binds what every window needs.
    pub fn connect(display: &Display) -> Result<Self> {
        let socket =
            UnixStream::connect(&display.socket).with_context(|| format!("{display:?}"))?;
        let connection = Connection::from_socket(socket)?;
        let mut queue = connection.new_event_queue();
        let handle = queue.handle();
        let registry = connection.display().get_registry(&handle, ());
        let mut state = State::default();
        roundtrip(&connection, &mut queue, &mut state)?;
        let compositor = bind(&registry, &state, &handle, 4)?;
        let subcompositor = bind(&registry, &state, &handle, 1)?;
        let shm = bind(&registry, &state, &handle, 1)?;
        let wm_base = bind(&registry, &state, &handle, 3)?;
        let mut client =
            Self { connection, queue, state, registry, compositor, subcompositor, shm, wm_base };
        client.roundtrip()?;
        Ok(client)
    }

    /// Waits until the compositor has handled everything sent so far, and everything it sent before that is handled.
    pub fn roundtrip(&mut self) -> Result<()> {
        roundtrip(&self.connection, &mut self.queue, &mut self.state)
    }

    /// Dispatches events until `done`. Fails after [`PATIENCE`], naming `what`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&State) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.state) {
            dispatch(&self.connection, &mut self.queue, &mut self.state, deadline)
                .with_context(|| format!("while waiting for {what}"))?;
        }
        Ok(())
    }

    /// The handle that requests with events need.
    pub fn handle(&self) -> QueueHandle<State> {
        self.queue.handle()
    }

    /// Sends what is queued.
    pub fn flush(&self) -> Result<()> {
        Ok(self.connection.flush()?)
    }

    /// Binds the first global of type `I`, in version `highest` or that of the compositor if it is lower.
    pub fn bind<I: Proxy + 'static>(&self, highest: u32) -> Result<I>
    where
        State: Dispatch<I, ()>,
    {
        bind(&self.registry, &self.state, &self.handle(), highest)
    }

    /// A new surface.
    pub fn surface(&self) -> WlSurface {
        self.compositor.create_surface(&self.handle(), ())
    }

    /// A new window, configured, ready for its first buffer.
    pub fn toplevel(&mut self, title: &str) -> Result<Toplevel> {
        self.make_toplevel(Some(title))
    }

    /// The same without a title and an app id.
    pub fn unnamed_toplevel(&mut self) -> Result<Toplevel> {
        self.make_toplevel(None)
    }

    fn make_toplevel(&mut self, title: Option<&str>) -> Result<Toplevel> {
        let surface = self.surface();
        let xdg_surface = self.wm_base.get_xdg_surface(&surface, &self.handle(), surface.clone());
        let toplevel = xdg_surface.get_toplevel(&self.handle(), ());
        if let Some(title) = title {
            toplevel.set_title(title.into());
            toplevel.set_app_id("wlproxy-tests".into());
        }
        self.configured(&surface)?;
        Ok(Toplevel { surface, xdg_surface, toplevel })
    }

    /// A pool over all of `file`, whose size in bytes is `size`.
    pub fn pool(&self, file: File, size: i32) -> Pool {
        let pool = self.shm.create_pool(file.as_fd(), size, &self.handle(), ());
        Pool { file: Arc::new(file), pool }
    }

    /// A buffer of 4 bytes per pixel, without padding, in a pool of its own, all `0`.
    pub fn buffer(&self, width: i32, height: i32) -> Buffer {
        let size = width * height * 4;
        let pool = self.pool(memfd(size as u64), size);
        let buffer = pool.buffer(&self.handle(), 0, width, height, width * 4, Format::Xrgb8888);
        pool.pool.destroy();
        buffer
    }

    /// Waits until the compositor doesn't use `buffer`.
    pub fn released(&mut self, buffer: &Buffer) -> Result<()> {
        self.until("wl_buffer.release", |_| !buffer.busy())
    }

    /// A second handle of the surface's viewport.
    pub fn viewport(&self, surface: &WlSurface) -> Result<WpViewport> {
        let viewporter: WpViewporter = self.bind(1)?;
        Ok(viewporter.get_viewport(surface, &self.handle(), ()))
    }
}

impl Toplevel {
    /// Shows all of `buffer`.
    pub fn show(&self, buffer: &Buffer) {
        show(&self.surface, buffer);
    }
}

/// Attaches `buffer` to `surface`, damages all of it, commits.
pub fn show(surface: &WlSurface, buffer: &Buffer) {
    surface.damage_buffer(0, 0, buffer.width, buffer.height);
    buffer.commit(surface);
}

impl Pool {
    /// A buffer in this pool.
    pub fn buffer(
        &self,
        handle: &QueueHandle<State>,
        offset: i32,
        width: i32,
        height: i32,
        stride: i32,
        format: Format,
    ) -> Buffer {
        let busy = Arc::new(AtomicBool::new(false));
        let buffer =
            self.pool.create_buffer(offset, width, height, stride, format, handle, busy.clone());
        let (offset, stride) = (offset as u64, stride as u64);
        Buffer { buffer, width, height, file: self.file.clone(), offset, stride, busy }
    }

    /// Makes file and pool longer.
    pub fn resize(&self, size: i32) {
        self.file.set_len(size as u64).expect("a memfd can grow");
        self.pool.resize(size);
    }
}

impl Buffer {
    /// Draws: `colour` gives each pixel's four bytes as a little-endian number.
    pub fn draw(&self, colour: impl Fn(i32, i32) -> u32) {
        self.draw_part(Rect { x: 0, y: 0, width: self.width, height: self.height }, colour);
    }

    /// Draws a part.
    pub fn draw_part(&self, part: Rect, colour: impl Fn(i32, i32) -> u32) {
        for y in part.y..part.y + part.height {
            let row: Vec<u8> =
                (part.x..part.x + part.width).flat_map(|x| colour(x, y).to_le_bytes()).collect();
            let at = self.offset + y as u64 * self.stride + part.x as u64 * 4;
            self.file.write_all_at(&row, at).expect("a buffer lies within its pool");
        }
    }

    /// Writes bytes at `at` from the buffer's first.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.offset + at).expect("a buffer lies within its pool");
    }

    /// Attaches it to `surface` and commits.
    pub fn commit(&self, surface: &WlSurface) {
        self.busy.store(true, Ordering::Relaxed);
        surface.attach(Some(&self.buffer), 0, 0);
        surface.commit();
    }

    /// Whether the compositor may still read it.
    pub fn busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

fn bind<I: Proxy + 'static>(
    registry: &WlRegistry,
    state: &State,
    handle: &QueueHandle<State>,
    highest: u32,
) -> Result<I>
where
    State: Dispatch<I, ()>,
{
    let interface = I::interface().name;
    let global = state.globals.iter().find(|(_, name, _)| name == interface);
    let &(name, _, version) =
        global.with_context(|| format!("the compositor offers no {interface}"))?;
    Ok(registry.bind(name, version.min(highest), handle, ()))
}

fn roundtrip(
    connection: &Connection,
    queue: &mut EventQueue<State>,
    state: &mut State,
) -> Result<()> {
    let done = Arc::new(AtomicBool::new(false));
    connection.display().sync(&queue.handle(), done.clone());
    let deadline = Instant::now() + PATIENCE;
    while !done.load(Ordering::Relaxed) {
        dispatch(connection, queue, state, deadline).context("while waiting for a roundtrip")?;
    }
    Ok(())
}

/// Handles what there is, or waits for more.
fn dispatch(
    connection: &Connection,
    queue: &mut EventQueue<State>,
    state: &mut State,
    deadline: Instant,
) -> Result<()> {
    if queue.dispatch_pending(state)? > 0 {
        return Ok(());
    }
    let mut events = PollFlags::POLLIN;
    match queue.flush() {
        Ok(()) => {}
        Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
            events |= PollFlags::POLLOUT;
        }
        // What the compositor said before it closed the connection tells more.
        Err(_) if connection.prepare_read().is_some() => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(guard) = queue.prepare_read() {
        let left = deadline.saturating_duration_since(Instant::now());
        if poll_once(&guard, events, left.try_into()?)? == 0 {
            bail!("nothing came in {PATIENCE:?}");
        }
        match guard.read() {
            Ok(_) => {}
            Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    queue.dispatch_pending(state)?;
    Ok(())
}

fn poll_once(guard: &ReadEventsGuard, events: PollFlags, timeout: PollTimeout) -> Result<i32> {
    Ok(poll(&mut [PollFd::new(guard.connection_fd(), events)], timeout)?)
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlRegistry,
        event: wl_registry::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global { name, interface, version } => {
                state.globals.push((name, interface, version));
            }
            wl_registry::Event::GlobalRemove { name } => {
                state.globals.retain(|global| global.0 != name)
            }
            _ => {}
        }
    }
}

impl Dispatch<WlShm, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlShm,
        event: wl_shm::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_shm::Event::Format { format: WEnum::Value(format) } = event {
            state.formats.push(format);
        }
    }
}

impl Dispatch<WlCallback, Arc<AtomicBool>> for State {
    fn event(
        _: &mut Self,
        _: &WlCallback,
        _: wl_callback::Event,
        done: &Arc<AtomicBool>,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        done.store(true, Ordering::Relaxed);
    }
}

impl Dispatch<WlBuffer, Arc<AtomicBool>> for State {
    fn event(
        _: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        busy: &Arc<AtomicBool>,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event {
            busy.store(false, Ordering::Relaxed);
        }
    }
}

impl Dispatch<XdgWmBase, ()> for State {
    fn event(
        _: &mut Self,
        wm_base: &XdgWmBase,
        event: xdg_wm_base::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            wm_base.pong(serial);
        }
    }
}

impl Dispatch<XdgSurface, WlSurface> for State {
    fn event(
        state: &mut Self,
        xdg_surface: &XdgSurface,
        event: xdg_surface::Event,
        surface: &WlSurface,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            xdg_surface.ack_configure(serial);
            surface.commit();
            state.configures += 1;
        }
    }
}

impl Dispatch<XdgToplevel, ()> for State {
    fn event(
        state: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_toplevel::Event::Configure { width, height, states } = event {
            (state.wanted, state.states) = ((width, height), states);
        }
    }
}

impl Dispatch<WlSeat, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlSeat,
        event: wl_seat::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_seat::Event::Capabilities { capabilities: WEnum::Value(capabilities) } = event {
            state.keyboard = capabilities.contains(wl_seat::Capability::Keyboard);
            state.pointer = capabilities.contains(wl_seat::Capability::Pointer);
        }
    }
}

impl Dispatch<WlKeyboard, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlKeyboard,
        event: wl_keyboard::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_keyboard::Event::Keymap { format: WEnum::Value(KeymapFormat::XkbV1), fd, size } => {
                state.keymap = Some((fd, size));
            }
            wl_keyboard::Event::Enter { serial, .. } => {
                (state.focused, state.serial) = (true, serial);
            }
            wl_keyboard::Event::Leave { .. } => state.focused = false,
            wl_keyboard::Event::Key { serial, .. } => state.serial = serial,
            _ => {}
        }
    }
}

delegate_noop!(State: ignore WlCompositor);
delegate_noop!(State: ignore WlRegion);
delegate_noop!(State: ignore WlShmPool);
delegate_noop!(State: ignore WlSubcompositor);
delegate_noop!(State: ignore WlSubsurface);
delegate_noop!(State: ignore WpViewporter);
delegate_noop!(State: ignore WpViewport);
delegate_noop!(State: ignore ZwpVirtualKeyboardManagerV1);
delegate_noop!(State: ignore ZwpVirtualKeyboardV1);
delegate_noop!(State: ignore ZwlrVirtualPointerManagerV1);
delegate_noop!(State: ignore ZwlrVirtualPointerV1);
delegate_noop!(State: ignore XdgActivationV1);
delegate_noop!(State: ignore XdgActivationTokenV1);
