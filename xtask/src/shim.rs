//! `cargo xtask shim`: the C library of compositor-shim, built and installed.

use crate::progress::Progress;
use crate::{apt, build, header};
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The library without what stands before and behind it.
const NAME: &str = "wlproxy_shim";

/// What a program that was linked with it looks for. It changes when such a program would no longer work, and with it the
/// version of all symbols: rustc gives the linker a list of them, and no linker takes another beside it, so their version
/// can't be a name of its own.
const SONAME: &str = "libwlproxy_shim.so.0";

/// The system's libraries that Rust's own needs, where a program is linked with the archive.
const SYSTEM: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

/// Options of `cargo xtask shim`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where it will be used from
    #[arg(long, default_value = "target/shim")]
    prefix: PathBuf,
    /// Install below this folder instead, as packages are made
    #[arg(long)]
    destdir: Option<PathBuf>,
    /// Don't optimise
    #[arg(long)]
    dev: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut progress = Progress::new();
    let dir = crate::root().join("target/xtask");
    fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    apt::ensure(apt::SHIM, &dir.join("apt.log"), &mut progress)?;
    let prefix = crate::absolute(&options.prefix);
    let place = match &options.destdir {
        Some(destdir) => crate::absolute(destdir).join(prefix.strip_prefix("/").unwrap_or(&prefix)),
        None => prefix.clone(),
    };
    make(options.dev, &prefix, &place, &mut progress)?;
    progress.say(&format!("installed in {}", place.display()));
    Ok(())
}

/// Builds the library, optimised unless `is_dev`, and copies it to where `prefix` is now, which is `place`. What it is built
/// with is there.
pub(crate) fn make(
    is_dev: bool,
    prefix: &Path,
    place: &Path,
    progress: &mut Progress,
) -> Result<()> {
    progress.stage("cargo rustc -p compositor-shim --features capi --crate-type cdylib,staticlib");
    progress.leave_line();
    let built = build(is_dev)?;
    progress.done();
    install(&built, prefix, place)
}

/// Where the shared library is that programs look for, in a prefix.
pub(crate) fn shared(prefix: &Path) -> PathBuf {
    prefix.join("lib").join(SONAME)
}

/// What is built.
struct Built {
    shared: PathBuf,
    archive: PathBuf,
}

/// Builds the library, which the crate itself isn't: who builds the workspace doesn't wait for it.
fn build(is_dev: bool) -> Result<Built> {
    let soname = format!("link-arg=-Wl,-soname,{SONAME}");
    let mut arguments = vec!["--package", "compositor-shim", "--lib", "--features", "capi"];
    arguments.extend(["--crate-type", "cdylib,staticlib"]);
    if !is_dev {
        arguments.push("--release");
    }
    // Of the linkers, one gives symbols versions without being told their names.
    arguments.extend(["--", "-C", "link-arg=-fuse-ld=bfd", "-C", "link-arg=-Wl,--default-symver"]);
    arguments.extend(["-C", &soname]);
    let made = build::artifacts("rustc", &arguments)?;
    let of_shim = made.iter().filter(|made| made["target"]["name"] == "compositor_shim");
    let names = of_shim.flat_map(|made| made["filenames"].as_array()).flatten();
    let files: Vec<&Path> = names.filter_map(|name| name.as_str()).map(Path::new).collect();
    let find = |extension: &str| {
        let is_it = |file: &&&Path| file.extension().is_some_and(|found| found == extension);
        let file = files.iter().find(is_it).map(|file| file.to_path_buf());
        file.with_context(|| format!("cargo built no .{extension}"))
    };
    Ok(Built { shared: find("so")?, archive: find("a")? })
}

/// Copies what is built to where `prefix` is now, which is `place`.
fn install(built: &Built, prefix: &Path, place: &Path) -> Result<()> {
    let (lib, include) = (place.join("lib"), place.join("include"));
    let pkgconfig = lib.join("pkgconfig");
    for folder in [&include, &pkgconfig] {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    }
    // The name of the file tells the version, as is the custom.
    let version = env!("CARGO_PKG_VERSION");
    let file = format!("lib{NAME}.so.{version}");
    put(&built.shared, &lib.join(&file))?;
    link(&file, &lib.join(SONAME))?;
    link(SONAME, &lib.join(format!("lib{NAME}.so")))?;
    put(&built.archive, &lib.join(format!("lib{NAME}.a")))?;
    put(&header::path(), &include.join("wlproxy-shim.h"))?;
    let pc = pkgconfig.join("wlproxy-shim.pc");
    fs::write(&pc, describe(prefix, version))
        .with_context(|| format!("can't write {}", pc.display()))
}

/// What pkg-config is told.
fn describe(prefix: &Path, version: &str) -> String {
    format!(
        "prefix={}\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: wlproxy-shim\n\
         Description: Lets a Wayland compositor accept clients of other VMs by itself\n\
         Version: {version}\n\
         Requires.private: wayland-server\n\
         Libs: -L${{libdir}} -l{NAME}\n\
         Libs.private: {SYSTEM}\n\
         Cflags: -I${{includedir}}\n",
        prefix.display()
    )
}

/// Copies a file. One that is there is replaced and not written to: programs may run with it.
fn put(from: &Path, to: &Path) -> Result<()> {
    let meanwhile = to.with_extension(std::process::id().to_string());
    let copied = fs::copy(from, &meanwhile).and_then(|_| fs::rename(&meanwhile, to));
    copied.with_context(|| format!("can't write {}", to.display()))
}

fn link(to: &str, at: &Path) -> Result<()> {
    let meanwhile = at.with_extension(std::process::id().to_string());
    let made = symlink(to, &meanwhile).and_then(|()| fs::rename(&meanwhile, at));
    made.with_context(|| format!("can't make the link {}", at.display()))
}
