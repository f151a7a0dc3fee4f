//! Which files and processes are reached, by landlock(7).
//!
//! Kernels before Linux 5.13 don't have it, and it may be switched off: what a kernel lacks is left out, and told.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use std::path::Path;
use tracing::warn;

/// What is limited: all that this version (Linux 6.12) knows. Ports of TCP, sockets that have a name without a file, and
/// signals to processes outside are among it.
const ABI_VERSION: ABI = ABI::V6;

/// How much of it the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enforced {
    Fully,
    Partly,
    Not,
}

/// Where all files are.
const ROOT: &str = "/";

/// A file that programs are started with, and what it is written to is gone.
const NULL: &str = "/dev/null";

/// No file is opened, made or removed any more, nothing outside is sent a signal or connected to.
pub(super) fn nothing() -> Result<Enforced, RulesetError> {
    let files = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_VERSION))?;
    let network = files.handle_access(AccessNet::from_all(ABI_VERSION))?;
    enforce(network.scope(Scope::from_all(ABI_VERSION))?.create()?)
}

/// Files are made, changed and removed in these directories alone, nothing outside is sent a signal. Everything may be read
/// and started: wlproxy's own program and its libraries are all over the file system, as on NixOS.
pub(super) fn changes_only(directories: &[&Path]) -> Result<Enforced, RulesetError> {
    let files = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_VERSION))?;
    let network = files.handle_access(AccessNet::from_all(ABI_VERSION))?;
    // systemd's socket may have a name without a file.
    let mut rules = network.scope(Scope::Signal)?.create()?;
    rules = allow(rules, ROOT.as_ref(), AccessFs::from_read(ABI_VERSION))?;
    rules = allow(rules, NULL.as_ref(), AccessFs::from_file(ABI_VERSION))?;
    for directory in directories {
        rules = allow(rules, directory, AccessFs::from_all(ABI_VERSION))?;
    }
    enforce(rules)
}

/// Allows this with a path and what is beneath it. One that can't be opened is told and left out: what is done there fails.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(error) => {
            warn!("a path stays closed to wlproxy: {error}");
            Ok(rules)
        }
    }
}

fn enforce(rules: RulesetCreated) -> Result<Enforced, RulesetError> {
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}
