//! A directory for the host and one for each VM, closed to others.

use super::scene;
use crate::part::Identity;
use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, chown, geteuid, mkdtemp};
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Whom the parts run as when root calls and no user stands behind it: sway refuses to run as root.
const UNPRIVILEGED: Identity = Identity { uid: 1000, gid: 1000 };

/// Where the directories are made. A socket's path has at most 107 bytes, and a target directory may be deeper.
const TEMPLATE: &str = "/tmp/wlproxy-demo.XXXXXX";

/// The directories of one demo. They are removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Rooms {
    base: PathBuf,
    identity: Option<Identity>,
    wlproxy: PathBuf,
    guest_agent: PathBuf,
}

impl Rooms {
    /// Makes them, for the caller or, when that is root, for `owner` or else an unprivileged user.
    pub(crate) fn new(wlproxy: &Path, guest_agent: &Path, owner: Option<Identity>) -> Result<Self> {
        let base = mkdtemp(TEMPLATE).with_context(|| format!("can't make {TEMPLATE}"))?;
        let identity = geteuid().is_root().then(|| owner.unwrap_or_else(unprivileged));
        let mut rooms = Self {
            base,
            identity,
            wlproxy: wlproxy.to_owned(),
            guest_agent: guest_agent.to_owned(),
        };
        rooms.own(&rooms.base)?;
        for name in scene::ROOMS {
            let room = rooms.room(name);
            fs::create_dir(&room)?;
            fs::set_permissions(&room, fs::Permissions::from_mode(0o700))?;
            rooms.own(&room)?;
        }
        if identity.is_some() {
            // The unprivileged user may not be able to look into the target directory.
            for program in [&mut rooms.wlproxy, &mut rooms.guest_agent] {
                let copy = rooms.base.join(program.file_name().context("a program has a name")?);
                fs::copy(&*program, &copy)
                    .with_context(|| format!("can't copy {}", program.display()))?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
                *program = copy;
            }
        }
        Ok(rooms)
    }

    /// Whom the parts run as, if not as the caller.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The directory of the host or of a VM: its `XDG_RUNTIME_DIR` and its home.
    pub(crate) fn room(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The program `wlproxy`.
    pub(crate) fn wlproxy(&self) -> &Path {
        &self.wlproxy
    }

    /// The program `guest-agent`.
    pub(crate) fn guest_agent(&self) -> &Path {
        &self.guest_agent
    }

    /// Where wlproxy offers the device of a VM.
    pub(crate) fn device(&self, vm: &str) -> PathBuf {
        self.room(scene::HOST).join(format!("{vm}.sock"))
    }

    /// Where the agent of a VM writes its numbers.
    pub(crate) fn stats(&self, vm: &str) -> PathBuf {
        self.room(vm).join("stats.json")
    }

    /// Writes a file that the parts may read.
    pub(crate) fn write(&self, room: &str, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.room(room).join(name);
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        self.own(&path)?;
        Ok(path)
    }

    fn own(&self, path: &Path) -> Result<()> {
        let Some(Identity { uid, gid }) = self.identity else { return Ok(()) };
        chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .with_context(|| format!("can't give {} to user {uid}", path.display()))
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.base) {
            eprintln!("can't remove {}: {error}", self.base.display());
        }
    }
}

/// The user who called sudo, if there is one.
fn unprivileged() -> Identity {
    let id = |name| env::var(name).ok()?.parse().ok().filter(|&id: &u32| id != 0);
    match (id("SUDO_UID"), id("SUDO_GID")) {
        (Some(uid), Some(gid)) => Identity { uid, gid },
        _ => UNPRIVILEGED,
    }
}
