//! Runs a target over files: what `cargo xtask fuzz TARGET --replay FILE` does, without libFuzzer.

use std::path::PathBuf;
use std::process::ExitCode;
use wlproxy_fuzz::TARGETS;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let name = args.next().unwrap_or_default();
    let files: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let Some((_, run)) = TARGETS.into_iter().find(|(target, _)| name == *target) else {
        eprintln!(
            "usage: wlproxy-fuzz TARGET FILE...; targets: {}",
            TARGETS.map(|(name, _)| name).join(", ")
        );
        return ExitCode::FAILURE;
    };
    for file in files {
        match std::fs::read(&file) {
            Ok(data) => {
                println!("{}: {} bytes", file.display(), data.len());
                run(&data);
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("nothing is broken");
    ExitCode::SUCCESS
}
