//! `guest-agent`: the part of wlproxy that runs in the VMs.

#![deny(unsafe_code)]

use clap::Parser as _;
use guest_agent::cli::Args;
use std::io::IsTerminal as _;
use std::process::ExitCode;

/// calloop warns when one source is removed by another that was ready at the same time, which is no fault.
const QUIET: &str = "calloop=error";

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(format!("{QUIET},{}", args.log)))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would say so on stderr, where a line that finds no room ends the thread.
        .log_internal_errors(false)
        .init();
    args.run().unwrap_or_else(|error| {
        eprintln!("guest-agent: {error:#}");
        ExitCode::FAILURE
    })
}
