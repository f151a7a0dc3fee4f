//! The programs under test, built from this tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The environment variable that names a folder with programs to be tested instead.
const INSTALLED: &str = "WLPROXY_TEST_PROGRAMS";

/// The path of a program of this crate. Cargo builds it for this crate's own tests, and not for others'.
pub(crate) fn own(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // TARGET/PROFILE/deps/TEST
    test.ancestors().nth(2).expect("a test lies in TARGET/PROFILE/deps").join(name)
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
        let test = std::env::current_exe().expect("a test knows its own path");
        // TARGET/PROFILE/deps/TEST
        let profile = test.ancestors().nth(2).expect("a test lies in TARGET/PROFILE/deps");
        build(profile);
        profile.to_owned()
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

fn build(profile: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--package", "wlproxy", "--package", "guest-agent"]);
    cargo.args(["--package", "wlproxy-interposer"]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().expect("TARGET/PROFILE has a parent"));
    // For benchmarks it takes minutes the first time, and tells how far it is.
    cargo.arg(if profile.ends_with("release") { "--release" } else { "--quiet" });
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "cargo build of what is tested failed: {status}");
}
