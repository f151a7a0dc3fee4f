//! The Debian packages that the commands need.

mod get;

pub(crate) use get::AptGet;

use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// One package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    name: &'static str,
    /// It is there when all of these are.
    proofs: &'static [Proof],
    /// What it is needed for.
    reason: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Proof {
    /// A program in `PATH`.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

use Proof::{File as Exists, Program};

/// What makes the packages of `cargo xtask dist`.
pub(crate) const DIST: &[Package] = &[Package {
    name: "dpkg-dev",
    proofs: &[Program("dpkg-shlibdeps")],
    reason: "finds what a program depends on",
}];

/// What tries these packages.
pub(crate) const TRIAL: &[Package] = &[
    Package {
        name: "systemd",
        proofs: &[Program("systemctl"), Exists("/lib/systemd/systemd")],
        reason: "starts the units",
    },
    Package { name: "man-db", proofs: &[Program("man")], reason: "shows the manual pages" },
    Package { name: "zsh", proofs: &[Program("zsh")], reason: "completes" },
    Package { name: "fish", proofs: &[Program("fish")], reason: "completes" },
    Package { name: "jq", proofs: &[Program("jq")], reason: "reads what wlproxy tells of itself" },
    Package {
        name: "weston",
        proofs: &[Program("weston"), Program("weston-simple-shm")],
        reason: "a compositor, and a simple client",
    },
    Package { name: "procps", proofs: &[Program("pgrep")], reason: "finds the workers" },
    Package {
        name: "util-linux",
        proofs: &[Program("unshare"), Program("setpriv"), Program("findmnt")],
        reason: "keeps the machine out of it",
    },
];

/// What the demo runs; the tests do, too.
pub(crate) const DEMO: &[Package] = &[
    Package { name: "sway", proofs: &[Program("sway")], reason: "a compositor, wlroots" },
    Package { name: "swaybg", proofs: &[Program("swaybg")], reason: "paints sway's desktop" },
    Package {
        name: "weston",
        proofs: &[Program("weston"), Program("weston-simple-shm"), Program("weston-flower")],
        reason: "a compositor, libweston, and simple clients",
    },
    Package { name: "foot", proofs: &[Program("foot")], reason: "a client with text and damage" },
    Package { name: "grim", proofs: &[Program("grim")], reason: "takes the pictures" },
    Package {
        name: "fonts-dejavu-core",
        proofs: &[Exists("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")],
        reason: "the same text in every picture",
    },
    Package {
        name: "systemd",
        proofs: &[Program("systemd-analyze")],
        reason: "judges the units of dist/",
    },
    Package {
        name: "util-linux",
        proofs: &[Program("setpriv"), Program("setsid")],
        reason: "lets root start sway, which refuses to run as root",
    },
];

/// What only the tests run.
pub(crate) const TESTS: &[Package] = &[
    Package { name: "g++", proofs: &[Program("c++")], reason: "reads a header as C++" },
    Package { name: "valgrind", proofs: &[Program("valgrind")], reason: "sees wrong accesses" },
    Package {
        name: "wl-clipboard",
        proofs: &[Program("wl-copy"), Program("wl-paste")],
        reason: "clients that copy and paste",
    },
    Package {
        name: "gtk-3-examples",
        proofs: &[Program("gtk3-demo")],
        reason: "a client of GTK 3",
    },
    Package {
        name: "gtk-4-examples",
        proofs: &[Program("gtk4-demo")],
        reason: "a client of GTK 4",
    },
    Package {
        name: "qtbase5-examples",
        proofs: &[Exists("/usr/lib/x86_64-linux-gnu/qt5/examples/widgets/widgets/sliders/sliders")],
        reason: "a client of Qt 5",
    },
    Package {
        name: "qtwayland5",
        proofs: &[Exists("/usr/lib/x86_64-linux-gnu/qt5/plugins/platforms/libqwayland-generic.so")],
        reason: "lets Qt 5 speak Wayland",
    },
    Package {
        name: "libsdl2-tests",
        proofs: &[Exists("/usr/libexec/installed-tests/SDL2/testwm2")],
        reason: "a client of SDL 2",
    },
    Package { name: "mpv", proofs: &[Program("mpv")], reason: "a client that plays films" },
    Package { name: "firefox-esr", proofs: &[Program("firefox-esr")], reason: "a browser" },
    Package { name: "xwayland", proofs: &[Program("Xwayland")], reason: "a client for X11" },
    Package { name: "xterm", proofs: &[Program("xterm")], reason: "runs in Xwayland" },
    Package { name: "wev", proofs: &[Program("wev")], reason: "a client that tells its events" },
    Package { name: "wtype", proofs: &[Program("wtype")], reason: "types" },
    Package {
        name: "strace",
        proofs: &[Program("strace")],
        reason: "tells what is done with memory that is lent",
    },
    Package { name: "wlr-randr", proofs: &[Program("wlr-randr")], reason: "lists outputs" },
];

/// What makes the C library of compositor-shim.
pub(crate) const SHIM: &[Package] = &[
    Package { name: "gcc", proofs: &[Program("cc"), Program("ld.bfd")], reason: "links" },
    Package { name: "pkg-config", proofs: &[Program("pkg-config")], reason: "finds libraries" },
    Package {
        name: "libwayland-dev",
        proofs: &[Exists("/usr/include/wayland-server-core.h"), Program("wayland-scanner")],
        reason: "what compositors speak Wayland with",
    },
];

/// What the compositors of `examples/` are built with, besides that.
pub(crate) const EXAMPLES: &[Package] = &[
    Package {
        name: "libwlroots-dev",
        proofs: &[Exists("/usr/include/wlr/types/wlr_scene.h")],
        reason: "what a compositor in C is made with",
    },
    Package {
        name: "libpixman-1-dev",
        proofs: &[Exists("/usr/include/pixman-1/pixman.h")],
        reason: "what an example compositor draws with",
    },
    Package {
        name: "libxkbcommon-dev",
        proofs: &[Exists("/usr/include/xkbcommon/xkbcommon.h")],
        reason: "where their keymaps are from",
    },
    Package { name: "make", proofs: &[Program("make")], reason: "builds the compositors in C" },
    Package {
        name: "libcairo2-dev",
        proofs: &[Exists("/usr/include/cairo/cairo.h")],
        reason: "what the compositors in C draw with",
    },
    Package {
        name: "wayland-protocols",
        proofs: &[Exists("/usr/share/wayland-protocols/stable/xdg-shell/xdg-shell.xml")],
        reason: "what they speak of windows",
    },
];

/// What makes trees of newer suites.
pub(crate) const SUITE: &[Package] = &[Package {
    name: "patchelf",
    proofs: &[Program("patchelf")],
    reason: "lets programs of a newer Debian run with its libraries",
}];

/// What makes the images of `cargo xtask vm`.
pub(crate) const VM: &[Package] = &[
    Package {
        name: "e2fsprogs",
        // Where only root has it in its PATH.
        proofs: &[Exists("/sbin/mke2fs")],
        reason: "makes the VMs' file system",
    },
    Package {
        name: "xz-utils",
        proofs: &[Program("xz")],
        reason: "unpacks the modules of the VMs' kernel",
    },
];

/// What the client of the benchmarks needs.
pub(crate) const BENCH: &[Package] = &[Package {
    name: "libwayland-client0",
    proofs: &[Exists("/usr/lib/x86_64-linux-gnu/libwayland-client.so.0")],
    reason: "what clients speak Wayland with",
}];

/// What benchmarks compare with, if no newer one can be had.
pub(crate) const WAYPIPE: &[Package] = &[Package {
    name: "waypipe",
    proofs: &[Program("waypipe")],
    reason: "another way from a client to a compositor, to compare with",
}];

/// The packages of simple clients, and what these need.
const CLIENTS: [&str; 3] = ["weston", "foot", "fonts-dejavu-core"];

/// Those of [`DEMO`] that a demo needs on a desktop that is there.
pub(crate) fn clients() -> Vec<Package> {
    DEMO.iter().filter(|package| CLIENTS.contains(&package.name)).copied().collect()
}

/// How long a lock of apt's may be held by another one: that one may be installing, too.
pub(crate) const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// Installs what isn't there. Tells so first; what apt says goes to `log`.
pub(crate) fn ensure(packages: &[Package], log: &Path, progress: &mut Progress) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let machine = Machine { path, root: geteuid().is_root(), lock_deadline: LOCK_DEADLINE };
    machine.install(packages, log, progress)
}

