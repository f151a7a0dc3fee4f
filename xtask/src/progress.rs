//! Tells what is going on: one line that changes on a terminal, a few plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// How often an unchanged stage shows a sign of life where lines can't be rewritten.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Widest line that is rewritten in place, in characters: a wrapped line couldn't be.
const MAX_LINE: usize = 100;

/// The progress of one command.
pub(crate) struct Progress {
    terminal: bool,
    out: Box<dyn Write>,
    stage: Option<Stage>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    since: Instant,
    told: Instant,
}

impl Progress {
    /// Tells on standard error.
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), out: Box::new(stderr()), stage: None }
    }

    /// Tells nobody.
    #[cfg(test)]
    pub(crate) fn quiet() -> Self {
        Self { terminal: false, out: Box::new(std::io::sink()), stage: None }
    }

    /// Tells here all that a terminal would be told.
    #[cfg(test)]
    pub(crate) fn recorded(out: std::fs::File) -> Self {
        Self { terminal: true, out: Box::new(out), stage: None }
    }

    /// Begins a stage; the one before is done.
    pub(crate) fn stage(&mut self, name: impl Into<String>) {
        self.done();
        let (name, now) = (name.into(), Instant::now());
        self.line(&format!("... {name}"), !self.terminal);
        self.stage = Some(Stage { name, since: now, told: now });
    }

    /// Tells how far the stage is.
    pub(crate) fn detail(&mut self, detail: &str) {
        let now = Instant::now();
        let Some(stage) = &mut self.stage else { return };
        if !self.terminal && now - stage.told < PLAIN_INTERVAL {
            return;
        }
        stage.told = now;
        let line =
            format!("... {} ({:.0} s) {detail}", stage.name, (now - stage.since).as_secs_f32());
        self.line(&line, !self.terminal);
    }

    /// Ends the stage, which went well, with its duration.
    pub(crate) fn done(&mut self) {
        self.end("ok ");
    }

    /// Ends the stage, which failed.
    pub(crate) fn failed(&mut self) {
        self.end("FAILED");
    }

    fn end(&mut self, how: &str) {
        if let Some(stage) = self.stage.take() {
            let seconds = stage.since.elapsed().as_secs_f32();
            self.line(&format!("{how} {} ({seconds:.1} s)", stage.name), true);
        }
    }

    /// Makes room for something else's output.
    pub(crate) fn leave_line(&mut self) {
        if self.terminal && self.stage.is_some() {
            let _ = writeln!(self.out);
        }
    }

    /// Writes a line of its own.
    pub(crate) fn say(&mut self, text: &str) {
        self.line(text, true);
    }

    fn line(&mut self, text: &str, whole: bool) {
        let out = &mut self.out;
        // Nobody to tell isn't a failure of what is done.
        let _ = if !self.terminal {
            writeln!(out, "{text}")
        } else if whole {
            writeln!(out, "\r\x1b[K{text}")
        } else {
            let shown: String =
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect();
            write!(out, "\r\x1b[K{shown}").and_then(|()| out.flush())
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.failed();
    }
}
