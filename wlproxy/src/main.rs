//! The `wlproxy` command.

#![deny(unsafe_code)]

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal as _;
use std::os::fd::RawFd;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;
use wlproxy::config::{Compositor, Config};
use wlproxy::device::Side;
use wlproxy::worker::Settings;
use wlproxy::{launch, status, supervisor};

/// Joins virtual machines on one screen: applications run in client VMs, the Wayland compositor in a VM of its own.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// What to log, to stderr: a level, or a filter as `tracing` has it, like `info,wlproxy::links=debug`.
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the VMs' vhost-user sockets and serve them, until SIGTERM or Ctrl-C. VMs may come before or after.
    Run(ConfigFile),
    /// Show who is connected to the running wlproxy, and what they hold.
    Status {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the JSON document that tools read instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file without starting anything.
    Check(ConfigFile),
    /// One VM's worker: started by `wlproxy run` alone.
    #[command(hide = true)]
    Worker(Worker),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration: a TOML file.
    #[arg(long = "config", value_name = "FILE")]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct Worker {
    #[arg(long)]
    vm: String,
    #[arg(long)]
    compositor: bool,
    #[arg(long)]
    window: u64,
    #[arg(long)]
    listener_fd: RawFd,
    #[arg(long)]
    control_fd: RawFd,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    start_log(&cli.log)?;
    match cli.command {
        Command::Run(config) => supervisor::run(Config::load(&config.path)?, &cli.log),
        Command::Status { config, json } => {
            let document = status::fetch(&Config::load(&config.path)?.control_socket())?;
            print!("{}", if json { document } else { status::table(&document)? });
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
        Command::Worker(Worker { vm, compositor, window, listener_fd, control_fd }) => {
            let side = if compositor { Side::Compositor } else { Side::Client };
            launch::worker_process(Settings { vm, side, window }, listener_fd, control_fd)
        }
    }
}

fn start_log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log: {filter:?} is no filter; use a level like debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
