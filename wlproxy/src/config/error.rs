//! What is wrong with a configuration, and where.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}; name another with --config", path.display())]
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
        let start = span.start.min(self.text.len());
        let before = &self.text.as_bytes()[..start];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        Error::Invalid { path: self.path.to_owned(), line, message: message.into(), text }
    }
}
