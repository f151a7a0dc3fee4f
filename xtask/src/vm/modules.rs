//! The modules of a kernel: which ones a VM loads, and in which order.

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a module's file says before the names of those that it needs, with commas between them. A zero ends them, and
/// stands before.
const DEPENDS: &[u8] = b"\0depends=";

/// The modules of one kernel, by name.
#[derive(Debug)]
pub(super) struct Modules {
    files: HashMap<String, PathBuf>,
    /// Those that are part of the kernel.
    builtin: Vec<String>,
}

/// A module, unpacked.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

impl Modules {
    /// Those in `folder`, which is `lib/modules/VERSION`.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut modules = Self { files: HashMap::new(), builtin: Vec::new() };
        modules.find(&folder.join("kernel"))?;
        let builtin = folder.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin)
            .with_context(|| format!("can't read {}", builtin.display()))?;
        modules.builtin = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(modules)
    }

    fn find(&mut self, folder: &Path) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.find(&entry.path())?;
            } else if let Some(name) = name_of(&entry.path()) {
                self.files.insert(name, entry.path());
            }
        }
        Ok(())
    }

    /// `names` and all that these need, each after what it needs, without what is part of the kernel.
    pub(super) fn closure(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in names {
            self.visit(name, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(file) = self.files.get(&name) else {
            bail!("the kernel has no module {name}; xtask/src/vm/image.rs names those it needs");
        };
        let content = read(file)?;
        for needed in needs(&content) {
            self.visit(&needed, order)?;
        }
        order.push(Module { name, content });
        Ok(())
    }
}

/// The name of the module in a file: `-` and `_` are the same in it.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_suffix(".ko.xz").or_else(|| file.strip_suffix(".ko"))?;
    Some(name.replace('-', "_"))
}

/// The names of the modules that a module needs.
fn needs(content: &[u8]) -> Vec<String> {
    let found = content.windows(DEPENDS.len()).position(|bytes| bytes == DEPENDS);
    let names = found.map_or(&[][..], |at| &content[at + DEPENDS.len()..]);
    let names = names.split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A module's content, as insmod takes it.
fn read(file: &Path) -> Result<Vec<u8>> {
    let told = || format!("can't read {}", file.display());
    if file.extension().is_none_or(|end| end != "xz") {
        return fs::read(file).with_context(told);
    }
    let output = Command::new("xz").arg("-dc").arg(file).stdin(Stdio::null()).output();
    let output = output.context("can't run xz").with_context(told)?;
    if !output.status.success() {
        bail!("{}: {}", told(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn kernel(modules: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("kernel/drivers/gpu")).unwrap();
        for (name, needed) in modules {
            let content = format!("ELF\0license=GPL\0depends={needed}\0name={name}\0");
            let file = format!("kernel/drivers/gpu/{name}.ko");
            fs::write(dir.path().join(file), content).unwrap();
        }
        fs::write(dir.path().join("modules.builtin"), "kernel/lib/in-side.ko\n").unwrap();
        dir
    }

    fn order(dir: &TempDir, names: &[&str]) -> Result<Vec<String>> {
        let modules = Modules::of(dir.path())?.closure(names)?;
        Ok(modules.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn each_comes_once_after_what_it_needs() {
        let dir = kernel(&[
            ("top", "left,right-hand"),
            ("left", "base"),
            ("right-hand", "base"),
            ("base", ""),
        ]);
        let found = order(&dir, &["in_side", "right_hand", "top"]).unwrap();
        assert_eq!(found, ["base", "right_hand", "left", "top"]);
    }

    #[test]
    fn one_that_is_missing_is_named() {
        let dir = kernel(&[("top", "gone")]);
        let error = order(&dir, &["top"]).unwrap_err();
        assert!(format!("{error:#}").contains("no module gone"), "{error:#}");
    }
}
