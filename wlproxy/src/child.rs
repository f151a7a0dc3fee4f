//! For tests that change or end their process: they go on in one of their own.

use std::process::{Command, Output};

/// Set in that process.
const CHILD: &str = "WLPROXY_TEST_CHILD";

/// Runs the test called `name` again, alone, in a process of its own. Returns what became of it, and `None` in there.
pub(crate) fn child(name: &str) -> Option<Output> {
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "there is no test {name}: {said}");
    Some(output)
}
