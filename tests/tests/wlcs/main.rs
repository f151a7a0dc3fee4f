//! The Wayland Conformance Suite, WLCS: what it finds is the same whether its clients are beside the compositor or come to it
//! from another VM.
//!
//! The compositor is that of `tests/wlcs`. What it isn't able to do is nothing to test here, so only what passes when clients
//! are beside it runs, which `passes.txt` names: 332 tests of WLCS 1.8, without two of its suites that try 216 combinations.
//! With WLPROXY_SLOW=1 all that WLCS has run, and three times from another VM.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use wlproxy_tests::{Desk, Plan, Suite, conformance};

/// What passes when clients are beside the compositor, by the names that WLCS gives.
const PASSES: &str = include_str!("passes.txt");

/// What passes from another VM alone: its agent looks at the file of each buffer, and tells the client. smithay 0.7 tells
/// nobody.
const BETTER: &str = "BadBufferTest.test_truncated_shm_file";

/// Tests, by their names.
type Names = BTreeSet<String>;

/// The suites that try every combination of surfaces, regions and where the mouse goes.
const COMBINATIONS: &str = "SurfaceInputCombinations";

/// What is to pass now.
fn known() -> Names {
    let runs = |name: &&str| thorough() || !name.contains(COMBINATIONS);
    PASSES.lines().filter(runs).map(str::to_owned).collect()
}

/// Whether all of the suite is to run, and often.
fn thorough() -> bool {
    std::env::var_os("WLPROXY_SLOW").is_some()
}

/// WLCS with a compositor that listens at `listen`, and clients that connect to `connect`. A compositor gets `keepers`
/// connections before those. Returns what has passed.
fn passes(listen: &Path, connect: &Path, keepers: usize) -> Names {
    let folder = listen.parent().expect("a socket lies in a folder");
    let (report, log) = (folder.join("wlcs.json"), folder.join("wlcs.log"));
    let mut wlcs = Command::new(Suite::Forky.program("wlcs"));
    wlcs.arg(conformance()).arg(format!("--gtest_output=json:{}", report.display()));
    if !thorough() {
        wlcs.env("GTEST_FILTER", known().into_iter().collect::<Vec<_>>().join(":"));
    }
    wlcs.env("WLPROXY_WLCS_LISTEN", listen).env("WLPROXY_WLCS_CONNECT", connect);
    wlcs.env("WLPROXY_WLCS_KEEPERS", keepers.to_string());
    let log = fs::File::create(log).expect("our own folder");
    wlcs.stderr(log.try_clone().expect("fds are left")).stdout(log);
    // It ends with 1 when a test has failed.
    let status = wlcs.status().expect("WLCS can be started");
    let report = fs::read(&report).unwrap_or_else(|_| panic!("WLCS ended early: {status}"));
    passed(&serde_json::from_slice(&report).expect("JSON"))
}

/// What has passed by a report of googletest's.
fn passed(report: &Value) -> Names {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut names = Names::new();
    for suite in array(&report["testsuites"]) {
        for test in array(&suite["testsuite"]) {
            let ran = test["status"] == "RUN" && test["result"] == "COMPLETED";
            if ran && test["failures"].is_null() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                names.insert(format!("{}.{}", text(&suite["name"]), text(&test["name"])));
            }
        }
    }
    names
}

/// Fails if not the same has passed as is to pass.
fn compare(who: &str, passed: &Names, expected: &Names) {
    println!("{who}: {} tests of WLCS pass", passed.len());
    let lost: Vec<_> = expected.difference(passed).collect();
    let gained: Vec<_> = passed.difference(expected).collect();
    assert!(lost.is_empty() && gained.is_empty(), "{who}: {lost:#?} fail, {gained:#?} pass");
}

#[test]
fn clients_of_another_vm_find_what_local_ones_find() {
    let mut desk = Desk::nothing(Plan::default());
    let listen = desk.folder().join("wlcs");
    let beside = passes(&listen, &listen, 0);
    compare("beside the compositor", &beside, &known());
    desk.start_proxy();
    desk.start_serve_for(&listen, &[]);
    desk.start_vm("work");
    let connect = desk.through("work").socket;
    let mut expected = beside;
    if thorough() {
        expected.insert(BETTER.to_owned());
    }
    for _ in 0..if thorough() { 3 } else { 1 } {
        compare("from another VM", &passes(&listen, &connect, 1), &expected);
    }
}
