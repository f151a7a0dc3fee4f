//! The `wlproxy` command.

#![deny(unsafe_code)]

use anyhow::{Context as _, Result};
use clap::Parser as _;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use wlproxy::cli::Cli;
use wlproxy::log::Bounded;

fn main() -> Result<()> {
    let cli = Cli::parse();
    start_log(&cli.log, cli.command.is_worker())?;
    cli.run()
}

/// calloop warns when one source is removed by another that was ready at the same time, which is no fault. And
/// virtio_queue tells of whatever a VM's driver does wrong, each time: a VM could fill the log.
const QUIET: &str = "calloop=error,virtio_queue=off";

/// A worker faces its VM, and has a bound.
fn start_log(filter: &str, is_worker: bool) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .with_context(|| format!("--log: {filter:?} is no filter; use a level like debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(match is_worker {
            true => BoxMakeWriter::new(Bounded::default()),
            false => BoxMakeWriter::new(std::io::stderr),
        })
        .with_ansi(std::io::stderr().is_terminal())
        // It would say so on stderr, where a line that finds no room ends the thread.
        .log_internal_errors(false)
        .init();
    Ok(())
}
