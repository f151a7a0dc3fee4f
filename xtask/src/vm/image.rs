//! What VMs are started with: made once, kept in `target/vm`, or where `WLPROXY_VM_CACHE` says.

use super::cpio::Cpio;
use super::modules::Modules;
use super::trees::{KERNEL, QEMU, USERLAND};
use crate::progress::Progress;
use crate::{absolute, apt, suite};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Changes when images are made otherwise.
const VERSION: u32 = 2;

/// The modules that a VM loads, before those that need them in ways that they don't tell: ext4 asks for crc32c by name.
const MODULES: &[&str] = &[
    "virtio_blk",
    "virtio_rng",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "overlay",
    "virtio_gpu",
];

/// Programs of the userland, each with a folder in which it makes one file of many: GTK finds no icons without the kinds
/// of files, and some clients end without the schemas of their settings.
const FINISHING: &[(&str, &str)] = &[
    ("usr/bin/update-mime-database", "usr/share/mime"),
    ("usr/lib/x86_64-linux-gnu/glib-2.0/glib-compile-schemas", "usr/share/glib-2.0/schemas"),
];

/// How many bytes of a file system there are for each 16 of its files: blocks are whole, and there are inodes.
const SPACE_PER_16_BYTES: u64 = 20;

/// Room in a file system for what doesn't depend on the files, in bytes.
const SPACE_AT_LEAST: u64 = 32 << 20;

/// The variable with the folder where all of it is kept, for several checkouts of the project.
const CACHE: &str = "WLPROXY_VM_CACHE";

/// Where all of it is.
#[derive(Debug)]
pub(super) struct Images {
    /// The tree with QEMU.
    pub(super) qemu: PathBuf,
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// The part of the initial RAM disk that doesn't change: a shell, and modules in `modules` with their order.
    pub(super) initrd: PathBuf,
    /// A file system, ext4, that is mounted read-only.
    pub(super) userland: PathBuf,
    /// Where each VM that runs has a folder.
    pub(super) rooms: PathBuf,
}

impl Images {
    /// Makes what is missing, or was made of something else.
    pub(super) fn ensure(progress: &mut Progress) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("VMs are x86-64, as the programs in them have to be: this machine isn't");
        }
        let here = crate::root().join("target/vm");
        let folder = env::var_os(CACHE).filter(|folder| !folder.is_empty());
        let folder = folder.map_or_else(|| here.clone(), |folder| absolute(Path::new(&folder)));
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        apt::ensure(apt::VM, &folder.join("apt.log"), progress)?;
        suite::ensure(&folder, &[QEMU, KERNEL, USERLAND], progress)?;
        let lock = File::create(folder.join("images.lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;

        let (kernel_tree, userland_tree) = (folder.join(KERNEL.tree), folder.join(USERLAND.tree));
        let userland = folder.join("userland.ext4");
        made(&userland, &recipe(&[&userland_tree])?, progress, |new| {
            finish(&userland_tree)?;
            make_file_system(&userland_tree, new)
        })?;
        let initrd = folder.join("initrd.cpio");
        made(&initrd, &recipe(&[&kernel_tree, &userland_tree])?, progress, |new| {
            make_initrd(&kernel_tree, &userland_tree, new)
        })?;
        Ok(Self {
            qemu: folder.join(QEMU.tree),
            kernel: only(&kernel_tree.join("boot"), "vmlinuz-")?,
            initrd,
            userland,
            rooms: here.join("rooms"),
        })
    }
}

/// What an image is made of: trees have the time at which they were made in that of their contents.
fn recipe(trees: &[&Path]) -> Result<String> {
    let mut recipe = format!("{VERSION} with {}", MODULES.join(" "));
    for tree in trees {
        let contents = tree.join(suite::CONTENTS);
        let time = contents.metadata().and_then(|metadata| metadata.modified());
        let time = time.with_context(|| format!("can't look at {}", contents.display()))?;
        recipe.push_str(&format!("\n{} of {time:?}", tree.display()));
    }
    Ok(recipe)
}

/// Makes `image` unless it is there and made by `recipe`.
fn made(
    image: &Path,
    recipe: &str,
    progress: &mut Progress,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let told = beside(image, "recipe");
    if image.exists() && fs::read_to_string(&told).is_ok_and(|found| found == recipe) {
        return Ok(());
    }
    progress.stage(format!("making {}", image.file_name().unwrap_or_default().display()));
    // Under another name, so that half an image never has its own, and VMs keep what they were started with.
    let new = beside(image, "new");
    make(&new)?;
    let _ = fs::remove_file(&told);
    fs::rename(&new, image).with_context(|| format!("can't make {}", image.display()))?;
    fs::write(&told, recipe).with_context(|| format!("can't write {}", told.display()))?;
    progress.done();
    Ok(())
}

