//! What is wrong with a configuration, and where.

use super::keys;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}; let this user read it, or name another with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {message}\n    | {text}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The key, what is wrong with it, and the cure.
        message: String,
        /// The line.
        text: String,
    },
}

/// The file that is being read: turns positions into lines.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Place<'_> {
    /// The error for what stands at `span`.
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        let line = self.line(&span);
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        // Nothing in the file talks to the terminal.
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect();
        let (message, text) = (plain(&message.into()), plain(text));
        Error::Invalid { path: self.path.to_owned(), line, message, text }
    }

    /// The error for what isn't TOML.
    pub(super) fn no_toml(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        let key = self.key(&span).unwrap_or_default();
        let known = keys::find(&key.split('.').map(str::trim).collect::<Vec<_>>());
        let cure = match (error.message(), known) {
            ("duplicate key", _) => "delete one of them".to_owned(),
            (_, Some(key)) => format!("write e.g. {}", key.example),
            (_, None) => "a line is [table], key = \"text\" or # comment".to_owned(),
        };
        self.spoilt(span, &format!("{}; {cure}", error.message()))
    }

    /// The error for a line that can't be read, with its key as far as one can tell.
    pub(super) fn spoilt(&self, span: Range<usize>, message: &str) -> Error {
        match self.key(&span) {
            Some(key) => self.error(span, format!("{key}: {message}")),
            None => self.error(span, message),
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let start = span.start.min(self.text.len());
        1 + self.text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count()
    }

    /// The key that the line at `span` begins with.
    fn key(&self, span: &Range<usize>) -> Option<String> {
        let lines: Vec<&str> = self.text.lines().take(self.line(span)).map(str::trim).collect();
        let (last, before) = lines.split_last()?;
        let name = |line: &str| {
            let line = line.trim_start_matches('[');
            line.split(['=', ':', ']', '"', '#']).next().unwrap_or_default().trim().to_owned()
        };
        let key =
            Some(name(last)).filter(|key| !key.is_empty() && !key.starts_with(['{', '\'']))?;
        let table = before.iter().rfind(|line| line.starts_with('[')).map(|line| name(line));
        match table {
            Some(table) if !last.starts_with('[') => Some(format!("{table}.{key}")),
            _ => Some(key),
        }
    }
}
