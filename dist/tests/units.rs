//! systemd's units, as far as they can be judged without starting them. `cargo xtask dist --test` starts them.

use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The worst exposure of the system's unit that `systemd-analyze security` may find, in tenths: 0 is none, 100 all.
const THRESHOLD: u32 = 15;

/// The folders of the units, and whether a user's systemd reads them.
const FOLDERS: [(&str, bool); 2] = [("system", false), ("user", true)];

fn units(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut units: Vec<_> = files.filter(|path| !path.ends_with("wlproxy.sysusers")).collect();
    units.sort();
    assert!(!units.is_empty());
    units
}

/// Runs systemd-analyze on units in a folder of their own, where the programs needn't be installed.
fn analyze(units: &[(String, String)], user: bool, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(user.then_some("--user")).args(arguments);
    command.env("XDG_RUNTIME_DIR", folder.path()).env("LC_ALL", "C.UTF-8");
    for (name, text) in units {
        let path = folder.path().join(name);
        let text = text.lines().map(|line| match line.split_once("=/usr/bin/") {
            Some((key, program)) if key.starts_with("Exec") => {
                let arguments = program.split_once(' ').map_or("", |(_, arguments)| arguments);
                format!("{key}=/bin/true {arguments}")
            }
            _ => line.to_owned(),
        });
        fs::write(&path, text.collect::<Vec<_>>().join("\n")).unwrap();
        command.arg(path);
    }
    command.output().expect("systemd-analyze is installed by `cargo xtask test`")
}

fn read(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (name, fs::read_to_string(path).unwrap())
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn systemd_finds_nothing_wrong() {
    for (folder, user) in FOLDERS {
        let mut units: Vec<_> = units(folder).iter().map(|path| read(path)).collect();
        let output = analyze(&units, user, &["verify", "--man=no"]);
        assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
        units[0].1 += "\n[Service]\nProtectSytem=strict\n";
        let output = analyze(&units, user, &["verify", "--man=no"]);
        assert!(said(&output).contains("ProtectSytem"), "a mistake isn't seen");
    }
}

#[test]
fn the_system_unit_is_exposed_to_little() {
    let (name, text) = read(&units("system")[0]);
    let threshold = format!("--threshold={THRESHOLD}");
    let judge = |text: String| {
        analyze(&[(name.clone(), text)], false, &["security", "--offline=true", &threshold])
    };
    let output = judge(text.clone());
    assert!(output.status.success(), "{}", said(&output));
    for directive in ["SystemCallFilter=", "CapabilityBoundingSet="] {
        let without = text.lines().filter(|line| !line.starts_with(directive));
        let output = judge(without.collect::<Vec<_>>().join("\n"));
        assert!(!output.status.success(), "{directive} makes no difference");
    }
}

#[test]
fn the_programs_understand_what_they_are_told() {
    let mut programs = Vec::new();
    for path in FOLDERS.iter().flat_map(|(folder, _)| units(folder)) {
        let (name, text) = read(&path);
        let Some(command) = text.lines().find_map(|line| line.strip_prefix("ExecStart=")) else {
            continue;
        };
        let mut command = command.replace("${CHANNEL}", "process:/x").replace("%E", "/home/x");
        command += match name.as_str() {
            // This comes from the environment.
            "wlproxy-serve.service" => " --compositor wayland-1",
            _ => "",
        };
        let words = command.strip_prefix("/usr/bin/").unwrap().split(' ');
        let result = match words.clone().next().unwrap() {
            "wlproxy" => wlproxy::cli::Cli::try_parse_from(words).map(drop),
            "guest-agent" => guest_agent::cli::Args::try_parse_from(words).map(drop),
            other => panic!("{name}: {other}"),
        };
        assert!(result.is_ok(), "{name}: {}", result.unwrap_err());
        programs.push(name);
    }
    assert_eq!(programs.len(), 4, "{programs:?}");
}

/// Lines of a unit that restrict what its processes may call.
fn restrictions(text: &str) -> Vec<&str> {
    let restricting = ["NoNewPrivileges", "Restrict", "Lock", "MemoryDeny", "SystemCall", "UMask"];
    let is_one = |line: &&str| restricting.iter().any(|name| line.starts_with(name));
    let mut found: Vec<_> = text.lines().filter(is_one).collect();
    found.sort_unstable();
    found
}

/// What wlproxy shuts itself in with, and an agent doesn't.
const SHUTS_IN: &str =
    "SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self";

#[test]
fn all_services_have_the_restrictions_that_any_user_can_have() {
    let (_, system) = read(&units("system")[0]);
    assert!(restrictions(&system).len() >= 12, "{:?}", restrictions(&system));
    let is_service = |path: &&PathBuf| path.extension().is_some_and(|kind| kind == "service");
    for path in units("user").iter().filter(is_service) {
        let (name, text) = read(path);
        let mut expected = restrictions(&system);
        expected.retain(|&line| line != SHUTS_IN || name == "wlproxy.service");
        assert_eq!(restrictions(&text), expected, "{name}");
    }
}
