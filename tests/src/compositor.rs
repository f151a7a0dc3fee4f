//! A compositor without a screen: sway or weston, unmodified and drawing by pixman, or one of our own.

use crate::binaries::{example, own};
use crate::machine::Machine;
use crate::probe;
use crate::process::{Process, output};
use crate::sanitizer;
use crate::sway::Sway;
use crate::wait::{PATIENCE, until};
use crate::{Display, Example, Image, Picture, Raw, Suite, leak};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Size of the only output, in pixels.
pub(crate) const WIDTH: u32 = 800;
/// Size of the only output, in pixels.
pub(crate) const HEIGHT: u32 = 600;

/// Who runs the compositor if the tests run as root: sway refuses to. Any user that isn't root does.
const USER: u32 = 1000;

/// What weston's log gets when its own clients, desktop shell and keyboard, have all that they hold.
///
/// Neither has an object's number, which libwayland wrote behind an `@` until 1.22 and writes behind a `#` since.
const WESTON_IS_UP: [&str; 2] = [".desktop_ready(", "zwp_input_panel_surface_v1"];

/// sway's control socket, in its folder.
const IPC: &str = "ipc";

/// Size of an example's screen, in pixels: three small windows are beside each other, or there is one of 800x600.
const EXAMPLE_WIDTH: u32 = 1100;
/// Size of an example's screen, in pixels.
const EXAMPLE_HEIGHT: u32 = 700;

/// An example's picture, in its folder.
const PICTURE: &str = "picture.png";

/// Which compositor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// wlroots; can be asked and told things, and takes screenshots.
    Sway,
    /// The sway of a newer Debian.
    Newer(Suite),
    /// sway in windows of another sway, one for each output: these can be unplugged.
    Nested,
    /// libweston; without a seat.
    Weston,
    /// The harness's own, without a screen: see [`recorder`](crate::recorder).
    Recorder,
    /// The same, linked with the shim: clients of other VMs come to itself.
    Linked,
    /// One of `examples/`, which are linked with the shim, too. It takes pictures of its screen.
    Example(Example),
}

impl Kind {
    /// Whether it links the shim, and needs no `serve`.
    pub(crate) fn is_linked(self) -> bool {
        matches!(self, Self::Linked | Self::Example(_))
    }

    /// Whether its screen can be photographed when nobody is connected.
    pub(crate) fn has_picture(self) -> bool {
        !matches!(self, Self::Weston | Self::Recorder | Self::Linked)
    }
}

/// A compositor, running or not.
#[derive(Debug)]
pub struct Compositor {
    /// Where it runs.
    machine: Arc<dyn Machine>,
    /// None before the first start.
    process: Option<Process>,
    starts: u32,
    kind: Kind,
    folder: PathBuf,
    logs: PathBuf,
    marker: String,
    debug: bool,
    socket: PathBuf,
    /// The compositor whose windows are its outputs.
    outer: Option<Box<Compositor>>,
}

