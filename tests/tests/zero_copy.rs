//! Unmodified applications that draw into memory which the compositor sees: nothing is copied, and all looks the same.

use anyhow::Result;
use wlproxy_tests::Effect::Picture;
use wlproxy_tests::Step::{Click, Key, Keys, Sway};
use wlproxy_tests::{App, Close, Desk, Plan};

/// Keys of linux/input-event-codes.h.
const KEY_ESC: u32 = 1;
const KEY_RIGHT: u32 = 106;
const KEY_A: u32 = 30;
const KEY_UP: u32 = 103;
const KEY_DOWN: u32 = 108;

/// Frames of which none is copied.
const FRAMES: usize = 300;

/// A desk whose only client VM has an agent that lends.
fn desk() -> Desk {
    Desk::start(Plan { vms: &["lent"], lending: &["lent"], ..Plan::default() })
}

/// Shows each key as a character, until the terminal goes.
const ECHO: &str = r"trap 'exit 0' HUP TERM; stty -echo -icanon; printf '\033[?25l'; cat -v";

const FOOT: App = App {
    suite: None,
    name: "foot",
    command: &[
        "foot",
        "--config=/dev/null",
        "--font=DejaVu Sans Mono:size=12",
        "--window-size-pixels=400x240",
        "sh",
        "-c",
        ECHO,
    ],
    environment: &[],
    files: &[],
    window: "foot",
    steps: &[
        Keys(&[KEY_A], FRAMES + 5, Picture),
        Sway("[app_id=foot] resize set width 500 px height 320 px", Picture),
        Keys(&[KEY_A], 10, Picture),
        Sway("[app_id=foot] resize set width 300 px height 200 px", Picture),
        Keys(&[KEY_A], 10, Picture),
    ],
    says: &[],
    close: Close::Window,
};

#[test]
fn foot_has_nothing_copied() -> Result<()> {
    FOOT.live_twice_on(desk())
}

#[test]
fn gtk3_has_nothing_copied_in_windows_and_popups() -> Result<()> {
    App {
        suite: None,
        name: "gtk3-application",
        command: &["gtk3-demo-application"],
        environment: &[
            ("GDK_BACKEND", "wayland"),
            ("GTK_OVERLAY_SCROLLING", "0"),
            ("GSETTINGS_BACKEND", "memory"),
            ("NO_AT_BRIDGE", "1"),
        ],
        files: &[
            (
                ".config/gtk-3.0/settings.ini",
                "[Settings]\ngtk-cursor-blink=0\ngtk-enable-animations=0\n",
            ),
            (
                ".config/gtk-3.0/gtk.css",
                "* { transition: none; animation: none; } decoration, window { box-shadow: none; }",
            ),
        ],
        window: "gtk3-demo-application",
        steps: &[
            // Into the text.
            Click(130, 115, Picture),
            Keys(&[KEY_A], FRAMES + 5, Picture),
            // A menu.
            Click(48, 13, Picture),
            Keys(&[KEY_DOWN, KEY_UP], FRAMES + 5, Picture),
            Key(KEY_RIGHT, Picture),
            Key(KEY_ESC, Picture),
        ],
        says: &[],
        close: Close::Window,
    }
    .live_twice_on(desk())
}
