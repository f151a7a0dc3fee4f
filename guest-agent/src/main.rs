//! `guest-agent`: the part of wlproxy that runs in the VMs.

#![deny(unsafe_code)]

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&args.log))
        .with_writer(std::io::stderr)
        .init();
    let result = match args.command {
        cli::Command::Run(run) => cli::run::main(run),
        cli::Command::Serve(serve) => cli::serve::main(serve),
    };
    result.unwrap_or_else(|error| {
        eprintln!("guest-agent: {error:#}");
        ExitCode::FAILURE
    })
}