/// Where programs are looked for, and installed.
struct Machine {
    /// What stands in `PATH`.
    path: OsString,
    /// Whether root calls.
    root: bool,
    /// How long to wait for a lock.
    lock_deadline: Duration,
}

impl Machine {
    fn install(&self, packages: &[Package], log: &Path, progress: &mut Progress) -> Result<()> {
        let missing: Vec<&Package> =
            packages.iter().filter(|package| self.lacking(package).is_some()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
        progress.say("some Debian packages are missing and will be installed:");
        for package in &missing {
            progress.say(&format!("  {:<18} {}", package.name, package.reason));
        }
        let prefix = self.prefix(&names)?;
        let log = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        let (path, lock_deadline) = (&self.path, self.lock_deadline);
        let mut apt = AptGet { prefix, path, lock_deadline, log, progress };
        apt.progress.stage("apt-get update");
        let updated = apt.run(&["update"]);
        if updated.is_err() {
            // A source that is gone needn't be the one that has these packages.
            apt.progress.failed();
        }
        apt.progress.stage(format!("apt-get install {}", names.join(" ")));
        let install = [&["install", "--no-install-recommends"], names.as_slice()].concat();
        match (updated, apt.run(&install)) {
            (_, Ok(())) => apt.progress.done(),
            (Ok(()), Err(error)) => return Err(error),
            (Err(before), Err(error)) => bail!("{before:#}\n{error:#}"),
        }
        for package in missing {
            if let Some(proof) = self.lacking(package) {
                bail!("{} is installed, but {proof} is not there", package.name);
            }
        }
        Ok(())
    }

    /// What isn't there of a package.
    fn lacking(&self, package: &Package) -> Option<&'static str> {
        package.proofs.iter().find_map(|proof| match proof {
            Program(name) => (!self.has(name)).then_some(*name),
            Exists(path) => (!Path::new(path).exists()).then_some(*path),
        })
    }

    fn has(&self, program: &str) -> bool {
        env::split_paths(&self.path).any(|dir| dir.join(program).is_file())
    }

    /// What stands before `apt-get` so that it may install.
    fn prefix(&self, names: &[&str]) -> Result<&'static [&'static str]> {
        if !self.has("apt-get") {
            bail!(
                "there is no apt-get here; install what holds {} by your own means",
                names.join(", ")
            );
        }
        if self.root {
            Ok(&[])
        } else if self.has("sudo") {
            Ok(&["sudo"])
        } else {
            bail!(
                "only root may install packages, and there is no sudo; as root, run: \
                 apt-get update && apt-get install -y --no-install-recommends {}",
                names.join(" ")
            )
        }
    }
}

#[cfg(test)]
mod tests;
