//! The header section: each line judged as it comes, the whole when the blank line has come.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{BadResponse, Document, Head, MAX_FIELDS, excerpt};

/// The fields so far, and the beginning of the next one.
#[derive(Debug, Default)]
pub(super) struct Fields {
    line: Vec<u8>,
    /// The last whole line, to tell where the output broke off.
    last: Vec<u8>,
    count: usize,
    status: Option<StatusCode>,
    headers: HeaderMap,
    dropped: Vec<HeaderName>,
}

/// How far the line has come with the bytes taken.
pub(super) enum Line {
    Partial,
    Field,
    Blank,
}

/// What a whole header section amounts to.
pub(super) enum Verdict {
    /// Certain, whatever follows.
    Ready(Head),
    /// Certain if nothing follows; else a fault, made from an excerpt of what does.
    Held(Head, fn(String) -> BadResponse),
}

impl Fields {
    /// Adds bytes to the line, of which only the last can be a LF; `complete` says that it is.
    pub(super) fn take(&mut self, bytes: &[u8], complete: bool) -> Result<Line, BadResponse> {
        self.line.extend_from_slice(bytes);
        if !complete {
            return Ok(Line::Partial);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            return Ok(Line::Blank);
        }
        self.add(&line)?;
        self.last = line;
        Ok(Line::Field)
    }

    /// The fault of an output that ends here.
    pub(super) fn unfinished(&self) -> BadResponse {
        let tail = [&self.line, &self.last];
        match tail.into_iter().find(|line| !line.is_empty()) {
            None => BadResponse::Nothing,
            Some(line) => BadResponse::Unfinished { printed: excerpt(line) },
        }
    }

    pub(super) fn conclude(self) -> Result<Verdict, BadResponse> {
        let status = self.status;
        let Some(location) = self.headers.get(header::LOCATION) else {
            if status.is_none() && !self.headers.contains_key(header::CONTENT_TYPE) {
                return Err(BadResponse::NoCgiField);
            }
            return Ok(self.into_document(status.unwrap_or(StatusCode::OK)));
        };
        match (status, Target::of(location.as_bytes())) {
            (_, None) => Err(BadResponse::Location { printed: excerpt(location.as_bytes()) }),
            (Some(status), Some(_)) if takes_location(status) => Ok(self.into_document(status)),
            (Some(status), Some(_)) => Err(BadResponse::LocationStatus { status }),
            (None, Some(Target::Absolute)) => Ok(self.into_document(StatusCode::FOUND)),
            (None, Some(Target::Local(path_query))) if self.count == 1 => {
                Ok(Verdict::Held(Head::LocalRedirect { path_query }, |printed| {
                    BadResponse::BodyAfterLocalRedirect { printed }
                }))
            }
            (None, Some(Target::Local(path_query))) => {
                Err(BadResponse::LocationNotAlone { printed: excerpt(path_query.as_bytes()) })
            }
            (None, Some(Target::Relative)) => {
                Err(BadResponse::Location { printed: excerpt(location.as_bytes()) })
            }
        }
    }

