//! `wlproxy-fuzz seeded`: inputs from a seed, optimised as for a release, with the checks of a debug build.

use super::libfuzzer;
use crate::{build, root};
use anyhow::{Context, Result};
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The profile of the workspace that it is built with.
const PROFILE: &str = "seeded";

/// Runs each target for so long, from the input with number `first`. It fails if something is broken.
pub(super) fn run(
    targets: &[String],
    seed: Option<u64>,
    first: u64,
    time: Duration,
) -> Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = seed.unwrap_or(now.as_secs());
    let args = ["--profile", PROFILE, "--package", "wlproxy-fuzz", "--bin", "wlproxy-fuzz"];
    let program = build::program(&build::build(&args)?, "wlproxy-fuzz")?;
    let mut broken = 0;
    for target in targets {
        let folder = libfuzzer::broken(target);
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        println!("... {target}, seed {seed}, for {} s", time.as_secs());
        let mut command = Command::new(&program);
        command.current_dir(root()).stdin(Stdio::null());
        command.args(["seeded", target, &seed.to_string(), &first.to_string()]);
        command.arg(time.as_secs().to_string()).arg(&folder);
        crate::part::end_with_caller(&mut command);
        // What libFuzzer found here isn't kept everywhere, and a seed is to mean the same in each checkout.
        let status = command.arg(root().join("fuzz/corpus").join(target)).status();
        let status = status.context("can't run wlproxy-fuzz")?;
        if !status.success() {
            broken += 1;
            println!(
                "{target} is broken ({status}); an input in {} is replayed by",
                folder.display()
            );
            println!("    cargo xtask fuzz {target} --replay FILE");
            if status.code().is_none() {
                println!(
                    "it left none: the last count that it told, as --first, leads there again"
                );
            }
        }
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