/// Makes in the tree of the userland what its packages make when they are installed, as far as something misses it.
/// The tree's own programs do that, with its libraries.
fn finish(tree: &Path) -> Result<()> {
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    for (program, folder) in FINISHING {
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(tree.join(program));
        let output = command.arg(tree.join(folder)).stdin(Stdio::null()).output();
        let output =
            output.with_context(|| format!("can't run {program} of {}", tree.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} failed ({}): {}", output.status, said.trim());
        }
    }
    Ok(())
}

/// Makes a file system of a tree, without mounting it: that would take root.
fn make_file_system(tree: &Path, image: &Path) -> Result<()> {
    let size = size_of(tree)? * SPACE_PER_16_BYTES / 16 + SPACE_AT_LEAST;
    let file = File::create(image).with_context(|| format!("can't make {}", image.display()))?;
    file.set_len(size)?;
    let mut command = Command::new("/sbin/mke2fs");
    command.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-m",
        "0",
        "-O",
        "^has_journal",
        "-E",
        "root_owner=0:0",
    ]);
    let output = command.arg("-d").arg(tree).arg(image).stdin(Stdio::null()).output();
    let output = output.context("can't run /sbin/mke2fs")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("mke2fs can't make {} of {} MiB: {}", image.display(), size >> 20, said.trim());
    }
    Ok(())
}

fn make_initrd(kernel: &Path, userland: &Path, image: &Path) -> Result<()> {
    let modules = Modules::of(&only(&kernel.join("usr/lib/modules"), "")?)?.closure(MODULES)?;
    let mut cpio = Cpio::default();
    let busybox = userland.join("usr/bin/busybox");
    let busybox =
        fs::read(&busybox).with_context(|| format!("can't read {}", busybox.display()))?;
    cpio.program("bin/busybox", &busybox);
    let mut order = String::new();
    for module in modules {
        cpio.file(&format!("modules/{}.ko", module.name), &module.content);
        order.push_str(&format!("{}\n", module.name));
    }
    cpio.file("modules/order", order.as_bytes());
    fs::write(image, cpio.finish()).with_context(|| format!("can't write {}", image.display()))
}

/// The sum of the sizes of all files in a folder, in bytes.
fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        size += match entry.file_type()? {
            kind if kind.is_dir() => size_of(&entry.path())?,
            _ => entry.metadata()?.len(),
        };
    }
    Ok(size)
}

/// The one entry of a folder whose name begins so.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    let entries = entries.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    let mut found: Vec<PathBuf> = entries.filter(named).collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (None, _) => bail!("there is no {prefix}* in {}", folder.display()),
        _ => bail!("there are several {prefix}* in {}", folder.display()),
    }
}

/// `image.end`
fn beside(image: &Path, end: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Whether it was made now.
    fn make(image: &Path, recipe: &str, content: &str) -> Result<bool> {
        let mut called = false;
        made(image, recipe, &mut Progress::quiet(), |new| {
            called = true;
            if content == "broken" {
                fs::write(new, "half")?;
                bail!("broken");
            }
            Ok(fs::write(new, content)?)
        })
        .map(|()| called)
    }

    #[test]
    fn an_image_is_made_when_it_is_missing_or_of_something_else() {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        assert!(make(&image, "one", "1").unwrap());
        assert!(!make(&image, "one", "2").unwrap());
        assert!(make(&image, "two", "2").unwrap());
        fs::remove_file(&image).unwrap();
        assert!(make(&image, "two", "3").unwrap());
        assert_eq!(fs::read_to_string(&image).unwrap(), "3");
    }

    #[test]
    fn half_an_image_is_not_taken_for_a_whole_one() {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        assert!(make(&image, "one", "broken").is_err());
        assert!(!image.exists());
        assert!(make(&image, "one", "1").unwrap());
        assert!(make(&image, "two", "broken").is_err());
        assert_eq!(fs::read_to_string(&image).unwrap(), "1");
        assert!(make(&image, "two", "2").unwrap());
    }

    #[test]
    fn a_tree_becomes_a_file_system() {
        let dir = TempDir::new().unwrap();
        let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::write(tree.join("usr/bin/it"), vec![1; 100_000]).unwrap();
        make_file_system(&tree, &image).unwrap();
        let content = fs::read(&image).unwrap();
        // ext4(5): 1024 bytes in, a superblock with this at 0x38.
        assert_eq!(content[1024 + 0x38..][..2], [0x53, 0xef]);
        assert!(content.windows(100_000).any(|bytes| bytes.iter().all(|&byte| byte == 1)));
    }
}
