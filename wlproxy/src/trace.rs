//! `wlproxy trace`: shows what passes over a connection.

use crate::ask::{Ask, Tracing, harmless};
use anyhow::{Context as _, Result, bail};
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

/// Longest line that is shown in one piece, in bytes: a worker's are shorter.
const MAX_LINE: u64 = 16 * 1024;

/// Copies the trace to `out` until the connection ends, or `out` does.
pub fn run(
    control_socket: &Path,
    vm: Option<String>,
    connection: u64,
    out: &mut impl Write,
) -> Result<()> {
    let (greeting, mut lines) = Ask::Trace { vm: vm.clone(), connection }.send(control_socket)?;
    let tracing: Tracing =
        serde_json::from_str(&greeting).context("wlproxy speaks another version")?;
    // A worker says so, and it faces its VM.
    if tracing.connection != connection || vm.is_some_and(|vm| vm != tracing.trace) {
        bail!("the worker that was asked speaks for another: {}", harmless(greeting.trim_end()));
    }
    // From now on there may be nothing for hours.
    lines.get_ref().set_read_timeout(None)?;
    tracing::info!(vm = tracing.trace, connection, "everything from now on is shown");
    match copy(&mut lines, out) {
        // Who pipes this into another program decides when it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.context("the trace is broken"),
    }
}

/// A worker faces its VM, so what it writes is made harmless for a terminal once more.
fn copy(lines: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while lines.take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        writeln!(out, "{}", harmless(&text))?;
        out.flush()?;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::line;
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_worker_that_speaks_for_another_is_not_listened_to() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            for _ in 0..3 {
                let (stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                let tracing = Tracing { trace: "work".to_owned(), connection: 3 };
                // In one piece: who doesn't listen is gone after the first line.
                (&stream).write_all(&[&line(&tracing)[..], b"said\n"].concat()).unwrap();
            }
        });
        let shown = |vm: &str, connection| {
            let mut out = Vec::new();
            let ran = run(&path, Some(vm.to_owned()), connection, &mut out);
            ran.map(|()| out).map_err(|error| error.to_string())
        };
        assert_eq!(shown("work", 3).unwrap(), b"said\n");
        for error in [shown("play", 3), shown("work", 4)] {
            assert!(error.as_ref().is_err_and(|error| error.contains("another")), "{error:?}");
        }
        server.join().unwrap();
    }

    #[test]
    fn lines_are_copied_and_commands_for_the_terminal_are_not() {
        let mut out = Vec::new();
        copy(&mut &b"wl_display@1.sync()\n\x1b[2Jo\xff\x07\n\xc2\x9bm"[..], &mut out).unwrap();
        let expected = "wl_display@1.sync()\n\u{fffd}[2Jo\u{fffd}\u{fffd}\n\u{fffd}m\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
