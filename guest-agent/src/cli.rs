//! The command line.

pub(crate) mod run;
pub(crate) mod serve;
mod stats;

use clap::{Parser, Subcommand};
use guest_agent::channel::process::{Options, ProcessChannel};
use guest_agent::channel::virtio_wl::{NODE, VirtioWlChannel};
use guest_agent::channel::{Channel, Error};
use std::path::PathBuf;
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

/// The part of wlproxy that runs in the VMs.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Args {
    /// What to log: a level (error, warn, info, debug, trace), or a filter such as `guest_agent=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    pub(crate) log: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// In a client VM: run an application whose windows appear in the compositor VM.
    Run(run::Args),
    /// In the compositor VM: bring the clients of other VMs to the compositor of this one.
    Serve(serve::Args),
}

/// Why the channel can't be opened yet, so that each reason is logged once.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<String>);

impl Waiting {
    pub(crate) fn log(&mut self, error: &Error) {
        let reason = error.to_string();
        if self.0.as_ref() != Some(&reason) {
            tracing::info!("waiting for the host: {reason}");
            self.0 = Some(reason);
        }
    }
}

/// Which way out of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChannelSpec {
    /// The VM's kernel has a virtio_wl driver, which has made this device node.
    VirtioWl(PathBuf),
    /// This process is the VM: its device listens at the path.
    Process(PathBuf),
}

impl FromStr for ChannelSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "virtio_wl" => Ok(Self::VirtioWl(NODE.into())),
            Some(("virtio_wl", path)) if !path.is_empty() => Ok(Self::VirtioWl(path.into())),
            Some(("process", path)) if !path.is_empty() => Ok(Self::Process(path.into())),
            _ => Err(format!(
                "there is no such channel. In a VM whose kernel has a virtio_wl driver use `virtio_wl`, or \
                 `virtio_wl:NODE` if the driver's device node isn't {NODE}. Without a VM use `process:SOCKET`, with the \
                 vhost-user socket of a VM's worker"
            )),
        }
    }
}

impl ChannelSpec {
    /// Opens the channel, if the host is there.
    pub(crate) fn open(&self) -> Result<Box<dyn Channel>, Error> {
        match self {
            Self::VirtioWl(path) => Ok(Box::new(VirtioWlChannel::open(path)?)),
            Self::Process(path) => Ok(Box::new(ProcessChannel::connect(path, Options::default())?)),
        }
    }
}

#[cfg(test)]
mod tests;