    fn into_document(self, status: StatusCode) -> Verdict {
        let has_type = self.headers.contains_key(header::CONTENT_TYPE);
        let redirects = status.is_redirection() && self.headers.contains_key(header::LOCATION);
        let document =
            Document { status, headers: self.headers, dropped: self.dropped, rest: bytes::Bytes::new() };
        let head = if redirects { Head::ClientRedirect(document) } else { Head::Document(document) };
        if has_type {
            Verdict::Ready(head)
        } else {
            Verdict::Held(head, |printed| BadResponse::NoContentType { printed })
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), BadResponse> {
        let printed = || excerpt(line);
        if self.count == 0 && line.starts_with(b"HTTP/") {
            return Err(BadResponse::StatusLine { printed: printed() });
        }
        if self.count > 0 && matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(BadResponse::Folded { printed: printed() });
        }
        let Some((name, value)) = split_field(line) else {
            return Err(BadResponse::NotAField { printed: printed() });
        };
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(BadResponse::TooManyFields);
        }
        if is_hosts_business(&name) {
            self.dropped.push(name);
            return Ok(());
        }
        self.refuse_second(&name)?;
        if name.as_str() == "status" {
            let status = parse_status(value.as_bytes());
            self.status = Some(status.ok_or_else(|| BadResponse::Status { printed: printed() })?);
            return Ok(());
        }
        if name == header::CONTENT_TYPE && !is_media_type(value.as_bytes()) {
            return Err(BadResponse::ContentType { printed: printed() });
        }
        if name == header::CONTENT_LENGTH && !is_length(value.as_bytes()) {
            return Err(BadResponse::ContentLength { printed: printed() });
        }
        // `append` would panic at the map's own bound; MAX_FIELDS is far below it.
        let appended = self.headers.try_append(name, value);
        appended.map(drop).map_err(|_| BadResponse::TooManyFields)
    }

    /// The fields that steer the response may be there once.
    fn refuse_second(&self, name: &HeaderName) -> Result<(), BadResponse> {
        let single = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::LOCATION];
        let again = match name.as_str() {
            "status" => self.status.is_some(),
            _ => single.contains(name) && self.headers.contains_key(name),
        };
        if again {
            return Err(BadResponse::Duplicate { name: name.clone() });
        }
        Ok(())
    }
}

/// Where a `Location` leads.
enum Target {
    /// `scheme:…`
    Absolute,
    /// A path on this host, with the query.
    Local(String),
    /// Any other URI reference: it means something to the client only.
    Relative,
}

impl Target {
    /// `None` if that is no URI reference.
    fn of(location: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(location).ok()?;
        if !is_uri_text(location) {
            return None;
        }
        // A path that begins with `//` is a host name to a client.
        let local = text.starts_with('/') && !text.starts_with("//") && !text.contains('#');
        Some(if local {
            Self::Local(text.to_owned())
        } else if has_scheme(location) {
            Self::Absolute
        } else {
            Self::Relative
        })
    }
}

fn split_field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = line.split_at(colon);
    let name = HeaderName::from_bytes(name).ok()?;
    let value = trimmed(value.get(1..)?);
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// Without blanks and tabs at both ends; other white space, such as a lone CR, has no place in a field and stays.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Fields about the connection to the client, or from the program to a server that asked for them.
fn is_hosts_business(name: &HeaderName) -> bool {
    const CONNECTION: [HeaderName; 5] =
        [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
    let prefixed = ["proxy-", "x-cgi-"].map(|prefix| name.as_str().starts_with(prefix));
    CONNECTION.contains(name) || name == "keep-alive" || prefixed.contains(&true)
}

/// Three digits, and nothing or a space and a reason.
fn parse_status(value: &[u8]) -> Option<StatusCode> {
    let (digits, reason) = value.split_at_checked(3)?;
    if !reason.is_empty() && !reason.starts_with(b" ") {
        return None;
    }
    let status = StatusCode::from_bytes(digits).ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn takes_location(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED)
}

fn is_media_type(value: &[u8]) -> bool {
    let essence = value.split(|&byte| byte == b';').next();
    let mut parts = trimmed(essence.unwrap_or_default()).split(|&byte| byte == b'/');
    let (kind, subtype) = (parts.next(), parts.next());
    kind.is_some_and(is_token) && subtype.is_some_and(is_token) && parts.next().is_none()
}

fn is_length(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
}

fn is_token(text: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(token)
}

/// One or more of the characters that a URI may have (RFC 3986), each `%` with its two digits.
fn is_uri_text(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(byte);
    let escaped = |tail: &[u8]| matches!(tail, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let mut tails = text.split(|&byte| byte == b'%').skip(1);
    !text.is_empty() && text.iter().all(plain) && tails.all(escaped)
}

fn has_scheme(text: &[u8]) -> bool {
    let Some(colon) = text.iter().position(|&byte| byte == b':') else {
        return false;
    };
    let (scheme, rest) = text.split_at(colon);
    let of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(of_scheme) && rest.len() > 1
}
