//! The compositor learns which VM a client is of, where it can.

use anyhow::Result;
use std::fs;
use wlproxy_tests::{Client, Desk, Display, Kind, Plan, Raw, Suite, Tag, Tagger, until};

const VMS: &[&str] = &["work", "untrusted"];

fn tag(vm: &str, instance: &str) -> Tag {
    Tag { engine: "wlproxy".into(), app_id: vm.into(), instance_id: instance.into() }
}

#[test]
fn clients_are_tagged_with_their_vm_and_number() {
    let mut desk = Desk::gui_by_hand(Plan { vms: VMS, ..Plan::default() });
    let tagger = Tagger::start();
    desk.start_serve_for(tagger.socket(), &[]);
    let mut clients = Vec::new();
    for vm in ["work", "untrusted", "work"] {
        desk.ready(vm);
        let mut client = Raw::connect(&desk.through(vm));
        client.sync();
        // Who is tagged is not to tag others.
        assert_eq!(client.globals().len(), 1, "{:?}", client.globals());
        clients.push(client);
    }
    let seen = tagger.clients();
    assert_eq!(seen, [tag("work", "1"), tag("untrusted", "2"), tag("work", "3")]);
    // Each listener was for one client, and nobody else can connect to it later.
    until("the listeners' end", || (tagger.listeners() == 0).then_some(()));
    let left = fs::read_dir(desk.serve_folder()).expect("serve's folder").count();
    assert_eq!(left, 0, "sockets are left");
    clients.iter_mut().for_each(Raw::sync);
}

/// A client that says nothing costs the compositor no more than its connection.
#[test]
fn the_listener_of_a_silent_client_ends() {
    let mut desk = Desk::gui_by_hand(Plan { vms: &["work"], ..Plan::default() });
    let tagger = Tagger::start();
    desk.start_serve_for(tagger.socket(), &[]);
    desk.ready("work");
    let _silent = Raw::connect(&desk.through("work"));
    until("the client", || (tagger.clients().len() == 1).then_some(()));
    until("the listener's end", || (tagger.listeners() == 0).then_some(()));
}

/// A thousand clients, and nothing is left of their listeners.
#[test]
fn many_clients_are_tagged() {
    let mut desk = Desk::gui_by_hand(Plan { vms: &["work"], ..Plan::default() });
    let tagger = Tagger::start();
    desk.start_serve_for(tagger.socket(), &[]);
    desk.ready("work");
    Raw::connect(&desk.through("work")).sync();
    let leaks = desk.leaks();
    for _ in 0..1000 {
        Raw::connect(&desk.through("work")).sync();
    }
    leaks.check();
    assert_eq!(tagger.clients().len(), 1001);
    until("the listeners' end", || (tagger.listeners() == 0).then_some(()));
}

#[test]
fn clients_are_not_tagged_if_it_is_switched_off() {
    let mut desk = Desk::gui_by_hand(Plan::default());
    let tagger = Tagger::start();
    desk.start_serve_for(tagger.socket(), &["--security-context", "off"]);
    desk.ready("work");
    let mut client = Raw::connect(&desk.through("work"));
    client.sync();
    assert_eq!(tagger.clients(), []);
}

/// What sway hides from clients that are tagged, of what a client VM may be allowed.
const PRIVILEGED: [&str; 6] = [
    "ext_session_lock_manager_v1",
    "zwlr_data_control_manager_v1",
    "zwlr_layer_shell_v1",
    "zwlr_output_manager_v1",
    "zwlr_virtual_pointer_manager_v1",
    "zwp_virtual_keyboard_manager_v1",
];

/// Which of these `display` offers.
fn privileges(display: &Display) -> Vec<&'static str> {
    let mut client = Raw::connect(display);
    client.sync();
    let offered = |name: &&&str| client.globals().iter().any(|global| global.1 == **name);
    PRIVILEGED.iter().filter(offered).copied().collect()
}

fn sway(suite: Suite, serve: &'static [&'static str]) -> Desk {
    // The host lets pass what sway is to hide.
    let (compositor, allow) = (Kind::Newer(suite), &PRIVILEGED);
    Desk::start(Plan { compositor, vms: VMS, serve, allow, ..Plan::default() })
}

#[test]
fn sway_hides_what_is_privileged() {
    for suite in [Suite::Trixie, Suite::Forky] {
        let desk = sway(suite, &[]);
        assert_eq!(privileges(&desk.direct()), PRIVILEGED, "{suite:?}");
        assert_eq!(privileges(&desk.through("work")), [""; 0], "{suite:?}");
        assert_eq!(desk.complaints(), [""; 0]);
    }
}

#[test]
fn sway_hides_nothing_if_it_is_switched_off() {
    for suite in [Suite::Trixie, Suite::Forky] {
        let desk = sway(suite, &["--security-context", "off"]);
        assert_eq!(privileges(&desk.through("work")), PRIVILEGED, "{suite:?}");
    }
}

/// sway tells since 1.11, and a user's rules may tell windows of one VM from those of another.
#[test]
fn sway_knows_whose_a_window_is() -> Result<()> {
    let desk = sway(Suite::Forky, &[]);
    let mut sway = desk.sway();
    let criteria = r#"sandbox_engine="^wlproxy$" sandbox_app_id="^untrusted$""#;
    sway.command(&format!("for_window [{criteria}] move absolute position 10 20"));
    let (mut clients, mut last) = (Vec::new(), 0);
    for (title, vm) in [("first", "work"), ("second", "untrusted"), ("third", "work")] {
        let mut client = Client::connect(&desk.through(vm))?;
        let window = client.toplevel(title)?;
        window.show(&client.buffer(100, 100));
        client.roundtrip()?;
        last = until("its connection", || newest(&desk, vm).filter(|number| *number > last));
        assert_eq!(sway.window(title).tag, Some(tag(vm, &last.to_string())), "{title}");
        clients.push((client, window));
    }
    let mut client = Client::connect(&desk.direct())?;
    let window = client.toplevel("local")?;
    window.show(&client.buffer(100, 100));
    client.roundtrip()?;
    assert_eq!(sway.window("local").tag, None);

    for window in sway.windows() {
        let untrusted = window.title.ends_with("second");
        assert_eq!(window.position == (10, 20), untrusted, "{window:?}");
    }
    drop((clients, client, window));
    sway.empty();
    Ok(())
}

/// The number of the newest connection of a VM.
fn newest(desk: &Desk, vm: &str) -> Option<u64> {
    let status = desk.whole_status();
    let connections = status["vms"][vm]["connections"].as_array()?;
    connections.iter().filter_map(|one| one["connection"].as_u64()).max()
}
