//! What packages carry beside the programs, as far as it is made of the code: manual pages and completions.
//!
//! The rest stands in this folder as it is: systemd's units and an example of a configuration.

#![deny(unsafe_code)]

mod completions;
mod example;
mod manual;

use anyhow::{Context, Result};
use clap::CommandFactory;
use std::fs;
use std::path::Path;

/// The example of a configuration. It has every key.
pub const EXAMPLE: &str = include_str!("../wlproxy.example.toml");

/// The command lines of all programs.
fn commands() -> [clap::Command; 2] {
    [wlproxy::cli::Cli::command(), guest_agent::cli::Args::command()]
}

/// Writes the manual pages to the folder `man` of `folder`, and completions to `completions`; makes these afresh.
pub fn write(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    for command in commands() {
        files.extend(manual::pages(&command)?);
        files.extend(completions::scripts(&command));
    }
    files.push(("man/wlproxy.toml.5".to_owned(), example::page(EXAMPLE)));
    for name in ["man", "completions"] {
        let folder = folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
