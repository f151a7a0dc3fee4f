//! A small compositor for the Wayland Conformance Suite, WLCS, which loads it as a library and plays its clients.
//!
//! WLCS asks for each client's socket. Here that is always one that has connected to a socket in the file system: the
//! compositor's own, or that of an agent, so that whatever WLCS finds can be compared with and without what is between.
//! Each test has a compositor of its own; all of them listen at the same path.
//!
//! | variable | what |
//! |---|---|
//! | `WLPROXY_WLCS_LISTEN` | the path at which the compositor listens |
//! | `WLPROXY_WLCS_CONNECT` | the path to which clients connect |
//! | `WLPROXY_WLCS_KEEPERS` | how many connections each compositor gets before any client's, from who looks whether it is there; by default none |

mod compositor;
mod handlers;
mod input;

use calloop::channel::{Sender, channel};
use compositor::{Command, Number};
use smithay::utils::{Logical, Point};
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wayland_sys::client::{wl_display, wl_display_get_fd, wl_proxy, wl_proxy_get_id};
use wayland_sys::common::{wl_fixed_t, wl_fixed_to_double};
use wlcs::ffi_display_server_api::{
    WlcsExtensionDescriptor, WlcsIntegrationDescriptor, WlcsServerIntegration,
};
use wlcs::ffi_wrappers::wlcs_server;
use wlcs::{extension_list, wlcs_server_integration};

wlcs_server_integration!(Server);

/// How long anything may take: as long as WLCS itself waits for most things.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the compositor offers beyond what WLCS takes for granted, and in which versions. Of others the tests are skipped.
static EXTENSIONS: &[WlcsExtensionDescriptor] = extension_list!(
    ("wl_compositor", 6),
    ("wl_subcompositor", 1),
    ("wl_data_device_manager", 3),
    ("wl_seat", 9),
    ("wl_output", 4),
    ("wl_shm", 1),
    ("xdg_wm_base", 6),
    ("zxdg_output_manager_v1", 3),
    ("zwp_relative_pointer_manager_v1", 1),
    ("zwp_primary_selection_device_manager_v1", 1),
    ("wp_viewporter", 1),
);

static DESCRIPTOR: WlcsIntegrationDescriptor = WlcsIntegrationDescriptor {
    version: 1,
    num_extensions: EXTENSIONS.len(),
    supported_extensions: EXTENSIONS.as_ptr(),
};

/// A test's compositor, as WLCS sees it.
struct Server {
    running: Option<Running>,
    /// By the client's file descriptor, the number that the compositor knows it by.
    clients: Mutex<Vec<(i32, Number)>>,
}

struct Running {
    commands: Commands,
    thread: JoinHandle<()>,
}

/// Tells the compositor what to do, and waits until it is done: what a test does next must not overtake it.
#[derive(Clone)]
struct Commands(Sender<(Command, mpsc::Sender<()>)>);

impl Commands {
    fn tell(&self, command: Command) {
        let (done, is_done) = mpsc::channel();
        if self.0.send((command, done)).is_ok() {
            // A compositor that ends doesn't answer.
            let _ = is_done.recv_timeout(PATIENCE);
        }
    }
}

fn setting(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("{name} isn't set"))
}

impl Server {
    fn commands(&self) -> Option<Commands> {
        self.running.as_ref().map(|running| running.commands.clone())
    }
}

impl wlcs::Wlcs for Server {
    type Pointer = Device;
    type Touch = Device;

    fn new() -> Self {
        Self { running: None, clients: Mutex::default() }
    }

    fn start(&mut self) {
        let path = PathBuf::from(setting("WLPROXY_WLCS_LISTEN"));
        let keepers = env::var("WLPROXY_WLCS_KEEPERS")
            .map_or(0, |number| number.parse().expect("WLPROXY_WLCS_KEEPERS is a number"));
        let (commands, inbox) = channel();
        let (up, is_up) = mpsc::channel();
        let thread = thread::spawn(move || compositor::run(&path, keepers, inbox, up));
        // If it has panicked, `up` is gone.
        is_up
            .recv_timeout(PATIENCE)
            .expect("the compositor starts, and whoever keeps an eye on it comes");
        self.running = Some(Running { commands: Commands(commands), thread });
    }

    fn stop(&mut self) {
        if let Some(Running { commands, thread }) = self.running.take() {
            commands.tell(Command::Stop);
            let _ = thread.join();
        }
    }

    fn create_client_socket(&self) -> io::Result<OwnedFd> {
        let commands = self.commands().ok_or(io::ErrorKind::NotConnected)?;
        let (accepted, is_accepted) = mpsc::channel();
        commands.tell(Command::Expect(accepted));
        let client = OwnedFd::from(UnixStream::connect(setting("WLPROXY_WLCS_CONNECT"))?);
        let number = is_accepted.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        let key = std::os::fd::AsRawFd::as_raw_fd(&client);
        let mut clients = self.clients.lock().map_err(|_| io::ErrorKind::Other)?;
        clients.retain(|&(of, _)| of != key);
        clients.push((key, number));
        Ok(client)
    }

    fn position_window_absolute(
        &self,
        display: *mut wl_display,
        surface: *mut wl_proxy,
        x: i32,
        y: i32,
    ) {
        // SAFETY: WLCS hands over the connection and the surface of a client of its own, which it doesn't use meanwhile.
        let (key, surface) = unsafe { (wl_display_get_fd(display), wl_proxy_get_id(surface)) };
        let (Ok(clients), Some(commands)) = (self.clients.lock(), self.commands()) else { return };
        let client = clients.iter().find(|&&(of, _)| of == key);
        if let Some(&(_, client)) = client {
            commands.tell(Command::Place { client, surface, at: (x, y).into() });
        }
    }

    fn create_pointer(&mut self) -> Option<Device> {
        self.commands().map(Device)
    }

    fn create_touch(&mut self) -> Option<Device> {
        self.commands().map(Device)
    }

    fn get_descriptor(&self) -> &WlcsIntegrationDescriptor {
        &DESCRIPTOR
    }
}

/// A mouse, or a finger: all are of the one seat.
struct Device(Commands);

fn point(x: wl_fixed_t, y: wl_fixed_t) -> Point<f64, Logical> {
    (wl_fixed_to_double(x), wl_fixed_to_double(y)).into()
}

impl wlcs::Pointer for Device {
    fn move_absolute(&mut self, x: wl_fixed_t, y: wl_fixed_t) {
        self.0.tell(Command::PointTo(point(x, y)));
    }

    fn move_relative(&mut self, dx: wl_fixed_t, dy: wl_fixed_t) {
        self.0.tell(Command::PointBy(point(dx, dy)));
    }

    fn button_up(&mut self, button: i32) {
        self.0.tell(Command::Button { button: button.cast_unsigned(), pressed: false });
    }

    fn button_down(&mut self, button: i32) {
        self.0.tell(Command::Button { button: button.cast_unsigned(), pressed: true });
    }
}

impl wlcs::Touch for Device {
    fn touch_down(&mut self, x: wl_fixed_t, y: wl_fixed_t) {
        self.0.tell(Command::TouchDown(point(x, y)));
    }

    fn touch_move(&mut self, x: wl_fixed_t, y: wl_fixed_t) {
        self.0.tell(Command::TouchTo(point(x, y)));
    }

    fn touch_up(&mut self) {
        self.0.tell(Command::TouchUp);
    }
}
