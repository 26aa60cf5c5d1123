//! A request as CGI meta-variables (RFC 3875 section 4.1).
//!
//! | variable | value |
//! |---|---|
//! | `GATEWAY_INTERFACE` | `CGI/1.1` |
//! | `SERVER_SOFTWARE` | `Hostler/` and the version |
//! | `SERVER_PROTOCOL` | `HTTP/1.1`, `HTTP/2.0`, … |
//! | `SERVER_NAME`, `SERVER_PORT` | the name the client asked for (else the local address), the local port |
//! | `REMOTE_ADDR`, `REMOTE_HOST` | the client's address, twice: names are not looked up |
//! | `REQUEST_METHOD` | as received |
//! | `SCRIPT_NAME`, `PATH_INFO` | the mount prefix (empty for `/`) and the rest of the path, both decoded |
//! | `QUERY_STRING` | always set, not decoded |
//! | `CONTENT_TYPE`, `CONTENT_LENGTH` | for a request that has them |
//! | `REQUEST_URI`, `HTTPS` | usual extensions: normal path and query, not decoded; `on` over TLS |
//! | `HTTP_*` | the remaining header fields |
//!
//! Decisions, where the RFC leaves room:
//! - `AUTH_TYPE` and `REMOTE_USER` say that the *server* has authenticated somebody. This host never does, so they are
//!   never set: a client must not be able to forge them. The app authenticates for itself, so it gets
//!   `HTTP_AUTHORIZATION`; the environment of a guest is seen by that guest only.
//! - `CONTENT_LENGTH` is the true length of a body that the host has read whole, or what the client declared. For a
//!   body of unknown length (chunked, or HTTP/2 without `content-length`) it is absent and the program reads to the
//!   end of stdin.
//! - Decoding a path turns what is not UTF-8, and NUL (which would end the variable), into U+FFFD, and an encoded
//!   slash into a plain one. `REQUEST_URI` has the exact form.
//! - Field values that are not UTF-8 are passed with U+FFFD in place of the odd bytes, rather than dropped: one odd
//!   cookie should not hide the others.
//! - Field names other than letters, digits and `-` are dropped: as a variable's name `x_user` would be
//!   indistinguishable from `x-user`, which a proxy in front may have cleared.
//! - `PATH_TRANSLATED` is absent: there is no document root that the path could be translated to.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use percent_encoding::percent_decode_str;

/// What the variables are made from.
#[derive(Debug, Clone, Copy)]
pub struct CgiRequest<'a> {
    pub method: &'a Method,
    /// The normal path, still percent-encoded, mount prefix included.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub version: Version,
    pub headers: &'a HeaderMap,
    /// `host[:port]` of the request's target, which HTTP/2 has instead of a `host` field.
    pub authority: Option<&'a str>,
    /// Where the app is mounted: a path without a final slash; empty or `/` at the root.
    pub mount: &'a str,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub https: bool,
    /// The body's length in bytes, if it is known; 0 if there is none.
    pub body_length: Option<u64>,
}

/// The program's environment: the app's own variables, then those of the request.
///
/// A name is given at most once, and one that the app's configuration sets is never set by a request.
pub fn meta_variables(request: &CgiRequest<'_>, env: &[(String, String)]) -> Vec<(String, String)> {
    let mut variables = Variables { list: env.to_vec(), configured: env.len() };
    set_server(&mut variables, request);
    set_target(&mut variables, request);
    set_body(&mut variables, request);
    set_fields(&mut variables, request);
    variables.list
}

/// The program's arguments: its own name alone, whatever the query (see the module [`cgi`](super)).
pub fn arguments(mount: &str) -> Vec<String> {
    vec![decoded(if mount.is_empty() { "/" } else { mount })]
}

/// Fields that have a variable of their own, or that concern a connection which is not the program's.
///
/// `proxy` is no real field at all, but its variable, `HTTP_PROXY`, makes HTTP clients send their requests where the
/// variable says.
const NOT_PASSED: [HeaderName; 12] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("proxy"),
];

struct Variables {
    list: Vec<(String, String)>,
    /// The first so many of `list` come from the app's configuration.
    configured: usize,
}

impl Variables {
    /// The caller sets each name once; only the app's configuration may have it already.
    fn set(&mut self, name: &str, value: impl Into<String>) {
        let configured = self.list.iter().take(self.configured);
        if !configured.into_iter().any(|(known, _)| known == name) {
            self.list.push((name.to_owned(), value.into()));
        }
    }
}

