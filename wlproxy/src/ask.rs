//! What can be asked at the control socket, and how.
//!
//! Whoever connects sends one line of JSON and gets an answer, and the connection is closed:
//!
//! | question | answer |
//! |---|---|
//! | `{"ask":"status"}` | the document of [`crate::status`], in one line |
//! | `{"ask":"trace","vm":"work","connection":3}` | `{"trace":"work","connection":3}`, then what the VM's worker says: `{"begins":3}`, and what passes, until either side ends |
//!
//! | `{"ask":"reload"}` | `{"reloaded":"/etc/wlproxy.toml","policies":["work"],"connections":2,"waits":["vm.work.window"]}`: which VMs' policies are others now, how many connections began under the old ones, and what else has changed, and only holds when wlproxy is started again |
//!
//! `vm` may be left out if the status lists the connection of one client VM.
//!
//! A question that can't be answered is: `{"error":"why"}`. A worker says the same in place of its first line.

use crate::harmless::harmless;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest first line of an answer that an asker takes, in bytes: many times a status with [`crate::config::MAX_VMS`]
/// VMs and all connections that it lists.
pub(crate) const MAX_LINE: u64 = 4 << 20;

/// How long an asker waits for wlproxy, which answers within milliseconds unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Who is connected, and what do they hold?
    Status,
    /// What passes over a connection from now on?
    Trace {
        /// Its client VM, unless that is the only one of which the status lists this connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vm: Option<String>,
        /// Its number.
        connection: u64,
    },
    /// Read the configuration again.
    Reload,
}

/// What reading the configuration again has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file that was read.
    pub reloaded: PathBuf,
    /// The VMs whose new connections have another policy than those before.
    pub policies: Vec<String>,
    /// How many connections these VMs have that began under the old policy, and go on under it.
    pub connections: u64,
    /// What else has changed in the file. It holds when wlproxy is started again.
    pub waits: Vec<String>,
}

/// The first line of a trace: wlproxy's own, and so to be believed. A worker faces its VM, and may say anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    /// The client VM.
    pub trace: String,
    /// The connection.
    pub connection: u64,
}

/// A worker's first line of a trace. What follows is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begins {
    /// The connection. From now on all is written that passes over it.
    pub begins: u64,
}

/// The answer that there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, for people.
    pub error: String,
}

impl Refusal {
    /// The answer as it is written.
    pub fn line(error: impl Into<String>) -> Vec<u8> {
        line(&Self { error: error.into() })
    }
}

/// A document, as it is written.
pub fn line(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(document).expect("keys are strings");
    bytes.push(b'\n');
    bytes
}

impl Ask {
    /// The question that was asked; `None` if it isn't whole yet. `Err`: what to answer.
    pub fn parse(question: &[u8]) -> Option<Result<Self, Vec<u8>>> {
        let end = question.iter().position(|&byte| byte == b'\n')?;
        let parsed = serde_json::from_slice(&question[..end]);
        Some(parsed.map_err(|error| Refusal::line(format!("no question that is known: {error}"))))
    }

    /// Asks the wlproxy behind `control_socket`. Returns the first line of its answer, and whence more may come.
    pub fn send(&self, control_socket: &Path) -> Result<(String, BufReader<UnixStream>)> {
        let shown = control_socket.display();
        let stream = wlproxy_unix::connect(control_socket).with_context(|| {
            format!("wlproxy doesn't run with this configuration: nobody listens at {shown}")
        })?;
        let exchanged = self.exchange(stream);
        let (text, stream) = exchanged.with_context(|| format!("no answer from {shown}"))?;
        if let Ok(Refusal { error }) = serde_json::from_str(&text) {
            bail!("wlproxy: {}", harmless(&error));
        }
        Ok((text, stream))
    }

    fn exchange(&self, mut stream: UnixStream) -> Result<(String, BufReader<UnixStream>)> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&line(self))?;
        let mut reader = BufReader::new(stream);
        let text = document(&mut reader)?;
        Ok((text, reader))
    }
}

/// The line that comes next.
pub(crate) fn document(reader: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    reader.take(MAX_LINE).read_line(&mut text)?;
    if !text.ends_with('\n') {
        bail!("wlproxy ends just now");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn the_questions_are_as_documented() {
        let parse = |text: &str| Ask::parse(text.as_bytes());
        assert_eq!(parse("{\"ask\":\"status\"}\n"), Some(Ok(Ask::Status)));
        assert_eq!(line(&Ask::Status), b"{\"ask\":\"status\"}\n");
        assert_eq!(parse("{\"ask\":\"status\"}"), None, "not whole");
        assert_eq!(parse("{\"ask\":\"reload\"}\n"), Some(Ok(Ask::Reload)));
        let trace = |vm: Option<&str>| Ask::Trace { vm: vm.map(str::to_owned), connection: 3 };
        let text = "{\"ask\":\"trace\",\"vm\":\"work\",\"connection\":3}\n";
        assert_eq!(parse(text), Some(Ok(trace(Some("work")))));
        assert_eq!(line(&trace(None)), b"{\"ask\":\"trace\",\"connection\":3}\n");
        for wrong in ["\n", "status\n", "{}\n", "{\"ask\":\"everything\"}\n", "\u{0}\n"] {
            let refusal = parse(wrong).unwrap().unwrap_err();
            let refusal: Refusal = serde_json::from_slice(&refusal).unwrap();
            assert!(refusal.error.contains("no question"), "{refusal:?}");
        }
    }

    #[test]
    fn nobody_there_is_told_as_such() {
        let error = Ask::Status.send(Path::new("/nonexistent/control.sock")).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("doesn't run") && error.contains("/nonexistent/control.sock"),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_is_an_error_and_so_is_silence() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answers = [Refusal::line("not \u{1b}[31mtoday"), b"{\"half".to_vec()];
        let server = thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut question = String::new();
                BufReader::new(&stream).read_line(&mut question).unwrap();
                (&stream).write_all(&answer).unwrap();
            }
        });
        let error = format!("{:#}", Ask::Status.send(&path).unwrap_err());
        assert!(error.contains("not \u{fffd}[31mtoday"), "{error}");
        let error = format!("{:#}", Ask::Status.send(&path).unwrap_err());
        assert!(error.contains("ends just now"), "{error}");
        server.join().unwrap();
    }
}
