//! What VMs are made of: which packages, of which Debian.

use crate::suite::Suite;

/// The monitor. QEMU 11.1 is the first with a vhost-user device that maps memory into its VM (SHMEM) and lets the device
/// say which it is; forky is the first Debian with that.
pub(super) const QEMU: Suite = Suite {
    tree: "qemu",
    name: "forky",
    packages: &["qemu-system-x86"],
    programs: &["qemu-system-x86_64"],
    reason: "QEMU 11.1: vhost-user devices of any kind, with a window",
};

/// A kernel as distributions ship it.
pub(super) const KERNEL: Suite = Suite {
    tree: "kernel",
    name: "trixie",
    packages: &["linux-image-amd64"],
    programs: &[],
    reason: "Linux 6.12, for the VMs",
};

/// What runs in the VMs: compositor, clients, and what looks at them.
pub(super) const USERLAND: Suite = Suite {
    tree: "userland",
    name: "trixie",
    packages: &[
        "base-files",
        "bash",
        "busybox-static",
        "coreutils",
        "dash",
        "foot",
        "fonts-dejavu-core",
        "grep",
        "grim",
        "gtk-3-examples",
        "hostname",
        "kmod",
        "less",
        // The locale C.UTF-8.
        "libc-bin",
        "ncurses-base",
        "procps",
        "sed",
        "strace",
        "sway",
        "swaybg",
        "util-linux",
        "wayland-utils",
        "weston",
        "wl-clipboard",
        "wlr-randr",
        "wtype",
    ],
    programs: &[],
    reason: "what runs in the VMs",
};
