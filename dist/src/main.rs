//! `wlproxy-dist DIR`: writes the manual pages and completions to a folder.

#![deny(unsafe_code)]

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("name the folder to write to")?;
    wlproxy_dist::write(folder.as_ref())
}
