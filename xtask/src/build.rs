//! Builds with cargo, and finds what was built.

use crate::part::end_with_caller;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    end_with_caller(&mut command);
    command
}

/// Runs `cargo build ARGS` with its own progress on the terminal. Returns the programs by name, and libraries that are
/// loaded into programs.
pub(crate) fn build(args: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut child = cargo()
        .arg("build")
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't run cargo")?;
    let messages = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut programs = Vec::new();
    for message in messages.lines() {
        programs.extend(told(&message?));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo build {} failed ({status})", args.join(" "));
    }
    Ok(programs)
}

/// One of the programs that were built.
pub(crate) fn program(programs: &[(String, PathBuf)], name: &str) -> Result<PathBuf> {
    let program = programs.iter().find(|(found, _)| found == name);
    program.map(|(_, path)| path.clone()).with_context(|| format!("cargo built no {name}"))
}

/// The program or library that a message of cargo tells of.
fn told(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let kinds = message["target"]["kind"].as_array()?;
    let is = |wanted: &str| kinds.iter().any(|kind| kind == wanted);
    let path = if is("bin") {
        &message["executable"]
    } else if is("cdylib") {
        &message["filenames"][0]
    } else {
        return None;
    };
    Some((message["target"]["name"].as_str()?.to_owned(), path.as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_the_messages() {
        let found = told(
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"wlproxy"},"executable":"/t/wlproxy"}"#,
        );
        assert_eq!(found, Some(("wlproxy".to_owned(), "/t/wlproxy".into())));
        let found = told(
            r#"{"reason":"compiler-artifact","target":{"kind":["cdylib"],"name":"hook"},"filenames":["/t/libhook.so"],"executable":null}"#,
        );
        assert_eq!(found, Some(("hook".to_owned(), "/t/libhook.so".into())));
        for other in [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"wlproxy"},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"wlproxy"},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "Compiling wlproxy",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
