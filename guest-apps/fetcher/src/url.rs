//! As much of URLs as is needed here.

use wasip2::http::types::Scheme;

/// An absolute address of `http` or `https`.
pub struct Url {
    pub scheme: Scheme,
    pub authority: String,
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://")? {
            ("http", rest) => (Scheme::Http, rest),
            ("https", rest) => (Scheme::Https, rest),
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return None;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Self { scheme, authority: authority.to_owned(), path: format!("{slash}{path}") })
    }

    /// What a `location` header of a response from here means.
    pub fn join(&self, location: &str) -> Option<Self> {
        if !location.starts_with('/') {
            return Self::parse(location);
        }
        Some(Self {
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path: location.to_owned(),
        })
    }
}
