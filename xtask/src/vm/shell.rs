//! `cargo xtask vm shell`: a VM's console in this terminal.

use super::image::Images;
use super::lab::{How, Lab, Vm, device_of_running};
use super::programs::{Program, Programs};
use super::setup::{Room, Setup, Terminal};
use crate::failure::Interrupted;
use crate::part::end_with_caller;
use crate::progress::Progress;
use crate::{absolute, demo};
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use std::env;
use std::io::stdin;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Options of `cargo xtask vm shell`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What the VM is called: work, untrusted or gui, and anything with --plain or --device.
    ///
    /// The VM has wlproxy's device and runs what it usually runs: WAYLAND_DISPLAY is set, so that applications have their
    /// windows on the screen of gui. wlproxy and gui are started with it, unless they run already: the first shell has
    /// them, and those of other VMs join it.
    name: String,
    #[command(flatten)]
    devices: Devices,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Devices {
    /// No device of wlproxy's in the VM, nor anything that runs
    #[arg(long)]
    plain: bool,
    /// A vhost-user device in the VM, which listens at this socket and says that it is a virtio-gpu
    #[arg(long, value_name = "SOCKET")]
    device: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Devices { plain, device } = &options.devices;
    if *plain || device.is_some() {
        return alone(options, device.as_deref().map(absolute), None);
    }
    let Some(vm) = Vm::named(&options.name) else {
        let names = Vm::ALL.map(Vm::name).join(", ");
        bail!("wlproxy knows no VM {}, but {names}; others are --plain", options.name);
    };
    if let Some(device) = device_of_running(vm)? {
        return alone(options, Some(device), Some(vm));
    }
    let mut lab = Lab::new(&options.how, Progress::new())?;
    lab.stage("starting wlproxy");
    lab.start_wlproxy()?;
    lab.progress().done();
    if vm != Vm::Gui {
        lab.start_by_itself(Vm::Gui)?;
    }
    let setup = Setup { terminal: Some(terminal()), parts: vm.parts(), ..lab.setup(vm) };
    lab.progress().say(&boots(&setup.name));
    let used = on_console(&setup, lab.images(), &lab.programs().inside);
    let stopped = lab.stop().map_err(demo::tell_logs);
    used.and(stopped)
}

/// A VM by itself: what is at the other end of its device, if it has one, is somebody else's. If it is one of wlproxy's
/// VMs, it runs what that runs.
fn alone(options: &Options, device: Option<PathBuf>, vm: Option<Vm>) -> Result<()> {
    let mut progress = Progress::new();
    let images = Images::ensure(&mut progress)?;
    let programs = Programs::build(options.how.release, &mut progress)?;
    let setup = Setup {
        name: options.name.clone(),
        accel: options.how.accel,
        device,
        terminal: Some(terminal()),
        display: vm.is_some(),
        parts: vm.map_or(&[], Vm::parts),
    };
    progress.say(&boots(&setup.name));
    on_console(&setup, &images, &programs.inside)
}

fn boots(name: &str) -> String {
    format!("VM {name} boots; exit or Ctrl-A x ends it")
}

/// Runs a VM with its console here, to its end.
fn on_console(setup: &Setup, images: &Images, programs: &[Program]) -> Result<()> {
    let room = Room::new(&images.rooms, &setup.name)?;
    setup.write_initrd(images, programs, &room)?;
    let (variable, value) = Setup::environment(images);
    let mut command = Command::new(images.qemu.join("usr/bin/qemu-system-x86_64"));
    command.args(setup.arguments(images)).env(variable, value).current_dir(&room.path);
    end_with_caller(&mut command);
    let _console = Console::keep();
    let status = wait(&mut command)?;
    if !status.success() {
        bail!("QEMU failed ({status})");
    }
    Ok(())
}

/// Runs QEMU to its end, or until a signal comes.
fn wait(command: &mut Command) -> Result<ExitStatus> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut child = command.spawn().context("can't start QEMU")?;
    loop {
        while let Some(info) = signals.read_signal()? {
            let signal = Signal::try_from(info.ssi_signo as i32)?;
            if signal != Signal::SIGCHLD {
                end(&mut child)?;
                return Err(Interrupted(signal).into());
            }
        }
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends QEMU, which has nothing to save.
fn end(child: &mut Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
    child.wait()?;
    Ok(())
}

/// Gives the terminal back as it was: QEMU does so only when it ends in order.
struct Console(Option<Termios>);

impl Console {
    fn keep() -> Self {
        Self(tcgetattr(stdin()).ok())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// The terminal that this runs in.
fn terminal() -> Terminal {
    let kind = env::var("TERM").unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-+.".contains(c);
    let known = !kind.is_empty() && kind.chars().all(fits);
    let mut stty = Command::new("stty");
    let output = stty.arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let size = output.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        let (rows, columns) = text.trim().split_once(' ')?;
        Some((rows.parse().ok()?, columns.parse().ok()?))
    });
    Terminal { kind: if known { kind } else { "vt102".to_owned() }, size }
}
