//! Tests that count or use up what their process has, and so need one of their own.

use std::process::Command;

/// Runs an ignored test of this crate in a process of its own, by its full name.
#[track_caller]
pub(crate) fn run(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
}
