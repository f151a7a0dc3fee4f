//! What the compositor knows, and the globals that it offers.

use crate::options::Options;
use crate::picture::Painter;
use crate::windows::Windows;
use anyhow::{Context, Result};
use calloop::LoopSignal;
use compositor_shim::smithay::Rule;
use smithay::desktop::PopupManager;
use smithay::input::{Seat, SeatState};
use smithay::output::{Mode, Output, PhysicalProperties, Subpixel};
use smithay::reexports::wayland_server::DisplayHandle;
use smithay::utils::{SERIAL_COUNTER, Transform};
use smithay::wayland::compositor::CompositorState;
use smithay::wayland::output::OutputManagerState;
use smithay::wayland::selection::data_device::DataDeviceState;
use smithay::wayland::selection::wlr_data_control::DataControlState;
use smithay::wayland::shell::xdg::XdgShellState;
use smithay::wayland::shell::xdg::decoration::XdgDecorationState;
use smithay::wayland::shm::ShmState;
use std::path::PathBuf;
use std::time::Instant;

/// In thousandths of a hertz, as wl_output has it.
const REFRESH: i32 = 60_000;

/// Keys repeat after so many milliseconds, and so often in a second, as in sway.
const REPEAT: (i32, i32) = (600, 25);

/// All that the compositor knows. Requests of clients and events of the loop change it.
pub(crate) struct State {
    pub(crate) display: DisplayHandle,
    pub(crate) signal: calloop::LoopSignal,
    pub(crate) started: Instant,

    pub(crate) compositor: CompositorState,
    pub(crate) shm: ShmState,
    pub(crate) xdg_shell: XdgShellState,
    pub(crate) data_device: DataDeviceState,
    pub(crate) data_control: DataControlState,
    pub(crate) seat_state: SeatState<Self>,
    /// Kept, or the globals would be gone.
    _output: OutputManagerState,
    _decoration: XdgDecorationState,

    pub(crate) seat: Seat<Self>,
    pub(crate) windows: Windows,
    pub(crate) popups: PopupManager,
    painter: Painter,
    picture: Option<PathBuf>,
}

impl State {
    /// A compositor without windows; its globals are offered from now on.
    pub(crate) fn new(
        display: &DisplayHandle,
        options: &Options,
        signal: LoopSignal,
    ) -> Result<Self> {
        let mut seat_state = SeatState::new();
        let mut seat = seat_state.new_wl_seat(display, "seat0");
        let (delay, rate) = REPEAT;
        seat.add_keyboard(Default::default(), delay, rate).context("there is no keymap")?;
        seat.add_pointer();

        // What a client of another VM must not have: it could read and change what is copied, without having the focus.
        // Every constructor that takes a filter takes a rule's.
        let local = Rule::local().filter();
        let data_control = DataControlState::new::<Self, _>(display, None, local);

        Ok(Self {
            display: display.clone(),
            signal,
            started: Instant::now(),
            compositor: CompositorState::new::<Self>(display),
            shm: ShmState::new::<Self>(display, []),
            xdg_shell: XdgShellState::new::<Self>(display),
            data_device: DataDeviceState::new::<Self>(display),
            data_control,
            seat_state,
            _output: OutputManagerState::new_with_xdg_output::<Self>(display),
            _decoration: XdgDecorationState::new::<Self>(display),
            seat,
            windows: Windows::new(output(display, options), options.size),
            popups: PopupManager::default(),
            painter: Painter::new(options.size)?,
            picture: options.picture.clone(),
        })
    }

    /// What follows from each round of events.
    pub(crate) fn after_events(&mut self) {
        self.windows.refresh();
        self.popups.cleanup();
        // Whoever doesn't read is not waited for.
        if let Err(error) = self.display.flush_clients() {
            tracing::warn!("events can't be sent: {error}");
        }
    }

    /// Gives the keyboard to the newest window. With it comes the clipboard: see `focus_changed`.
    pub(crate) fn focus_newest(&mut self) {
        let focus = self.windows.activate_newest();
        if let Some(keyboard) = self.seat.get_keyboard() {
            keyboard.set_focus(self, focus, SERIAL_COUNTER.next_serial());
        }
    }

    /// Writes what is shown, and tells of it.
    pub(crate) fn take_picture(&mut self) {
        let Some(file) = &self.picture else {
            return tracing::warn!("a picture is asked for, and there is no --picture FILE");
        };
        if let Err(error) = self.painter.picture(&self.windows, file) {
            tracing::warn!("no picture: {error:#}");
        }
    }
}

/// The only screen.
fn output(display: &DisplayHandle, options: &Options) -> Output {
    let properties = PhysicalProperties {
        // Nothing tells its size.
        size: (0, 0).into(),
        subpixel: Subpixel::Unknown,
        make: "wlproxy".to_owned(),
        model: "picture".to_owned(),
    };
    let output = Output::new("PICTURE-1".to_owned(), properties);
    output.create_global::<State>(display);
    let size = options.size.to_physical(1);
    let mode = Mode { size, refresh: REFRESH };
    output.change_current_state(Some(mode), Some(Transform::Normal), None, Some((0, 0).into()));
    output.set_preferred(mode);
    output
}
