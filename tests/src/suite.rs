//! Programs of newer Debians, which `cargo xtask test` or `cargo xtask suite` has put into `target/suite`.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A suite of Debian's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 13: sway 1.10 and foot.
    Trixie,
    /// The one after it: sway 1.12, foot, wl-clipboard, waypipe 0.11, WLCS 1.8.
    Forky,
}

impl Suite {
    /// One of its programs, such as `waypipe`. It runs where it lies, with the libraries of its suite; what it starts in
    /// turn is found in `PATH`, and is the machine's.
    ///
    /// # Panics
    /// If it isn't there.
    pub fn program(self, name: &str) -> PathBuf {
        let usr = self.folder().join("usr");
        let of_people = usr.join("bin").join(name);
        // Or in the folder of its name that a package has for itself.
        let libraries = fs::read_dir(usr.join("lib")).into_iter().flatten().flatten();
        let own = libraries.map(|folder| folder.path().join(name).join(name));
        let found = iter::once(of_people).chain(own).find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("{} has no {name}: cargo xtask suite", usr.display()))
    }

    /// The same as a command, in whose environment is where its suite's data are.
    pub fn command(self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        command.envs(self.environment());
        command
    }

    /// Where its programs find the data of the same suite.
    pub fn environment(self) -> [(&'static str, PathBuf); 1] {
        [("XKB_CONFIG_ROOT", self.folder().join("usr/share/X11/xkb"))]
    }

    /// Where all of it is.
    fn folder(self) -> PathBuf {
        let name = match self {
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/suite").join(name)
    }
}
