//! `cargo xtask header`: the header of compositor-shim's C interface, made of its Rust code.

use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::PathBuf;

/// What the header is made of, in compositor-shim.
const SOURCES: [&str; 3] = ["src/capi.rs", "src/capi/log.rs", "src/capi/shim.rs"];

fn folder() -> PathBuf {
    crate::root().join("compositor-shim")
}

/// Where the header lies.
pub(crate) fn path() -> PathBuf {
    folder().join("include/wlproxy-shim.h")
}

/// Runs the command.
pub(crate) fn run() -> Result<()> {
    let header = path();
    fs::write(&header, make()?).with_context(|| format!("can't write {}", header.display()))
}

/// The header's text.
fn make() -> Result<String> {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml"));
    let config = config.map_err(|why| anyhow!("cbindgen.toml: {why}"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(folder().join(source));
    }
    let mut text = Vec::new();
    builder.generate().context("cbindgen makes no header")?.write(&mut text);
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_what_the_code_does() {
        let header = path();
        assert!(
            fs::read_to_string(&header).unwrap_or_default() == make().unwrap(),
            "{} is not what the code says: run `cargo xtask header`",
            header.display()
        );
    }
}
