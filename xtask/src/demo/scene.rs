//! What is shown: the VMs, their applications, and where their windows stand.

use std::path::Path;

/// The compositor VM.
pub(crate) const COMPOSITOR_VM: &str = "gui";

/// The host's room.
pub(crate) const HOST: &str = "host";

/// What the part is called that is the compositor.
pub(crate) const SWAY: &str = "sway";

/// What the part is called that runs on the host.
pub(crate) const WLPROXY: &str = "wlproxy";

/// What the part is called that runs in a VM.
pub(crate) fn agent_name(vm: &str) -> String {
    format!("agent-{vm}")
}

/// All rooms.
pub(crate) const ROOMS: [&str; 4] = [HOST, COMPOSITOR_VM, CLIENT_VMS[0].name, CLIENT_VMS[1].name];

/// Size of the output, in pixels.
pub(crate) const SCREEN: (u32, u32) = (1280, 800);

/// Colour of the desktop.
pub(crate) const DESKTOP: [u8; 3] = [0x20, 0x40, 0x60];

/// The workspace that is shown.
const SHOWN: &str = "1";

/// A client VM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientVm {
    pub(crate) name: &'static str,
    /// What its terminal's background is set to.
    colour: &'static str,
    /// Left edge of its part of the screen, in pixels.
    left: i32,
}

/// The client VMs: one on the left, one on the right.
pub(crate) const CLIENT_VMS: [ClientVm; 2] = [
    ClientVm { name: "work", colour: "#183018", left: 0 },
    ClientVm { name: "untrusted", colour: "#401818", left: 640 },
];

/// A window that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// The end of its app id.
    pub(crate) app_id: &'static str,
    /// Left edge, in pixels.
    pub(crate) x: i32,
    /// Upper edge, in pixels.
    pub(crate) y: i32,
}

impl ClientVm {
    /// The windows of its applications.
    pub(crate) fn windows(&self) -> [Window; 3] {
        let window = |app_id, x, y| Window { app_id, x: self.left + x, y };
        [
            window("foot", 38, 50),
            window("org.freedesktop.weston.simple-shm", 38, 430),
            window("org.freedesktop.weston.flower", 360, 430),
        ]
    }

    /// What `guest-agent run` runs: unmodified applications. When one ends, so do all, and the log tells which it was.
    pub(crate) fn script(&self) -> String {
        let Self { name, colour, .. } = self;
        format!(
            r#"
app() {{ "$@"; echo "$1 ended with status $?"; kill $$; }}
app foot --config=/dev/null --title=foot --font='DejaVu Sans Mono:size=12' \
    --window-size-pixels=560x300 sh -c '
        printf "\033]11;{colour}\007\033[?25l\n  This is foot in the client VM\n\n  \033[1m{name}\033[0m\n\n"
        printf "  WAYLAND_DISPLAY=%s\n" "$WAYLAND_DISPLAY"
        exec cat' &
app weston-simple-shm &
app weston-flower &
wait
"#
        )
    }
}

/// Configuration of sway.
///
/// Windows arrive on a workspace that isn't shown. While a window that is shown arrives, sway keeps its first buffer
/// until the window has taken its size; a client with two buffers that draws at every frame callback, as
/// weston-simple-shm, then finds both busy and aborts, with or without anything between it and sway.
pub(crate) fn sway_config() -> String {
    let (width, height) = SCREEN;
    let [red, green, blue] = DESKTOP;
    format!(
        r#"output * mode {width}x{height}@60Hz position 0 0 bg #{red:02x}{green:02x}{blue:02x} solid_color
xwayland disable
default_border normal 2
default_floating_border normal 2
workspace {SHOWN}
assign [app_id=".*"] workspace arriving
for_window [app_id=".*"] floating enable
"#
    )
}

/// The commands to sway that show a window. Its title tells whose it is.
pub(crate) fn placement(id: i64, window: &Window) -> String {
    let Window { x, y, .. } = window;
    format!(
        r#"[con_id={id}] border normal 2, move container to workspace {SHOWN}, move position {x} {y}"#
    )
}

/// Configuration of wlproxy.
pub(crate) fn wlproxy_config(runtime_dir: &Path) -> String {
    let mut text = format!(
        "runtime_dir = \"{}\"\n\n[compositor]\nvm = \"{COMPOSITOR_VM}\"\n\n[vm.{COMPOSITOR_VM}]\n",
        runtime_dir.display()
    );
    for vm in CLIENT_VMS {
        text.push_str(&format!("\n[vm.{}]\n", vm.name));
    }
    text
}