fn set_server(variables: &mut Variables, request: &CgiRequest<'_>) {
    variables.set("GATEWAY_INTERFACE", "CGI/1.1");
    variables.set("SERVER_SOFTWARE", concat!("Hostler/", env!("CARGO_PKG_VERSION")));
    variables.set("SERVER_PROTOCOL", protocol(request.version));
    variables.set("SERVER_NAME", server_name(request));
    variables.set("SERVER_PORT", request.local.port().to_string());
    let remote = request.remote.ip().to_canonical().to_string();
    variables.set("REMOTE_ADDR", remote.clone());
    variables.set("REMOTE_HOST", remote);
    if request.https {
        variables.set("HTTPS", "on");
    }
}

fn set_target(variables: &mut Variables, request: &CgiRequest<'_>) {
    let mount = request.mount.trim_end_matches('/');
    let rest = request.path.strip_prefix(mount);
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = rest.unwrap_or(request.path);
    let query = request.query.unwrap_or_default();
    let uri = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    variables.set("REQUEST_METHOD", request.method.as_str());
    variables.set("SCRIPT_NAME", decoded(mount));
    variables.set("PATH_INFO", decoded(rest));
    variables.set("QUERY_STRING", query);
    variables.set("REQUEST_URI", uri);
}

fn set_body(variables: &mut Variables, request: &CgiRequest<'_>) {
    // A length of 0 is a statement only if the client made it: `POST` with `content-length: 0`.
    let stated = request.headers.contains_key(header::CONTENT_LENGTH);
    if let Some(length) = request.body_length.filter(|&length| length > 0 || stated) {
        variables.set("CONTENT_LENGTH", length.to_string());
    }
    if let Some(kind) = request.headers.get(header::CONTENT_TYPE) {
        variables.set("CONTENT_TYPE", text(kind));
    }
}

fn set_fields(variables: &mut Variables, request: &CgiRequest<'_>) {
    let headers = request.headers;
    if let (Some(authority), false) = (request.authority, headers.contains_key(header::HOST)) {
        variables.set("HTTP_HOST", authority);
    }
    let named_by_connection: Vec<String> = connection_options(headers);
    for name in headers.keys() {
        let passed =
            !NOT_PASSED.contains(name) && !named_by_connection.iter().any(|option| option == name.as_str());
        if let (true, Some(variable)) = (passed, variable_name(name)) {
            variables.set(&variable, joined(headers, name));
        }
    }
}

/// `HTTP_` and the field's name in capitals, with `-` as `_`; `None` if that could be another field's variable too.
fn variable_name(name: &HeaderName) -> Option<String> {
    let mut variable = String::with_capacity(5 + name.as_str().len());
    variable.push_str("HTTP_");
    for byte in name.as_str().bytes() {
        variable.push(match byte {
            b'-' => '_',
            b'a'..=b'z' => byte.to_ascii_uppercase().into(),
            b'0'..=b'9' => byte.into(),
            _ => return None,
        });
    }
    Some(variable)
}

/// The values of all fields of that name as one; cookies have a separator of their own (RFC 6265 section 4.2.1).
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let separator = if name == header::COOKIE { "; " } else { ", " };
    let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
    values.join(separator)
}

/// The fields that `connection` declares to be about this connection only, in lower case.
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION);
    let options = values.iter().filter_map(|value| value.to_str().ok());
    let options = options.flat_map(|value| value.split(','));
    options.map(|option| option.trim().to_ascii_lowercase()).collect()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// The host the client named, if it is one by its characters, else the address it connected to.
fn server_name(request: &CgiRequest<'_>) -> String {
    let field = request.headers.get(header::HOST);
    let field = field.and_then(|host| host.to_str().ok());
    request.authority.or(field).and_then(host_of).unwrap_or_else(|| match request.local.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    })
}

/// The host in `host[:port]`, an IPv6 address in its brackets.
fn host_of(authority: &str) -> Option<String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let host = authority.split(':').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.bytes().all(plain)).then(|| host.to_ascii_lowercase())
}

fn decoded(path: &str) -> String {
    let text = percent_decode_str(path).decode_utf8_lossy();
    text.replace('\0', "\u{fffd}")
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests;
