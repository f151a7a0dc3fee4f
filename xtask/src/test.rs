//! `cargo xtask test`: everything that must be there, then every test.

mod asan;

use crate::progress::Progress;
use crate::{apt, build, suite};
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::process::{ExitCode, ExitStatus};

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Some of them with AddressSanitizer, which finds leaks as well: the crates' own, and a few of the whole-path ones
    #[arg(long)]
    asan: bool,
    /// With --asan: all whole-path tests that can have it
    #[arg(long, requires = "asan")]
    all: bool,
    /// Passed on to `cargo test`: a filter, or options such as `-p wlproxy-protocol`
    #[arg(allow_hyphen_values = true)]
    args: Vec<String>,
    /// Passed on to the test programs, after `--`
    #[arg(last = true)]
    harness: Vec<String>,
}

/// What isn't built otherwise, as it needs more than Rust.
const FEATURES: [&str; 2] = ["--features", "compositor-shim/capi"];

/// Runs the command. The exit status is that of `cargo test`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.asan {
        return asan::run(&options.args, &options.harness, options.all);
    }
    let mut progress = Progress::new();
    ensure(&mut progress)?;

    // The whole-path tests run the programs, so these are built first, of every crate.
    let everything = [&["--workspace", "--all-targets"], FEATURES.as_slice()].concat();
    progress.stage(format!("cargo build {}", everything.join(" ")));
    progress.leave_line();
    build::build(&everything)?;
    progress.done();

    let mut command = build::cargo();
    command.args(arguments(options));
    progress.say(&format!("... cargo {}", arguments(options).join(" ")));
    let status = command.status().context("can't run cargo")?;
    Ok(code(status))
}

/// Has everything that whole-path tests need, but what is built from this tree.
fn ensure(progress: &mut Progress) -> Result<()> {
    let dir = crate::root().join("target/xtask");
    fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    let packages = [apt::DEMO, apt::TESTS, apt::SHIM, apt::EXAMPLES].concat();
    apt::ensure(&packages, &dir.join("apt.log"), progress)?;
    suite::ensure(&suite::folder(), suite::SUITES, progress)
}

/// A test program that a signal ended has no status of its own.
fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, Into::into)
}

fn names_package(arg: &String) -> bool {
    arg.starts_with("-p") || arg == "--package" || arg.starts_with("--package=")
}

/// What `cargo` is given.
fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec!["test".to_owned()];
    if !options.args.iter().any(names_package) {
        arguments.push("--workspace".to_owned());
        arguments.extend(FEATURES.map(str::to_owned));
    }
    arguments.extend(options.args.iter().cloned());
    if !options.harness.is_empty() {
        arguments.push("--".to_owned());
    }
    arguments.extend(options.harness.iter().cloned());
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: super::Options,
    }

    fn arguments(line: &str) -> String {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        super::arguments(&line.options).join(" ")
    }

    #[test]
    fn arguments_reach_cargo_and_the_test_programs() {
        for (line, expected) in [
            ("test", "test --workspace --features compositor-shim/capi"),
            ("test shadow", "test --workspace --features compositor-shim/capi shadow"),
            ("test -p wlproxy --lib", "test -p wlproxy --lib"),
            ("test --package=wlproxy", "test --package=wlproxy"),
            (
                "test -- --nocapture",
                "test --workspace --features compositor-shim/capi -- --nocapture",
            ),
            (
                "test --no-fail-fast x -- -q",
                "test --workspace --features compositor-shim/capi --no-fail-fast x -- -q",
            ),
        ] {
            assert_eq!(arguments(line), expected, "{line}");
        }
    }
}
