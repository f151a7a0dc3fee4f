//! What the host lets clients of a VM do, against real compositors.

use anyhow::Result;
use std::collections::BTreeSet;
use wlproxy_protocol::wayland::tables::{self, Class};
use wlproxy_tests::{
    Arg, Bystander, Client, Desk, Display, Fault, Kind, Plan, Raw, Suite, Toplevel, message, until,
};

/// The registry of a [`Raw`] client: its first object.
const REGISTRY: u32 = 2;
/// wl_registry.bind.
const BIND: u16 = 0;

/// What these compositors offer and no table has.
const WITHOUT_TABLES: [&str; 4] =
    ["org_kde_kwin_idle", "weston_debug_v1", "weston_desktop_shell", "weston_screenshooter"];

const LAYERS: &str = "zwlr_layer_shell_v1";

/// Two VMs with agents, and one whose clients nobody checks before the host does.
fn plan() -> Plan {
    const WORK: &str = r#"
        [vm.work.globals]
        allow = ["zwlr_layer_shell_v1"]
        deny = ["wp_viewporter"]
        max_version = { wl_output = 2 }"#;
    Plan {
        vms: &["work", "untrusted"],
        dialling: &["hostile"],
        policies: &[("work", WORK)],
        ..Plan::default()
    }
}

/// What a display offers: name, interface, version.
fn globals(display: &Display) -> Vec<(u32, String, u32)> {
    let mut client = Raw::connect(display);
    client.sync();
    client.globals().to_vec()
}

/// The version in which an interface is offered.
fn version(display: &Display, interface: &str) -> Option<u32> {
    let offered = globals(display);
    offered.iter().find(|(_, name, _)| name == interface).map(|&(_, _, version)| version)
}

/// What the host makes of what a compositor offers, where the configuration says nothing.
fn safe(offered: &[(u32, String, u32)]) -> Vec<(u32, String, u32)> {
    let mut safe = Vec::new();
    for (name, interface, version) in offered {
        if let Some(global) = tables::global(interface)
            && global.class == Class::Safe
        {
            safe.push((*name, interface.clone(), global.version.min(*version)));
        }
    }
    safe
}

#[test]
fn what_is_privileged_is_offered_where_it_is_allowed() {
    let desk = Desk::start(plan());
    let all = globals(&desk.direct());
    assert_eq!(globals(&desk.through("untrusted")), safe(&all));
    assert_eq!(globals(&desk.dial("hostile")), safe(&all));
    assert!(all.len() > safe(&all).len() + 10, "sway has more to hide: {all:?}");

    let work = desk.through("work");
    assert!(
        version(&work, LAYERS).is_some()
            && version(&work, LAYERS) == version(&desk.direct(), LAYERS)
    );
    assert_eq!(version(&work, "zwp_virtual_keyboard_manager_v1"), None);
    assert!(version(&desk.direct(), "wp_viewporter").is_some());
    assert_eq!(version(&work, "wp_viewporter"), None);
    assert!(version(&desk.through("untrusted"), "wl_output") > Some(2));
    assert_eq!(version(&work, "wl_output"), Some(2));
    // It can be used, too.
    let mut client = Raw::connect(&work);
    client.sync();
    client.bind(LAYERS, 1);
    client.bind("wl_output", 2);
    client.sync();
    drop(client);
    assert_eq!(desk.complaints(), [""; 0]);
}

/// A new protocol of a compositor's is hidden until somebody has classed it; here shows which that is.
#[test]
fn every_global_of_real_compositors_is_classed() {
    let compositors =
        [Kind::Sway, Kind::Weston, Kind::Newer(Suite::Trixie), Kind::Newer(Suite::Forky)];
    let mut unknown = BTreeSet::new();
    for compositor in compositors {
        let desk = Desk::start(Plan { compositor, vms: &[], ..Plan::default() });
        let offered = globals(&desk.direct()).into_iter().map(|(_, interface, _)| interface);
        unknown.extend(offered.filter(|interface| tables::global(interface).is_none()));
    }
    let unknown: Vec<_> = unknown.iter().map(String::as_str).collect();
    assert_eq!(unknown, WITHOUT_TABLES);
}

/// Sends a bind that no client has a right to; the error.
fn forge(display: &Display, name: u32, interface: &str, version: u32) -> Fault {
    let mut client = Raw::connect(display);
    client.sync();
    let id = client.id();
    let args = [Arg::Uint(name), Arg::Text(interface), Arg::Uint(version), Arg::Uint(id)];
    client.send(&message(REGISTRY, BIND, &args), []);
    client.end().expect("an error")
}

