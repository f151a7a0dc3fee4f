//! Installing with an `apt-get` and a `sudo` that only tell how they were called.

use super::*;
use crate::failure::LOG_TAIL;
use crate::supervisor::tests::turn;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::MutexGuard;
use tempfile::TempDir;

const TOOL: Package =
    Package { name: "tools", proofs: &[Program("xtask-tool")], reason: "for this test" };
const THERE: Package = Package { name: "shell", proofs: &[Program("sh")], reason: "it is there" };

const LONG: Duration = Duration::from_secs(60);

struct Bench {
    machine: Machine,
    dir: TempDir,
    // A supervisor of another test would take the children of this one for its own.
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// A machine whose `apt-get` runs these scripts.
    fn new(update: &str, install: &str) -> Self {
        let turn = turn();
        let dir = TempDir::new().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let path = env::join_paths([&bin, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let bench =
            Self { machine: Machine { path, root: true, lock_deadline: LONG }, dir, _turn: turn };
        let apt = format!(
            "cd {}\necho apt-get $* >> calls\nshift 3\ncase $1 in update)\n{update}\n;; install)\n{install}\nesac\n",
            bench.dir.path().display()
        );
        bench.program("apt-get", &apt);
        bench
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs the tool. Returns what went wrong.
    fn install(&self) -> String {
        let told = File::create(self.dir.path().join("told")).unwrap();
        let log = self.dir.path().join("apt.log");
        let mut progress = Progress::recorded(told);
        let result = self.machine.install(&[TOOL, THERE], &log, &mut progress);
        result.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

/// Installs the tool.
const INSTALL: &str = "echo Unpacking tools; : > bin/xtask-tool";

#[test]
fn what_is_missing_is_announced_and_installed_after_an_update() {
    let bench = Bench::new("echo Reading package lists", INSTALL);
    assert_eq!(bench.install(), "");
    assert_eq!(
        bench.read("calls"),
        "apt-get -y -o DPkg::Lock::Timeout=60 update\n\
         apt-get -y -o DPkg::Lock::Timeout=60 install --no-install-recommends tools\n"
    );
    assert_eq!(bench.read("apt.log"), "Reading package lists\nUnpacking tools\n");
    let told = bench.read("told");
    let at = |text| told.find(text).unwrap_or_else(|| panic!("no `{text}` in {told}"));
    assert!(at("will be installed:") < at("  tools              for this test"));
    assert!(at("for this test") < at("... apt-get update"));
    assert!(at("ok  apt-get update") < at("... apt-get install tools"));
    assert!(at("Unpacking tools") < at("ok  apt-get install tools"));
    assert!(!told.contains("shell"), "{told}");
}

#[test]
fn nothing_is_said_or_run_when_all_is_there() {
    let bench = Bench::new("", "");
    bench.program("xtask-tool", "");
    assert_eq!(bench.install(), "");
    assert_eq!((bench.read("calls"), bench.read("told")), (String::new(), String::new()));
}

#[test]
fn who_is_not_root_takes_sudo() {
    let mut bench = Bench::new("", INSTALL);
    bench.machine.root = false;
    let calls = bench.dir.path().join("calls");
    bench.program("sudo", &format!("echo -n 'sudo ' >> {}\nexec \"$@\"\n", calls.display()));
    assert_eq!(bench.install(), "");
    let calls = bench.read("calls");
    assert_eq!(
        calls.lines().filter(|line| line.starts_with("sudo apt-get ")).count(),
        2,
        "{calls}"
    );
}

#[test]
fn who_can_not_install_is_told_what_to_do() {
    let mut bench = Bench::new("", "");
    bench.machine.root = false;
    bench.machine.path = bench.dir.path().join("bin").into();
    let error = bench.install();
    assert!(error.contains("as root, run: apt-get update && apt-get install"), "{error}");
    bench.machine.path = bench.dir.path().into();
    let error = bench.install();
    assert!(error.starts_with("there is no apt-get here; install what holds tools"), "{error}");
    assert_eq!(bench.read("calls"), "");
}

/// Says what apt says when another one holds the lock of the lists.
const LOCKED: &str = "echo Reading package lists
    echo E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 '(apt-get)' >&2
    echo E: Unable to lock directory /var/lib/apt/lists/ >&2
    exit 100";

#[test]
fn an_update_waits_for_another_one() {
    let update = format!("[ $(wc -l < calls) = 3 ] || {{ {LOCKED}; }}");
    let bench = Bench::new(&update, INSTALL);
    assert_eq!(bench.install(), "");
    let calls = bench.read("calls");
    assert_eq!(calls.matches(" update\n").count(), 3, "{calls}");
    let told = bench.read("told");
    let lock = "Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\n";
    assert_eq!(told.matches(&format!("waiting: {lock}")).count(), 1, "{told}");
    assert!(told.contains(" s) waiting: Could not get lock"), "{told}");
}

#[test]
fn an_update_does_not_wait_forever() {
    let mut bench = Bench::new(LOCKED, "exit 100");
    bench.machine.lock_deadline = Duration::ZERO;
    let error = bench.install();
    assert!(error.contains("update failed (exit status: 100):\n"), "{error}");
    assert!(error.contains("It is held by process 7 (apt-get)\n"), "{error}");
}

const STALE: &str = "echo E: The repository has no Release file >&2; exit 100";

#[test]
fn an_update_that_fails_is_no_reason_not_to_install() {
    let bench = Bench::new(STALE, INSTALL);
    assert_eq!(bench.install(), "");
    let told = bench.read("told");
    assert!(told.contains("FAILED apt-get update"), "{told}");
    assert!(told.contains("ok  apt-get install tools"), "{told}");
}

#[test]
fn an_install_that_fails_after_an_update_that_failed_shows_both() {
    let bench = Bench::new(STALE, "echo E: Unable to locate package tools >&2; exit 100");
    let error = bench.install();
    let (update, install) = error.split_once("\nE: The repository has no Release file\n").unwrap();
    assert!(update.ends_with("update failed (exit status: 100):"), "{error}");
    let end = "tools failed (exit status: 100):\nE: Unable to locate package tools";
    assert!(install.ends_with(end), "{error}");
}

#[test]
fn the_end_of_what_apt_said_is_shown() {
    let bench = Bench::new("", "seq 1000; echo E: what went wrong >&2; exit 100");
    let error = bench.install();
    let (command, said) = error.split_once(":\n").unwrap();
    assert!(
        command.ends_with("install --no-install-recommends tools failed (exit status: 100)"),
        "{error}"
    );
    assert_eq!(said.lines().count(), LOG_TAIL);
    assert!(said.ends_with("999\n1000\nE: what went wrong"), "{said}");
}

#[test]
fn a_package_that_lacks_something_is_named() {
    let bench = Bench::new("", "");
    assert_eq!(bench.install(), "tools is installed, but xtask-tool is not there");
}
