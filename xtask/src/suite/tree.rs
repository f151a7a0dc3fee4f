//! The unpacked packages of a suite.

use super::Suite;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file in a tree that tells what it is made of, and each file that is in it. Written last.
pub(crate) const CONTENTS: &str = "contents";

/// Changes when trees are made otherwise.
const VERSION: u32 = 1;

/// Nobody reads or lists these.
const LEFT_OUT: [&str; 4] =
    ["usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man"];

/// Folders that are links into usr since Debian 12: packages may still name them.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// A tree, made or not.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    path: PathBuf,
    suite: &'a Suite,
}

impl<'a> Tree<'a> {
    /// That of a suite, among all in `folder`.
    pub(super) fn at(folder: &Path, suite: &'a Suite) -> Self {
        Self { path: folder.join(suite.tree), suite }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it has to be made of. Programs know their libraries by absolute paths.
    fn recipe(&self) -> String {
        let Suite { name, packages, programs, .. } = self.suite;
        let path = self.path.display();
        format!("{VERSION} {name} at {path}: {} for {}", packages.join(" "), programs.join(" "))
    }

    /// Whether it was made of what it has to be made of, and every file of it is there.
    pub(super) fn is_whole(&self) -> bool {
        let contents = fs::read_to_string(self.path.join(CONTENTS)).unwrap_or_default();
        let mut lines = contents.lines();
        lines.next() == Some(&self.recipe())
            && lines.all(|file| self.path.join(file).symlink_metadata().is_ok())
    }

    /// Makes it count as not whole.
    pub(super) fn forget(&self) -> Result<()> {
        match fs::remove_file(self.path.join(CONTENTS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't forget {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes it of all packages in `archives`, in the place of the one that may be there.
    pub(super) fn make(&self, archives: &Path, progress: &mut Progress) -> Result<()> {
        // Beside it, so that half a tree never has its name.
        let (new, old) = (self.path.with_extension("new"), self.path.with_extension("old"));
        for left in [&new, &old] {
            remove(left)?;
        }
        progress.stage(format!("unpacking {}", self.suite.tree));
        self.unpack(archives, &new, progress)?;
        for program in self.suite.programs {
            self.bind(&new, &find(&new, program)?)?;
        }
        let mut files = Vec::new();
        list(&new, Path::new(""), &mut files)?;
        let contents = [&[self.recipe()], files.as_slice()].concat().join("\n");
        fs::write(new.join(CONTENTS), contents)?;
        if self.path.exists() {
            fs::rename(&self.path, &old)?;
        }
        fs::rename(&new, &self.path)
            .with_context(|| format!("can't make {}", self.path.display()))?;
        progress.done();
        remove(&old)?;
        // Of what apt has for it, the lists are the most.
        remove(&self.path.with_extension("apt"))
    }

    fn unpack(&self, archives: &Path, new: &Path, progress: &mut Progress) -> Result<()> {
        for name in MERGED {
            fs::create_dir_all(new.join("usr").join(name))?;
            symlink(Path::new("usr").join(name), new.join(name))?;
        }
        let files = fs::read_dir(archives)?.flatten().map(|file| file.path());
        let mut debs: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
        debs.sort();
        for (i, deb) in debs.iter().enumerate() {
            let name = deb.file_stem().unwrap_or_default().display();
            progress.detail(&format!("{} of {}: {name}", i + 1, debs.len()));
            unpack(deb, new)?;
        }
        Ok(())
    }

    /// Makes a program run with the loader and the libraries of its tree, when that has its name; other programs that
    /// it starts aren't concerned, as they would be by a variable in its environment.
    fn bind(&self, new: &Path, program: &Path) -> Result<()> {
        let file = new.join(program);
        let loader = patchelf(&file, &["--print-interpreter"])?;
        // Its last name is a link to where the libraries are.
        let loader = new.join(loader.trim_start_matches('/'));
        let loader =
            loader.canonicalize().with_context(|| format!("{} isn't there", loader.display()))?;
        let loader = self.path.join(loader.strip_prefix(new.canonicalize()?)?);
        let libraries = loader.parent().context("a file lies somewhere")?;
        let (Some(loader), Some(libraries)) = (loader.to_str(), libraries.to_str()) else {
            bail!("the path of the workspace isn't text");
        };
        // An rpath rather than a runpath: it also counts for what the libraries need.
        let options = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries];
        patchelf(&file, &options).map(drop)
    }
}

/// A program in a tree: among those that people start, or in the folder of its name that a package has for itself.
fn find(tree: &Path, program: &str) -> Result<PathBuf> {
    let of_people = Path::new("usr/bin").join(program);
    if tree.join(&of_people).exists() {
        return Ok(of_people);
    }
    let libraries = fs::read_dir(tree.join("usr/lib"))?.flatten();
    let mut own = libraries.map(|folder| folder.path().join(program).join(program));
    let own = own.find(|file| file.is_file());
    let own = own.with_context(|| format!("no package has the program {program}"))?;
    Ok(own.strip_prefix(tree)?.to_owned())
}

/// Unpacks a package into `tree`.
fn unpack(deb: &Path, tree: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--fsys-tarfile").arg(deb);
    dpkg.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dpkg = dpkg.spawn().context("can't run dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "--no-same-owner", "-C"]).arg(tree);
    tar.args(LEFT_OUT.map(|folder| format!("--exclude=./{folder}")));
    let tar = tar.stdin(dpkg.stdout.take().expect("it is piped")).output();
    let (dpkg, tar) = (dpkg.wait_with_output()?, tar.context("can't run tar")?);
    if !dpkg.status.success() || !tar.status.success() {
        let said = [dpkg.stderr, tar.stderr].concat();
        bail!("can't unpack {}: {}", deb.display(), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// Runs patchelf on a file; what it says.
pub(super) fn patchelf(file: &Path, options: &[&str]) -> Result<String> {
    let mut command = Command::new("patchelf");
    command.args(options).arg(file).stdin(Stdio::null());
    let output = command.output().context("can't run patchelf")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("patchelf failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Every file below `folder` of `tree`, by its path from there.
fn list(tree: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(tree.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(tree, &path, files)?;
        } else {
            files.push(path.to_str().context("a file's name isn't text")?.to_owned());
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
