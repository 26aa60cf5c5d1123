//! A guest's request, checked and put in order before anything is sent; pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version, request};

use super::failure::Failure;
use crate::config::Origin;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    /// In lower case, without a final dot; an address literal without brackets.
    pub host: String,
    pub port: u16,
}

impl Target {
    /// The target of an absolute URI; `None` unless it is `http` or `https`, with a host, a port other than 0, and
    /// nothing else in its authority.
    pub fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let default = if https { 443 } else { 80 };
        let (host, port) = split_authority(authority.as_str(), default)?;
        Some(Self { https, host, port })
    }

    /// Whether the app's configuration allows it, and if so, whether by its exact name rather than as one of many.
    pub fn allowed_by(&self, allow: &[Origin]) -> Option<Match> {
        let matching = |origin: &&Origin| origin.matches(self.https, &self.host, self.port);
        let exact = allow.iter().filter(matching).any(|origin| !origin.subdomains);
        let any = allow.iter().any(|origin| matching(&origin));
        match (exact, any) {
            (true, _) => Some(Match::Exact),
            (false, true) => Some(Match::Wildcard),
            (false, false) => None,
        }
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// How an allowed target is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    Exact,
    /// By `*.host`, which has any number of targets.
    Wildcard,
}

/// Refuses a request that the app may not send; gives the request's target and how it is allowed.
pub fn check(parts: &request::Parts, allow: &[Origin]) -> Result<(Target, Match), Failure> {
    // Behind CONNECT anything could be spoken, with anybody.
    if parts.method == Method::CONNECT {
        return Err(Failure::Method);
    }
    let target = Target::of(&parts.uri).ok_or(Failure::Uri)?;
    let matched = target.allowed_by(allow).ok_or(Failure::NotAllowed)?;
    Ok((target, matched))
}

/// Puts the request in the form in which it is sent: HTTP/1.1, `Host` from the target, nothing about a connection.
///
/// The URI becomes the pool's key, so it is rebuilt from the target that was checked.
pub fn prepare(parts: &mut request::Parts, target: &Target, matched: Match) -> Result<(), Failure> {
    let authority = target.authority();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if target.https { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::try_from(authority.as_str()).map_err(|_| Failure::Uri)?);
    let path = parts.uri.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    parts.uri = Uri::from_parts(uri).map_err(|_| Failure::Uri)?;
    parts.version = Version::HTTP_11;
    strip_connection_fields(&mut parts.headers);
    let host = HeaderValue::try_from(authority).map_err(|_| Failure::Uri)?;
    parts.headers.insert(header::HOST, host);
    // The pool keeps so many connections for each target; that is a bound only if the targets can be counted.
    if matched == Match::Wildcard {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(())
}

/// Removes the fields that are about one connection (RFC 9110 section 7.6.1), and those that `Connection` names.
pub fn strip_connection_fields(headers: &mut HeaderMap) {
    const CONNECTION_FIELDS: [HeaderName; 10] = [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("http2-settings"),
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&CONNECTION_FIELDS) {
        headers.remove(name);
    }
}

/// Bytes that the fields take in a header section.
pub fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// The host as in [`Target::host`], and the port.
fn split_authority(authority: &str, default: u16) -> Option<(String, u16)> {
    if authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (address.to_string(), rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at(end);
            let host = host.strip_suffix('.').unwrap_or(host);
            if host.split('.').any(str::is_empty) {
                return None;
            }
            (host.to_ascii_lowercase(), rest)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default,
        Some("") => default,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    (port != 0).then_some((host, port))
}

#[cfg(test)]
mod tests;
