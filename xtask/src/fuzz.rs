//! `cargo xtask fuzz`: libFuzzer over the targets of `fuzz/`, or inputs from a seed at full speed.

mod cargo_fuzz;
mod libfuzzer;
mod seeded;

use crate::progress::Progress;
use crate::{absolute, build, root};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which targets; all, if none is named
    targets: Vec<String>,
    /// How long each is run
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Keep what was found in fuzz/corpus, as few inputs as reach the same code
    #[arg(long)]
    keep: bool,
    /// Run the target over this file alone, which takes no libFuzzer
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    replay: Option<PathBuf>,
    /// Say inputs from a seed instead, without libFuzzer: many more, and nobody looks which code they reach
    #[arg(long, conflicts_with_all = ["keep", "replay"])]
    seeded: bool,
    /// Which seed; from the clock, if it isn't given
    #[arg(long, value_name = "N", requires = "seeded")]
    seed: Option<u64>,
    /// Begin with the input of this number
    #[arg(long, value_name = "N", default_value_t = 0, requires = "seeded")]
    first: u64,
}

/// Runs the command. It fails if something is broken.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let targets = chosen(options, &known()?)?;
    if let Some(file) = &options.replay {
        let [target] = &targets[..] else { bail!("which target is to be run over that file?") };
        let mut command = build::cargo();
        command.args([
            "run",
            "--quiet",
            "--package",
            "wlproxy-fuzz",
            "--bin",
            "wlproxy-fuzz",
            "--",
            target,
        ]);
        let status = command.arg(absolute(file)).status().context("can't run cargo")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let time = Duration::try_from_secs_f64(60.0 * options.minutes)
        .ok()
        .filter(|time| time.as_secs() > 0)
        .context("--minutes must be more than a second")?;
    if options.seeded {
        return seeded::run(&targets, options.seed, options.first, time);
    }
    let mut progress = Progress::new();
    let programs = cargo_fuzz::build(&targets, &mut progress)?;
    let mut broken = 0;
    for (target, program) in targets.iter().zip(&programs) {
        let fuzzer = libfuzzer::Fuzzer::new(target, program)?;
        progress.stage(format!("{target}, for {} s", time.as_secs()));
        progress.leave_line();
        match fuzzer.run(time, &mut progress)? {
            libfuzzer::Found::Nothing => progress.done(),
            libfuzzer::Found::Broken(input) => {
                progress.failed();
                broken += 1;
                let shown = input.display();
                progress.say(&format!(
                    "{shown} breaks {target}; again: cargo xtask fuzz {target} --replay {shown}"
                ));
            }
        }
        if options.keep {
            progress.say(&format!("{target}: {} are kept", fuzzer.keep()?));
        }
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All targets there are.
fn known() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|name| Some(name.to_str()?.to_owned())));
    }
    names.sort();
    Ok(names)
}

fn chosen(options: &Options, known: &[String]) -> Result<Vec<String>> {
    if let Some(other) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target {other:?}; there are {}", known.join(", "));
    }
    let all = options.targets.is_empty();
    Ok(if all { known.to_vec() } else { options.targets.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn targets_are_those_that_are_named() {
        let known = known().unwrap();
        assert!(known.contains(&"relay".to_owned()), "{known:?}");
        let chosen = |line: &str| chosen(&Line::parse_from(line.split(' ')).options, &known);
        assert_eq!(chosen("fuzz").unwrap(), known);
        assert_eq!(chosen("fuzz wire relay --minutes 0.5").unwrap(), ["wire", "relay"]);
        let error = chosen("fuzz tyre").unwrap_err().to_string();
        assert!(error.contains("\"tyre\"") && error.contains("wire"), "{error}");
    }
}