#[test]
fn who_binds_what_was_not_offered_is_ended_alone() {
    let desk = Desk::start(plan());
    let all = globals(&desk.direct());
    let find = |wanted: &str| all.iter().find(|(_, interface, _)| interface == wanted).unwrap();
    let bystanders = [desk.through("work"), desk.through("untrusted"), desk.dial("hostile")]
        .map(|display| Bystander::start(&display));
    // The agent in "untrusted" says it before the host could; in "hostile" there is none.
    for vm in ["untrusted", "hostile"] {
        let display = if vm == "hostile" { desk.dial(vm) } else { desk.through(vm) };
        let before = desk.status(vm, "violations");
        for interface in [
            LAYERS,
            "zwp_virtual_keyboard_manager_v1",
            "zwlr_data_control_manager_v1",
            "zwlr_screencopy_manager_v1",
        ] {
            let (name, _, version) = find(interface);
            let fault = forge(&display, *name, interface, *version);
            let words = format!("wl_registry@2.bind: global {name}, {interface}, was not offered");
            assert_eq!(fault, Fault { object: 1, code: 0, message: words }, "{vm}");
        }
        let (name, _, version) = find("wl_seat");
        let fault = forge(&display, *name, "wl_seat", version + 1);
        let words = format!(
            "wl_registry@2.bind: version {} of wl_seat, which has 1 to {version}",
            version + 1
        );
        assert_eq!(fault, Fault { object: 1, code: 0, message: words }, "{vm}");
        let fault = forge(&display, *name, LAYERS, 1);
        let words = format!("wl_registry@2.bind: global {name} is a wl_seat");
        assert_eq!(fault, Fault { object: 1, code: 0, message: words }, "{vm}");
        if vm == "hostile" {
            until("all of its violations", || {
                (desk.status(vm, "violations") == before + 6).then_some(())
            });
        }
    }
    // What the compositor offers in version 4, this VM has in 2.
    let (name, ..) = find("wl_output");
    let fault = forge(&desk.through("work"), *name, "wl_output", 3);
    assert_eq!(fault.message, "wl_registry@2.bind: version 3 of wl_output, which has 1 to 2");
    bystanders.iter().for_each(Bystander::check);
}

/// Who is there when the policy changes keeps the one with which it came; who comes has the new one.
#[test]
fn a_new_policy_is_for_new_clients() {
    let mut desk = Desk::start(plan());
    let (work, hostile) = (desk.through("work"), desk.dial("hostile"));
    let mut before = Raw::connect(&work);
    before.sync();
    assert_eq!(version(&hostile, LAYERS), None);

    desk.rewrite_config(&[("hostile", "[vm.hostile.globals]\nallow = [\"zwlr_layer_shell_v1\"]")]);
    let said = desk.reload();
    assert!(said.contains("clients of hostile, work that connect from now on"), "{said}");
    assert_eq!(version(&work, LAYERS), None);
    assert_eq!(version(&hostile, LAYERS), version(&desk.direct(), LAYERS));
    before.bind(LAYERS, 1);
    before.sync();

    desk.rewrite_config(&[("hostile", "[vm.hostile.globals]\nallow = [\"wl_drm\"]")]);
    let status = desk.wlproxy(&["reload"]).status().expect("wlproxy can be started");
    assert!(!status.success());
    assert_eq!(version(&hostile, LAYERS), version(&desk.direct(), LAYERS));
    before.sync();
}

/// Every window says whose it is, before all that its client says.
#[test]
fn windows_have_the_name_of_their_vm() -> Result<()> {
    const PLAIN: (&str, &str) = ("untrusted", "title_prefix = \"\"\napp_id_prefix = \"\"");
    let vms = &["work", "untrusted", "other"];
    let desk = Desk::start(Plan { vms, policies: &[PLAIN], ..Plan::default() });
    let mut sway = desk.sway();
    let named = |client: &mut Client, window: &Toplevel, title: &str, app_id: &str| {
        window.toplevel.set_title(title.to_owned());
        window.toplevel.set_app_id(app_id.to_owned());
        client.roundtrip()
    };
    for (display, title, app_id) in [
        (desk.direct(), "[gui] a\nb", "gui.foot"),
        (desk.through("work"), "[work] [gui] ab", "work.gui.foot"),
        (desk.through("other"), "[other] [gui] ab", "other.gui.foot"),
        (desk.through("untrusted"), "[gui] ab", "gui.foot"),
    ] {
        let mut client = Client::connect(&display)?;
        let window = client.toplevel("first")?;
        named(&mut client, &window, "[gui] a\nb", "gui.foot")?;
        window.show(&client.buffer(100, 100));
        client.roundtrip()?;
        let seen = sway.window(title.rsplit(' ').next().unwrap());
        assert_eq!((&*seen.title, &*seen.app_id), (title, app_id));
        drop((client, window));
        sway.empty();
    }

    // A client that says nothing has its window all the same.
    for (display, title, app_id) in
        [(desk.through("work"), "[work] ", "work."), (desk.through("other"), "[other] ", "other.")]
    {
        let mut client = Client::connect(&display)?;
        let window = client.unnamed_toplevel()?;
        window.show(&client.buffer(100, 100));
        client.roundtrip()?;
        let seen = sway.wait("a window", |windows| windows.first().cloned());
        assert_eq!((&*seen.title, &*seen.app_id), (title, app_id));
        drop((client, window));
        sway.empty();
    }
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}
