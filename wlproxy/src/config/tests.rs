use super::*;
use crate::device::Dialect;
use crate::policy::{self, Selections};
use crate::quota::Quota;
use crate::quota::vm::VmQuota;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("/etc/wlproxy.toml"), Some(Path::new("/run/user/7")))
}

const FULL: &str = r#"
runtime_dir = "/run/wlproxy"
isolation = "none"
metrics = "/run/metrics.sock"
[compositor]
vm = "gui"
[vm.work]
socket = "/srv/work.sock"
window = "512 MiB"
device = "virtgpu"
[vm.gui]
"#;

#[test]
fn a_full_configuration() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/wlproxy"));
    assert_eq!(config.control_socket(), Path::new("/run/wlproxy/control.sock"));
    assert_eq!(config.isolation, Isolation::None);
    assert_eq!(config.metrics.as_deref(), Some(Path::new("/run/metrics.sock")));
    assert_eq!(config.compositor, Compositor::Vm("gui".into()));
    let gui = Vm {
        name: "gui".into(),
        side: Side::Compositor,
        socket: "/run/wlproxy/gui.sock".into(),
        window: 8 << 30,
        device: Dialect::VirtioWl.into(),
        policy: Policy::of_compositor(),
    };
    let work = Vm {
        name: "work".into(),
        side: Side::Client,
        socket: "/srv/work.sock".into(),
        window: 512 << 20,
        device: Dialect::Virtgpu.into(),
        // As much memory as fits into the window.
        policy: Policy {
            vm_quota: VmQuota { memory_mib: 512, ..VmQuota::default() },
            ..Policy::of("work")
        },
    };
    assert_eq!(config.vms, [gui, work]);
}

#[test]
fn the_smallest_configuration() {
    let config = parse("[compositor]\nsocket = \"/run/user/7/wayland-0\"\n[vm.work]\n").unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/user/7/wlproxy"));
    assert_eq!((config.isolation, config.metrics), (Isolation::Process, None));
    assert_eq!(config.compositor, Compositor::Socket("/run/user/7/wayland-0".into()));
    assert_eq!(config.vms[0].side, Side::Client);
}

