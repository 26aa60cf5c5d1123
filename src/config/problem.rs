//! What is wrong with a configuration, said so that it can be put right.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::logging::path_text;

/// One thing that is wrong, with its place: `hostler.toml:7: memory_limt: unknown key, did you mean memory_limit?`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file; none for an environment variable or a flag.
    pub file: Option<PathBuf>,
    /// None if the problem is of the whole file, or of no file.
    pub position: Option<Position>,
    /// The key with its table (`server.listen`, `defaults.mode`; in an app's own file `outbound.allow`), or the
    /// environment variable; empty if it is no key's.
    pub key: String,
    pub message: String,
}

/// A place in a file; line and column count from 1, columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), position: None, key: String::new(), message: message.into() }
    }

    /// A problem of an environment variable or a flag.
    pub fn of_variable(name: &str, message: impl Into<String>) -> Self {
        Self { file: None, position: None, key: quoted(name), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", path_text(file))?;
            if let Some(position) = self.position {
                write!(f, "{}:", position.line)?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Text from a file for a message: what a terminal could take for a command is escaped, and it has an end.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
