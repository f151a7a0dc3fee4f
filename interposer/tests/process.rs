//! What a process with the interposer is to others, and to its own threads, signals and children.

mod rig;

use rig::{Agent, Event, Manners, built, command, feed};
use std::path::Path;

/// What children of a client have in their environment, before and after it has connected. `before`: what is preloaded
/// anyway; `threads`: what makes threads.
fn environments(before: Option<&Path>, threads: &str) -> (Vec<String>, Vec<String>) {
    let agent = Agent::start(Manners::GOOD);
    let mut command = command(&agent, true, &built().client);
    if let Some(before) = before {
        let list = format!("{}:{}", built().library.display(), before.display());
        command.env("LD_PRELOAD", list);
    }
    command.env("KEPT", "yes");
    let display = agent.path("display");
    let script = format!("{threads}system env\nconnect {}\nsystem env\n", display.display());
    let output = feed(&mut command, &script);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    agent.end();
    let (first, second) = said.split_once("connect: 0\n").unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    (lines(first), lines(second))
}

fn ours(lines: &[String]) -> Vec<&String> {
    let is_ours = |line: &&String| line.starts_with("LD_PRELOAD=") || line.contains("WLPROXY");
    let mut ours: Vec<_> = lines.iter().filter(is_ours).collect();
    ours.sort();
    ours
}

/// Wrappers start the client, so they pass all of it on. What the client starts is no client that we know of.
#[test]
fn nothing_is_inherited_from_who_has_connected() {
    for threads in ["", "thread\n"] {
        let (before, after) = environments(None, threads);
        assert_eq!(ours(&before).len(), 3, "{before:?}");
        assert_eq!(ours(&after), [""; 0], "{threads}");
        assert!(after.contains(&"KEPT=yes".to_owned()));
    }
}

#[test]
fn what_is_preloaded_anyway_is_inherited() {
    let (_, after) = environments(Some(&built().wayland), "");
    assert_eq!(ours(&after)[0], &format!("LD_PRELOAD={}", built().wayland.display()));
}

/// What the program has put into its environment may be memory that nobody can write to, with or without our entry.
#[test]
fn an_environment_that_can_not_be_written_to_stays() {
    let agent = Agent::start(Manners::GOOD);
    for list in ["", "/nothing.so", &built().library.display().to_string()] {
        let mut command = command(&agent, true, &built().client);
        let script = format!(
            "put-constant LD_PRELOAD={list}\nconnect {}\ncreate 0 1\ntruncate 0 100000\npool 0\n",
            agent.path("display").display()
        );
        let output = feed(&mut command, &script);
        assert!(output.status.success(), "{list}: {output:?}");
    }
    let (events, _) = agent.end();
    let lent = events.iter().filter(|event| matches!(event, Event::Lent { .. })).count();
    assert_eq!(lent, 3);
}

/// A path is the same however it is written.
#[test]
fn a_client_may_write_the_path_otherwise() {
    let agent = Agent::start(Manners::GOOD);
    let folder = agent.path("display").parent().unwrap().to_owned();
    std::os::unix::fs::symlink(folder.join("display"), folder.join("link")).unwrap();
    for name in ["/display", "./display", "link"] {
        let mut command = command(&agent, true, &built().client);
        let script =
            format!("connect {}/{name}\ncreate 0 1\ntruncate 0 100000\npool 0\n", folder.display());
        assert!(feed(&mut command, &script).status.success());
    }
    let (events, _) = agent.end();
    let lent = events.iter().filter(|event| matches!(event, Event::Lent { .. })).count();
    assert_eq!(lent, 3);
}

/// The agent may listen at a path that is written in another way than the one that the client is told.
#[test]
fn an_agent_may_write_the_path_otherwise() {
    let agent = Agent::start(Manners::GOOD);
    let display = agent.path("display").display().to_string();
    let (folder, name) = display.rsplit_once('/').unwrap();
    let mut command = command(&agent, true, &built().client);
    command.env("WLPROXY_LEND_DISPLAY", format!("{folder}/.//{name}"));
    let script = format!("connect {display}\ncreate 0 1\ntruncate 0 100000\npool 0\n");
    assert!(feed(&mut command, &script).status.success());
    let (events, _) = agent.end();
    assert!(matches!(events[..], [Event::Lent { .. }, Event::Ended]), "{events:?}");
}

/// Who hasn't connected to the agent's display, or only to another, draws into files.
#[test]
fn a_client_of_another_display_is_lent_nothing() {
    let agent = Agent::start(Manners::GOOD);
    let pool = "create 0 1\ntruncate 0 100000\npool 0\nstat 0\n";
    for connect in [String::new(), format!("connect {}\n", agent.path("other").display())] {
        let mut command = command(&agent, true, &built().client);
        let output = feed(&mut command, &(connect + pool));
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().ends_with("100000 bytes, mode 100777\n"));
    }
    assert_eq!(agent.end().0.len(), 0);
}

