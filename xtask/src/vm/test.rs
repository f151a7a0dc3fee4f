//! `cargo xtask vm test`: what wlproxy does with real VMs.

use super::lab::{How, Lab};
use super::scenarios::{self, Scenario};
use crate::failure::Interrupted;
use crate::progress::Progress;
use anyhow::{Result, bail};
use clap::Args;
use std::time::Instant;

/// Options of `cargo xtask vm test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only those with one of these words in their names
    names: Vec<String>,
    /// Tell the names, and run nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    how: How,
}

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<&'static str>,
    left_out: usize,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = scenarios::chosen(&options.names)?;
    if options.list {
        scenarios.iter().for_each(|scenario| println!("{}", scenario.name));
        return Ok(());
    }
    let making = Instant::now();
    let make = if scenarios::have_examples(&scenarios) { Lab::with_examples } else { Lab::new };
    let mut lab = make(&options.how, Progress::new())?;
    lab.note(&format!("programs and images: {:.0} s", making.elapsed().as_secs_f32()));
    let begin = Instant::now();
    let mut tally = Tally::default();
    let tested = test(&mut lab, &scenarios, &mut tally);
    if tested.is_err() {
        lab.progress().failed();
    }
    let stopped = lab.stop().map_err(|error| lab.explain(error));
    let logs = lab.logs().display().to_string();
    lab.progress().say(&format!("consoles: {logs}"));
    tested.and(stopped)?;
    println!("{}", tally.line(begin.elapsed().as_secs()));
    if !tally.failed.is_empty() {
        bail!("failed: {}", tally.failed.join(", "));
    }
    Ok(())
}

/// Runs all scenarios. An error is one after which none can be run.
fn test(lab: &mut Lab, scenarios: &[Scenario], tally: &mut Tally) -> Result<()> {
    lab.up().map_err(|error| lab.explain(error))?;
    for (i, scenario) in scenarios.iter().enumerate() {
        lab.stage(scenario.name);
        let Err(error) = (scenario.run)(lab).and_then(|()| lab.tidy()) else {
            lab.progress().done();
            tally.passed += 1;
            continue;
        };
        lab.progress().failed();
        let error = lab.explain(error);
        if error.is::<Interrupted>() {
            return Err(error);
        }
        eprintln!("{}: {error:#}", scenario.name);
        tally.failed.push(scenario.name);
        tally.left_out = scenarios.len() - i - 1;
        if tally.left_out > 0 {
            if let Err(error) = lab.again() {
                let error = lab.explain(error);
                if error.is::<Interrupted>() {
                    return Err(error);
                }
                lab.progress().failed();
                eprintln!("the VMs can't be started again: {error:#}");
                return Ok(());
            }
            tally.left_out = 0;
        }
    }
    Ok(())
}

impl Tally {
    /// The last line.
    fn line(&self, seconds: u64) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            left_out => format!(", {left_out} not run"),
        };
        let (passed, failed) = (self.passed, self.failed.len());
        format!("vm test: {passed} passed, {failed} failed{left_out} in {seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_is_told() {
        let mut tally = Tally { passed: 3, ..Tally::default() };
        assert_eq!(tally.line(312), "vm test: 3 passed, 0 failed in 312 s");
        tally.failed.push("names");
        tally.left_out = 2;
        assert_eq!(tally.line(4), "vm test: 3 passed, 1 failed, 2 not run in 4 s");
    }
}
