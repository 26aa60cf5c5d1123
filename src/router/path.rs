//! The one form of a request path that routes and that the guest sees.
//!
//! Two programs that read one path differently are a hole: what one of them checked, the other one serves. So a
//! path is brought into its normal form once, before anything looks at it, and nothing decodes it a second time.
//!
//! | in the request | in the normal form |
//! |---|---|
//! | letters, digits, `-._~`, encoded or not | as they are, never encoded |
//! | `%2F`, `%5C`, every other encoded byte | stays encoded, in upper case: never a separator |
//! | a byte that has no place in a path (`"`, `{`, `\`, é) | encoded |
//! | `.` and `..` segments, also as `%2e` | resolved; above the root: refused |
//! | empty segments, `//` | one `/`: a guest that redirects to its own path can't be led to `//elsewhere` |
//! | control characters, `%00`, `%zz`, `?`, `#` | refused |
//! | `*`, the asterisk of `OPTIONS *` | stays `*`, and is no app's |

use std::borrow::Cow;

/// A path in normal form: begins with `/` (or is `*`) and is valid percent-encoded ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// Why a path is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path does not begin with /")]
    NotAbsolute,
    #[error("the path has a % without two hexadecimal digits after it")]
    BadEscape,
    #[error("the path has a control character")]
    Control,
    #[error("the path has a ? or #, which end a path")]
    Delimiter,
    #[error("the path leads above the root")]
    AboveRoot,
}

impl<'a> NormalPath<'a> {
    /// Brings a raw request path into its normal form; copies nothing when it is already in it.
    pub fn parse(raw: &'a str) -> Result<Self, BadPath> {
        normalize(raw).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the `*` of `OPTIONS *`, which asks about the server as a whole.
    pub fn is_asterisk(&self) -> bool {
        self.0 == "*"
    }

    /// What the guest sees when the first `prefix` bytes are its mount, as [`route`](super::Router::route) told
    /// them: always begins with `/`.
    pub fn below(&self, prefix: usize) -> &str {
        match self.0.get(prefix..) {
            None | Some("") => "/",
            Some(rest) => rest,
        }
    }

    pub fn into_owned(self) -> NormalPath<'static> {
        NormalPath(Cow::Owned(self.0.into_owned()))
    }
}

/// Brings a raw path (no query) into normal form, see the table above. An empty path is `/`.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if raw == "*" || is_normal(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    if raw.is_empty() {
        return Ok(Cow::Borrowed("/"));
    }
    let relative = raw.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
    let mut out = String::with_capacity(raw.len() + 8);
    let mut ends_with_slash = false;
    for segment in relative.split('/') {
        let start = out.len();
        out.push('/');
        push_normal(&mut out, segment)?;
        let name = out.get(start + 1..).unwrap_or_default();
        ends_with_slash = matches!(name, "" | "." | "..");
        if name == ".." {
            let parent = out.get(..start).and_then(|path| path.rfind('/'));
            out.truncate(parent.ok_or(BadPath::AboveRoot)?);
        } else if ends_with_slash {
            out.truncate(start);
        }
    }
    if ends_with_slash {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

/// Appends one segment (no `/` in it) in normal form.
fn push_normal(out: &mut String, segment: &str) -> Result<(), BadPath> {
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let decoded = escaped(bytes, at).ok_or(BadPath::BadEscape)?;
            if is_unreserved(decoded) {
                out.push(char::from(decoded));
            } else {
                push_escaped(out, decoded)?;
            }
            at += 3;
            continue;
        }
        if byte == b'?' || byte == b'#' {
            return Err(BadPath::Delimiter);
        }
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(out, byte)?;
        }
        at += 1;
    }
    Ok(())
}

/// Appends the bytes of a name, as a file's is, as one segment in normal form; a `%` in it is only a `%`.
pub(super) fn push_name(out: &mut String, name: &str) -> Result<(), BadPath> {
    for &byte in name.as_bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(out, byte)?;
        }
    }
    Ok(())
}

fn push_escaped(out: &mut String, byte: u8) -> Result<(), BadPath> {
    if byte.is_ascii_control() {
        return Err(BadPath::Control);
    }
    out.push('%');
    for digit in [byte >> 4, byte & 15] {
        out.extend(char::from_digit(u32::from(digit), 16).map(|c| c.to_ascii_uppercase()));
    }
    Ok(())
}

/// The byte that the three bytes from `at` stand for.
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

/// Whether the path can be taken as it is: the common case, one pass and no copy.
fn is_normal(bytes: &[u8]) -> bool {
    let mut segment = match bytes {
        [b'/', rest @ ..] => rest,
        _ => return false,
    };
    loop {
        let end = segment.iter().position(|&byte| byte == b'/');
        let name = segment.get(..end.unwrap_or(segment.len())).unwrap_or_default();
        let dots = matches!(name, b"." | b"..");
        let Some(end) = end else {
            return !dots && is_normal_segment(name);
        };
        if dots || name.is_empty() || !is_normal_segment(name) {
            return false;
        }
        segment = segment.get(end + 1..).unwrap_or_default();
    }
}

fn is_normal_segment(name: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = name.get(at) {
        if byte == b'%' {
            let Some(decoded) = escaped(name, at) else { return false };
            let lower = name.get(at..at + 3).is_some_and(|escape| escape.iter().any(u8::is_ascii_lowercase));
            if lower || is_unreserved(decoded) || decoded.is_ascii_control() {
                return false;
            }
            at += 3;
        } else if is_plain(byte) {
            at += 1;
        } else {
            return false;
        }
    }
    true
}

/// Bytes that may stand in a segment as they are.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
