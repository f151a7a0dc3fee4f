//! `cargo xtask test --asan`: tests with AddressSanitizer and its search for leaks: the crates' own, and whole-path tests
//! whose programs have it in them.
//!
//! A worker that it ends is started again, and a test may not notice. So everything in which it finds something, be it a
//! test or a program, leaves a file, and with any such file all of it has failed.

use crate::progress::Progress;
use crate::{build, root};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What is built, all at once, so that nothing is built twice. The interposer isn't among it, as it is loaded into programs
/// that have no sanitizer.
const PACKAGES: [&str; 5] =
    ["wlproxy-unix", "wlproxy-protocol", "guest-agent", "wlproxy", "wlproxy-tests"];

/// What it builds for. With one named, build scripts and macros have no sanitizer in them.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Where it builds: other flags, so other files.
const FOLDER: &str = "target/asan";

/// What whole-path tests run, in a folder of [`FOLDER`].
const PROGRAMS: [&str; 2] = ["wlproxy", "guest-agent"];

/// What is preloaded into applications, which have no sanitizer.
const INTERPOSER: (&str, &str) = ("wlproxy-interposer", "libwlproxy_interposer.so");

/// A SIGBUS is our own handler's (`guest-agent/src/memory.rs`), and where it isn't, the kernel's to end the process with. The
/// name of each file tells of which program it is.
const OPTIONS: &str = "detect_leaks=1:handle_sigbus=0:log_exe_name=1";

/// What is in the name of tests that are left out, and why.
const SKIPPED: [(&str, &str); 3] = [
    ("sandbox", "a process that a test shuts in may do nothing that the sanitizer needs"),
    ("qt", "its cursor blinks faster than the harness compares pictures then"),
    ("it_grows_with_what_is_used", "memory isn't measured, as the sanitizer keeps what was freed"),
];

/// Whole-path tests that are always run; those that are for `--all`; and those that are left out, since what they look at
/// isn't there or isn't the same.
const SHORT: [&str; 4] = ["clients", "malformed", "quota", "selections"];
const LONG: [&str; 26] = [
    "accept",
    "attacks",
    "bulk",
    "clipboard",
    "damage",
    "death",
    "drag",
    "examples",
    "isolation",
    "leak",
    "linked",
    "newer",
    "newer_sway",
    "outputs",
    "pipes",
    "policy",
    "probe",
    "puppets",
    "restart",
    "screenshot",
    "seat",
    "seeing",
    "slow",
    "tags",
    "unusual",
    "zero_copy",
];
const LEFT_OUT: [(&str, &str); 5] = [
    ("chaos", "it limits memory and fds of processes, and the sanitizer needs both"),
    ("crowd", "its thousands of clients take too long, and it limits an agent's memory"),
    ("shim_c", "it has sanitizers and valgrind of its own"),
    ("stopped", "it looks how much memory processes need"),
    ("wlcs", "its library is loaded into a program without a sanitizer"),
];

/// The option that names a whole-path test.
const TEST: &str = "--test";

/// Most that a process leaves shown of what it found, in bytes.
const SHOWN: usize = 16 << 10;

/// Leaks that are meant, each with its reason.
const SUPPRESSIONS: &str = "xtask/src/test/leaks.supp";

/// What is run.
#[derive(Debug, PartialEq, Eq)]
enum Scope {
    /// The own tests of packages that the arguments name.
    Own,
    /// The crates' own tests, if that is so, and these whole-path tests.
    Whole(bool, Vec<String>),
}

impl Scope {
    /// What these arguments ask for; with `all`, not just the quick whole-path tests.
    fn of(args: &[String], all: bool) -> Self {
        if args.iter().any(super::names_package) {
            return Self::Own;
        }
        let named: Vec<String> = args
            .iter()
            .zip(args.iter().skip(1))
            .filter(|(arg, _)| *arg == TEST)
            .map(|(_, name)| name.clone())
            .collect();
        if named.is_empty() {
            let names = if all { [&SHORT[..], &LONG].concat() } else { SHORT.to_vec() };
            return Self::Whole(true, names.into_iter().map(str::to_owned).collect());
        }
        Self::Whole(false, named)
    }

    /// Cargo's options for it.
    fn options(&self) -> Vec<&str> {
        match self {
            Self::Own => vec!["--lib"],
            Self::Whole(own, names) => {
                let packages = PACKAGES.iter().flat_map(|&package| ["-p", package]);
                let tests = names.iter().flat_map(|name| [TEST, name]);
                packages.chain(own.then_some("--lib")).chain(tests).collect()
            }
        }
    }
}

