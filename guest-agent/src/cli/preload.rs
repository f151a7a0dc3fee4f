//! `--zero-copy`: the library that is preloaded into an application, and what it is told.

use crate::lend::LendSocket;
use crate::run::Socket;
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the library is called.
const LIBRARY: &str = "libwlproxy_interposer.so";

/// Where it is, seen from this program's folder: where cargo builds it, and where it is installed.
const FOLDERS: [&str; 2] = [".", "../lib/wlproxy"];

/// Variables that the library reads, and takes out of the environment (`interposer/src/environment.rs`).
const DISPLAY: &str = "WLPROXY_LEND_DISPLAY";
const LENDER: &str = "WLPROXY_LEND_SOCKET";

/// What an application gets so that it borrows.
#[derive(Debug)]
pub(super) struct Preload {
    library: PathBuf,
    display: PathBuf,
    lender: PathBuf,
}

impl Preload {
    /// Finds the library: `given`, or where it belongs.
    pub(super) fn find(given: Option<&Path>, socket: &Socket) -> Result<Self> {
        let library = match given {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("can't use {} as --interposer", path.display()))?,
            None => installed()?,
        };
        // There is no way to quote them (ld.so(8)).
        if library.as_os_str().as_bytes().iter().any(|byte| b" :".contains(byte)) {
            bail!(
                "{} can't be preloaded, since its path has a space or a colon: put a copy elsewhere, and name it with \
                 --interposer",
                library.display()
            );
        }
        let display = std::path::absolute(socket.path())?;
        let mut lender = display.clone().into_os_string();
        lender.push(".lend");
        Ok(Self { library, display, lender: lender.into() })
    }

    /// Listens where the application borrows.
    pub(super) fn listen(&self) -> Result<LendSocket> {
        LendSocket::bind(&self.lender)
            .with_context(|| format!("can't make {}", self.lender.display()))
    }

    /// Tells the application. What is preloaded into it anyway comes after.
    pub(super) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.list(std::env::var_os("LD_PRELOAD").as_deref()));
        command.env(DISPLAY, &self.display).env(LENDER, &self.lender);
    }

    fn list(&self, before: Option<&OsStr>) -> OsString {
        let mut list = self.library.clone().into_os_string();
        if let Some(before) = before.filter(|before| !before.is_empty()) {
            list.push(":");
            list.push(before);
        }
        list
    }
}

fn installed() -> Result<PathBuf> {
    let program = std::env::current_exe().context("can't tell where this program is")?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let candidates = FOLDERS.map(|relative| folder.join(relative).join(LIBRARY));
    if let Some(found) = candidates.iter().find_map(|path| path.canonicalize().ok()) {
        return Ok(found);
    }
    let [first, second] = candidates;
    bail!(
        "{LIBRARY} isn't there, neither as {} nor as {}: name it with --interposer, or leave out --zero-copy",
        first.display(),
        second.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preloaded_anyway_stays() {
        let preload =
            Preload { library: "/us.so".into(), display: PathBuf::new(), lender: PathBuf::new() };
        let table = [(None, "/us.so"), (Some(""), "/us.so"), (Some("/a.so /b"), "/us.so:/a.so /b")];
        for (before, expected) in table {
            assert_eq!(preload.list(before.map(OsStr::new)), expected);
        }
    }

    #[test]
    fn a_library_that_can_not_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind(Some(&folder.path().join("wayland-7"))).unwrap();
        let find = |path: &Path| format!("{:#}", Preload::find(Some(path), &socket).unwrap_err());
        let missing = find(&folder.path().join("missing.so"));
        assert!(missing.contains("missing.so as --interposer: No such file"), "{missing}");
        let path = folder.path().join("with space.so");
        std::fs::write(&path, "").unwrap();
        let spaced = find(&path);
        assert!(spaced.contains("with space.so can't be preloaded"), "{spaced}");
    }

    #[test]
    fn the_socket_for_lending_is_beside_that_for_clients() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind(Some(&folder.path().join("wayland-7"))).unwrap();
        let library = folder.path().join("us.so");
        std::fs::write(&library, "").unwrap();
        let preload = Preload::find(Some(&library), &socket).unwrap();
        let listening = preload.listen().unwrap();
        assert_eq!(listening.path(), folder.path().join("wayland-7.lend"));
        let mut command = Command::new("true");
        preload.apply(&mut command);
        let told =
            |name| command.get_envs().find_map(|(key, value)| (key == name).then_some(value?));
        assert_eq!(told(DISPLAY), Some(socket.path().as_os_str()));
        assert_eq!(told(LENDER), Some(listening.path().as_os_str()));
    }
}
