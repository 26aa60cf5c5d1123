//! What every request must be before anything looks at it: the checks that hyper leaves to us.

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode, Version};

use super::AmbiguousLength;

/// Bytes of a request target. hyper's own bound is 64 KiB.
pub const MAX_TARGET: usize = 8 * 1024;

/// Fields of a request. hyper's own bound on HTTP/1.1; on HTTP/2 it has none but `max_header_bytes`.
pub const MAX_FIELDS: usize = 100;

/// Why a request is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request's length is ambiguous: send either content-length or transfer-encoding")]
    AmbiguousLength,
    #[error("a host header is required")]
    MissingHost,
    #[error("more than one host header")]
    ManyHosts,
    #[error("the host is not a valid host name")]
    BadHost,
    #[error("the request target names another host than the host header")]
    HostMismatch,
    #[error("the request target is not a path or an http url")]
    BadTarget,
    #[error("the request target is longer than {MAX_TARGET} bytes")]
    TargetTooLong,
    #[error("the request has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    #[error("the only transfer-encoding that is implemented is chunked, once")]
    CodingNotImplemented,
    #[error("the method is not implemented")]
    MethodNotImplemented,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodNotImplemented | Self::CodingNotImplemented => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Refuses what no app should ever see. Decisions, where the standards leave a choice:
/// - `content-length` beside `transfer-encoding` is refused, not repaired;
/// - a body in any coding but chunks is not implemented: the app would not learn that it is coded;
/// - a target in absolute form and a `host` header must agree (the standard would let the target win silently);
/// - more fields than [`MAX_FIELDS`] are refused on either protocol;
/// - CONNECT and TRACE are not implemented; an `upgrade` header is ignored, as the standard allows;
/// - HTTP/1.0 may come without `host`.
pub fn check_request(request: &Parts) -> Result<(), Refusal> {
    if request.headers.len() > MAX_FIELDS {
        return Err(Refusal::TooManyFields);
    }
    check_coding(request)?;
    if request.extensions.get::<AmbiguousLength>().is_some() {
        return Err(Refusal::AmbiguousLength);
    }
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodNotImplemented);
    }
    check_target(request)?;
    check_host(request)
}

/// The host the request is for, with its port if it was given: from the target, else from the `host` header.
/// Call it for requests that passed [`check_request`].
pub fn host(request: &Parts) -> Option<&str> {
    let named = request.uri.authority().map(Authority::as_str);
    let header = || request.headers.get(HOST)?.to_str().ok();
    named.or_else(header).filter(|host| !host.is_empty())
}

fn check_coding(request: &Parts) -> Result<(), Refusal> {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::CodingNotImplemented),
    }
}

fn check_target(request: &Parts) -> Result<(), Refusal> {
    let uri = &request.uri;
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    if length > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let path = uri.path().starts_with('/');
    let asterisk = uri.path() == "*" && request.method == Method::OPTIONS;
    let scheme = uri.scheme_str().is_none_or(|s| matches!(s, "http" | "https"));
    match (path || asterisk) && scheme {
        true => Ok(()),
        false => Err(Refusal::BadTarget),
    }
}

fn check_host(request: &Parts) -> Result<(), Refusal> {
    let mut headers = request.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(Refusal::ManyHosts);
    }
    let named = request.uri.authority().map(Authority::as_str);
    let header = match header {
        Some(value) => Some(value.to_str().map_err(|_| Refusal::BadHost)?),
        None => None,
    };
    match (named, header) {
        (None, None) if request.version == Version::HTTP_10 => Ok(()),
        (None, None) => Err(Refusal::MissingHost),
        // Also beside a target that names it.
        (Some(_), None) if request.version == Version::HTTP_11 => Err(Refusal::MissingHost),
        // What the standard asks a client to send when its target has no host.
        (None, Some("")) => Ok(()),
        (Some(host), None) | (None, Some(host)) => check_name(host),
        (Some(named), Some(header)) if named.eq_ignore_ascii_case(header) => check_name(named),
        (Some(_), Some(_)) => Err(Refusal::HostMismatch),
    }
}

/// `name`, `name:port` or `[address]:port`, in the characters that such names have.
fn check_name(host: &str) -> Result<(), Refusal> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(Refusal::BadHost)?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let literal = host.starts_with('[');
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'-')
            || (byte == b'_' && !literal)
            || (byte == b':' && literal)
    };
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let name_ok = !name.is_empty() && name.len() <= 255 && name.bytes().all(allowed);
    match name_ok && port_ok {
        true => Ok(()),
        false => Err(Refusal::BadHost),
    }
}

#[cfg(test)]
mod tests;
