//! Programs of newer Debians, which `cargo xtask test` or `cargo xtask suite` has put into `target/suite`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A suite of Debian's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 13: sway 1.10 and foot.
    Trixie,
    /// The one after it: sway 1.12, foot, wl-clipboard, waypipe 0.11.
    Forky,
}

impl Suite {
    /// One of its programs, such as `waypipe`. It runs where it lies, with the libraries of its suite; what it starts in
    /// turn is found in `PATH`, and is the machine's.
    ///
    /// # Panics
    /// If it isn't there.
    pub fn program(self, name: &str) -> PathBuf {
        let path = self.folder().join("usr/bin").join(name);
        assert!(path.exists(), "{} isn't there: cargo xtask suite", path.display());
        path
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
