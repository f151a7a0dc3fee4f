//! The compositor learns which VM a client is of, where it can.

use std::fs;
use wlproxy_tests::{Desk, Plan, Raw, Tag, Tagger, until};

const VMS: &[&str] = &["work", "untrusted"];

fn tag(vm: &str, instance: &str) -> Tag {
    Tag { engine: "wlproxy".into(), app_id: vm.into(), instance_id: instance.into() }
}

#[test]
fn clients_are_tagged_with_their_vm_and_number() {
    let mut desk = Desk::without_serve(Plan { vms: VMS, ..Plan::default() });
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
    let mut desk = Desk::without_serve(Plan { vms: &["work"], ..Plan::default() });
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
    let mut desk = Desk::without_serve(Plan { vms: &["work"], ..Plan::default() });
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
    let mut desk = Desk::without_serve(Plan::default());
    let tagger = Tagger::start();
    desk.start_serve_for(tagger.socket(), &["--security-context", "off"]);
    desk.ready("work");
    let mut client = Raw::connect(&desk.through("work"));
    client.sync();
    assert_eq!(tagger.clients(), []);
}
