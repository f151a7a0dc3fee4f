//! What `wlproxy status` and `wlproxy trace` tell of an application that runs.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use wlproxy_tests::{Client, Desk, Way, until};

/// The only connection of "work" beside the one that was there before.
fn newest(desk: &Desk) -> Option<Value> {
    let status = desk.whole_status();
    let connections = status["vms"]["work"]["connections"].as_array().unwrap();
    connections.iter().max_by_key(|one| one["connection"].as_u64()).cloned()
}

#[test]
fn a_connection_is_shown_timed_and_traced() {
    let mut desk = Desk::new(Way::Through);
    let before = newest(&desk).map_or(0, |one| one["connection"].as_u64().unwrap());
    let mut client = Client::connect(&desk.display()).unwrap();
    let number = until("the connection", || {
        newest(&desk)?["connection"].as_u64().filter(|&number| number > before)
    });

    let command = desk.wlproxy(&["trace", &number.to_string()]);
    let trace = desk.adopt("trace", command, true);
    let mut lines = BufReader::new(trace.child().stdout.take().unwrap()).lines();
    until("the trace", || trace.log().contains("everything from now on").then_some(()));

    let toplevel = client.toplevel("a \u{1b}[31mred\u{1b}[m window").unwrap();
    let buffer = client.buffer(40, 30);
    buffer.draw(|_, _| 0xff00_8000);
    toplevel.show(&buffer);
    client.roundtrip().unwrap();
    let mut next = |what: &str| {
        let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("the trace ends without {what}"))
    };
    let title = next(".set_title(");
    let who = format!(" client VM work, connection {number}: xdg_toplevel@");
    assert!(title.starts_with('[') && title.contains(&who), "{title}");
    assert!(
        title.ends_with(r#"("a \u{1b}[31mred\u{1b}[m window") (with the VM's prefix)"#),
        "{title}"
    );
    next(": wl_surface@");
    next(":  -> wl_callback@");

    let one =
        until("the commits", || newest(&desk).filter(|one| one["commits"].as_u64() >= Some(2)));
    assert!(one["objects"].as_u64() > Some(5) && one["sent_bytes"].as_u64() > Some(100), "{one}");
    let status = desk.whole_status();
    for (vm, hop) in [("work", "commit_in"), ("gui", "commit_out")] {
        let buckets = status["vms"][vm][hop]["buckets"].as_array().unwrap();
        let count: u64 = buckets.iter().filter_map(Value::as_u64).sum();
        assert!(count >= 2, "{hop}: {buckets:?}");
        assert!(buckets.len() < 40, "nothing takes seconds: {buckets:?}");
    }
    let gui = status["vms"]["gui"]["connections"].as_array().unwrap();
    let there = gui.iter().find(|other| other["connection"] == number).expect("the other end");
    assert!(there["received_bytes"].as_u64() > Some(100), "{there}");

    drop((toplevel, buffer, client));
    next("-- the connection has ended");
    assert!(lines.next().is_none());
    desk.kill_apps();
}

/// What only the agent can know, the host shows as the agent tells it.
#[test]
fn what_an_agent_copies_is_shown_as_its_own_word() {
    let desk = Desk::new(Way::Through);
    let mut client = Client::connect(&desk.display()).unwrap();
    let toplevel = client.toplevel("copied").unwrap();
    for shade in 0..20 {
        let buffer = client.buffer(40 + shade, 30);
        buffer.draw(|_, _| 0xff00_0000 | shade as u32);
        toplevel.show(&buffer);
        client.roundtrip().unwrap();
    }
    let keys = ["frames", "damaged_bytes", "copied_bytes"];
    let counted = keys.map(|key| desk.vm("work").stats(key));
    assert!(counted.iter().all(|&number| number >= 20), "{counted:?}");
    let shown = |vm: &str, status: &Value| {
        keys.map(|key| status["vms"][vm]["reported"][key].as_u64().unwrap())
    };
    // Nothing happens any more, and still the last numbers arrive.
    let status = until("the agent's numbers", || {
        let status = desk.whole_status();
        (shown("work", &status) == counted).then_some(status)
    });
    assert_eq!(status["vms"]["work"]["reported"]["agents"], 1);
    assert_eq!(shown("gui", &status), [0; 3], "who copies nothing tells nothing");
    let table = desk.wlproxy(&["status"]).output().unwrap().stdout;
    let table = String::from_utf8(table).unwrap();
    let row = table.lines().skip_while(|line| !line.starts_with("told by the VM")).nth(1);
    let words: Vec<_> = row.expect("a row").split_whitespace().collect();
    assert_eq!(words[..3], ["work", "1", &counted[0].to_string()], "{table}");
}
