//! `cargo xtask chaos`: the test in which processes die, stand still and run out of things, for as long as one likes.

use crate::build;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Options of `cargo xtask chaos`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Where the dice begin; from the clock, if it isn't given
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
}

/// Runs the command. The exit status is that of `cargo test`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(options.minutes > 0.0, "--minutes must be more than 0");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(now.subsec_nanos());
    println!("... {} minutes of seed {seed}", options.minutes);
    // The test runs the programs.
    build::build(&["--workspace", "--bins"])?;
    let mut command = build::cargo();
    command.args(["test", "--package", "wlproxy-tests", "--test", "chaos", "--", "--nocapture"]);
    command.env("WLPROXY_CHAOS_MINUTES", options.minutes.to_string());
    command.env("WLPROXY_CHAOS_SEED", seed.to_string());
    let status = command.status().context("can't run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
