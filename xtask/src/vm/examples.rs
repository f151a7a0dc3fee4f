//! The compositors of `examples/`, which run in the compositor VM.

use super::programs::Program;
use crate::progress::Progress;
use crate::{apt, build, root, shim};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Those in C, by the folder of each: its program is called FOLDER-shim.
const IN_C: [&str; 2] = ["libwayland", "wlroots"];

/// What of this machine's libraries is in the VM, by the beginning of its name. The VM's own Debian is newer, and has all
/// others that the examples need, but another wlroots.
const BROUGHT: &str = "libwlroots.so.";

/// Builds all, optimised if `release`. Returns the programs, and the libraries that they find beside them with
/// LD_LIBRARY_PATH.
pub(super) fn make(release: bool, progress: &mut Progress) -> Result<Vec<Program>> {
    let folder = root().join("target/vm/examples");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let packages = [apt::SHIM, apt::EXAMPLES].concat();
    apt::ensure(&packages, &folder.join("apt.log"), progress)?;
    let mut args = vec!["-p", "wlproxy-example-smithay"];
    if release {
        args.push("--release");
    }
    progress.stage(format!("cargo build {}", args.join(" ")));
    progress.leave_line();
    let built = build::build(&args)?;
    progress.done();
    let prefix = folder.join("shim");
    shim::make(!release, &prefix, &prefix, progress)?;
    let mut paths = vec![build::program(&built, "smithay-shim")?, shim::shared(&prefix)];
    progress.stage(format!("make in examples: {}", IN_C.join(", ")));
    for name in IN_C {
        let program = make_in_c(name, &folder.join(name), &prefix)?;
        paths.extend(brought(&program)?);
        paths.push(program);
    }
    progress.done();
    paths.into_iter().map(Program::at).collect()
}

/// Runs the Makefile of `examples/NAME`. Where its program is.
fn make_in_c(name: &str, out: &Path, prefix: &Path) -> Result<PathBuf> {
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(root().join("examples").join(name));
    make.arg(format!("OUT={}", out.display()));
    make.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let output = make.stdin(Stdio::null()).output().context("can't run make")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("make in examples/{name} failed ({}): {}", output.status, said.trim());
    }
    Ok(out.join(format!("{name}-shim")))
}

/// The libraries of a program that the VM hasn't itself.
fn brought(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("can't run ldd")?;
    if !output.status.success() {
        bail!("ldd {} failed ({})", program.display(), output.status);
    }
    Ok(found(&String::from_utf8_lossy(&output.stdout)))
}

/// Those of them in what ldd(1) says: a line `NAME => PATH (ADDRESS)` for each library.
fn found(said: &str) -> Vec<PathBuf> {
    let of = |line: &str| {
        let (name, at) = line.trim().split_once(" => ")?;
        Some(at.split(' ').next()?.into()).filter(|_| name.starts_with(BROUGHT))
    };
    said.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vm_has_is_not_brought() {
        let said = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\
                    \tlibwlroots.so.10 => /lib/x86_64-linux-gnu/libwlroots.so.10 (0x3)\n\t/lib64/ld.so.2 (0x4)\n";
        assert_eq!(found(said), [PathBuf::from("/lib/x86_64-linux-gnu/libwlroots.so.10")]);
    }
}
