//! The compositor: its globals, its clients and its windows, in a thread of its own.

use calloop::channel::{Channel, Event};
use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopHandle, LoopSignal, Mode, PostAction};
use smithay::desktop::{PopupManager, Space, Window};
use smithay::input::{Seat, SeatState};
use smithay::output::{self, Output, PhysicalProperties, Subpixel};
use smithay::reexports::wayland_server::backend::ClientData;
use smithay::reexports::wayland_server::{Client, Display, DisplayHandle, Resource};
use smithay::utils::{Logical, Point, Transform};
use smithay::wayland::compositor::{CompositorClientState, CompositorState};
use smithay::wayland::output::OutputManagerState;
use smithay::wayland::relative_pointer::RelativePointerManagerState;
use smithay::wayland::selection::data_device::DataDeviceState;
use smithay::wayland::selection::primary_selection::PrimarySelectionState;
use smithay::wayland::shell::xdg::XdgShellState;
use smithay::wayland::shm::ShmState;
use smithay::wayland::viewporter::ViewporterState;
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often clients are told to draw.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// The only screen, in pixels.
const SCREEN: (i32, i32) = (1280, 1024);

/// In thousandths of a hertz, as wl_output has it.
const REFRESH: i32 = 60_000;

/// A client: which of the compositor's it was, from 0 on.
pub(crate) type Number = usize;

/// What WLCS wants.
pub(crate) enum Command {
    /// The next connection is a client's, whose number it wants to know.
    Expect(mpsc::Sender<Number>),
    /// A window goes there: that of this surface.
    Place { client: Number, surface: u32, at: Point<i32, Logical> },
    /// The mouse is there.
    PointTo(Point<f64, Logical>),
    /// The mouse has been moved by so much.
    PointBy(Point<f64, Logical>),
    /// A button, by its code in linux/input-event-codes.h.
    Button { button: u32, pressed: bool },
    /// The finger touches the screen.
    TouchDown(Point<f64, Logical>),
    /// The finger is there.
    TouchTo(Point<f64, Logical>),
    /// The finger is gone.
    TouchUp,
    /// The test is over.
    Stop,
}

/// What is known of a client.
#[derive(Debug, Default)]
pub(crate) struct OfClient {
    pub(crate) compositor: CompositorClientState,
}

impl ClientData for OfClient {}

/// All that the compositor knows.
pub(crate) struct State {
    pub(crate) display: DisplayHandle,
    signal: LoopSignal,
    pub(crate) started: Instant,
    pub(crate) compositor: CompositorState,
    pub(crate) shm: ShmState,
    pub(crate) xdg_shell: XdgShellState,
    pub(crate) data_device: DataDeviceState,
    pub(crate) primary_selection: PrimarySelectionState,
    pub(crate) seat_state: SeatState<Self>,
    pub(crate) seat: Seat<Self>,
    pub(crate) windows: Space<Window>,
    pub(crate) popups: PopupManager,
    output: Output,
    /// Those who look whether the compositor is there, and haven't come yet, and who waits for them.
    keepers: usize,
    up: Option<mpsc::Sender<()>>,
    clients: Vec<Client>,
    expected: Option<mpsc::Sender<Number>>,
}

impl State {
    fn new(
        display: &DisplayHandle,
        signal: LoopSignal,
        keepers: usize,
        up: mpsc::Sender<()>,
    ) -> Self {
        let mut seat_state = SeatState::new();
        let mut seat = seat_state.new_wl_seat(display, "seat0");
        seat.add_keyboard(Default::default(), 600, 25).expect("xkeyboard-config is installed");
        seat.add_pointer();
        seat.add_touch();
        OutputManagerState::new_with_xdg_output::<Self>(display);
        RelativePointerManagerState::new::<Self>(display);
        ViewporterState::new::<Self>(display);
        let output = screen(display);
        let mut windows = Space::default();
        windows.map_output(&output, (0, 0));
        Self {
            display: display.clone(),
            signal,
            started: Instant::now(),
            compositor: CompositorState::new_v6::<Self>(display),
            shm: ShmState::new::<Self>(display, []),
            xdg_shell: XdgShellState::new::<Self>(display),
            data_device: DataDeviceState::new::<Self>(display),
            primary_selection: PrimarySelectionState::new::<Self>(display),
            seat_state,
            seat,
            windows,
            popups: PopupManager::default(),
            output,
            keepers,
            up: Some(up),
            clients: Vec::new(),
            expected: None,
        }
    }

