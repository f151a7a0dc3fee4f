//! `cargo xtask vm demo`: windows of one VM on the screen of another. Both have a stock kernel, and wlproxy's virtio-gpu.

use super::image::Images;
use super::machine::{Machine, USER};
use super::setup::{Accel, Program, Setup, build};
use crate::demo::picture::Picture;
use crate::demo::sway::Rect;
use crate::part::Spec;
use crate::progress::Progress;
use crate::supervisor::{Step, Supervisor};
use crate::watch::Watch;
use crate::{build as cargo, demo, root};
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::mkdtemp;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options of `cargo xtask vm demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Who runs the VMs' instructions
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    accel: Accel,
}

/// How long anything may take that isn't a VM's start. Alone, and without KVM, windows are there after some seconds.
const DEADLINE: Duration = Duration::from_secs(90);

/// Where sockets are. A socket's path has at most 107 bytes, and a target directory may be deeper.
const TEMPLATE: &str = "/tmp/wlproxy-vm.XXXXXX";

/// The VM with the screen.
const COMPOSITOR_VM: &str = "gui";
/// The VM with the applications.
const CLIENT_VM: &str = "work";

/// The screen, in pixels.
const SCREEN: (u32, u32) = (800, 600);

/// More than the height of a window's title, in pixels.
const TITLE: i64 = 30;

/// Its windows, beside each other.
const APPS: [&str; 2] = ["flower", "foot"];

/// In the compositor VM.
const SWAY: &str = "\
export SWAYSOCK=$XDG_RUNTIME_DIR/sway.sock
export WLR_BACKENDS=headless WLR_RENDERER=pixman WLR_LIBINPUT_NO_DEVICES=1
echo 'output * resolution 800x600 background #204060 solid_color' >/tmp/sway.conf
exec sway -c /tmp/sway.conf
";
const SERVE: &str = "exec guest-agent serve --compositor $XDG_RUNTIME_DIR/wayland-1";

/// In the client VM.
const RUN: &str = "\
exec guest-agent run -- sh -c '
    weston-flower &
    exec foot -- sh -c \"echo; echo A window of another VM; uname -sr; exec sleep infinity\"
'";

/// Waits for the windows, then makes a file.
const WINDOWS: &str = "\
export SWAYSOCK=$XDG_RUNTIME_DIR/sway.sock
for app in flower foot; do
    until swaymsg -t get_tree | grep -q '\"app_id\": \".*'$app; do sleep 0.1; done
done
exec mkfifo /tmp/windows
";

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut progress = Progress::new();
    let images = Images::ensure(&mut progress)?;
    let programs = build(&mut progress)?;
    progress.stage("cargo build -p wlproxy");
    progress.leave_line();
    let wlproxy = cargo::program(&cargo::build(&["-p", "wlproxy"])?, "wlproxy")?;
    progress.done();
    let logs = root().join("target/vm/logs");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).with_context(|| format!("can't make {}", logs.display()))?;
    let picture = root().join("target/vm/demo.png");
    let _ = fs::remove_file(&picture);
    let sockets = Sockets::new()?;
    // Dropped before the sockets: what uses them ends first.
    let mut supervisor = Supervisor::new(None, &logs, progress)?;
    let accel = options.accel;
    let mut show = Show { images, programs, accel, supervisor: &mut supervisor, sockets: &sockets };
    let shown = show.run(&wlproxy, &picture);
    let shown = shown.map_err(|error| supervisor.explain(error));
    if shown.is_err() {
        supervisor.progress.failed();
    }
    supervisor.progress.stage("stopping the VMs");
    let stopped = supervisor.stop();
    if stopped.is_ok() {
        supervisor.progress.done();
    }
    supervisor.progress.say(&format!("consoles: {}", logs.display()));
    shown.and(stopped).map_err(demo::tell_logs)?;
    println!("picture: {}", picture.display());
    Ok(())
}

/// A folder for the host's configuration and sockets. It is removed when this is dropped.
struct Sockets(PathBuf);

impl Sockets {
    fn new() -> Result<Self> {
        let sockets = Self(mkdtemp(TEMPLATE).with_context(|| format!("can't make {TEMPLATE}"))?);
        let mut config =
            format!("runtime_dir = {:?}\n\n[compositor]\nvm = {COMPOSITOR_VM:?}\n", sockets.0);
        for vm in [COMPOSITOR_VM, CLIENT_VM] {
            config.push_str(&format!("\n[vm.{vm}]\ndevice = \"virtgpu\"\n"));
        }
        fs::write(sockets.config(), config)?;
        Ok(sockets)
    }

    fn config(&self) -> PathBuf {
        self.0.join("wlproxy.toml")
    }

    fn device(&self, vm: &str) -> PathBuf {
        self.0.join(format!("{vm}.sock"))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("can't remove {}: {error}", self.0.display());
        }
    }
}

struct Show<'a> {
    images: Images,
    programs: Vec<Program>,
    accel: Accel,
    supervisor: &'a mut Supervisor,
    sockets: &'a Sockets,
}

impl Show<'_> {
    fn run(&mut self, wlproxy: &Path, picture: &Path) -> Result<()> {
        self.stage("starting wlproxy");
        self.start_wlproxy(wlproxy)?;
        self.stage("booting two VMs");
        let (mut gui, mut work) = (self.start(COMPOSITOR_VM)?, self.start(CLIENT_VM)?);
        gui.boot(self.supervisor)?;
        work.boot(self.supervisor)?;
        self.stage("windows of one on the screen of the other");
        gui.background(self.supervisor, USER, "sway", SWAY)?;
        gui.wait_for(self.supervisor, "/run/user/1000/wayland-1", "sway", DEADLINE)?;
        gui.background(self.supervisor, USER, "serve", SERVE)?;
        work.background(self.supervisor, USER, "run", RUN)?;
        gui.background(self.supervisor, USER, "windows", WINDOWS)?;
        if let Err(error) = gui.wait_for(self.supervisor, "/tmp/windows", "serve", DEADLINE) {
            let log = work.run(
                self.supervisor,
                0,
                "tail -n 20 /run/log/run; dmesg | tail -n 20",
                DEADLINE,
            )?;
            let log = String::from_utf8_lossy(&log.stdout).into_owned();
            return Err(error.context(format!("{CLIENT_VM} says:\n{log}")));
        }
        self.take(&mut gui, picture)?;
        self.supervisor.progress.done();
        Ok(())
    }

    fn stage(&mut self, name: &str) {
        self.supervisor.progress.stage(name);
    }

    fn start_wlproxy(&mut self, program: &Path) -> Result<()> {
        let watch = Watch::new(&[self.sockets.0.as_path()])?;
        self.supervisor.start(&Spec {
            name: "wlproxy".to_owned(),
            program: program.to_owned(),
            args: vec![
                "run".to_owned(),
                "--config".to_owned(),
                self.sockets.config().display().to_string(),
            ],
            env: Vec::new(),
            dir: self.sockets.0.clone(),
            stdout: None,
        })?;
        let sockets = self.sockets;
        let there = || {
            watch.drain();
            let missing = [COMPOSITOR_VM, CLIENT_VM].iter().find(|vm| !sockets.device(vm).exists());
            Ok(missing.map_or(Step::Done(()), |vm| Step::Waiting((*vm).to_owned())))
        };
        self.supervisor.wait_for(
            "socket for each VM",
            &["wlproxy"],
            DEADLINE,
            &[watch.as_fd()],
            there,
        )
    }

    fn start(&mut self, name: &str) -> Result<Machine> {
        let device = Some(self.sockets.device(name));
        let setup = Setup { name: name.to_owned(), accel: self.accel, device, terminal: None };
        Machine::start(&setup, &self.images, &self.programs, self.supervisor)
    }

    /// Takes pictures until one shows the content of all windows.
    fn take(&mut self, vm: &mut Machine, path: &Path) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            let grim = "WAYLAND_DISPLAY=wayland-1 grim -";
            fs::write(path, vm.check(self.supervisor, USER, grim, DEADLINE)?)?;
            let picture = Picture::read(path)?;
            let size = (picture.width, picture.height);
            if size == SCREEN && columns().all(|column| picture.shows_content(column)) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("{}: {size:?} pixels don't show all windows", path.display());
            }
        }
    }
}

/// Where the windows are.
fn columns() -> impl Iterator<Item = Rect> {
    let count = APPS.len() as i64;
    let (width, height) = (i64::from(SCREEN.0) / count, i64::from(SCREEN.1) - TITLE);
    (0..count).map(move |column| Rect { x: column * width, y: TITLE, width, height })
}
