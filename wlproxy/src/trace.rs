//! `wlproxy trace`: shows what passes over a connection.

use crate::ask::{Ask, Begins, Refusal, Tracing, document};
use crate::harmless::harmless;
use anyhow::{Context as _, Result, bail};
use std::fmt;
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
    let (greeting, mut lines) = Ask::Trace { vm, connection }.send(control_socket)?;
    let of: Tracing = serde_json::from_str(&greeting).context("wlproxy speaks another version")?;
    let vm = &of.trace;
    let begins = document(&mut lines).with_context(|| format!("no word of VM {vm}'s worker"))?;
    if let Ok(Refusal { error }) = serde_json::from_str(&begins) {
        bail!("the worker of VM {vm}: {}", harmless(&error));
    }
    if serde_json::from_str(&begins).ok() != Some(Begins { begins: of.connection }) {
        bail!("the worker of VM {vm} talks nonsense: {}", harmless(begins.trim_end()));
    }
    // From now on there may be nothing for hours.
    lines.get_ref().set_read_timeout(None)?;
    tracing::info!(vm, connection, "everything from now on is shown");
    match copy(&mut lines, &of, out) {
        // Who pipes this into another program decides when it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.context("the trace is broken"),
    }
}

/// A worker faces its VM, so what it writes is made harmless for a terminal once more, and each line says whose it is.
fn copy(lines: &mut impl BufRead, of: &Tracing, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while lines.take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        let text = harmless(&String::from_utf8_lossy(line.trim_ascii_end()));
        match text.split_once("] ").filter(|(time, _)| is_time(time)) {
            Some((time, said)) => writeln!(out, "{time}] {}: {said}", Whose(of))?,
            None => writeln!(out, "{}: {text}", Whose(of))?,
        }
        out.flush()?;
        line.clear();
    }
    Ok(())
}

/// Whether that is how a line begins that tells when: `[ 123.456`.
fn is_time(text: &str) -> bool {
    let digits = text.strip_prefix('[');
    digits.is_some_and(|digits| digits.chars().all(|c| c.is_ascii_digit() || " .".contains(c)))
}

/// Whose connection it is.
struct Whose<'a>(&'a Tracing);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tracing { trace, connection } = self.0;
        write!(f, "client VM {trace}, connection {connection}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::line;
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What is shown, or the error, of what wlproxy and the worker of "work" say.
    fn shown(said: &str) -> Result<String, String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                let tracing = Tracing { trace: "work".to_owned(), connection: 3 };
                // In one piece: who doesn't listen is gone after some line.
                (&stream).write_all(&[&line(&tracing), said.as_bytes()].concat()).unwrap();
            });
            let mut out = Vec::new();
            let ran = run(&path, None, 3, &mut out);
            ran.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
        })
    }

    #[test]
    fn each_line_says_whose_it_is_whatever_the_worker_says() {
        let said = "{\"begins\":3}\n\
            [ 1234.567] wl_display@1.sync()\n\
            ... 5 lines are missing\n\
            [9.9] client VM gui, connection 1:  -> wl_callback@2.done(1)\n\
            [client VM gui] hello\n";
        let expected = "[ 1234.567] client VM work, connection 3: wl_display@1.sync()\n\
            client VM work, connection 3: ... 5 lines are missing\n\
            [9.9] client VM work, connection 3: client VM gui, connection 1:  -> wl_callback@2.done(1)\n\
            client VM work, connection 3: [client VM gui] hello\n";
        assert_eq!(shown(said).unwrap(), expected);
    }

    #[test]
    fn a_worker_may_refuse_and_nothing_else() {
        for (said, why) in [
            ("{\"error\":\"not \\u001b[31mtoday\"}\n", "worker of VM work: not \u{fffd}[31mtoday"),
            ("{\"begins\":4}\n", "nonsense"),
            ("{\"trace\":\"gui\",\"connection\":3}\n", "worker of VM work talks nonsense"),
            ("{\"begins\":3", "no word of VM work's worker"),
        ] {
            let error = shown(said).unwrap_err();
            assert!(error.contains(why), "{error} instead of {why}");
        }
    }

    #[test]
    fn lines_are_copied_and_commands_for_the_terminal_are_not() {
        let mut out = Vec::new();
        let of = Tracing { trace: "w".to_owned(), connection: 1 };
        let said = &b"wl_display@1.sync()\n\x1b[2Jo\xff\x07\n\xc2\x9bm"[..];
        copy(&mut &*said, &of, &mut out).unwrap();
        let expected = ["wl_display@1.sync()", "\u{fffd}[2Jo\u{fffd}\u{fffd}", "\u{fffd}m"];
        let expected = expected.map(|said| format!("client VM w, connection 1: {said}\n"));
        assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
    }
}
