//! HTTP/1.1 as the load generator needs it: prebuilt request bytes, and where a response begins and ends.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use thiserror::Error;

/// What is asked of every server.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// Path and query below the app: begins with `/`.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Asked {
    /// The request's bytes for one server; `target` is the whole path there.
    pub fn encode(&self, target: &str, authority: &str) -> Bytes {
        let mut out = BytesMut::with_capacity(256 + self.body.len());
        for part in [self.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            out.put_slice(part.as_bytes());
        }
        if !self.headers.iter().any(|(name, _)| name == http::header::HOST) {
            put_field(&mut out, "host", authority.as_bytes());
        }
        for (name, value) in &self.headers {
            put_field(&mut out, name.as_str(), value.as_bytes());
        }
        let sends_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if sends_body || !self.body.is_empty() {
            put_field(&mut out, "content-length", self.body.len().to_string().as_bytes());
        }
        out.put_slice(b"\r\n");
        out.put_slice(&self.body);
        out.freeze()
    }
}

/// Finds the parts of a server's responses in the bytes of a connection.
///
/// The caller keeps the bytes: [`Framer::advance`] looks at those not yet consumed and says how many to drop and
/// what they were. It never looks at a body.
#[derive(Debug)]
pub struct Framer {
    /// Responses to HEAD have a length and no body.
    bodiless: bool,
    keep_alive: bool,
    state: State,
}

/// What the consumed bytes were.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing that is whole: read more and ask again with the same bytes and those that came.
    More,
    /// A response before the final one.
    Interim,
    /// The header section of the final response.
    Head {
        status: u16,
    },
    Body(&'a [u8]),
    /// The response is complete; the next bytes belong to the next one if the connection stays.
    End {
        keep_alive: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    #[error("the server sent what is no HTTP/1 response")]
    Malformed,
    #[error("the server sent a header section of more than {MAX_HEAD} bytes")]
    HeadTooLarge,
    #[error("the connection ended within a response")]
    Truncated,
}

/// Bytes of a header or trailer section.
const MAX_HEAD: usize = 64 * 1024;
/// Header fields of one response.
const MAX_FIELDS: usize = 128;
/// Bytes of the line before a chunk.
const MAX_CHUNK_LINE: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// This many bytes of body are left.
    Sized(u64),
    UntilClose,
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    /// This many bytes of trailers have been seen.
    Trailers(usize),
}

impl Framer {
    pub fn new(method: &Method) -> Self {
        Self { bodiless: method == Method::HEAD, keep_alive: true, state: State::Head }
    }