#[test]
fn what_a_vms_clients_are_offered() {
    let parse_table = |table: &str| {
        parse(&format!("[compositor]\nsocket = \"/x\"\n[vm.a]\n{table}\n[vm.b]\n"))
            .map(|config| config.vms[0].policy.offer.clone())
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let default = Policy::of("a").offer;
    assert_eq!(parse_table(""), default);
    assert_eq!(parse_table("[vm.a.globals]"), default);
    let offer = parse_table(
        "[vm.a.globals]\nallow = [\"zwlr_layer_shell_v1\", \"wl_shm\"]\n\
         deny = [\"zwp_idle_inhibit_manager_v1\", \"wl_shell\", \"zwlr_output_manager_v1\"]\n\
         max_version = { wl_output = 3, zwlr_layer_shell_v1 = 1 }",
    );
    assert_eq!(offer.version("zwlr_layer_shell_v1"), Some(1));
    assert_eq!(offer.version("wl_output"), Some(3));
    assert_eq!(offer.version("wl_shm"), default.version("wl_shm"));
    for denied in ["zwp_idle_inhibit_manager_v1", "wl_shell", "zwlr_output_manager_v1"] {
        assert_eq!(offer.version(denied), None, "{denied}");
    }
    // Two were taken out, and one was put in.
    assert_eq!(offer.iter().count(), default.iter().count() - 1);
}

#[test]
fn how_a_vms_windows_are_named() {
    let identity = |table: &str| {
        let text = format!(
            "[compositor]\nsocket = \"/x\"\n[vm.a]\n{table}\n[vm.b]\n[vm.c]\ntitle_prefix = \"\""
        );
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let identity = &config.vms[0].policy.identity;
        (identity.title().to_owned(), identity.app_id().to_owned())
    };
    let expect = |title: &str, app_id: &str| (title.to_owned(), app_id.to_owned());
    assert_eq!(identity(""), expect("[a] ", "a."));
    assert_eq!(identity("title_prefix = \"A: \""), expect("A: ", "a."));
    assert_eq!(identity("app_id_prefix = \"\""), expect("[a] ", ""));
    assert_eq!(identity("title_prefix = \"\"\napp_id_prefix = \"\""), expect("", ""));
}

#[test]
fn what_a_vms_clients_may_have() {
    let table = "objects = 1\nsurfaces = 2\nbuffers = 65536\nbuffer_side = 2147483647";
    let text = format!("[compositor]\nsocket = \"/x\"\n[vm.a.quota]\n{table}\n[vm.b]");
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let default = Quota::default();
    let buffer_side = i32::MAX as u32;
    let expected = Quota { objects: 1, surfaces: 2, buffers: 65_536, buffer_side, ..default };
    assert_eq!(config.vms[0].policy.quota, expected);
    assert_eq!(config.vms[1].policy.quota, default);
}

#[test]
fn what_a_vm_may_have() {
    let table = "connections = 3\nconnections_per_second = 2\nvfds = 9\nmemory_mib = 64\n\
                 requests_kib = 5\nevents_kib = 6\nmessages_per_second = 1000\n\
                 client_messages_per_second = 100";
    let text = format!("[compositor]\nsocket = \"/x\"\n[vm.a.quota]\n{table}\n[vm.b]");
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let expected = VmQuota {
        connections: 3,
        connections_per_second: 2,
        vfds: 9,
        memory_mib: 64,
        requests_kib: 5,
        events_kib: 6,
        messages_per_second: 1000,
        client_messages_per_second: 100,
    };
    assert_eq!(config.vms[0].policy.vm_quota, expected);
    assert_eq!(config.vms[1].policy.vm_quota, VmQuota::default());
}

#[test]
fn what_may_wait_at_the_compositor_vm() {
    for (table, events_kib) in [("", 1024), ("[vm.gui.quota]\nevents_kib = 64", 64)] {
        let text = format!("[compositor]\nvm = \"gui\"\n[vm.gui]\nwindow = \"16 MiB\"\n{table}");
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let expected = VmQuota { events_kib, ..VmQuota::default() };
        assert_eq!(config.vms[0].policy.vm_quota, expected, "{table}");
    }
}

#[test]
fn what_a_vms_clients_may_copy_and_paste() {
    let table = "give = [\"drag\"]\ntake = []\ntypes = [\"text/*\"]\nbytes = \"4 KiB\"\nrate = 7";
    let text = format!("[compositor]\nsocket = \"/x\"\n[vm.a.selections]\n{table}\n[vm.b]");
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let expected = Selections {
        give: [policy::Kind::Drag].into(),
        take: [].into(),
        types: Some(vec!["text/*".to_owned().try_into().unwrap()]),
        bytes: 4096,
        rate: 7,
    };
    assert_eq!(*config.vms[0].policy.selections, expected);
    let default = Selections::default();
    assert_eq!(*config.vms[1].policy.selections, default);
    assert_eq!((default.give.len(), default.take.len(), default.bytes), (3, 3, 1 << 30));
}

/// Text, line of the error, and what the message must name: the key, and the cure.
const WRONG: &[(&str, usize, &[&str])] = &[
    (
        "[compositor]\nvm = \"a\"\n[vm.a]\ndevice = \"gpu\"",
        4,
        &["vm.a.device: there is no \"gpu\"", "\"virtgpu\" or \"socket\""],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.selections]\ntake = [\"drag\", \"selection\"]",
        4,
        &[
            "vm.a.selections.take: there is no \"selection\"",
            "\"clipboard\", \"primary\", \"drag\"",
        ],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.selections]\ntypes = [\"te*t\"]",
        4,
        &["vm.a.selections.types: \"te*t\": '*' is in no type", "like \"text/plain\""],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.selections]\nbytes = \"4095\"",
        4,
        &["vm.a.selections.bytes: \"4095\" is no size", "\"1 GiB\""],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.selections]\nrate = 0",
        4,
        &["vm.a.selections.rate: 0 is not between 1 and 60000", "give = []"],
    ),
    (
        "[compositor]\nvm = \"a\"\n[vm.a.selections]\nrate = 1",
        3,
        &["vm.a.selections: a is the compositor VM", "delete it"],
    ),
    // Unknown keys.
    (
        "isolaton = \"none\"",
        1,
        &["isolaton: unknown key", "runtime_dir, isolation, metrics, compositor, vm"],
    ),
    ("[compositor]\nvm = \"a\"\nvn = 1\n[vm.a]", 3, &["compositor.vn: unknown key", "vm, socket"]),
    ("[vm.a]\nsock = 1", 2, &["vm.a.sock: unknown key", "socket, window"]),
    ("[vm.a]\n\"no\\nkey\" = 1", 2, &["vm.a.\"no\\nkey\": unknown key"]),
    (
        "[vm.a.globals]\nalow = []",
        2,
        &["vm.a.globals.alow: unknown key", "allow, deny, max_version"],
    ),
    ("[vm.a]\n[workers]", 2, &["workers: unknown key", "known ones here are runtime_dir"]),
    ("[vm.my.vm]", 1, &["vm.my.vm: unknown key", "[vm.\"my.vm\"]"]),
    (
        "[compositor]\nisolation = \"none\"",
        2,
        &["compositor.isolation: unknown", "above the first"],
    ),
    // Wrong types.
    ("runtime_dir = 3", 1, &["runtime_dir: is of type integer", "write e.g. runtime_dir = \"/"]),
    ("isolation = true", 1, &["isolation: is of type boolean", "isolation = \"process\""]),
    ("compositor = \"a\"", 1, &["compositor: is of type string", "[compositor]"]),
    ("compositor = [\"a\"]", 1, &["compositor: is of type array", "[compositor]"]),
    ("[[compositor]]\nvm = \"a\"", 1, &["compositor: is of type array", "[compositor]"]),
    ("[compositor]\nvm = 5\n[vm.a]", 2, &["compositor.vm: is of type integer", "vm = \"gui\""]),
    ("\nvm = \"a\"", 2, &["vm: is of type string", "[vm.work]"]),
    ("\n[[vm]]\nname = \"a\"", 2, &["vm: is of type array", "[vm.work]"]),
    ("[vm]\na = \"/a.sock\"", 2, &["vm.a: is of type string", "[vm.work]"]),
    ("[vm.a]\nwindow = 3", 2, &["vm.a.window: is of type integer", "window = \"8 GiB\""]),
    ("[vm.a]\nwindow = 1.5", 2, &["vm.a.window: is of type float"]),
    (
        "[vm.a.globals]\nallow = \"wl_shm\"",
        2,
        &["vm.a.globals.allow: is of type string", "a list of"],
    ),
    ("[vm.a.globals]\ndeny = [\n1]", 3, &["vm.a.globals.deny: is of type integer", "deny = ["]),
    (
        "[vm.a.globals.max_version]\nwl_shm = \"1\"",
        2,
        &["vm.a.globals.max_version.wl_shm: is of type string", "a whole number"],
    ),
    ("[vm.a]\nsocket = 1979-05-27", 2, &["vm.a.socket: is of type datetime", "socket = \"/"]),
    // No TOML.
    ("[compositor", 1, &["compositor: unclosed", "write e.g. [compositor]"]),
    ("[compositor]\nvm =\n[vm.a]", 2, &["compositor.vm: string values", "vm = \"gui\""]),
    ("[compositor]\nvm = gui", 2, &["compositor.vm: string values must be quoted", "vm = \"gui\""]),
    ("[compositor]\nvm: \"gui\"", 2, &["compositor.vm: ", "expected `=`", "vm = \"gui\""]),
    ("[compositor]\nvm \"gui\"", 2, &["compositor.vm: ", "expected `=`"]),
    ("[compositor]\n\nvm", 3, &["compositor.vm: ", "expected `=`", "vm = \"gui\""]),
    ("[compositor]\nvm = \"gui\n", 2, &["compositor.vm: ", "expected `\"`", "vm = \"gui\""]),
    ("isolation = \"none\";", 1, &["isolation: unexpected", "isolation = \"process\""]),
    ("[vm.a]\nwindow = 8 GiB", 2, &["vm.a.window: string values", "window = \"8 GiB\""]),
    ("{\"vm\": {}}", 1, &["a line is [table], key = \"text\" or # comment"]),
    ("[compositor]\nvm = \"a\"\nvm = \"b\"", 3, &["compositor.vm: duplicate key", "delete one"]),
    ("[vm.a]\n\n[vm.a]", 3, &["vm.a: duplicate key", "delete one"]),
    ("isolation = \"\u{1b}[2J", 1, &["isolation: ", "[2J"]),
    // Missing tables.
    ("", 1, &["compositor: the table is missing", "add [compositor]"]),
    ("[vm.a]\n[compositor]\n", 2, &["exactly one of vm and socket", "none"]),
    ("[compositor]\nsocket = \"/x\"\n", 1, &["vm: 0 VMs", "[vm.NAME]"]),
    // Bad values.
    ("isolation = \"some\"", 1, &["isolation: there is no \"some\"", "\"process\" or \"none\""]),
    ("isolation = \"\"", 1, &["isolation: there is no \"\"", "\"process\" or \"none\""]),
    ("[compositor]\nvm = \"gui\"\n[vm.work]", 2, &["compositor.vm", "gui", "[vm.gui]"]),
    ("[vm.a]\n[compositor]\nvm = \"a\"\nsocket = \"/x\"", 2, &["exactly one of", "both"]),
    ("[compositor]\nsocket = \"x\"\n[vm.a]", 2, &["compositor.socket", "relative", "from /"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.\"a/b\"]", 3, &["a/b", "A-Z"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.\"\"]", 3, &["VM name"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\nwindow = \"3 GiB\"", 4, &["vm.a.window", "\"4 GiB\""]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\nsocket = \"a\"", 4, &["vm.a.socket", "from /"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.control]", 3, &["vm.control.socket", "control socket"]),
    (
        "[compositor]\nvm = \"gui\"\n[vm.gui.globals]",
        3,
        &["vm.gui.globals: gui is the compositor VM"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nallow = [\"wl_shm\",\n\"layer_shell\"]",
        5,
        &[
            "vm.a.globals.allow: there is no interface \"layer_shell\"",
            "near are zwlr_layer_shell_v1",
        ],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nallow = [\"zwlr_screencopy_manager_v1\"]",
        4,
        &["zwlr_screencopy_manager_v1 doesn't work between VMs: the compositor would write"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\ndeny = [\"wl_drm\"]",
        4,
        &["vm.a.globals.deny: there is no interface \"wl_drm\"", "near are"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nallow = [\"wl_shm\"]\ndeny = [\"wl_shm\"]",
        5,
        &["vm.a.globals.deny: wl_shm is also in allow"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals.max_version]\nwl_ouput = 1",
        4,
        &["vm.a.globals.max_version: there is no interface", "near are wl_output"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nmax_version = { wl_output = 0 }",
        4,
        &["vm.a.globals.max_version.wl_output: there is no such version; write 1 to 4"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nmax_version = { wl_output = 4294967297 }",
        4,
        &["vm.a.globals.max_version.wl_output: there is no such version"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.globals]\nmax_version = { zwlr_layer_shell_v1 = 1 }",
        4,
        &["zwlr_layer_shell_v1 is not offered in any version; add it to allow"],
    ),
    (
        "[compositor]\nvm = \"gui\"\n[vm.gui]\ntitle_prefix = \"\"",
        4,
        &["vm.gui.title_prefix: gui is the compositor VM"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a]\ntitle_prefix = \"\\u202E\"",
        4,
        &["vm.a.title_prefix: it has the character U+202E"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a]\n[vm.\"a.b\"]",
        4,
        &["vm.a.b.app_id_prefix: \"a.b.\" begins with \"a.\", that of VM a"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a]\ntitle_prefix = \"x\"\n[vm.b]\ntitle_prefix = \"x\"",
        3,
        &["vm.a.title_prefix: \"x\" begins with \"x\", that of VM b"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.quota]\nwindows = 0",
        4,
        &["vm.a.quota.windows: 0 is not between 1 and 65536"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.quota]\nobjects = 65537",
        4,
        &["vm.a.quota.objects: 65537 is not between 1 and 65536"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.quota]\nconnections = 1025",
        4,
        &["vm.a.quota.connections: 1025 is not between 1 and 1024"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a.quota]\nmessages_per_second = 0",
        4,
        &["vm.a.quota.messages_per_second: 0 is not between 1 and 1000000000"],
    ),
    (
        "[compositor]\nvm = \"gui\"\n[vm.gui.quota]\nevents_kib = 5\nvfds = 5",
        5,
        &["vm.gui.quota: that of the compositor VM has only the key events_kib"],
    ),
    (
        "[compositor]\nvm = \"gui\"\n[vm.gui.quota]\nevents_kib = 1025",
        4,
        &["vm.gui.quota.events_kib: 1025 is not between 1 and 1024"],
    ),
    ("metrics = \"m\"\n[compositor]\nsocket = \"/x\"\n[vm.a]", 1, &["metrics", "relative"]),
    (
        "metrics = \"/run/user/7/wlproxy/control.sock\"\n[compositor]\nsocket = \"/x\"\n[vm.a]",
        1,
        &["metrics", "control socket", "another path"],
    ),
    (
        "metrics = \"/m\"\n[compositor]\nsocket = \"/x\"\n[vm.a]\nsocket = \"/m\"",
        4,
        &["vm.a.socket", "the metrics socket"],
    ),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a]\nsocket = \"/s\"\n[vm.b]\nsocket = \"/s\"",
        5,
        &["vm.b.socket", "VM a", "its own"],
    ),
    (
        "runtime_dir = \"run\"\n[compositor]\nsocket = \"/x\"\n[vm.a]",
        1,
        &["runtime_dir", "relative", "from /"],
    ),
];

#[test]
fn errors_name_file_line_key_and_cure() {
    for (text, line, needles) in WRONG {
        let message = parse(text).unwrap_err().to_string();
        let prefix = format!("/etc/wlproxy.toml:{line}: ");
        assert!(message.starts_with(&prefix), "{text:?} should fail in line {line}: {message}");
        for needle in *needles {
            assert!(message.contains(needle), "{text:?} lacks {needle:?}: {message}");
        }
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
}

#[test]
fn long_names_and_paths_are_refused() {
    let with = |name: &str| parse(&format!("[compositor]\nsocket = \"/x\"\n[vm.{name}]"));
    assert!(with(&"a".repeat(MAX_VM_NAME)).is_ok());
    assert!(with(&"a".repeat(MAX_VM_NAME + 1)).is_err());
    let dir = "d".repeat(100);
    let text = format!("runtime_dir = \"/{dir}\"\n[compositor]\nsocket = \"/x\"\n[vm.work]");
    let message = parse(&text).unwrap_err().to_string();
    assert!(message.contains("107") && message.contains("shorter"), "{message}");
}

#[test]
fn there_are_at_most_so_many_vms() {
    let with = |n: usize| {
        let vms: String = (0..n).map(|i| format!("[vm.vm{i}]\n")).collect();
        parse(&format!("[compositor]\nsocket = \"/x\"\n{vms}"))
    };
    assert_eq!(with(MAX_VMS).unwrap().vms.len(), MAX_VMS);
    assert!(with(MAX_VMS + 1).is_err());
}

#[test]
fn no_default_without_xdg_runtime_dir() {
    let text = "[compositor]\nsocket = \"/x\"\n[vm.a]";
    let message = Config::parse(text, Path::new("f"), None).unwrap_err().to_string();
    assert!(message.contains("runtime_dir") && message.contains("XDG_RUNTIME_DIR"), "{message}");
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    for (path, why) in [("/nonexistent/w.toml", "No such file"), ("/proc", "directory")] {
        let message = Config::load(Path::new(path)).unwrap_err().to_string();
        for needle in [path, why, "let this user read it", "--config"] {
            assert!(message.contains(needle), "{message}");
        }
    }
}

#[test]
fn a_file_in_another_encoding_is_told_where() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"[compositor]\nvm = \"b\xFCro\"\n").unwrap();
    let message = Config::load(file.path()).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}:2: ", file.path().display())), "{message}");
    for needle in ["compositor.vm: ", "0xFC", "UTF-8", "save the file"] {
        assert!(message.contains(needle), "{message}");
    }
}

/// Names that serde would have taken, as it tells of one that it doesn't take.
fn fields<T: serde::de::DeserializeOwned>() -> Vec<String> {
    let error = toml::from_str::<T>("no_such_key = 1").err().unwrap().to_string();
    let (_, expected) = error.split_once("expected").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn all_keys_are_listed() {
    let below = |parent: &str, fields: Vec<String>| {
        fields.into_iter().map(move |field| format!("{parent}{field}")).collect::<Vec<_>>()
    };
    let mut names = below("", fields::<Document>());
    names.extend(below("compositor.", fields::<CompositorTable>()));
    names.push("vm.NAME".to_owned());
    names.extend(below("vm.NAME.", fields::<VmTable>()));
    names.extend(below("vm.NAME.globals.", fields::<GlobalsTable>()));
    names.extend(below("vm.NAME.quota.", fields::<QuotaTable>()));
    names.extend(below("vm.NAME.selections.", fields::<SelectionsTable>()));
    names.push("vm.NAME.globals.max_version.INTERFACE".to_owned());
    let mut listed: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.sort();
    listed.sort_unstable();
    assert_eq!(listed, names);
}

#[test]
fn examples_are_right() {
    let text = |name: &str| KEYS.iter().find(|key| key.name == name).unwrap().example;
    let documents = [
        ["isolation", "compositor", "compositor.vm", "vm.NAME.window"],
        ["runtime_dir", "compositor", "compositor.socket", "vm.NAME.socket"],
    ];
    for [top, compositor, way, vm] in documents.map(|names| names.map(text)) {
        let table = text("vm.NAME");
        let globals = ["", ".allow", ".deny", ".max_version"]
            .map(|key| text(&format!("vm.NAME.globals{key}")))
            .join("\n");
        let quota = KEYS.iter().filter(|key| key.name.starts_with("vm.NAME.quota"));
        let quota = quota.map(|key| key.example).collect::<Vec<_>>().join("\n");
        let document =
            format!("{top}\n{compositor}\n{way}\n[vm.gui]\n{table}\n{vm}\n{globals}\n{quota}\n");
        assert_eq!(
            parse(&document).map(|config| config.vms.len()).map_err(|e| e.to_string()),
            Ok(2)
        );
    }
}
