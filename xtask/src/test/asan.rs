//! `cargo xtask test --asan`: the crates' own tests with AddressSanitizer and its search for leaks.
//!
//! Whole-path tests are left out: in them processes shut themselves in, with no room for what the sanitizer does.

use crate::{build, root};
use anyhow::{Context, Result};
use std::process::ExitStatus;

/// What is tested if no package is named: all that has unsafe code or reads what a peer says. The interposer isn't, as it is
/// loaded into programs that have no sanitizer.
const PACKAGES: [&str; 8] =
    ["-p", "wlproxy-unix", "-p", "wlproxy-protocol", "-p", "guest-agent", "-p", "wlproxy"];

/// What it builds for. With one named, build scripts and macros have no sanitizer in them.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Where it builds: other flags, so other files.
const FOLDER: &str = "target/asan";

/// A process that a test shuts in may do nothing that the sanitizer needs.
const SKIPPED: &str = "sandbox";

/// A SIGBUS is our own handler's (`guest-agent/src/memory.rs`), and where it isn't, the kernel's to end the process with.
const OPTIONS: &str = "detect_leaks=1:handle_sigbus=0";

/// Leaks that are meant, each with its reason.
const SUPPRESSIONS: &str = "xtask/src/test/leaks.supp";

/// Runs them. `args` and `harness` are passed on as without a sanitizer.
pub(super) fn run(args: &[String], harness: &[String]) -> Result<ExitStatus> {
    let suppressions = root().join(SUPPRESSIONS);
    let mut command = build::cargo();
    command.args(arguments(args, harness));
    // Sanitizers are an unstable flag of rustc.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    command.env("ASAN_OPTIONS", OPTIONS);
    command.env(
        "LSAN_OPTIONS",
        format!("print_suppressions=0:suppressions={}", suppressions.display()),
    );
    command.status().context("can't run cargo")
}

/// What `cargo` is given.
fn arguments(args: &[String], harness: &[String]) -> Vec<String> {
    let mut all: Vec<&str> = vec!["test", "--target", TRIPLE, "--target-dir", FOLDER, "--lib"];
    if !args.iter().any(super::names_package) {
        all.extend(PACKAGES);
    }
    // Behind an option clap takes what is for the test programs for one more argument, with the dashes before it.
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    all.extend(args[..end].iter().map(String::as_str));
    all.extend(["--", "--skip", SKIPPED]);
    all.extend(args.iter().skip(end + 1).chain(harness).map(String::as_str));
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_ours_unless_one_is_named() {
        let arguments = |args: &[&str]| {
            arguments(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>(), &[]).join(" ")
        };
        let all = arguments(&["window"]);
        assert!(all.contains("--lib -p wlproxy-unix") && all.contains("wlproxy window -- --skip"));
        let behind = arguments(&["-p", "wlproxy-unix", "--", "--quiet"]);
        assert!(behind.ends_with("--lib -p wlproxy-unix -- --skip sandbox --quiet"), "{behind}");
        assert!(
            arguments(&["-p", "wlproxy-unix"]).ends_with("--lib -p wlproxy-unix -- --skip sandbox")
        );
    }
}
