//! What a CGI program prints, as a response (RFC 3875 section 6).
//!
//! ```text
//!            a good field              the blank line
//!   fields ---------------> fields ----------------------> head   (a document, or a redirect with one)
//!     |                        |                 \
//!     | anything else          | end of stdout    `------> held   (no body may follow: a local redirect,
//!     v                        v                             |     or no Content-Type)
//!  BadResponse              BadResponse                      |-- end of stdout --> head
//!                                                            `-- another byte  --> BadResponse
//! ```
//!
//! The parser is fed with chunks of any size and gives the same result however the bytes are cut: it judges line by
//! line, and the first fault, by position, is the one that is reported. It is strict, as what it lets through is sent
//! to a client: fields are `name: value` with a token for a name, without folding, and end in LF or CRLF.
//!
//! Decisions, where the RFC leaves room:
//! - A `Location` that begins with `/`, without any other field, is a local redirect. With a `Status` of 201, 202 or
//!   3xx, any `Location` goes to the client as it is: the program has said who is to follow it.
//! - Fields about the connection (`Connection`, `Transfer-Encoding`, …) and `X-CGI-*` are dropped and named in
//!   [`Document::dropped`]: the host alone frames the response.
//! - A response without `Content-Type` must be without a body, so nothing of it is sent before the program has
//!   closed its stdout.

mod fields;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName};

use fields::{Fields, Line, Verdict};

/// Fields that one response may have.
pub const MAX_FIELDS: usize = 256;

/// What the program wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A response of its own; what the program prints further is the body.
    Document(Document),
    /// Answer as if the client had asked for this path and query on the same host, with GET.
    LocalRedirect { path_query: String },
    /// Send the client elsewhere: a document whose headers have a `Location`, usually with an empty body.
    ClientRedirect(Document),
}

/// The head of a response, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub status: StatusCode,
    /// All fields but `Status` and the dropped ones. At most one `Content-Length`, which is a number, but not yet
    /// compared with the body.
    pub headers: HeaderMap,
    /// Fields the program printed that are none of its business.
    pub dropped: Vec<HeaderName>,
    /// The first bytes of the body: what came in one chunk with the end of the header section.
    pub rest: Bytes,
}

/// Why the program's output is no CGI response. The client gets 502, the log the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    #[error(
        "the program printed nothing; a response begins with a header section such as `Content-Type: text/plain` and a blank line"
    )]
    Nothing,
    #[error(
        "the program's output ended in its header section, after \"{printed}\"; print a blank line after the last header"
    )]
    Unfinished { printed: String },
    #[error(
        "the program's header section is longer than {limit} bytes; print a blank line after the last header"
    )]
    TooLong { limit: usize },
    #[error("the program printed more than {MAX_FIELDS} headers")]
    TooManyFields,
    #[error(
        "the program printed a status line, \"{printed}\"; print `Status: 200 OK` instead, as the server writes the status line"
    )]
    StatusLine { printed: String },
    #[error(
        "the program printed \"{printed}\" where a header such as `Content-Type: text/plain` was expected"
    )]
    NotAField { printed: String },
    #[error("the program printed \"{printed}\", a folded header; print it in one line")]
    Folded { printed: String },
    #[error("the program printed the header `{name}` twice")]
    Duplicate { name: HeaderName },
    #[error(
        "the program printed \"{printed}\"; a status is three digits from 200 to 599, a space and a reason, as in `Status: 404 Not Found`"
    )]
    Status { printed: String },
    #[error(
        "the program printed \"{printed}\"; a content type is `type/subtype`, as in `Content-Type: text/html`"
    )]
    ContentType { printed: String },
    #[error("the program printed \"{printed}\"; a content length is a number of bytes")]
    ContentLength { printed: String },
    #[error(
        "the program printed \"{printed}\"; a location is an absolute URI, or a path that begins with one `/`"
    )]
    Location { printed: String },
    #[error(
        "the program printed a local redirect to \"{printed}\" with other headers; print nothing else, or `Status: 303 See Other` to redirect the client"
    )]
    LocationNotAlone { printed: String },
    #[error("the program printed `Location` with status {status}; it goes with 201, 202 or 3xx")]
    LocationStatus { status: StatusCode },
    #[error("the program printed neither `Content-Type` nor `Location` nor `Status`; print one of them")]
    NoCgiField,
    #[error("the program printed the body \"{printed}\" without a `Content-Type` header")]
    NoContentType { printed: String },
    #[error("the program printed the body \"{printed}\" after a local redirect, which has none")]
    BodyAfterLocalRedirect { printed: String },
}

/// Takes the program's output up to the end of its header section.
#[derive(Debug)]
pub struct Parser {
    /// Bytes that the header section may still take.
    left: usize,
    limit: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Fields(Fields),
    /// The header section is complete and forbids a body: `BadResponse` is made from the first byte of one.
    Held(Head, fn(String) -> BadResponse),
    Done,
}

impl Parser {
    /// A parser that takes header sections of up to `limit` bytes, the blank line included.
    pub fn new(limit: usize) -> Self {
        Self { left: limit, limit, phase: Phase::Fields(Fields::default()) }
    }

    /// Takes the next bytes of stdout, and gives the head once it is certain.
    ///
    /// After a head or an error the parser is done: further output is not for it, and would be ignored.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Option<Head>, BadResponse> {
        let mut rest = chunk;
        loop {
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Fields(mut fields) => match self.take_line(&mut fields, &mut rest)? {
                    Line::Partial => {
                        self.phase = Phase::Fields(fields);
                        return Ok(None);
                    }
                    Line::Field => self.phase = Phase::Fields(fields),
                    Line::Blank => match fields.conclude()? {
                        Verdict::Ready(head) => return Ok(Some(with_rest(head, rest))),
                        Verdict::Held(head, refuse) => self.phase = Phase::Held(head, refuse),
                    },
                },
                Phase::Held(head, refuse) if rest.is_empty() => {
                    self.phase = Phase::Held(head, refuse);
                    return Ok(None);
                }
                Phase::Held(_, refuse) => return Err(refuse(excerpt(rest))),
                Phase::Done => return Ok(None),
            }
        }
    }

    /// The program has closed its stdout: that makes a head out of what was held back, or it is a fault.
    ///
    /// `None` if [`Parser::feed`] has given the head, or an error, already.
    pub fn finish(self) -> Result<Option<Head>, BadResponse> {
        match self.phase {
            Phase::Held(head, _) => Ok(Some(head)),
            Phase::Fields(fields) => Err(fields.unfinished()),
            Phase::Done => Ok(None),
        }
    }

    /// Moves bytes from `rest` to the line, and judges it if that completes it.
    fn take_line(&mut self, fields: &mut Fields, rest: &mut &[u8]) -> Result<Line, BadResponse> {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let (taken, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        if taken.len() > self.left {
            return Err(BadResponse::TooLong { limit: self.limit });
        }
        self.left -= taken.len();
        *rest = after;
        fields.take(taken, end.is_some())
    }
}

/// A head that allows a body, with the bytes of it that are already there.
fn with_rest(mut head: Head, rest: &[u8]) -> Head {
    if let Head::Document(document) | Head::ClientRedirect(document) = &mut head {
        document.rest = Bytes::copy_from_slice(rest);
    }
    head
}

/// The first bytes of what was printed, made fit for a log line.
fn excerpt(printed: &[u8]) -> String {
    const SHOWN: usize = 60;
    let shown = printed.get(..SHOWN).unwrap_or(printed);
    let dots = if shown.len() < printed.len() { "…" } else { "" };
    format!("{}{dots}", shown.escape_ascii())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