/// Runs them. `args` and `harness` are passed on as without a sanitizer; with `all`, not just the quick whole-path tests.
pub(super) fn run(args: &[String], harness: &[String], all: bool) -> Result<ExitCode> {
    let folder = root().join(FOLDER);
    let reports = folder.join("reports");
    let _ = fs::remove_dir_all(&reports);
    fs::create_dir_all(&reports).with_context(|| format!("can't make {}", reports.display()))?;
    let scope = Scope::of(args, all);
    let mut command = cargo(&folder, &reports);
    if scope != Scope::Own {
        let programs = gather(&folder, &reports, &scope)?;
        command.env("WLPROXY_TEST_PROGRAMS", programs);
    }
    command.args(arguments(args, harness, &scope));
    let status = command.status().context("can't run cargo")?;
    if all {
        LEFT_OUT.iter().for_each(|(name, why)| println!("{name} is left out: {why}"));
    }
    let found = show(&reports)?;
    if found > 0 {
        println!("{found} reports of AddressSanitizer are in {}", reports.display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(super::code(status))
}

/// A cargo that builds with the sanitizer in `folder`, and what is found is left in `reports`. Those that tests start do the
/// same.
fn cargo(folder: &Path, reports: &Path) -> Command {
    let mut command = build::cargo();
    // Sanitizers are an unstable flag of rustc.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    command.env("CARGO_BUILD_TARGET", TRIPLE).env("CARGO_TARGET_DIR", folder);
    // The harness of the whole-path tests is built for that.
    command.env("WLPROXY_TEST_SANITIZED", "1");
    let report = reports.join("report");
    command.env("ASAN_OPTIONS", format!("{OPTIONS}:log_path={}", report.display()));
    let suppressions = root().join(SUPPRESSIONS);
    command.env(
        "LSAN_OPTIONS",
        format!("print_suppressions=0:suppressions={}", suppressions.display()),
    );
    command
}

/// Has everything that whole-path tests need. Returns the folder with the programs.
fn gather(folder: &Path, reports: &Path, scope: &Scope) -> Result<PathBuf> {
    let mut progress = Progress::new();
    super::ensure(&mut progress)?;
    progress.stage(format!("cargo build, for {TRIPLE} with AddressSanitizer"));
    progress.leave_line();
    let mut command = cargo(folder, reports);
    command.arg("build").args(scope.options()).arg("--bins");
    let status = command.status().context("can't run cargo")?;
    if !status.success() {
        bail!("cargo build with AddressSanitizer failed ({status})");
    }
    let (package, library) = INTERPOSER;
    let built =
        build::program(&build::build(&["--package", package])?, &package.replace('-', "_"))?;
    progress.done();

    let programs = folder.join("programs");
    let _ = fs::remove_dir_all(&programs);
    fs::create_dir_all(&programs).with_context(|| format!("can't make {}", programs.display()))?;
    let made = folder.join(TRIPLE).join("debug");
    let all = PROGRAMS.map(|name| (made.join(name), name));
    for (from, name) in all.into_iter().chain([(built, library)]) {
        fs::copy(&from, programs.join(name))
            .with_context(|| format!("can't copy {}", from.display()))?;
    }
    Ok(programs)
}

/// What `cargo` is given.
fn arguments(args: &[String], harness: &[String], scope: &Scope) -> Vec<String> {
    let mut all = vec!["test"];
    all.extend(scope.options());
    // Behind an option clap takes what is for the test programs for one more argument, with the dashes before it.
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let mut rest = args[..end].iter();
    while let Some(arg) = rest.next() {
        // Those are among its options.
        if arg == TEST && *scope != Scope::Own {
            rest.next();
        } else {
            all.push(arg);
        }
    }
    all.push("--");
    all.extend(SKIPPED.iter().flat_map(|(name, _)| ["--skip", name]));
    all.extend(args.iter().skip(end + 1).chain(harness).map(String::as_str));
    all.into_iter().map(str::to_owned).collect()
}

/// Shows what was found. Returns how many have found something.
fn show(reports: &Path) -> Result<usize> {
    let entries = fs::read_dir(reports)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in &paths {
        let report = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        let shown = String::from_utf8_lossy(&report[..report.len().min(SHOWN)]);
        println!("---- {} ----\n{shown}", path.file_name().unwrap_or_default().display());
    }
    Ok(paths.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn arguments(args: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        super::arguments(&args, &[], &Scope::of(&args, false)).join(" ")
    }

    #[test]
    fn packages_are_ours_unless_one_is_named() {
        let all = arguments(&["window"]);
        assert!(all.contains("-p wlproxy-unix") && all.contains("--lib --test clients"), "{all}");
        assert!(all.contains(" window -- --skip sandbox"), "{all}");
        let behind = arguments(&["-p", "wlproxy-unix", "--", "--quiet"]);
        assert!(behind.starts_with("test --lib -p wlproxy-unix -- --skip sandbox"), "{behind}");
        assert!(behind.ends_with(" --quiet"), "{behind}");
        let one = arguments(&["--test", "attacks", "--test", "quota", "smithay"]);
        assert!(one.contains("-p wlproxy-tests --test attacks --test quota smithay -- "), "{one}");
        assert!(!one.contains("--lib"), "{one}");
    }

    #[test]
    fn each_whole_path_test_is_run_or_left_out_with_a_reason() {
        let folder = root().join("tests/tests");
        let names = fs::read_dir(folder).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_test =
                path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists();
            is_test.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        });
        let known = SHORT.iter().chain(&LONG).copied().chain(LEFT_OUT.map(|(name, _)| name));
        assert_eq!(names.collect::<BTreeSet<_>>(), known.map(str::to_owned).collect());
        assert!(LEFT_OUT.iter().chain(&SKIPPED).all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn what_is_found_is_counted() {
        let folder = std::env::temp_dir().join(format!("wlproxy-asan-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(show(&folder).unwrap(), 0);
        fs::write(folder.join("report.wlproxy.7"), "ERROR: AddressSanitizer").unwrap();
        assert_eq!(show(&folder).unwrap(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
