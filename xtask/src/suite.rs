//! Programs of newer Debians than the machine's, for tests and benchmarks.
//!
//! Each suite has a tree, `target/suite/NAME`, of the packages that are needed and all that these depend on. apt gets
//! them from where it gets the machine's own, with lists and a cache that lie beside the tree: of the machine nothing is
//! changed. A program runs where it lies, as `target/suite/NAME/usr/bin/PROGRAM`, with the libraries of its tree.

mod mirror;
mod tree;

use crate::apt::{self, LOCK_DEADLINE};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use mirror::Mirror;
use nix::fcntl::{Flock, FlockArg};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
pub(crate) use tree::CONTENTS;
use tree::Tree;

/// A suite of Debian's, and what is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The name of the tree.
    pub(crate) tree: &'static str,
    /// Its code name, which doesn't change when it becomes stable.
    pub(crate) name: &'static str,
    /// The packages, without what they depend on.
    pub(crate) packages: &'static [&'static str],
    /// The programs of these that are run on this machine. The other files stay as they are packaged.
    pub(crate) programs: &'static [&'static str],
    /// What it is needed for.
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        tree: "trixie",
        name: "trixie",
        packages: &["sway", "foot"],
        programs: &["sway", "foot"],
        reason: "sway 1.10: fractional scales, popups that move, cursor shapes, security contexts",
    },
    Suite {
        tree: "forky",
        name: "forky",
        packages: &["sway", "foot", "wl-clipboard", "waypipe", "wlcs"],
        programs: &["sway", "foot", "wl-copy", "wl-paste", "waypipe", "wlcs"],
        reason: "sway 1.12: ext_data_control as well; waypipe 0.11, to compare with; wlcs 1.8",
    },
];

/// The one that has what benchmarks compare with.
pub(crate) fn of_benchmarks() -> Vec<Suite> {
    SUITES.iter().filter(|suite| suite.programs.contains(&"waypipe")).copied().collect()
}

/// Options of `cargo xtask suite`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which, by their code names [default: all that tests and benchmarks need]
    names: Vec<String>,
    /// Make them anew, of what the mirror has now
    #[arg(long)]
    again: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let suites = choose(&options.names)?;
    let mut progress = Progress::new();
    if options.again {
        suites.iter().try_for_each(|suite| Tree::at(&folder(), suite).forget())?;
    }
    ensure(&folder(), &suites, &mut progress)?;
    for suite in suites {
        println!("{}", Tree::at(&folder(), &suite).path().display());
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<Suite>> {
    if names.is_empty() {
        return Ok(SUITES.to_vec());
    }
    let known = || SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = SUITES.iter().find(|suite| suite.name == name);
        found.copied().with_context(|| format!("there is no suite {name} here, but {}", known()))
    };
    names.iter().map(find).collect()
}

/// Where the trees are.
pub(crate) fn folder() -> PathBuf {
    crate::root().join("target/suite")
}

/// Makes the trees in `folder` that aren't there, or not whole, or not of these packages.
pub(crate) fn ensure(folder: &Path, suites: &[Suite], progress: &mut Progress) -> Result<()> {
    let missing = |suite: &&Suite| !Tree::at(folder, suite).is_whole();
    if !suites.iter().any(|suite| missing(&suite)) {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    apt::ensure(apt::SUITE, &folder.join("apt.log"), progress)?;
    // Another one may be making them.
    let lock = File::create(folder.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let missing: Vec<&Suite> = suites.iter().filter(missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress.say(&format!(
        "some packages of other Debians are missing and will be put into {}:",
        folder.strip_prefix(crate::root()).unwrap_or(folder).display()
    ));
    for suite in &missing {
        progress.say(&format!("  {:<18} {}", suite.tree, suite.reason));
    }
    let mirrors = mirror::of_machine(Path::new("/etc/apt"))?;
    let path = env::var_os("PATH").unwrap_or_default();
    missing.into_iter().try_for_each(|suite| make(folder, suite, &mirrors, &path, progress))
}

/// Makes the tree of a suite from the first mirror that has all of it, with the `apt-get` of `path`.
fn make(
    folder: &Path,
    suite: &Suite,
    mirrors: &[Mirror],
    path: &OsStr,
    progress: &mut Progress,
) -> Result<()> {
    let tree = Tree::at(folder, suite);
    let mut failures = Vec::new();
    for mirror in mirrors {
        let log = folder.join(format!("{}.log", suite.tree));
        let log = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let mut apt = apt::AptGet {
            prefix: &[],
            path,
            lock_deadline: LOCK_DEADLINE,
            log,
            progress: &mut *progress,
        };
        match mirror.download(suite, &folder.join(format!("{}.apt", suite.tree)), &mut apt) {
            Ok(archives) => return tree.make(&archives, progress),
            Err(error) => {
                progress.failed();
                failures.push(format!("{}: {error:#}", mirror.uri()));
            }
        }
    }
    bail!(
        "Debian's suite {} can't be had from where this machine gets its packages:\n{}",
        suite.name,
        failures.join("\n")
    )
}

#[cfg(test)]
mod tests;
