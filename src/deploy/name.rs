//! What an app is called: its place in the apps folder, `hello` or `api/v1`.

use std::borrow::Borrow;
use std::fmt;

use serde::Serialize;

/// Bytes that a whole name may have.
const MAX_BYTES: usize = 255;

/// An app's checked name: segments joined by `/`, none of them empty, hidden, or in need of escaping in a log line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AppName(String);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty; give the app a name")]
    Empty,
    #[error("the name has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    #[error("the name begins with a dot; such names are not looked at")]
    Hidden,
    #[error("the name is not valid UTF-8; rename it")]
    NotUtf8,
    #[error("the name contains {}; rename it", shown(*.0))]
    Character(char),
}

impl AppName {
    /// # Errors
    ///
    /// A [`NameError`] for the first segment that is not allowed.
    pub fn parse(name: &str) -> Result<AppName, NameError> {
        if name.len() > MAX_BYTES {
            return Err(NameError::TooLong(name.len()));
        }
        name.split('/').try_for_each(check_segment)?;
        Ok(AppName(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path the app is served at unless its config says otherwise: `/` for `index`, else `/` and the name. Not
    /// percent-encoded.
    pub fn mount_path(&self) -> String {
        if self.0 == "index" { "/".to_owned() } else { format!("/{}", self.0) }
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for AppName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Checks one segment: what has a meaning of its own in a URL or could deceive in a log line is not allowed.
pub(super) fn check_segment(segment: &str) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::Empty);
    }
    if segment.starts_with('.') {
        return Err(NameError::Hidden);
    }
    match segment.chars().find(|c| refused(*c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

fn shown(c: char) -> String {
    if c == ' ' { "a blank".to_owned() } else { c.escape_default().to_string() }
}

fn refused(c: char) -> bool {
    // Characters that take no room or turn the text around.
    let unseen = ['\u{200b}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2060}'..='\u{2069}'];
    let invisible = matches!(c, '\u{ad}' | '\u{feff}') || unseen.iter().any(|range| range.contains(&c));
    c.is_control() || c.is_whitespace() || invisible || matches!(c, '%' | '?' | '#' | '\\' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_international_names_are_allowed() {
        for name in ["hello", "index", "api/v1", "shop-2_b", "grüße", "日本/語", "a.b"] {
            assert_eq!(AppName::parse(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_would_need_escaping_are_refused() {
        for c in ['%', '?', '#', '\\', ' ', '\t', '\n', '\0', '\u{7f}', '\u{a0}', '\u{2028}', '\u{202e}'] {
            assert_eq!(AppName::parse(&format!("a{c}b")), Err(NameError::Character(c)));
        }
        for name in ["", "/", "a/", "/a", "a//b"] {
            assert_eq!(AppName::parse(name), Err(NameError::Empty), "{name:?}");
        }
        for name in [".", "..", "a/../b", ".hidden", "a/.b"] {
            assert_eq!(AppName::parse(name), Err(NameError::Hidden), "{name:?}");
        }
        assert_eq!(AppName::parse(&"x".repeat(256)), Err(NameError::TooLong(256)));
    }

    #[test]
    fn a_refusal_shows_the_character_escaped() {
        for (name, shown) in [("a\nb", "\\n"), ("a b", "a blank"), ("a\u{a0}b", "\\u{a0}"), ("a%b", "%")] {
            let error = AppName::parse(name).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("the name contains {shown}; rename it")));
        }
    }

    #[test]
    fn index_is_mounted_at_the_root() {
        let mount = |name: &str| AppName::parse(name).map(|name| name.mount_path());
        assert_eq!(mount("index"), Ok("/".to_owned()));
        assert_eq!(mount("api/v1"), Ok("/api/v1".to_owned()));
        assert_eq!(mount("api/index"), Ok("/api/index".to_owned()));
    }
}
