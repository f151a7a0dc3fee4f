//! The command line.

mod alarm;
mod export;
mod preload;
mod run;
mod serve;
mod stats;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sd_notify::NotifyState;
use std::fmt::Display;
use std::process::ExitCode;
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

#[cfg(test)]
mod tests;