    /// Somebody has connected.
    fn accept(&mut self, stream: UnixStream) {
        let client = self.display.insert_client(stream, Arc::new(OfClient::default()));
        let client = client.expect("a fresh connection");
        if self.keepers > 0 {
            self.keepers -= 1;
            return self.be_up();
        }
        self.clients.push(client);
        if let Some(waits) = self.expected.take() {
            let _ = waits.send(self.clients.len() - 1);
        }
    }

    /// Tells that clients may come, if they may.
    fn be_up(&mut self) {
        if self.keepers == 0
            && let Some(up) = self.up.take()
        {
            let _ = up.send(());
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Expect(waits) => self.expected = Some(waits),
            Command::Place { client, surface, at } => self.place(client, surface, at),
            Command::PointTo(at) => self.point_to(at),
            Command::PointBy(distance) => self.point_by(distance),
            Command::Button { button, pressed } => self.button(button, pressed),
            Command::TouchDown(at) => self.touch_down(at),
            Command::TouchTo(at) => self.touch_to(at),
            Command::TouchUp => self.touch_up(),
            Command::Stop => self.signal.stop(),
        }
    }

    fn place(&mut self, client: Number, surface: u32, at: Point<i32, Logical>) {
        let client = self.clients.get(client).map(Client::id);
        let is_it = |window: &&Window| {
            window.toplevel().is_some_and(|toplevel| {
                let its = toplevel.wl_surface();
                its.id().protocol_id() == surface && its.client().map(|its| its.id()) == client
            })
        };
        let window = self.windows.elements().find(is_it).cloned();
        if let Some(window) = window {
            self.windows.map_element(window, at, false);
            // What is under the mouse may be another.
            self.point_by((0.0, 0.0).into());
        }
    }

    /// Tells clients that they may draw.
    fn tell_frames(&self) {
        let (time, output) = (self.started.elapsed(), &self.output);
        for window in self.windows.elements() {
            window.send_frame(output, time, None, |_, _| Some(output.clone()));
        }
    }

    fn after_events(&mut self) {
        self.windows.refresh();
        self.popups.cleanup();
        let _ = self.display.flush_clients();
    }
}

/// Listens at `path` and handles everything, until it is to stop. Tells `up` when clients may come.
pub(crate) fn run(
    path: &Path,
    keepers: usize,
    commands: Channel<(Command, mpsc::Sender<()>)>,
    up: mpsc::Sender<()>,
) {
    let mut events = EventLoop::<State>::try_new().expect("an event loop");
    let handle = events.handle();
    let display = Display::new().expect("a display");
    let mut state = State::new(&display.handle(), events.get_signal(), keepers, up);
    insert_clients(&handle, display);
    let inserted = handle.insert_source(commands, |event, (), state| {
        if let Event::Msg((command, done)) = event {
            state.obey(command);
            let _ = state.display.flush_clients();
            let _ = done.send(());
        }
    });
    inserted.expect("an event source");
    let frames = handle.insert_source(Timer::from_duration(FRAME), |deadline, (), state| {
        state.tell_frames();
        TimeoutAction::ToInstant(deadline + FRAME)
    });
    frames.expect("an event source");
    listen(&handle, path);
    state.be_up();
    events.run(None, &mut state, State::after_events).expect("an event loop");
    let _ = fs::remove_file(path);
}

fn insert_clients(events: &LoopHandle<'_, State>, mut display: Display<State>) {
    let requests = display.backend().poll_fd().try_clone_to_owned().expect("an epoll fd");
    let requests = Generic::new(requests, Interest::READ, Mode::Level);
    let inserted = events.insert_source(requests, move |_, _, state| {
        display.dispatch_clients(state)?;
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| error.error).expect("an event source");
}

fn listen(events: &LoopHandle<'_, State>, path: &Path) {
    // A compositor that was killed has left it behind.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("a path to listen at");
    listener.set_nonblocking(true).expect("a socket of our own");
    let listener = Generic::new(listener, Interest::READ, Mode::Level);
    let inserted = events.insert_source(listener, |_, listener, state| {
        match listener.accept() {
            Ok((stream, _)) => state.accept(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| error.error).expect("an event source");
}

fn screen(display: &DisplayHandle) -> Output {
    let properties = PhysicalProperties {
        size: (0, 0).into(),
        subpixel: Subpixel::Unknown,
        make: "wlproxy".to_owned(),
        model: "WLCS".to_owned(),
    };
    let output = Output::new("WLCS-1".to_owned(), properties);
    output.create_global::<State>(display);
    let mode = output::Mode { size: SCREEN.into(), refresh: REFRESH };
    output.change_current_state(Some(mode), Some(Transform::Normal), None, Some((0, 0).into()));
    output.set_preferred(mode);
    output
}
