//! Why bytes are not an app: what they are instead, in words for the person who put them there.

/// What an app may be; the second half of every refusal.
pub const EXPECTED: &str = "a component that exports wasi:http/incoming-handler@0.2.x or wasi:http/handler@0.3.x, \
     or a command (a WASI 0.1 core module with _start, or a component that exports wasi:cli/run@0.2.x)";

/// Longest piece of a file's own text that a message carries, in characters.
const SHOWN: usize = 120;

/// Why [`check`](super::check) did not pass some bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Perhaps still being written: tried again, quietly, when the file changes.
    #[error("{0}; expected {EXPECTED}")]
    Incomplete(#[from] Cut),
    /// Something that waiting does not cure.
    #[error("{0}; expected {EXPECTED}")]
    Refused(#[from] Reason),
}

/// Where the bytes end too early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("an empty file")]
    Empty,
    #[error("cut short: the file ends within the 8 bytes of the WebAssembly header")]
    Header,
    /// Sections are counted from 1.
    #[error("cut short: the file ends within the header of section {number}")]
    SectionHeader { number: u64 },
    /// Sections are counted from 1; `beyond` is in bytes.
    #[error("cut short: section {number} claims {beyond} bytes beyond the end of file")]
    Section { number: u64, beyond: u64 },
}

/// What the bytes are instead of an app. Text out of the file is escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not WebAssembly at all, but something well known.
    #[error("{0}")]
    Known(&'static str),
    #[error("not WebAssembly: the file begins with the bytes {0}")]
    Unknown(String),
    #[error("a WebAssembly file of unknown version {version} (layer {layer})")]
    Version { version: u16, layer: u16 },
    #[error("not valid: {0}")]
    Invalid(String),
    #[error("a component whose types hold more than {most} others within one section")]
    Nested { most: usize },
    #[error("a core module without _start")]
    NoStart,
    #[error("a core module whose _start is not a function without parameters and results")]
    StartType,
    #[error("a reactor module: it exports _initialize instead of _start")]
    Reactor,
    #[error("a core module that imports \"{module}\" \"{name}\" (not WASI 0.1){hint}")]
    CoreImport { module: String, name: String, hint: &'static str },
    #[error("a component that imports {0} which Hostler does not provide")]
    Import(String),
    #[error("a component that imports {0} which Hostler provides to wasi:http 0.3 apps only")]
    ImportOf03(String),
    #[error("a component that exports {0}, a version that Hostler does not run")]
    EntryVersion(String),
    #[error("a component that exports {0}")]
    OtherExports(String),
    #[error("a component that exports nothing")]
    NoExports,
}

impl From<wasmparser::Error> for Reason {
    fn from(error: wasmparser::Error) -> Reason {
        Reason::Invalid(shown(&error.to_string()))
    }
}

/// A piece of a file's own text, made fit for a message: one line, no control characters, not too long.
pub(in crate::prepare) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).flat_map(visible).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let plain = c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
    let escaped = (!plain).then(|| c.escape_default());
    plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
}