    /// Looks at the bytes not yet consumed: how many to drop, and what they were.
    pub fn advance<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), FramingError> {
        match self.state {
            State::Head => self.head(input),
            State::Sized(0) => Ok((0, self.end())),
            State::ChunkLine => self.chunk_line(input),
            State::ChunkEnd => self.chunk_end(input),
            State::Trailers(seen) => self.trailer(input, seen),
            _ if input.is_empty() => Ok((0, Event::More)),
            State::UntilClose => Ok((input.len(), Event::Body(input))),
            State::Sized(left) => {
                let body = prefix(input, left);
                self.state = State::Sized(left - body.len() as u64);
                Ok((body.len(), Event::Body(body)))
            }
            State::Chunk(left) => {
                let body = prefix(input, left);
                let left = left - body.len() as u64;
                self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                Ok((body.len(), Event::Body(body)))
            }
        }
    }

    /// The server closed the connection: whether that ended a response whose end is the connection's.
    pub fn finish(&mut self) -> Result<(), FramingError> {
        match std::mem::replace(&mut self.state, State::Head) {
            State::UntilClose => Ok(()),
            _ => Err(FramingError::Truncated),
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), FramingError> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, input, &mut fields)
            .map_err(|_| FramingError::Malformed)?;
        let httparse::Status::Complete(used) = parsed else {
            return if input.len() > MAX_HEAD {
                Err(FramingError::HeadTooLarge)
            } else {
                Ok((0, Event::More))
            };
        };
        let status = response.code.ok_or(FramingError::Malformed)?;
        // Interim responses have neither a body nor a say in what comes.
        if (100..200).contains(&status) && status != 101 {
            return Ok((used, Event::Interim));
        }
        let fields = Fields::of(&response)?;
        self.keep_alive = fields.keep_alive;
        self.state = match fields.length {
            _ if self.bodiless || matches!(status, 101 | 204 | 304) => State::Sized(0),
            Length::Chunked => State::ChunkLine,
            Length::Sized(length) => State::Sized(length),
            Length::Unknown => {
                self.keep_alive = false;
                State::UntilClose
            }
        };
        Ok((used, Event::Head { status }))
    }

    fn chunk_line<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), FramingError> {
        match httparse::parse_chunk_size(input).map_err(|_| FramingError::Malformed)? {
            httparse::Status::Complete((used, 0)) => {
                self.state = State::Trailers(0);
                let (more, event) = self.trailer(input.get(used..).unwrap_or_default(), 0)?;
                Ok((used + more, event))
            }
            httparse::Status::Complete((used, size)) => {
                self.state = State::Chunk(size);
                let (more, event) = self.advance(input.get(used..).unwrap_or_default())?;
                Ok((used + more, event))
            }
            httparse::Status::Partial if input.len() > MAX_CHUNK_LINE => Err(FramingError::Malformed),
            httparse::Status::Partial => Ok((0, Event::More)),
        }
    }

    fn chunk_end<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), FramingError> {
        match input {
            [b'\r', b'\n', rest @ ..] => {
                self.state = State::ChunkLine;
                let (more, event) = self.chunk_line(rest)?;
                Ok((2 + more, event))
            }
            [] | [b'\r'] => Ok((0, Event::More)),
            _ => Err(FramingError::Malformed),
        }
    }

    fn trailer<'a>(&mut self, input: &'a [u8], seen: usize) -> Result<(usize, Event<'a>), FramingError> {
        let (mut used, mut seen) = (0, seen);
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                if seen + rest.len() > MAX_HEAD {
                    return Err(FramingError::HeadTooLarge);
                }
                self.state = State::Trailers(seen);
                return Ok((used, Event::More));
            };
            let line = rest.get(..end).unwrap_or_default();
            used += end + 1;
            seen += end + 1;
            if matches!(line, [] | [b'\r']) {
                return Ok((used, self.end()));
            }
            if seen > MAX_HEAD {
                return Err(FramingError::HeadTooLarge);
            }
        }
    }

    fn end(&mut self) -> Event<'static> {
        self.state = State::Head;
        Event::End { keep_alive: self.keep_alive }
    }
}

/// What a header section says about the framing.
struct Fields {
    length: Length,
    keep_alive: bool,
}

enum Length {
    Chunked,
    Sized(u64),
    Unknown,
}

impl Fields {
    fn of(response: &httparse::Response<'_, '_>) -> Result<Self, FramingError> {
        let mut length = Length::Unknown;
        let mut keep_alive = response.version == Some(1);
        for field in response.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                let given = decimal(field.value).ok_or(FramingError::Malformed)?;
                length = match length {
                    Length::Sized(before) if before != given => return Err(FramingError::Malformed),
                    Length::Chunked => Length::Chunked,
                    _ => Length::Sized(given),
                };
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if !ends_with_token(field.value, "chunked") {
                    return Err(FramingError::Malformed);
                }
                length = Length::Chunked;
            } else if field.name.eq_ignore_ascii_case("connection") {
                keep_alive = match () {
                    () if has_token(field.value, "close") => false,
                    () if has_token(field.value, "keep-alive") => true,
                    () => keep_alive,
                };
            }
        }
        Ok(Self { length, keep_alive })
    }
}

fn put_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn prefix(input: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    input.get(..most).unwrap_or(input)
}

fn decimal(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn tokens(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(|token| token.trim_ascii())
}

fn has_token(value: &[u8], wanted: &str) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn ends_with_token(value: &[u8], wanted: &str) -> bool {
    tokens(value).next_back().is_some_and(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests;
