//! The configuration: whatever stands in the file, it is refused with a reason, or what comes of it can be relied on.

use crate::input::Input;
use std::collections::HashSet;
use std::path::Path;
use wlproxy::config::{Compositor, Config, KEYS, MAX_VMS};
use wlproxy::device::Side;
use wlproxy_protocol::limits::MAX_VM_NAME;

/// Longest path of a socket (Linux, `sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// Parts of a file, of which most belong somewhere.
const PARTS: &[&str] = &[
    "\n",
    " = ",
    "\"",
    ".",
    "[",
    "]",
    "[compositor]\n",
    "vm = \"gui\"\n",
    "socket = \"/run/wayland-0\"\n",
    "[vm.gui]\n",
    "[vm.work]\n",
    "[vm.\"a.b\"]\n",
    "[[vm]]\n",
    "runtime_dir = \"/run/wlproxy\"\n",
    "runtime_dir = \"run\"\n",
    "metrics = \"/run/wlproxy/metrics.sock\"\n",
    "metrics = \"/run/wlproxy/gui.sock\"\n",
    "socket = \"/run/wlproxy/control.sock\"\n",
    "isolation = \"none\"\n",
    "window = \"8 GiB\"\n",
    "window = \"4096 KiB\"\n",
    "window = \"99999999999999999999 TiB\"\n",
    "device = \"virtgpu\"\n",
    "device = \"socket\"\n",
    "'''",
    "\"\"\"",
    "\\u0000",
    "\u{1f427}",
    "\r\n",
    "# ",
    "{ vm = \"gui\" }",
    "1979-05-27",
    "0x7f",
    "-inf",
];

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let xdg = input.one_in(2).then(|| Path::new("/run/user/1000"));
    let mut text = String::new();
    if input.one_in(4) {
        text = String::from_utf8_lossy(input.rest()).into_owned();
    } else {
        while !input.is_empty() {
            match input.below(PARTS.len() + KEYS.len() + 2) {
                part if part < PARTS.len() => text += PARTS[part],
                key if key < PARTS.len() + KEYS.len() => text += KEYS[key - PARTS.len()].name,
                _ => text += &String::from_utf8_lossy(input.bytes(20)),
            }
        }
    }
    match Config::parse(&text, Path::new("/etc/wlproxy.toml"), xdg) {
        Ok(config) => check(&config),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.contains("/etc/wlproxy.toml"), "{shown:?} names no file");
        }
    }
}

fn check(config: &Config) {
    assert!((1..=MAX_VMS).contains(&config.vms.len()));
    assert!(config.vms.is_sorted_by(|a, b| a.name < b.name), "a VM is there twice");
    let mut sockets = HashSet::from([config.control_socket()]);
    assert!(config.metrics.iter().all(|path| sockets.insert(path.clone())));
    for vm in &config.vms {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        assert!((1..=MAX_VM_NAME).contains(&vm.name.len()) && vm.name.bytes().all(valid));
        assert!(vm.window.is_power_of_two());
        assert!(sockets.insert(vm.socket.clone()), "{} is two sockets", vm.socket.display());
        assert!(config.directories().contains(&vm.socket.parent().expect("it is absolute")));
    }
    for socket in &sockets {
        assert!(socket.is_absolute());
    }
    let side = |side| config.vms.iter().filter(|vm| vm.side == side).collect::<Vec<_>>();
    match (&config.compositor, &side(Side::Compositor)[..]) {
        (Compositor::Vm(name), [vm]) => assert_eq!(*name, vm.name),
        (Compositor::Socket(socket), []) => {
            assert!(socket.is_absolute() && socket.as_os_str().len() <= MAX_SOCKET_PATH);
        }
        (compositor, vms) => panic!("{compositor:?}, and {} compositor VMs", vms.len()),
    }
}
