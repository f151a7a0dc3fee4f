//! A program with libFuzzer in it: runs it, tells how far it is, and keeps what it found.

use crate::part::end_with_caller;
use crate::progress::Progress;
use crate::root;
use anyhow::{Context, Result, bail};
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest input, in bytes: some hundred actions. What kept inputs may add up to stands in `fuzz/tests/replay.rs`.
const MAX_LENGTH: u32 = 1024;

/// Longest that one input may take, in seconds. Most take less than a millisecond.
const TIMEOUT: u32 = 10;

/// How often it is told how far it is.
const INTERVAL: Duration = Duration::from_secs(10);

/// Last lines that are shown where something is broken: a panic stands some 75 above the end, before the stack.
const SHOWN: usize = 100;

/// Most inputs that are kept of a target, as `fuzz/tests/replay.rs` wants it.
const MOST_KEPT: usize = 200;

/// How the names of kept inputs begin that once broke something: they stay, whatever else is kept.
const BROKE: &str = "broke-";

/// What became of a run.
pub(super) enum Found {
    /// All inputs kept to the rules.
    Nothing,
    /// This one didn't.
    Broken(PathBuf),
}

/// A target's program, and its folders.
pub(super) struct Fuzzer {
    program: PathBuf,
    /// Everything that was ever found interesting here.
    found: PathBuf,
    /// What is kept in the tree.
    kept: PathBuf,
    /// What broke something.
    broken: PathBuf,
}

impl Fuzzer {
    /// That of a target.
    pub(super) fn new(target: &str, program: &Path) -> Result<Self> {
        let work = root().join("target/fuzz");
        let fuzzer = Self {
            program: program.to_owned(),
            found: work.join("corpus").join(target),
            kept: root().join("fuzz/corpus").join(target),
            broken: broken(target),
        };
        for folder in [&fuzzer.found, &fuzzer.kept, &fuzzer.broken] {
            fs::create_dir_all(folder)
                .with_context(|| format!("can't make {}", folder.display()))?;
        }
        Ok(fuzzer)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::null());
        command.arg(format!("-max_len={MAX_LENGTH}"));
        end_with_caller(&mut command);
        command
    }

    /// Looks for what breaks it.
    pub(super) fn run(&self, time: Duration, progress: &mut Progress) -> Result<Found> {
        let before = files(&self.broken)?;
        let mut command = self.command();
        command
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-timeout={TIMEOUT}"));
        command.arg(format!("-artifact_prefix={}/", self.broken.display()));
        command.args([&self.found, &self.kept]).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't run the target")?;
        let (mut last, mut told) = (VecDeque::new(), Instant::now());
        for line in BufReader::new(child.stderr.take().expect("it is piped")).lines() {
            let line = line.unwrap_or_else(|error| format!("({error})"));
            if let Some(state) = state(&line)
                && (told.elapsed() >= INTERVAL || line.contains("DONE"))
            {
                progress.say(&format!("    {state}"));
                told = Instant::now();
            }
            last.push_back(line);
            if last.len() > SHOWN {
                last.pop_front();
            }
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(Found::Nothing);
        }
        last.iter().for_each(|line| progress.say(line));
        match files(&self.broken)?.difference(&before).next() {
            Some(input) => Ok(Found::Broken(input.clone())),
            None => bail!("{} failed ({status}), and left no input", self.program.display()),
        }
    }

    /// Keeps a few inputs that reach all the code that any of them reaches. Returns how many, and how large.
    pub(super) fn keep(&self) -> Result<String> {
        let fresh = self.kept.with_extension("new");
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        let mut command = self.command();
        // How often a line is reached doesn't count: that would keep some thousands.
        command.args(["-set_cover_merge=1", "-use_counters=0"]);
        let output = command.args([&fresh, &self.found, &self.kept]).output();
        let output = output.context("can't run the target")?;
        if !output.status.success() {
            bail!("merging failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        for path in files(&self.kept)? {
            let name = path.file_name().context("a file has a name")?;
            if name.to_string_lossy().starts_with(BROKE) {
                fs::copy(&path, fresh.join(name))?;
            }
        }
        fs::remove_dir_all(&self.kept)?;
        fs::rename(&fresh, &self.kept)?;
        let mut kept = Vec::new();
        for path in files(&self.kept)? {
            kept.push((fs::metadata(&path)?.len(), path));
        }
        // A long one reaches more than a short one.
        kept.sort_by_key(|(bytes, _)| Reverse(*bytes));
        for (_, path) in kept.drain(kept.len().min(MOST_KEPT)..) {
            fs::remove_file(path)?;
        }
        let bytes: u64 = kept.iter().map(|(bytes, _)| bytes).sum();
        Ok(format!("{} inputs of {bytes} bytes", kept.len()))
    }
}

/// Where inputs are left that break a target.
pub(super) fn broken(target: &str) -> PathBuf {
    root().join("target/fuzz/broken").join(target)
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// What a line of libFuzzer's tells of how far it is: `#8192 pulse cov: 512 ft: 900 corp: 40/3Kb exec/s: 4096 rss: 60Mb`.
fn state(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let inputs = words.first()?.strip_prefix('#')?;
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let (coverage, corpus) = (after("cov:")?, after("corp:")?);
    let rate = after("exec/s:")?;
    Some(format!("{inputs} inputs, {rate} a second; {coverage} edges, by {corpus}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_tells_is_told() {
        let line = "#8192\tpulse  cov: 512 ft: 900 corp: 40/3072b lim: 80 exec/s: 4096 rss: 60Mb";
        let expected = "8192 inputs, 4096 a second; 512 edges, by 40/3072b";
        assert_eq!(state(line).as_deref(), Some(expected));
        for other in ["INFO: Seed: 1", "#2", "", "==7== ERROR: libFuzzer: deadly signal"] {
            assert_eq!(state(other), None, "{other}");
        }
    }
}
