//! Where a lab has its configuration and its sockets, and how others find them.

use super::Vm;
use crate::root;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::mkdtemp;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the folder is. A socket's path has at most 107 bytes, and a target directory may be deeper.
const TEMPLATE: &str = "/tmp/wlproxy-vm.XXXXXX";

/// A folder of its own, with a link to it in `target/vm`. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Den {
    path: PathBuf,
    link: PathBuf,
    _lock: Flock<File>,
}

impl Den {
    /// Makes it. There is one at a time.
    pub(super) fn new() -> Result<Self> {
        let folder = root().join("target/vm");
        let Some(lock) = lock(&folder)? else {
            bail!("the VMs of another `cargo xtask vm demo`, `test` or `shell` run already");
        };
        let path = mkdtemp(TEMPLATE).with_context(|| format!("can't make {TEMPLATE}"))?;
        let den = Self { path, link: link(&folder), _lock: lock };
        let mut config =
            format!("runtime_dir = {:?}\n\n[compositor]\nvm = {:?}\n", den.path, Vm::Gui.name());
        for vm in Vm::ALL {
            config.push_str(&format!("\n[vm.{vm}]\ndevice = \"virtgpu\"\n"));
        }
        fs::write(den.config(), config)?;
        // One who was killed left it.
        let _ = fs::remove_file(&den.link);
        symlink(&den.path, &den.link)?;
        Ok(den)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// wlproxy's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("wlproxy.toml")
    }

    /// A VM's device.
    pub(super) fn device(&self, vm: Vm) -> PathBuf {
        device(&self.path, vm)
    }
}

impl Drop for Den {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("can't remove {}: {error}", self.path.display());
        }
    }
}

/// The socket of a VM's device in the lab that runs; none if none runs.
pub(crate) fn device_of_running(vm: Vm) -> Result<Option<PathBuf>> {
    let folder = root().join("target/vm");
    if lock(&folder)?.is_some() {
        return Ok(None);
    }
    let told = "the VMs of another `cargo xtask vm` are just starting or ending: try again";
    let device = device(&fs::read_link(link(&folder)).context(told)?, vm);
    if !device.exists() {
        bail!("{told}");
    }
    Ok(Some(device))
}

fn device(den: &Path, vm: Vm) -> PathBuf {
    den.join(format!("{vm}.sock"))
}

fn link(folder: &Path) -> PathBuf {
    folder.join("lab")
}

/// The lock of a lab that runs, unless another one has it.
fn lock(folder: &Path) -> Result<Option<Flock<File>>> {
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let file = File::create(folder.join("lab.lock"))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}