impl Compositor {
    /// One with `folder` as its XDG_RUNTIME_DIR, that isn't started.
    ///
    /// `debug`: its log gets every message that it receives and sends. weston's always does.
    pub(crate) fn new(
        kind: Kind,
        machine: Arc<dyn Machine>,
        folder: &Path,
        logs: &Path,
        marker: &str,
        debug: bool,
    ) -> Self {
        fs::create_dir(folder).expect("a fresh folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("our own folder");
        let socket = match kind {
            Kind::Sway | Kind::Newer(_) | Kind::Nested => folder.join("wayland-1"),
            Kind::Weston => folder.join("weston"),
            Kind::Recorder | Kind::Linked => folder.join("recorder"),
            Kind::Example(_) => folder.join("example"),
        };
        let outer = (kind == Kind::Nested).then(|| {
            let logs = logs.join("outer");
            fs::create_dir(&logs).expect("a fresh folder");
            let folder = folder.with_extension("outer");
            Box::new(Self::new(Kind::Sway, machine.clone(), &folder, &logs, marker, false))
        });
        let (folder, logs, marker) = (folder.to_owned(), logs.to_owned(), marker.to_owned());
        Self { machine, process: None, starts: 0, kind, folder, logs, marker, debug, socket, outer }
    }

    /// Starts it, again if it was killed before, and waits until it serves clients and its own ones are up.
    pub fn start(&mut self) {
        if let Some(outer) = &mut self.outer {
            outer.start();
        }
        self.spawn();
        let (kind, display) = (self.kind, Display::new(&self.machine, &self.socket));
        let process = self.process_mut();
        until("the compositor's socket", || {
            assert!(process.running(), "the compositor ended: {}", process.log());
            UnixStream::connect(&display.socket).ok()
        });
        // It listens before it is all there: sway would forget a SIGTERM that comes before its event loop runs.
        Raw::connect(&display).sync();
        if kind == Kind::Weston {
            until("weston's own clients", || {
                let log = process.log();
                WESTON_IS_UP.iter().all(|said| log.contains(said)).then_some(())
            });
        }
    }

    /// Starts it and doesn't wait.
    fn spawn(&mut self) {
        let (kind, folder, debug) = (self.kind, &self.folder, self.debug);
        let mut command = match kind {
            // It may be root; and another user may not come to where it lies.
            Kind::Newer(_) => Command::new("env"),
            // Nor may another user come to where cargo builds.
            Kind::Recorder | Kind::Linked => Command::new(own(probe::PROGRAM)),
            Kind::Example(which) => Command::new(example(which)),
            _ => as_user(folder),
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env(leak::MARKER, &self.marker);
        match kind {
            Kind::Recorder | Kind::Linked | Kind::Example(Example::Smithay) => {
                sanitizer::configure(&mut command);
            }
            Kind::Example(_) => sanitizer::configure_c(&mut command),
            _ => {}
        }
        if debug || kind == Kind::Weston {
            command.env("WAYLAND_DEBUG", "server");
        }
        match kind {
            Kind::Sway | Kind::Nested => {
                sway(&mut command, "sway".as_ref(), folder, self.outer.as_deref());
            }
            Kind::Newer(suite) => {
                command.envs(suite.environment());
                sway(&mut command, &suite.program("sway"), folder, None);
            }
            Kind::Weston => weston(&mut command, folder),
            Kind::Recorder => {
                command.arg(probe::COMPOSITOR).arg(&self.socket);
            }
            Kind::Linked => {
                command.arg(probe::COMPOSITOR).arg(&self.socket).arg(self.machine.channel());
            }
            Kind::Example(_) => {
                command.arg("--socket").arg(&self.socket);
                command.arg("--channel").arg(self.machine.channel());
                command.arg("--size").arg(format!("{EXAMPLE_WIDTH}x{EXAMPLE_HEIGHT}"));
                command.arg("--picture").arg(folder.join(PICTURE));
            }
        }
        self.starts += 1;
        // Each has a log of its own.
        let name = match self.starts {
            1 => "compositor".to_owned(),
            more => format!("compositor-{more}"),
        };
        let command = self.machine.inside(command);
        self.process = Some(Process::spawn(&name, command, &self.logs, false));
    }

    /// Kills it; its Wayland socket stays behind.
    pub fn kill(&mut self) {
        self.process().signal(Signal::SIGKILL);
        self.process_mut().wait();
        if matches!(self.kind, Kind::Sway | Kind::Newer(_)) {
            // It takes another path for its control socket if there is one already.
            fs::remove_file(self.ipc()).expect("sway's control socket");
        }
    }

    /// sway's control socket.
    fn ipc(&self) -> PathBuf {
        self.machine.reach(&self.folder.join(IPC))
    }

    /// Its Wayland socket, where it runs.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether there is a process, or has been one.
    pub(crate) fn was_started(&self) -> bool {
        self.process.is_some()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the compositor was started")
    }

    /// The process, to be waited for.
    pub fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("the compositor was started")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The version of the libwayland-server that it runs with: `(21, 0)` is 1.21.0.
    ///
    /// # Panics
    /// If the name of the library's file doesn't tell, or it runs in a VM that is more than a process.
    pub fn libwayland(&self) -> (u32, u32) {
        const FILE: &str = "/libwayland-server.so.0.";
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.process().id()));
        let version = maps.as_deref().unwrap_or_default().lines().find_map(|line| {
            let (minor, micro) = line.split_once(FILE)?.1.split_once('.')?;
            Some((minor.parse().ok()?, micro.parse().ok()?))
        });
        version.unwrap_or_else(|| {
            panic!(
                "no mapping of the compositor ends with {FILE}MINOR.MICRO; is it linked statically?"
            )
        })
    }

    /// sway's control socket.
    ///
    /// # Panics
    /// If it isn't sway.
    pub fn sway(&self) -> Sway {
        assert_ne!(self.kind, Kind::Weston);
        Sway::connect(&self.ipc())
    }

    /// The compositor whose windows are its outputs, if there is one.
    pub fn outer_mut(&mut self) -> Option<&mut Self> {
        self.outer.as_deref_mut()
    }

    /// Plugs in one more output, on the right of the first. Its scale is 2.
    pub fn plug(&self) {
        let mut sway = self.sway();
        let before = sway.outputs().len();
        sway.command("create_output");
        until("another output", || (sway.outputs().len() > before).then_some(()));
    }

