//! The demo with stand-ins for wlproxy and the agents, whose clients go to sway directly: shows that the demo starts,
//! waits, looks, counts and stops right, whatever stands in the middle.

use super::*;
use crate::progress::Progress;
use crate::supervisor::tests::turn;
use tempfile::TempDir;

const WLPROXY_SCRIPT: &str = include_str!("../../../tests/stand-ins/wlproxy.sh");
const AGENT_SCRIPT: &str = include_str!("../../../tests/stand-ins/guest-agent.sh");

/// Runs the demo with these scripts and stops it. Returns both results, and the output.
fn show(wlproxy: &str, agent: &str) -> (Result<String>, Result<()>, TempDir, Output) {
    let _turn = turn();
    let dir = TempDir::new().unwrap();
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let output = Output::new(&dir.path().join("out")).unwrap();
    let rooms =
        Rooms::new(&script("wlproxy", wlproxy), &script("guest-agent", agent), None).unwrap();
    let mut supervisor =
        Supervisor::new(rooms.identity(), &output.logs, Progress::quiet()).unwrap();
    let shown = Show { rooms: &rooms, output: &output, supervisor: &mut supervisor }.run();
    let stopped = supervisor.stop();
    let base = rooms.room("");
    drop(rooms);
    assert!(!base.exists(), "the rooms are left");
    (shown, stopped, dir, output)
}

#[test]
fn all_windows_are_shown_and_counted() {
    let (shown, stopped, _dir, output) = show(WLPROXY_SCRIPT, AGENT_SCRIPT);
    let table = shown.unwrap();
    stopped.unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    let report: Value = serde_json::from_slice(&fs::read(&output.report).unwrap()).unwrap();
    let windows = report["windows"].as_array().unwrap();
    for vm in CLIENT_VMS {
        for window in vm.windows() {
            let found = windows.iter().find(|found| {
                found["vm"] == vm.name && found["app_id"].as_str().unwrap().ends_with(window.app_id)
            });
            // The content starts inside of what sway draws around it.
            let found = found.unwrap_or_else(|| panic!("{} isn't shown", window.app_id));
            let (x, y) = (found["x"].as_i64().unwrap(), found["y"].as_i64().unwrap());
            assert!((0..10).contains(&(x - i64::from(window.x))), "{found}");
            assert!((0..60).contains(&(y - i64::from(window.y))), "{found}");
        }
    }
    assert_eq!(windows.len(), 6);
}

#[test]
fn a_part_that_fails_is_named_and_all_others_are_stopped() {
    let agent = AGENT_SCRIPT.replace("    shift 6\n", "    echo no channel; exit 3\n");
    let (shown, stopped, _dir, output) = show(WLPROXY_SCRIPT, &agent);
    let error = shown.unwrap_err();
    assert_eq!(error.to_string(), "agent-work exited with status 3");
    assert!(error.downcast_ref::<Failure>().unwrap().log_tails().contains("no channel"));
    stopped.unwrap();
    assert!(!output.report.exists());
}

#[test]
fn an_application_that_ends_ends_its_vm() {
    let agent = AGENT_SCRIPT.replace("/wayland-1", "/no-such-socket");
    let (shown, stopped, _dir, _output) = show(WLPROXY_SCRIPT, &agent);
    let error = shown.unwrap_err();
    stopped.unwrap();
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.contains(" ended with status "), "{error}\n{tails}");
}

/// An agent that outlives its applications. When all windows of the first VM are there, the agent of the second has sway
/// run a command and, if it goes on, waits until the first VM's applications have ended.
fn agent_that_tells_sway(command: &str) -> String {
    let start = "    WAYLAND_DISPLAY=$PWD/../gui/wayland-1 \"$@\" &\n";
    assert!(AGENT_SCRIPT.contains(start));
    let agent = r#"
    export WAYLAND_DISPLAY=$PWD/../gui/wayland-1
    first=work
    if [ "${PWD##*/}" = $first ]; then
        { "$@"; touch ended; exec sleep 1000; } &
    else
        swaymsg -s ../gui/sway.sock 'COMMAND' || exec sleep 1000
        until [ -e ../$first/ended ]; do sleep 0.05; done
        "$@" &
    fi
"#;
    AGENT_SCRIPT.replace(start, &agent.replace("COMMAND", command))
}

#[test]
fn a_window_that_goes_while_its_agent_stays_is_noticed() {
    let agent = agent_that_tells_sway("[app_id=foot] kill");
    let (shown, stopped, _dir, _output) = show(WLPROXY_SCRIPT, &agent);
    let error = shown.unwrap_err();
    stopped.unwrap();
    assert_eq!(error.to_string(), "agent-work, agent-gui, wlproxy: a window is gone");
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.contains("foot ended with status "), "{tails}");
}

#[test]
fn a_sway_that_ends_is_named() {
    let (shown, stopped, _dir, _output) = show(WLPROXY_SCRIPT, &agent_that_tells_sway("exit"));
    let error = shown.unwrap_err();
    stopped.unwrap();
    // Its sockets may be seen to close before.
    assert!(error.to_string().starts_with("sway exited with status 0"), "{error}");
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.contains("/sway.log"), "{tails}");
}

#[test]
fn numbers_that_contradict_the_picture_are_noticed() {
    let agent = AGENT_SCRIPT.replace("\\\"frames\\\": 5", "\\\"frames\\\": 0");
    let (shown, stopped, _dir, _output) = show(WLPROXY_SCRIPT, &agent);
    let error = shown.unwrap_err();
    stopped.unwrap();
    let expected = "agent-work: windows of work are shown, but no frames were counted";
    assert_eq!(error.to_string(), expected);
    let tails = error.downcast_ref::<Failure>().unwrap().log_tails();
    assert!(tails.contains("/agent-work.log"), "{tails}");
}
