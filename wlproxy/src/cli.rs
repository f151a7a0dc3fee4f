//! The command line of `wlproxy`.

use crate::ask::{Ask, Reloaded};
use crate::config::{Compositor, Config};
use crate::device::{Kind, Side};
use crate::harmless::harmless;
use crate::status::{self, Connections};
use crate::worker::Settings;
use crate::{launch, supervisor, top, trace};
use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// What comes after the options of `wlproxy --help`, and in its manual page.
const MORE: &str = "\
Each VM's socket, NAME.sock in runtime_dir, is a vhost-user device of the virtio_wl kind, for the VM's monitor. In the \
VMs, guest-agent(1) is the other end. The configuration is described in wlproxy.toml(5).";

const RUN: &str = "\
Make the VMs' vhost-user sockets and serve them, until SIGTERM or SIGINT. SIGHUP does what `wlproxy reload` does; what comes \
of it is in the log.

The order doesn't matter: VMs may come before or after wlproxy, and come again. A worker that dies is started again; \
the others don't notice. If systemd has started wlproxy, it is told when all sockets are there.";

const STATUS: &str = "\
Show who is connected to the running wlproxy, and what they hold.

One row per VM: its side, whether its monitor is connected, its contexts and objects, the messages and commits that went \
through, and the memory that was allocated for it. Then how long commits took from the client VMs to the host and from \
there to the compositor VM; what client VMs tell of themselves: frames, and bytes damaged and copied, which nobody can \
check; a row per connection, unless there are many; violations of the protocol, and workers that died. The JSON document \
has more.";

const TOP: &str = "\
Show live who is connected to the running wlproxy, and what they do.

Once a second, requests, events and commits per second of each VM and each connection, the busiest first; and what client \
VMs tell of themselves, which nobody can check. It goes on when wlproxy is gone and comes back. q, Esc or Ctrl-C leave \
it.";

const TRACE: &str = "\
Show what passes over a client's connection, a line for each message, until it ends or Ctrl-C.

The lines are as WAYLAND_DEBUG has them in a compositor, with an arrow before events. They come from the worker of the \
client's VM, which waits for no reader: what is read too slowly is left out, and a line tells how much.";

const RELOAD: &str = "\
Have the running wlproxy read its configuration again.

Clients that connect from now on have the policies in it: prefixes, and tables like [vm.NAME.globals]. Clients that are there keep the policy with \
which they connected, since what they were offered can't be taken back: they have to connect again. If the file has an error, \
or can't be read, nothing changes; the error is shown, and the exit status isn't 0. All other keys hold when wlproxy is \
started again; which of them have changed is told.";

const CHECK: &str = "\
Check a configuration file without starting anything.

An error names file, line, key, and what to write instead. The exit status is 0 if the file is good.";

/// Joins virtual machines on one screen: applications run in client VMs, the Wayland compositor in a VM of its own.
#[derive(Debug, Parser)]
#[command(
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_long_help = MORE
)]
pub struct Cli {
    /// What to log, to standard error: a level (error, warn, info, debug, trace), or a filter such as
    /// `info,wlproxy::links=debug`.
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the VMs' vhost-user sockets and serve them.
    #[command(long_about = RUN)]
    Run {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Leave wlproxy and its workers all that their user may do, to debug them. A VM that takes over its worker can
        /// do as much then.
        #[arg(long)]
        no_sandbox: bool,
    },
    /// Show who is connected to the running wlproxy, and what they hold.
    #[command(long_about = STATUS)]
    Status {
        /// Which wlproxy to ask.
        #[command(flatten)]
        config: ConfigFile,
        /// Print the JSON document that tools read instead of tables.
        #[arg(long)]
        json: bool,
        /// Show a row for each connection, also if there are many.
        #[arg(long, conflicts_with = "json")]
        connections: bool,
    },
    /// Show live who is connected to the running wlproxy, and what they do.
    #[command(long_about = TOP)]
    Top(ConfigFile),
    /// Show what passes over a client's connection.
    #[command(long_about = TRACE)]
    Trace {
        /// Which wlproxy to ask.
        #[command(flatten)]
        config: ConfigFile,
        /// Its number, as `wlproxy status` and the log have it.
        connection: u64,
        /// Its client VM: only needed for a connection that `wlproxy status` doesn't list, or lists twice.
        #[arg(long, value_name = "NAME")]
        vm: Option<String>,
    },
    /// Have the running wlproxy read its configuration again.
    #[command(long_about = RELOAD)]
    Reload(ConfigFile),
    /// Check a configuration file without starting anything.
    #[command(long_about = CHECK)]
    Check(ConfigFile),
    /// One VM's worker: started by `wlproxy run` alone.
    #[command(hide = true)]
    Worker(Worker),
}

