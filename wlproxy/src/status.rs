//! What `wlproxy status` shows: the document, and both ends of the socket that it comes over.
//!
//! Whoever connects to the control socket gets one JSON document, and the connection is closed. Its fields are a
//! contract with other programs: they may be added to, never changed, unless [`VERSION`] changes too.

use crate::config::Compositor;
use crate::counters::Snapshot;
use crate::device::Side;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::debug;

/// Version of the document.
pub const VERSION: u32 = 1;

/// Most connections that are answered in one go, before other work gets its turn.
const MAX_ANSWERS: usize = 8;

/// Largest document that a reader takes, in bytes: many times what [`crate::config::MAX_VMS`] VMs need.
const MAX_DOCUMENT: u64 = 1024 * 1024;

/// How long a reader waits for wlproxy, which answers within a millisecond unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// wlproxy's process.
    pub pid: u32,
    /// Where the compositor is.
    pub compositor: CompositorStatus,
    /// Clients that wait for the compositor VM now.
    pub pending: usize,
    /// All VMs, by name.
    pub vms: BTreeMap<String, VmStatus>,
}

/// Where the compositor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompositorStatus {
    /// The compositor VM, if it is in one.
    pub vm: Option<String>,
    /// Its socket, if it is on the host.
    pub socket: Option<PathBuf>,
    /// Whether clients are taken: the compositor VM has its main context, or the compositor is on the host.
    pub ready: bool,
}

impl CompositorStatus {
    /// The status of `compositor`.
    pub fn new(compositor: &Compositor, ready: bool) -> Self {
        match compositor.clone() {
            Compositor::Vm(vm) => Self { vm: Some(vm), socket: None, ready },
            Compositor::Socket(socket) => Self { vm: None, socket: Some(socket), ready },
        }
    }
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// `client` or `compositor`.
    pub side: String,
    /// Its vhost-user socket.
    pub socket: PathBuf,
    /// Whether its frontend is connected.
    pub connected: bool,
    /// The process of its worker, unless that is down just now.
    pub pid: Option<u32>,
    /// How often its worker died.
    pub restarts: u64,
    /// What its worker counts since it was started; at most a second old. The numbers stand beside the fields above.
    #[serde(flatten)]
    pub counters: Snapshot,
}

/// The name of a side in the document.
pub fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Compositor => "compositor",
    }
}

/// Answers those who wait at `listener`, which must be non-blocking. `status` is made only if somebody does.
///
/// Fails if somebody waits who can't be accepted, for want of fds. The listener then stays readable.
pub fn answer(listener: &UnixListener, status: impl Fn() -> Status) -> io::Result<()> {
    let mut document = Vec::new();
    for _ in 0..MAX_ANSWERS {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        if document.is_empty() {
            document = serde_json::to_vec(&status()).expect("names are strings");
            document.push(b'\n');
        }
        // The whole of it fits into a fresh socket's buffer, so nobody needs to wait.
        let sent = stream.set_nonblocking(true).and_then(|()| stream.write_all(&document));
        if let Err(error) = sent {
            debug!(%error, "somebody didn't want the status");
        }
    }
    Ok(())
}

/// Asks the wlproxy behind `control_socket`: the document as it came.
pub fn fetch(control_socket: &Path) -> Result<String> {
    let shown = control_socket.display();
    let stream = wlproxy_unix::connect(control_socket).with_context(|| {
        format!("wlproxy doesn't run with this configuration: nobody listens at {shown}")
    })?;
    read(stream).with_context(|| format!("no status from {shown}"))
}

fn read(stream: UnixStream) -> Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(MAX_DOCUMENT).read_to_string(&mut text)?;
    if text.is_empty() {
        bail!("wlproxy ends just now");
    }
    Ok(text)
}

/// The document as a table for people.
pub fn table(document: &str) -> Result<String> {
    let status: Status =
        serde_json::from_str(document).context("wlproxy speaks another version")?;
    let mut text = String::new();
    let CompositorStatus { vm, socket, ready } = &status.compositor;
    match (vm, socket) {
        (Some(vm), _) if *ready => writeln!(text, "compositor VM {vm}: takes clients")?,
        (Some(vm), _) => writeln!(text, "compositor VM {vm}: doesn't take clients yet")?,
        (None, socket) => {
            writeln!(text, "compositor: {}", socket.as_deref().unwrap_or(Path::new("?")).display())?
        }
    }
    writeln!(text, "clients waiting: {}\n", status.pending)?;
    let head = [
        "VM",
        "side",
        "connected",
        "contexts",
        "requests",
        "events",
        "commits",
        "vfds",
        "allocated",
        "maps",
        "violations",
        "restarts",
    ];
    let rows = status.vms.iter().map(|(name, vm)| {
        let c = &vm.counters;
        let connected = if vm.connected { "yes" } else { "no" };
        let numbers = [c.contexts, c.requests, c.events, c.commits, c.vfds].map(|n| n.to_string());
        let rest = [c.maps, c.violations, vm.restarts].map(|n| n.to_string());
        let mut row = vec![name.clone(), vm.side.clone(), connected.to_owned()];
        row.extend(numbers);
        row.push(bytes(c.allocation_bytes));
        row.extend(rest);
        row
    });
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect();
    let widths: Vec<usize> =
        (0..head.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = if at < 3 {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(text)
}

/// A size for people: three digits or so.
fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_VMS;

    fn status(vms: usize) -> Status {
        let counters =
            Snapshot { allocation_bytes: 3 << 19, requests: u64::MAX, ..Snapshot::default() };
        let vm = |n: usize| {
            let status = VmStatus {
                side: side_name(Side::Client).to_owned(),
                socket: format!("/{n:s>106}").into(),
                connected: true,
                pid: Some(u32::MAX),
                restarts: u64::MAX,
                counters: counters.clone(),
            };
            (format!("{n:->64}"), status)
        };
        let compositor = CompositorStatus::new(&Compositor::Vm("gui".to_owned()), false);
        Status { version: VERSION, pid: 1, compositor, pending: 3, vms: (0..vms).map(vm).collect() }
    }

    #[test]
    fn the_largest_document_arrives_without_anybody_waiting() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        answer(&listener, || unreachable!("nobody asked")).unwrap();
        let reader = wlproxy_unix::connect(&path).unwrap();
        answer(&listener, || status(MAX_VMS)).unwrap();
        let text = read(reader).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status(MAX_VMS));
    }

    #[test]
    fn all_who_ask_are_answered() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let readers: Vec<_> =
            (0..MAX_ANSWERS + 1).map(|_| wlproxy_unix::connect(&path).unwrap()).collect();
        answer(&listener, || status(1)).unwrap();
        answer(&listener, || status(1)).unwrap();
        for reader in readers {
            read(reader).unwrap();
        }
    }

    #[test]
    fn the_table_shows_what_a_person_asks_for() {
        let text = table(&serde_json::to_string(&status(2)).unwrap()).unwrap();
        for needle in ["compositor VM gui: doesn't", "waiting: 3", "violations", "1.5 MiB", "yes"] {
            assert!(text.contains(needle), "{needle} is missing:\n{text}");
        }
        assert_eq!(text.lines().count(), 6);
        assert!(table("{}").is_err());
    }

    #[test]
    fn nobody_there_is_told_as_such() {
        let error = format!("{:#}", fetch(Path::new("/nonexistent/control.sock")).unwrap_err());
        assert!(
            error.contains("doesn't run") && error.contains("/nonexistent/control.sock"),
            "{error}"
        );
    }
}
