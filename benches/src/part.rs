//! The helper program: each of the processes that the harness starts beside those that it measures.

use crate::{client, relay, sink};
use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the helper program.
const PROGRAM: &str = "wlproxy-bench-part";

/// What it can be.
const CLIENT: &str = "client";
const SINK: &str = "sink";
const RELAY: &str = "relay";
/// Another program, which ends with the harness.
const LEASH: &str = "leash";

/// Does what the command line says.
pub fn main() -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let args: Vec<&OsStr> = args.iter().map(|arg| arg.as_os_str()).collect();
    // Whoever starts us is a process of the benchmark: without it there is nothing to do.
    set_pdeathsig(Signal::SIGKILL)?;
    match args[..] {
        [part] if part == CLIENT => client::main(),
        [part, socket] if part == SINK => sink::main(Path::new(socket)),
        [part, socket, compositor] if part == RELAY => {
            relay::main(Path::new(socket), Path::new(compositor))
        }
        [part, program, ref args @ ..] if part == LEASH => {
            // It is inherited by what we become.
            Err(Command::new(program).args(args).exec()).with_context(|| format!("{program:?}"))
        }
        _ => bail!("{PROGRAM} is started by the benchmarks, not by people"),
    }
}

/// The folder that cargo has built this benchmark in: it is TARGET/PROFILE/deps/BENCH.
fn profile() -> PathBuf {
    let bench = std::env::current_exe().expect("a program knows its own path");
    bench.ancestors().nth(2).expect("a benchmark lies in TARGET/PROFILE/deps").to_owned()
}

/// Cargo's folder of targets.
pub(crate) fn target() -> PathBuf {
    profile().parent().expect("TARGET/PROFILE has a parent").to_owned()
}

/// Where the helper program is: beside what cargo builds for the benchmarks.
fn program() -> PathBuf {
    profile().join(PROGRAM)
}

fn part(name: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(name);
    command
}

pub(crate) fn client() -> Command {
    part(CLIENT)
}

pub(crate) fn sink(socket: &Path) -> Command {
    let mut command = part(SINK);
    command.arg(socket);
    command
}

pub(crate) fn relay(socket: &Path, compositor: &Path) -> Command {
    let mut command = part(RELAY);
    command.arg(socket).arg(compositor);
    command
}

/// `program`, which is killed when the harness ends, however that ends.
pub(crate) fn leash(program: impl AsRef<OsStr>) -> Command {
    let mut command = part(LEASH);
    command.arg(program);
    command
}