impl Command {
    /// Whether this process is a worker.
    pub fn is_worker(&self) -> bool {
        matches!(self, Self::Worker(_))
    }
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration: a TOML file, see wlproxy.toml(5).
    #[arg(long = "config", value_name = "FILE", default_value = "/etc/wlproxy.toml")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub path: PathBuf,
}

/// What a worker is told.
#[derive(Debug, Args)]
pub struct Worker {
    #[arg(long)]
    vm: String,
    #[arg(long)]
    compositor: bool,
    #[arg(long)]
    window: u64,
    #[arg(long, value_parser = device)]
    device: Kind,
    #[arg(long)]
    listener_fd: RawFd,
    #[arg(long)]
    control_fd: RawFd,
    #[arg(long)]
    no_sandbox: bool,
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run { config, no_sandbox } => {
                supervisor::run(&config.path, &self.log, !no_sandbox)
            }
            Command::Status { config, json, connections } => {
                let socket = Config::load(&config.path)?.control_socket();
                let (document, _) = Ask::Status.send(&socket)?;
                let rows = if connections { Connections::All } else { Connections::Few };
                print!("{}", if json { document } else { status::table(&document, rows)? });
                Ok(())
            }
            Command::Top(config) => top::run(&Config::load(&config.path)?.control_socket()),
            Command::Trace { config, connection, vm } => {
                let socket = Config::load(&config.path)?.control_socket();
                trace::run(&socket, vm, connection, &mut std::io::stdout().lock())
            }
            Command::Reload(file) => {
                let unchanged = "nothing was reloaded, and the policies stay as they were";
                let socket = Config::load(&file.path).context(unchanged)?.control_socket();
                let (document, _) = Ask::Reload.send(&socket).context(unchanged)?;
                let reloaded =
                    serde_json::from_str(&document).context("wlproxy speaks another version")?;
                print!("{}", describe(&reloaded));
                Ok(())
            }
            Command::Check(file) => {
                let config = Config::load(&file.path)?;
                let compositor = match &config.compositor {
                    Compositor::Vm(vm) => format!("compositor VM {vm}"),
                    Compositor::Socket(path) => format!("compositor at {}", path.display()),
                };
                println!("{}: good; {} VMs, {compositor}", file.path.display(), config.vms.len());
                Ok(())
            }
            Command::Worker(worker) => {
                let Worker { vm, compositor, window, device, .. } = worker;
                let side = if compositor { Side::Compositor } else { Side::Client };
                let settings = Settings { vm, side, window, device };
                let Worker { listener_fd, control_fd, no_sandbox, .. } = worker;
                launch::worker_process(settings, listener_fd, control_fd, !no_sandbox)
            }
        }
    }
}

/// What `wlproxy reload` says.
fn describe(Reloaded { reloaded, policies, connections, waits }: &Reloaded) -> String {
    let mut text = format!("{}: read again", harmless(&reloaded.display().to_string()));
    if policies.is_empty() {
        text += "; no policy has changed\n";
    } else {
        let vms = policies.join(", ");
        text += &format!("; clients of {vms} that connect from now on have other policies\n");
    }
    if *connections > 0 {
        text += &format!(
            "{connections} connections of these VMs keep the policies that they began with\n"
        );
    }
    if !waits.is_empty() {
        text += &format!("not before wlproxy is started again: {}\n", waits.join(", "));
    }
    text
}

fn device(name: &str) -> Result<Kind> {
    Kind::from_name(name).with_context(|| format!("there is no device {name:?}"))
}