/// What others got before stays a file: sent, or inherited.
#[test]
fn what_is_others_before_a_client_connects_stays_a_file() {
    let agent = Agent::start(Manners::GOOD);
    let (display, other) = (agent.path("display"), agent.path("other"));
    for (flags, operation) in [(1, "send-other 0"), (0, "null 1")] {
        let script = format!(
            "create 0 {flags}\ntruncate 0 100000\nconnect-other {}\n{operation}\nconnect {}\npool 0\n",
            other.display(),
            display.display()
        );
        let mut command = command(&agent, true, &built().client);
        assert!(feed(&mut command, &script).status.success());
    }
    let (events, [pools, _]) = agent.end();
    assert_eq!((events.len(), pools.len()), (0, 2), "{events:?}");
}

/// One with connections to both: what it shows elsewhere is a file.
#[test]
fn a_client_of_two_displays_sends_the_other_one_files() {
    let agent = Agent::start(Manners::GOOD);
    let mut command = command(&agent, true, &built().client);
    let (display, other) = (agent.path("display"), agent.path("other"));
    let script = format!(
        "connect {}\nconnect {}\ncreate 0 1\ntruncate 0 100000\nmap 0 0 100000 0\npool 0\npoke 0 0 9 9\nlook 0\n",
        display.display(),
        other.display()
    );
    assert!(feed(&mut command, &script).status.success());
    let (events, [pools, others]) = agent.end();
    assert!(matches!(events[..], [Event::Lent { .. }, Event::Demoted(..), Event::Ended]));
    assert_eq!((pools.len(), rig::content(&others[0]).len()), (0, 100_000));
    assert_eq!(rig::content(&others[0])[..9], [9; 9]);
}

#[test]
fn threads_and_signals_and_children_are_in_nobody_s_way() {
    let agent = Agent::start(Manners::GOOD);
    let mut command = command(&agent, true, &built().stress);
    command.arg(agent.path("display"));
    let output = feed(&mut command, "");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n", "an fd is left");
    let (events, [pools, _]) = agent.end();
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    let lent = count(|event| matches!(event, Event::Lent { .. }));
    let demoted = count(|event| matches!(event, Event::Demoted(..)));
    let closed = count(|event| matches!(event, Event::Closed(_)));
    assert_eq!(pools.len(), 600);
    // A child that is made meanwhile may have what isn't a pool yet: that stays a file.
    assert!(lent > 500 && demoted > 100, "{lent} were lent, {demoted} demoted");
    assert_eq!(lent, demoted + closed);
}

/// The agent may take its time, and the client's other threads don't wait.
#[test]
fn what_others_do_while_the_agent_is_asked_is_not_undone() {
    for (deed, said, closed) in [
        ("nothing", "a, 100000 bytes, a file\n", 0),
        ("map", "X, 100000 bytes, a file\n", 1),
        ("open", "a, 100000 bytes, another\n", 1),
        ("shrink", "a, 4096 bytes, a file\n", 1),
    ] {
        let agent = Agent::start(Manners { waits: true, ..Manners::GOOD });
        let mut command = command(&agent, true, &built().meanwhile);
        let display = agent.path("display");
        command.arg(&display).arg(display.parent().unwrap()).arg(deed);
        let output = feed(&mut command, "");
        assert!(output.status.success() && output.stderr.is_empty(), "{deed}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{deed}");
        let (events, _) = agent.end();
        // What isn't taken is given back.
        let back = events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
        assert_eq!(back, closed, "{deed}: {events:?}");
    }
}

/// All that a library which is loaded first can spoil: programs of many kinds, that aren't clients.
#[test]
fn other_programs_run() {
    let agent = Agent::start(Manners::GOOD);
    for (program, input, expected) in [
        (
            "/bin/sh",
            "echo $((6 * 7)); (echo in; exit 3); echo $?; ls / | grep -c tmp\n",
            "42\nin\n3\n1\n",
        ),
        (
            "/bin/bash",
            "x=$(echo a | cat | tr a b); echo $x; exec 9>/dev/null; echo y >&9; exec 9>&-; echo $?\n",
            "b\n0\n",
        ),
        ("/usr/bin/env", "", ""),
        ("/bin/cat", "through\n", "through\n"),
    ] {
        let mut command = command(&agent, true, Path::new(program));
        let output = feed(&mut command, input);
        assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{program}: {said}");
    }
    agent.end();
}
