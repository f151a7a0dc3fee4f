//! `cargo xtask bench`: what is to be compared with, then every benchmark.

mod record;

use crate::progress::Progress;
use crate::{apt, build, suite};
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::process::ExitCode;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep the summary and its plots in benches/record, by the day. All benchmarks have to have run that day
    #[arg(long)]
    record: bool,
    /// Passed on to the benchmarks: a filter, or options of criterion's such as `--save-baseline NAME`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the command. The exit status is that of `cargo bench`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut progress = Progress::new();
    let dir = crate::root().join("target/xtask");
    fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    apt::ensure(apt::BENCH, &dir.join("apt.log"), &mut progress)?;
    if let Err(error) = suite::ensure(&suite::folder(), &suite::of_benchmarks(), &mut progress) {
        progress.say(&format!("{error:#}\nso waypipe is to be the machine's own, an older one"));
        if let Err(error) = apt::ensure(apt::WAYPIPE, &dir.join("apt.log"), &mut progress) {
            progress.say(&format!("{error:#}\nso nothing is compared with waypipe"));
        }
    }
    let examples = [apt::SHIM, apt::EXAMPLES].concat();
    if let Err(error) = apt::ensure(&examples, &dir.join("apt.log"), &mut progress) {
        progress.say(&format!("{error:#}\nso not all example compositors are measured"));
    }
    let mut command = build::cargo();
    command.args(arguments(options));
    progress.say(&format!("... cargo {}", arguments(options).join(" ")));
    let status = command.status().context("can't run cargo")?;
    if status.success() && options.record {
        let root = crate::root();
        let kept = record::keep(&root.join("target/bench"), &root.join("benches/record"))?;
        progress.say(&format!("kept as {}", kept.display()));
    }
    // A benchmark that a signal ended has no status of its own.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, Into::into))
}

/// What `cargo` is given.
fn arguments(options: &Options) -> Vec<String> {
    let bench = ["bench", "--package", "wlproxy-benches"].map(str::to_owned);
    let separator = (!options.args.is_empty()).then(|| "--".to_owned());
    bench.into_iter().chain(separator).chain(options.args.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: super::Options,
    }

    #[test]
    fn arguments_reach_the_benchmarks() {
        for (line, expected) in [
            ("bench", "bench --package wlproxy-benches"),
            ("bench frame", "bench --package wlproxy-benches -- frame"),
            ("bench --record", "bench --package wlproxy-benches"),
            ("bench frame --test", "bench --package wlproxy-benches -- frame --test"),
            ("bench --test", "bench --package wlproxy-benches -- --test"),
        ] {
            let line = Line::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(super::arguments(&line.options).join(" "), expected);
        }
    }
}
