//! The command line.

mod alarm;
mod export;
mod preload;
mod run;
mod serve;
mod stats;

use crate::channel::process::{Options, ProcessChannel};
use crate::channel::virtgpu::{self, VirtgpuChannel};
use crate::channel::virtio_wl::{NODE, VirtioWlChannel};
use crate::channel::{Channel, Error};
use anyhow::Result;
use clap::{Parser, Subcommand};
use sd_notify::NotifyState;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// How often a channel that isn't there is tried, and a main context that was closed.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// Every client, and what compositor and clients send each other, costs fds. Returns what the limit was.
pub(crate) fn raise_fd_limit() -> Option<u64> {
    match wlproxy_unix::fd_limit::raise() {
        Ok(before) => Some(before),
        Err(error) => {
            tracing::warn!("can't raise the limit of open files: {error}");
            None
        }
    }
}

/// What comes after the options of `guest-agent --help`, and in its manual page.
const MORE: &str = "\
The host may come later and go meanwhile: it is waited for, and the channel is opened again. On the host, wlproxy(1) \
is the other end.";

const RUN: &str = "\
In a client VM: run an application, or all of the session, whose windows appear in the compositor VM.

The application gets a Wayland socket of its own in WAYLAND_DISPLAY. What it draws is copied into memory that the \
compositor VM sees as well; only what has changed is copied, and with --zero-copy nothing. The exit status is that of \
the application, or 128 and the number of the signal that ended it. SIGTERM, SIGINT and SIGHUP are passed on to it.

Without an application, the socket is for all that the VM's session starts, until one of these signals.

The host is told how many frames were committed, and how many bytes of buffers were damaged and copied; wlproxy-status(1) \
shows that.";

const SERVE: &str = "\
In the compositor VM: bring the clients of other VMs to the compositor of this one.

Runs beside the compositor until SIGTERM, SIGINT or SIGHUP. To the compositor, each application of another VM is a \
client of its own.";

/// The part of wlproxy that runs in the VMs.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_long_help = MORE)]
pub struct Args {
    /// What to log, to standard error: a level (error, warn, info, debug, trace), or a filter such as
    /// `guest_agent=debug`.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info", global = true)]
    pub log: String,

    /// What to be.
    #[command(subcommand)]
    pub command: Command,
}

/// What to be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// In a client VM: run an application, or all of the session, whose windows appear in the compositor VM.
    #[command(long_about = RUN)]
    Run(run::Args),
    /// In the compositor VM: bring the clients of other VMs to the compositor of this one.
    #[command(long_about = SERVE)]
    Serve(serve::Args),
}

impl Args {
    /// Does what was asked for. The exit status is the process's.
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::main(args),
            Command::Serve(args) => serve::main(args),
        }
    }
}

/// Tells systemd, if it is who has started us.
pub(crate) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("can't tell systemd: {error}");
    }
}

/// Who is waited for and why, so that each reason is logged once.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<String>);

impl Waiting {
    /// `whom` isn't there yet.
    pub(crate) fn log(&mut self, whom: &str, error: &dyn Display) {
        let reason = format!("waiting for {whom}: {error}");
        if self.0.as_ref() != Some(&reason) {
            tracing::info!("{reason}");
            tell_systemd(&[NotifyState::Status(&reason)]);
            self.0 = Some(reason);
        }
    }
}

/// Which way out of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChannelSpec {
    /// The device that this VM has.
    Auto,
    /// The VM has a virtio-gpu with the cross-domain capset, at this render node, or at the one that is found.
    Virtgpu(Option<PathBuf>),
    /// The VM's kernel has a virtio_wl driver, which has made this device node.
    VirtioWl(PathBuf),
    /// This process is the VM: its device listens at the path.
    Process(PathBuf),
}

impl FromStr for ChannelSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "virtgpu" => Ok(Self::Virtgpu(None)),
            Some(("virtgpu", path)) if !path.is_empty() => Ok(Self::Virtgpu(Some(path.into()))),
            None if text == "virtio_wl" => Ok(Self::VirtioWl(NODE.into())),
            Some(("virtio_wl", path)) if !path.is_empty() => Ok(Self::VirtioWl(path.into())),
            Some(("process", path)) if !path.is_empty() => Ok(Self::Process(path.into())),
            _ => Err(format!(
                "there is no such channel. `auto` takes the device that the VM has. In a VM with a virtio-gpu of wlproxy's \
                 use `virtgpu`, or `virtgpu:NODE` to name its render node. In a VM whose kernel has a virtio_wl driver \
                 use `virtio_wl`, or `virtio_wl:NODE` if the driver's device node isn't {NODE}. Without a VM use \
                 `process:SOCKET`, with the vhost-user socket of a VM's worker"
            )),
        }
    }
}

impl ChannelSpec {
    /// Opens the channel, if the host is there.
    pub(crate) fn open(&self) -> Result<Box<dyn Channel>, Error> {
        match self {
            Self::Auto => open_any(Path::new(NODE), virtgpu::find),
            Self::Virtgpu(None) => open_virtgpu(&virtgpu::find()?),
            Self::Virtgpu(Some(path)) => open_virtgpu(path),
            Self::VirtioWl(path) => Ok(Box::new(VirtioWlChannel::open(path)?)),
            Self::Process(path) => Ok(Box::new(ProcessChannel::connect(path, Options::default())?)),
        }
    }
}

fn open_virtgpu(path: &Path) -> Result<Box<dyn Channel>, Error> {
    Ok(Box::new(VirtgpuChannel::open(path)?))
}

/// Opens what this VM has: the node of a virtio_wl driver, which nothing else makes, or else a virtio-gpu.
fn open_any(
    wl0: &Path,
    virtgpu: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<Box<dyn Channel>, Error> {
    if wl0.exists() {
        let channel = VirtioWlChannel::open(wl0)?;
        tracing::info!(
            "this VM has a virtio_wl device: the channel is virtio_wl:{}",
            wl0.display()
        );
        return Ok(Box::new(channel));
    }
    let node = virtgpu().map_err(|error| match error {
        Error::Lost(why) => Error::Lost(format!(
            "this VM has no virtio_wl device ({} isn't there), and {why}",
            wl0.display()
        )),
        error => error,
    })?;
    let channel = open_virtgpu(&node)?;
    tracing::info!("this VM has a virtio-gpu: the channel is virtgpu:{}", node.display());
    Ok(channel)
}

#[cfg(test)]
mod tests;
