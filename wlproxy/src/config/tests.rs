use super::*;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("/etc/wlproxy.toml"), Some(Path::new("/run/user/7")))
}

const FULL: &str = r#"
runtime_dir = "/run/wlproxy"
isolation = "none"
[compositor]
vm = "gui"
[vm.work]
socket = "/srv/work.sock"
window = "512 MiB"
[vm.gui]
"#;

#[test]
fn a_full_configuration() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/wlproxy"));
    assert_eq!(config.control_socket(), Path::new("/run/wlproxy/control.sock"));
    assert_eq!(config.isolation, Isolation::None);
    assert_eq!(config.compositor, Compositor::Vm("gui".into()));
    let gui = Vm {
        name: "gui".into(),
        side: Side::Compositor,
        socket: "/run/wlproxy/gui.sock".into(),
        window: 8 << 30,
    };
    let work = Vm {
        name: "work".into(),
        side: Side::Client,
        socket: "/srv/work.sock".into(),
        window: 512 << 20,
    };
    assert_eq!(config.vms, [gui, work]);
}

#[test]
fn the_smallest_configuration() {
    let config = parse("[compositor]\nsocket = \"/run/user/7/wayland-0\"\n[vm.work]\n").unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/user/7/wlproxy"));
    assert_eq!(config.isolation, Isolation::Process);
    assert_eq!(config.compositor, Compositor::Socket("/run/user/7/wayland-0".into()));
    assert_eq!(config.vms[0].side, Side::Client);
}

/// Text, line of the error, and what the message must name.
const WRONG: &[(&str, usize, &[&str])] = &[
    ("[compositor", 1, &["]"]),
    ("", 1, &["compositor"]),
    ("[compositor]\nvm = \"gui\"\nvn = 1\n[vm.gui]", 3, &["vn", "expected", "socket"]),
    ("isolation = \"some\"\n[compositor]\nvm = \"a\"\n[vm.a]", 1, &["some", "process", "none"]),
    ("[compositor]\nvm = 5\n[vm.a]", 2, &["vm = 5", "expected a string"]),
    ("[compositor]\nvm = \"gui\"\n[vm.work]", 2, &["compositor.vm", "gui", "[vm.gui]"]),
    ("[vm.a]\n[compositor]\n", 2, &["exactly one of vm and socket", "none"]),
    ("[vm.a]\n[compositor]\nvm = \"a\"\nsocket = \"/x\"", 2, &["exactly one of", "both"]),
    ("[compositor]\nsocket = \"x\"\n[vm.a]", 2, &["compositor.socket", "relative"]),
    ("[compositor]\nsocket = \"/x\"\n", 1, &["0 VMs", "[vm.NAME]"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.\"a/b\"]", 3, &["a/b", "A-Z"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.\"\"]", 3, &["VM name"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\nwindow = \"3 GiB\"", 4, &["vm.a.window", "\"4 GiB\""]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\nwindow = 3", 4, &["window = 3", "expected a string"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\nsocket = \"a\"", 4, &["vm.a.socket", "from /"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.a]\n\n[vm.a]", 5, &["duplicate key"]),
    ("[compositor]\nsocket = \"/x\"\n[vm.control]", 3, &["vm.control.socket", "control socket"]),
    (
        "[compositor]\nsocket = \"/x\"\n[vm.a]\nsocket = \"/s\"\n[vm.b]\nsocket = \"/s\"",
        5,
        &["vm.b.socket", "VM a"],
    ),
    (
        "runtime_dir = \"run\"\n[compositor]\nsocket = \"/x\"\n[vm.a]",
        1,
        &["runtime_dir", "relative"],
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
fn a_missing_file_is_named() {
    let message = Config::load(Path::new("/nonexistent/w.toml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/w.toml") && message.contains("--config"), "{message}");
}