    /// Unplugs the output that was plugged in last.
    ///
    /// # Panics
    /// If it isn't [`Kind::Nested`].
    pub fn unplug(&self) {
        let mut sway = self.sway();
        let outputs = sway.outputs();
        let last = outputs.iter().max().expect("there is an output");
        let mut outer = self.outer.as_ref().expect("a nested compositor").sway();
        let id = outer.window(last).id;
        outer.command(&format!("[con_id={id}] kill"));
        until("an output less", || (!sway.outputs().contains(last)).then_some(()));
    }

    /// What an example shows now, and which windows these are.
    ///
    /// # Panics
    /// If it isn't [`Kind::Example`].
    pub fn picture(&self) -> Picture {
        assert!(matches!(self.kind, Kind::Example(_)));
        let file = self.folder.join(PICTURE);
        Picture::take(self.process(), &file, &self.machine.reach(&file))
    }

    /// What is on the screen now; with more options of grim, where that takes it.
    pub(crate) fn screenshot(&self, options: &[&str]) -> Image {
        match self.kind {
            Kind::Weston => return self.weston_screenshot(),
            Kind::Example(_) => return self.picture().screen,
            _ => {}
        }
        let mut grim = Command::new("grim");
        grim.args(options).args(["-t", "ppm", "-"]);
        grim.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut grim = Display::new(&self.machine, &self.socket).command(grim);
        Image::from_ppm(&output(&mut grim, PATIENCE)).expect("grim writes a PPM")
    }

    /// weston has a client of its own for that, which writes a file where it is started.
    fn weston_screenshot(&self) -> Image {
        let folder = tempfile::tempdir().expect("a folder of ours");
        let mut client = Command::new("weston-screenshooter");
        client.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        client.current_dir(&folder);
        output(&mut Display::new(&self.machine, &self.socket).command(client), PATIENCE);
        let mut files = fs::read_dir(&folder).expect("our own folder").flatten();
        let file = files.next().expect("weston-screenshooter writes a file").path();
        Image::from_png(&fs::read(file).expect("our own file")).expect("a PNG")
    }
}

/// A command line to be completed with a program that doesn't run as root and gets `folder`.
fn as_user(folder: &Path) -> Command {
    give(folder);
    let mut command = Command::new("env");
    if Uid::effective().is_root() {
        command = Command::new("setpriv");
        command.arg(format!("--reuid={USER}")).arg(format!("--regid={USER}")).arg("--clear-groups");
    }
    command
}

/// Gives a file or folder to whoever runs the compositor.
fn give(path: &Path) {
    if Uid::effective().is_root() {
        chown(path, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).expect("root may");
    }
}

fn sway(command: &mut Command, program: &Path, folder: &Path, outer: Option<&Compositor>) {
    let config = folder.join("sway.conf");
    let first = if outer.is_some() { "WL-1" } else { "HEADLESS-1" };
    let mut text = format!(
        "output {first} mode {WIDTH}x{HEIGHT}@60Hz position 0 0\n\
         default_border none\n\
         default_floating_border none\n\
         xwayland disable\n\
         seat * pointer_constraint enable\n\
         for_window [shell=\"xdg_shell\"] floating enable\n"
    );
    if outer.is_some() {
        // Each one that is plugged in has another name.
        for i in 2..10 {
            let _ =
                writeln!(text, "output WL-{i} mode {WIDTH}x{HEIGHT} position {WIDTH} 0 scale 2");
        }
    }
    fs::write(&config, text).expect("a file in our own folder");
    give(&config);
    match outer {
        None => command.env("WLR_BACKENDS", "headless").env("WLR_LIBINPUT_NO_DEVICES", "1"),
        Some(outer) => command.env("WLR_BACKENDS", "wayland").env("WAYLAND_DISPLAY", &outer.socket),
    };
    command.env("WLR_RENDERER", "pixman").env("SWAYSOCK", folder.join(IPC));
    command.arg(program).arg("--config").arg(config);
}

fn weston(command: &mut Command, folder: &Path) {
    let config = folder.join("weston.ini");
    // No clock: who draws once a minute may need one buffer more.
    fs::write(&config, "[shell]\npanel-position=none\n").expect("a file in our own folder");
    give(&config);
    command.args(["weston", "--backend=headless-backend.so", "--use-pixman", "--config"]);
    command.arg(config);
    command.args([format!("--width={WIDTH}"), format!("--height={HEIGHT}")]);
    // Without --debug it takes no screenshots.
    command.args(["--idle-time=0", "--socket=weston", "--debug"]);
}
