//! The programs under test, built from this tree.

use crate::{Example, sanitizer};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The environment variable that names a folder with programs to be tested instead.
const INSTALLED: &str = "WLPROXY_TEST_PROGRAMS";

/// Has cargo work on this workspace, wherever it is started.
const AT: [&str; 2] = ["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")];

/// The path of a program of this crate. Cargo builds it for this crate's own tests, and not for others'.
pub(crate) fn own(name: &str) -> PathBuf {
    profile().join(name)
}

/// The path of a program of the workspace; builds the programs first, once per test process.
///
/// Cargo builds a package's programs only for that package's own tests, so without this the tests would run those of
/// yesterday.
///
/// # Panics
/// If they can't be built.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        if let Some(installed) = std::env::var_os(INSTALLED) {
            return installed.into();
        }
        let profile = profile();
        build(&profile, &["wlproxy", "guest-agent", "wlproxy-interposer"]);
        profile
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} isn't there: cargo build -p wlproxy -p guest-agent", path.display());
    path
}

/// The library that `guest-agent run --zero-copy` preloads: beside the programs that cargo has built, or where it is
/// installed.
pub(crate) fn interposer() -> PathBuf {
    let folder = binary("guest-agent").parent().expect("a program lies in a folder").to_owned();
    let found = [".", "../lib/wlproxy"].into_iter().find_map(|relative| {
        folder.join(relative).join("libwlproxy_interposer.so").canonicalize().ok()
    });
    found.expect("cargo build -p wlproxy-interposer, or the installed one")
}

/// The path of a compositor of `examples/`; builds it first, once per test process.
///
/// The one in Rust is a package of the workspace. In the folder of each of the others is a Makefile, which puts the program
/// into the folder that is called OUT.
///
/// # Panics
/// If it can't be built.
pub fn example(which: Example) -> PathBuf {
    static BUILT: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
    let built = |folder: &str| {
        let out = profile().join("examples").join(folder);
        make(folder, &out);
        out.join(format!("{folder}-shim"))
    };
    let program = BUILT[which as usize].get_or_init(|| match which {
        Example::Smithay => {
            build(&profile(), &["wlproxy-example-smithay"]);
            profile().join("smithay-shim")
        }
        Example::Libwayland => built("libwayland"),
        Example::Wlroots => built("wlroots"),
    });
    program.clone()
}

/// The compositor that WLCS loads; builds it first, once per test process.
///
/// # Panics
/// If it can't be built.
pub fn conformance() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let library = BUILT.get_or_init(|| {
        build(&profile(), &["wlproxy-wlcs"]);
        profile().join("libwlproxy_wlcs.so")
    });
    library.clone()
}

/// Where the C library of compositor-shim is installed; installs it first, once per test process.
///
/// # Panics
/// If it can't be built.
pub fn shim() -> PathBuf {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    let install = || {
        let profile = profile();
        let prefix = profile.join("examples/shim");
        let mut xtask = cargo();
        // Where other tests build, too.
        xtask.env("CARGO_TARGET_DIR", target(&profile));
        xtask.args(["run", "--quiet", "--package", "xtask"]).args(AT);
        xtask.args(["--", "shim", "--prefix"]).arg(&prefix).stdout(Stdio::null());
        xtask.args((!profile.ends_with("release")).then_some("--dev"));
        let status = xtask.status().expect("cargo can be started");
        assert!(status.success(), "cargo xtask shim failed: {status}");
        prefix
    };
    INSTALLED.get_or_init(install).clone()
}

/// Where cargo puts what it builds for this test: TARGET/PROFILE, or TARGET/TRIPLE/PROFILE if it was told for what to build.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // TARGET/PROFILE/deps/TEST
    test.ancestors().nth(2).expect("a test lies in TARGET/PROFILE/deps").to_owned()
}

/// The TARGET of that. Cargo that is started by a test has what it builds for from the same environment.
fn target(profile: &Path) -> &Path {
    let above = profile.parent().expect("TARGET/PROFILE has a parent");
    let is_of_triple = std::env::var_os("CARGO_BUILD_TARGET").is_some_and(|it| above.ends_with(it));
    if is_of_triple { above.parent().expect("TARGET/TRIPLE has a parent") } else { above }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
}

fn build(profile: &Path, packages: &[&str]) {
    let mut cargo = cargo();
    cargo.arg("build").args(packages.iter().flat_map(|package| ["--package", package]));
    cargo.args(AT);
    cargo.arg("--target-dir").arg(target(profile));
    // For benchmarks it takes minutes the first time, and tells how far it is.
    cargo.arg(if profile.ends_with("release") { "--release" } else { "--quiet" });
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "cargo build of what is tested failed: {status}");
}

/// Runs the Makefile of `examples/FOLDER`.
fn make(folder: &str, out: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(folder);
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(&sources).arg(format!("OUT={}", out.display()));
    make.env("CFLAGS", format!("-O2 -g -Werror{}", sanitizer::c_flags()));
    make.env("PKG_CONFIG_PATH", shim().join("lib/pkgconfig"));
    let status = make.status().expect("make can be started");
    assert!(status.success(), "make in {} failed: {status}", sources.display());
}
