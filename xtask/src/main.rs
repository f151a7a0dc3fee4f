//! The project's own commands: `cargo xtask demo`, `test`, `bench`, `fuzz`, `chaos`, `dist`, `suite`, `header`,
//! `shim` and `vm`.

#![deny(unsafe_code)]

mod apt;
mod bench;
mod build;
mod chaos;
mod demo;
mod dist;
mod failure;
mod family;
mod fuzz;
mod header;
mod part;
mod progress;
mod shim;
mod suite;
mod supervisor;
mod table;
mod test;
mod vm;
mod watch;

use clap::{Parser, Subcommand};
use failure::Interrupted;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows real applications of two client VMs on one sway in a compositor VM, and takes a picture of it
    Demo(demo::Options),
    /// Builds everything and runs every test, the whole-path ones with real clients and compositors included
    Test(test::Options),
    /// Gets what is compared with, and runs every benchmark
    Bench(bench::Options),
    /// Looks for inputs that break something, with libFuzzer
    Fuzz(fuzz::Options),
    /// Kills and stops processes, fills sockets, uses up fds and the disk, and looks whether survivors go on
    Chaos(chaos::Options),
    /// Makes the Debian packages, with manual pages, completions and systemd's units
    Dist(dist::Options),
    /// Gets programs of newer Debians, for tests and benchmarks, and tells in which folders they are
    Suite(suite::Options),
    /// Writes the header of the C interface of compositor-shim
    Header,
    /// Builds the C library of compositor-shim and installs it, with its header and what pkg-config needs
    Shim(shim::Options),
    /// Boots virtual machines with Debian in them, each with the current build inside
    Vm(vm::Options),
}

/// The directory of the workspace: where it is now, if cargo tells, not where it was when this was built.
fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("xtask lies in the workspace").to_owned()
}

/// `path` as seen from the workspace: `cargo xtask` may be called in any of its folders.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Demo(options) => demo::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Dist(options) => dist::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Shim(options) => shim::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Suite(options) => suite::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Header => header::run().map(|()| ExitCode::SUCCESS),
        Command::Vm(options) => vm::run(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        match error.downcast_ref::<Interrupted>() {
            Some(interrupted) => ExitCode::from(interrupted.exit_code()),
            None => ExitCode::FAILURE,
        }
    })
}
