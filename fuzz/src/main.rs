//! Runs a target without libFuzzer: over files, as `cargo xtask fuzz TARGET --replay FILE` does, or over inputs from a
//! seed, as `cargo xtask fuzz TARGET --seeded` does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wlproxy_fuzz::seeded::{self, End, Maker};
use wlproxy_fuzz::{SHOWN, TARGETS, Target};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let find = |name: &str| TARGETS.into_iter().find(|(target, _)| *target == name);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["seeded", name, seed, first, seconds, broken, ref kept @ ..] => find(name)
            .zip(seed.parse().ok())
            .zip(first.parse().ok())
            .zip(seconds.parse().ok().map(Duration::from_secs))
            .map(|(((target, seed), first), time)| {
                seeded_run(target, seed, first, time, Path::new(broken), kept)
            }),
        [name, ref files @ ..] => find(name).map(|target| replay(target, files)),
        [] => None,
    };
    match done {
        Some(Ok(code)) => code,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!(
                "usage: wlproxy-fuzz TARGET FILE..., or\n       \
                 wlproxy-fuzz seeded TARGET SEED FIRST SECONDS BROKEN KEPT...; targets: {}",
                TARGETS.map(|(name, _)| name).join(", ")
            );
            ExitCode::FAILURE
        }
    }
}

fn replay((_, run): Target, files: &[&str]) -> Result<ExitCode, String> {
    SHOWN.store(true, Ordering::Relaxed);
    for file in files {
        let data = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        println!("{file}: {} bytes", data.len());
        run(&data);
    }
    println!("nothing is broken");
    Ok(ExitCode::SUCCESS)
}

/// Inputs of a seed, from the one with number `first`.
fn seeded_run(
    (name, run): Target,
    seed: u64,
    first: u64,
    time: Duration,
    broken: &Path,
    kept: &[&str],
) -> Result<ExitCode, String> {
    let folders: Vec<PathBuf> = kept.iter().map(PathBuf::from).collect();
    let maker = Maker::new(seed, &folders).map_err(|error| format!("{kept:?}: {error}"))?;
    Ok(match seeded::run(run, &maker, first, time, broken) {
        End::Time(count) => {
            let rate = seeded::per_second(count, time);
            println!("{name}, seed {seed}: {count} inputs, {rate:.0} a second");
            ExitCode::SUCCESS
        }
        End::Broken(number) => {
            println!("{name}, seed {seed}: broken by input {number}, after {}", number - first);
            ExitCode::FAILURE
        }
    })
}
