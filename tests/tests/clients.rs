//! Unmodified applications of many kinds: started, seen, used and closed, directly and through the path.
//!
//! Every picture has to be the same both ways. Not tried: X11 applications under xwayland-satellite, which no Debian has
//! so far, neither 12 nor 13 nor unstable; an Xwayland with a window of its own stands for it.

use anyhow::Result;
use std::fs;
use std::process::ExitStatus;
use wlproxy_tests::Effect::{Motion, Nothing, Picture};
use wlproxy_tests::Step::{Click, Key, Scroll, Sway};
use wlproxy_tests::{App, Close, Desk, Display, Input, Plan, Raw, Way, message, until};

/// Keys of linux/input-event-codes.h.
const KEY_A: u32 = 30;
const KEY_DOT: u32 = 52;
const KEY_SPACE: u32 = 57;
const KEY_UP: u32 = 103;
const KEY_DOWN: u32 = 108;

/// For a terminal: shows each key and what the mouse does as characters, until the terminal goes.
const ECHO: &str =
    r"trap 'exit 0' HUP TERM; stty -echo -icanon; printf '\033[?25l\033[?1000h\033[?1006h'; cat -v";

#[test]
fn foot() -> Result<()> {
    App {
        name: "foot",
        suite: None,
        command: &[
            "foot",
            "--config=/dev/null",
            "--font=DejaVu Sans Mono:size=12",
            "--window-size-pixels=400x200",
            "sh",
            "-c",
            ECHO,
        ],
        environment: &[],
        files: &[],
        window: "foot",
        steps: &[Key(KEY_A, Picture), Click(100, 50, Picture), Scroll(100, 50, 2, Picture)],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

/// No cursor that blinks: what stands still can be compared.
const GTK_SETTINGS: &str = "[Settings]\ngtk-cursor-blink=0\ngtk-enable-animations=0\n";

/// Nothing that fades, and no shadow: also directly, GTK 3 draws its faint rim in one of two ways. Nor a scrollbar's slider, of
/// which the window's height is seen, below the screen: GTK 3 opens with one of two.
const GTK_STYLE: &str = "* { transition: none; animation: none; } decoration, window { box-shadow: none; } \
                         slider { background: none; border: none; }";

#[test]
fn gtk3() -> Result<()> {
    App {
        name: "gtk3",
        suite: None,
        command: &["gtk3-demo"],
        environment: &[
            ("GDK_BACKEND", "wayland"),
            ("GTK_OVERLAY_SCROLLING", "0"),
            ("GSETTINGS_BACKEND", "memory"),
            ("NO_AT_BRIDGE", "1"),
        ],
        files: &[
            (".config/gtk-3.0/settings.ini", GTK_SETTINGS),
            (".config/gtk-3.0/gtk.css", GTK_STYLE),
        ],
        window: "gtk3-demo",
        steps: &[
            // How far it scrolls depends on its height.
            Sway("[app_id=gtk3-demo] resize set 700 500, move absolute position 20 20", Picture),
            // In the list of demos.
            Key(KEY_DOWN, Picture),
            Click(100, 204, Picture),
            Scroll(100, 204, 2, Picture),
        ],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

#[test]
fn gtk4() -> Result<()> {
    App {
        name: "gtk4",
        suite: None,
        command: &["gtk4-demo"],
        environment: &[
            ("GDK_BACKEND", "wayland"),
            ("GSK_RENDERER", "cairo"),
            ("GTK_OVERLAY_SCROLLING", "0"),
            ("GSETTINGS_BACKEND", "memory"),
            ("GTK_A11Y", "none"),
        ],
        files: &[
            (".config/gtk-4.0/settings.ini", GTK_SETTINGS),
            (".config/gtk-4.0/gtk.css", GTK_STYLE),
        ],
        window: "gtk4-demo",
        // In the list of demos.
        steps: &[Key(KEY_DOWN, Picture), Click(100, 374, Picture), Scroll(100, 374, 2, Picture)],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

#[test]
fn qt() -> Result<()> {
    App {
        name: "qt",
        suite: None,
        command: &["/usr/lib/x86_64-linux-gnu/qt5/examples/widgets/widgets/sliders/sliders"],
        environment: &[("QT_QPA_PLATFORM", "wayland")],
        files: &[],
        window: "sliders",
        // A number, a check box, a dial.
        steps: &[Key(KEY_UP, Picture), Click(196, 60, Picture), Scroll(442, 142, 2, Picture)],
        says: &[],
        // Once in a while Qt 5.15 hangs when its window is gone, also directly.
        close: Close::WindowOnly,
    }
    .live_twice()
}

/// Its renderer draws by software. SDL 2.26 shows on Wayland what was drawn so as a texture of OpenGL, which Mesa draws by
/// software, too, into wl_shm.
#[test]
fn sdl() -> Result<()> {
    App {
        name: "sdl",
        suite: None,
        command: &["/usr/libexec/installed-tests/SDL2/testwm2"],
        environment: &[("SDL_VIDEODRIVER", "wayland"), ("SDL_RENDER_DRIVER", "software")],
        files: &[],
        window: "testwm2",
        // It shows where the mouse is.
        steps: &[Key(KEY_A, Nothing), Click(300, 400, Picture), Scroll(300, 400, 2, Nothing)],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

/// Each key and click shows one frame more.
const MPV_INPUT: &str = ". frame-step\nMBTN_LEFT frame-step\nWHEEL_DOWN frame-step\n\
                         SPACE cycle pause\nCLOSE_WIN quit\n";

#[test]
fn mpv() -> Result<()> {
    App {
        name: "mpv",
        suite: None,
        command: &[
            "mpv",
            "--no-config",
            "--input-conf=input.conf",
            "--no-input-default-bindings",
            "--vo=wlshm",
            "--ao=null",
            "--osc=no",
            "--osd-level=0",
            // A click is a click.
            "--no-window-dragging",
            "--pause",
            "av://lavfi:testsrc",
        ],
        environment: &[],
        files: &[("input.conf", MPV_INPUT)],
        window: "mpv",
        steps: &[
            Key(KEY_DOT, Picture),
            Click(100, 50, Picture),
            // One click: a step that comes during another may be one with it.
            Scroll(100, 50, 1, Picture),
            Key(KEY_SPACE, Motion),
        ],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

/// It asks nobody for anything, and opens with the page alone.
const FIREFOX_PREFERENCES: &str = r#"
user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("general.smoothScroll", false);
user_pref("gfx.webrender.software", true);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.cosmeticAnimations.enabled", false);
user_pref("toolkit.telemetry.enabled", false);
"#;

const FIREFOX_PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>ready</title>
<body style="background: #204060; color: white; font: 20px 'DejaVu Sans'; height: 3000px">
<style>html { scrollbar-width: none }</style>
<p>The quick brown fox jumps over the lazy dog.<p id="key">-<p id="button">-<p id="wheel">-
<script>
const show = (id, text) => { document.getElementById(id).textContent = text };
let wheel = 0;
addEventListener("keydown", event => show("key", event.key));
addEventListener("mousedown", event => show("button", `${event.clientX} ${event.clientY}`));
addEventListener("wheel", event => show("wheel", wheel += Math.sign(event.deltaY)));
</script>"#;

#[test]
fn firefox() -> Result<()> {
    App {
        name: "firefox",
        suite: None,
        command: &[
            "sh",
            "-c",
            r#"exec firefox-esr --no-remote --profile profile --kiosk "file://$HOME/page.html""#,
        ],
        environment: &[
            ("MOZ_ENABLE_WAYLAND", "1"),
            ("LIBGL_ALWAYS_SOFTWARE", "1"),
            ("NO_AT_BRIDGE", "1"),
        ],
        files: &[("profile/user.js", FIREFOX_PREFERENCES), ("page.html", FIREFOX_PAGE)],
        window: "ready",
        steps: &[Key(KEY_A, Picture), Click(300, 200, Picture), Scroll(300, 200, 2, Picture)],
        says: &[],
        close: Close::Window,
    }
    .live_twice()
}

#[test]
fn xwayland() -> Result<()> {
    App {
        name: "xwayland",
        suite: None,
        command: &[
            "sh",
            "-c",
            r#"mkfifo number
            (read n < number; DISPLAY=:$n exec xterm -fa "DejaVu Sans Mono" -fs 12 -e sh -c "$0") &
            exec Xwayland -displayfd 3 -shm -noreset 3> number"#,
            ECHO,
        ],
        environment: &[],
        files: &[],
        // It has neither title nor app id.
        window: "",
        // Without a window manager the window under the mouse has the keyboard.
        steps: &[Click(100, 50, Picture), Key(KEY_A, Picture), Scroll(100, 50, 2, Picture)],
        says: &[],
        // It doesn't listen to xdg_toplevel.close.
        close: Close::Signal,
    }
    .live_twice()
}

#[test]
fn wev() -> Result<()> {
    App {
        name: "wev",
        suite: None,
        command: &["wev"],
        environment: &[],
        files: &[],
        window: "wev",
        steps: &[Key(KEY_A, Nothing), Click(100, 50, Nothing), Scroll(100, 50, 2, Nothing)],
        says: &["sym: a", "button: 272 (left), state: 1 (pressed)", "axis: 0 (vertical)"],
        close: Close::Window,
    }
    .live_twice()
}

/// Runs a tool on `display` to its end; how it ended, and what it said.
fn run(desk: &mut Desk, display: &Display, name: &str, tool: &[&str]) -> (ExitStatus, String) {
    let mut command = desk.command(tool[0]);
    command.args(&tool[1..]);
    let process = desk.adopt(name, display.command(command), false);
    (process.wait(), process.log())
}

/// What is typed in a client VM or beside the compositor arrives in either.
#[test]
fn wtype_types_everywhere() -> Result<()> {
    let mut desk =
        Desk::start(Plan { allow: &["zwp_virtual_keyboard_manager_v1"], ..Plan::default() });
    let ways = [("direct", desk.direct()), ("through", desk.through("work"))];
    // Its keymap stays in the VM, too: the whole goes once before the count.
    for round in 0..2 {
        for (from, typist) in &ways {
            for (to, listener) in &ways {
                let _input = Input::new(&desk.direct())?;
                let mut command = desk.command("stdbuf");
                command.args(["-oL", "wev"]).env("WAYLAND_DEBUG", "1");
                let command = listener.command(command);
                let log = desk
                    .adopt(&format!("wev-{from}-{to}-{round}"), command, false)
                    .log_path()
                    .to_owned();
                let heard = |what: &str| {
                    until(what, || fs::read_to_string(&log).ok()?.contains(what).then_some(()));
                };
                heard(".enter(");
                let name = format!("wtype-{from}-{to}-{round}");
                let (status, said) = run(&mut desk, typist, &name, &["wtype", "hi"]);
                assert!(status.success(), "from {from} to {to}: {said}");
                heard("utf8: 'h'");
                heard("utf8: 'i'");
                desk.close();
                desk.sway().empty();
            }
        }
        desk.take_baseline();
    }
    assert_eq!(desk.complaints(), [""; 0]);
    Ok(())
}

/// Client VMs that are allowed to may ask for the outputs, but none for what is on them.
#[test]
fn outputs_are_listed_but_not_photographed_from_a_client_vm() {
    let mut desk = Desk::start(Plan { allow: &["zwlr_output_manager_v1"], ..Plan::default() });
    let (direct, through) = (desk.direct(), desk.through("work"));
    let (status, expected) = run(&mut desk, &direct, "wlr-randr-direct", &["wlr-randr"]);
    assert!(status.success() && expected.contains("HEADLESS-1"), "{expected}");
    let (status, listed) = run(&mut desk, &through, "wlr-randr-through", &["wlr-randr"]);
    assert!(status.success() && listed == expected, "{listed}");
    let grim = ["grim", "-"];
    let (status, _) = run(&mut desk, &direct, "grim-direct", &grim);
    assert!(status.success());
    let (status, said) = run(&mut desk, &through, "grim-through", &grim);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("compositor doesn't support wlr-screencopy-unstable-v1"), "{said}");
    assert_eq!(desk.complaints(), [""; 0]);
}

/// What each test here relies on: a client that misbehaves is complained of; one that leaves at any moment isn't.
#[test]
fn only_who_misbehaves_is_complained_of() {
    let desk = Desk::new(Way::Through);
    for round in 0..50 {
        // The record of each may be anywhere on its way when it leaves.
        let crowd: Vec<_> = (0..8).map(|_| Raw::connect(&desk.display())).collect();
        drop(crowd);
        if round % 4 == 3 {
            // By then those before it were answered: of more at once than may wait would be complained, too.
            Raw::connect(&desk.display()).sync();
        }
    }
    until("the end of all clients", || (desk.pending() == 0).then_some(()));
    Raw::connect(&desk.display()).sync();
    assert_eq!(desk.complaints(), [""; 0]);
    Raw::connect(&desk.display()).send(&message(77, 0, &[]), []);
    until("a complaint", || (!desk.complaints().is_empty()).then_some(()));
}
