//! Logging: `tracing` events as lines on stderr, for people or as JSON, each line bounded.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of one line; what is longer is cut.
const MAX_LINE: usize = 16 * 1024;

/// Bytes of a client's text in one field of the access log.
const MAX_FIELD: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log level {level:?} is not a level or filter such as \"info\" or \"hostler=debug\"")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging was set up before")]
    Again,
}

/// Sets up logging for the process. `level`: a `tracing` filter such as `info` or `hostler=debug`.
pub fn init(json: bool, level: &str) -> Result<(), LogError> {
    let filter =
        EnvFilter::try_new(level).map_err(|source| LogError::Level { level: level.to_owned(), source })?;
    let form = if json { Form::Json } else { Form::Text };
    let lines = Lines { form, out: io::stderr };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    let set = match form {
        Form::Json => builder.json().flatten_event(true).try_init(),
        Form::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    set.map_err(|_| LogError::Again)
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// From the request's head to the end of the response's body.
    pub duration: Duration,
    /// The app that answered, if one did.
    pub app: Option<&'a str>,
    pub request_id: &'a str,
    pub peer: SocketAddr,
    /// False if the answer broke off or its client left.
    pub complete: bool,
}

/// Whether anybody reads the access log; asking first saves gathering what goes into it.
pub fn access_enabled() -> bool {
    tracing::enabled!(target: "access", tracing::Level::INFO)
}

/// Writes one line of the access log.
pub fn access(access: &Access<'_>) {
    tracing::info!(
        target: "access",
        method = %Text(access.method),
        host = %Text(access.host),
        path = %Text(access.path),
        status = access.status,
        bytes = access.bytes,
        duration_us = u64::try_from(access.duration.as_micros()).unwrap_or(u64::MAX),
        app = access.app.unwrap_or("-"),
        request_id = access.request_id,
        peer = %access.peer,
        complete = access.complete,
    );
}

/// A path for a message: nothing in it can end a line or turn it around, and it has an end.
pub fn path_text(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut shown = String::with_capacity(text.len());
    for char in text.chars().take(MAX_FIELD) {
        match char {
            '"' | '\'' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    if text.chars().nth(MAX_FIELD).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Text from outside: bounded, and with nothing in it that could end a line or drive a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        let shown = self.0.get(..cut(self.0.as_bytes(), MAX_FIELD));
        for char in shown.unwrap_or_default().chars() {
            match char.is_control() {
                true => write!(f, "{}", char.escape_default())?,
                false => f.write_char(char)?,
            }
        }
        match self.0.len() > MAX_FIELD {
            true => f.write_str("..."),
            false => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// Makes a [`Line`] for each event.
#[derive(Debug, Clone)]
struct Lines<F> {
    form: Form,
    out: F,
}

/// Takes one event's line in one write, as the formatter gives it.
#[derive(Debug)]
struct Line<W> {
    form: Form,
    out: W,
}

impl<'a, F: Fn() -> W + 'a, W: Write> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { form: self.form, out: (self.out)() }
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if text.len() <= MAX_LINE && !text.contains(&b'\n') {
            self.out.write_all(line)?;
        } else {
            self.out.write_all(&bounded(self.form, text))?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One line of at most about [`MAX_LINE`] bytes that begins as `text` does.
fn bounded(form: Form, text: &[u8]) -> Vec<u8> {
    let begin = text.get(..cut(text, MAX_LINE)).unwrap_or_default();
    let mut line = match form {
        Form::Text => {
            let one_line = String::from_utf8_lossy(begin).replace('\n', "\\n");
            one_line.into_bytes()
        }
        // A cut object is no JSON: say what it began with. Quoting may double it.
        Form::Json => {
            let half = begin.get(..cut(begin, MAX_LINE / 2)).unwrap_or_default();
            let cut_line = serde_json::json!({
                "level": "WARN",
                "message": "a log line was too long and was cut",
                "bytes": text.len(),
                "begin": String::from_utf8_lossy(half),
            });
            cut_line.to_string().into_bytes()
        }
    };
    if form == Form::Text && text.len() > MAX_LINE {
        line.extend_from_slice(b"...");
    }
    line.push(b'\n');
    line
}

/// Where to cut `text` so that at most `most` bytes remain and no character is split.
fn cut(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let is_boundary = |at: usize| text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80);
    (0..=most).rev().find(|&at| is_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
