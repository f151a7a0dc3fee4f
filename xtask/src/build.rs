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
    Ok(artifacts("build", args)?.iter().filter_map(told).collect())
}

/// Runs a command of cargo that builds, with its own progress on the terminal. Returns what cargo tells of what it made.
pub(crate) fn artifacts(command: &str, args: &[&str]) -> Result<Vec<Value>> {
    let mut child = cargo()
        .arg(command)
        .arg("--message-format=json-render-diagnostics")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't run cargo")?;
    let messages = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut made = Vec::new();
    for message in messages.lines() {
        made.extend(artifact(&message?));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo {command} {} failed ({status})", args.join(" "));
    }
    Ok(made)
}

/// One of the programs that were built.
pub(crate) fn program(programs: &[(String, PathBuf)], name: &str) -> Result<PathBuf> {
    let program = programs.iter().find(|(found, _)| found == name);
    program.map(|(_, path)| path.clone()).with_context(|| format!("cargo built no {name}"))
}

/// A message of cargo that tells of something that it made.
fn artifact(message: &str) -> Option<Value> {
    let message: Value = serde_json::from_str(message).ok()?;
    (message["reason"] == "compiler-artifact").then_some(message)
}

/// The program or library that was made.
fn told(artifact: &Value) -> Option<(String, PathBuf)> {
    let kinds = artifact["target"]["kind"].as_array()?;
    let is = |wanted: &str| kinds.iter().any(|kind| kind == wanted);
    let path = if is("bin") {
        &artifact["executable"]
    } else if is("cdylib") {
        &artifact["filenames"][0]
    } else {
        return None;
    };
    Some((artifact["target"]["name"].as_str()?.to_owned(), path.as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Option<(String, PathBuf)> {
        super::told(&artifact(message)?)
    }

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
