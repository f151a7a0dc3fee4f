//! Installing with an `apt-get` and a `sudo` that only tell how they were called.

use super::*;
use crate::supervisor::tests::turn;
use std::os::unix::fs::PermissionsExt;
use std::sync::MutexGuard;
use tempfile::TempDir;

const TOOL: Package =
    Package { name: "tools", proofs: &[Program("xtask-tool")], reason: "for this test" };
const THERE: Package = Package { name: "shell", proofs: &[Program("sh")], reason: "it is there" };

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
        let bench = Self { machine: Machine { path, root: true }, dir, _turn: turn };
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
        "apt-get -y -o DPkg::Lock::Timeout=300 update\n\
         apt-get -y -o DPkg::Lock::Timeout=300 install --no-install-recommends tools\n"
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
