//! Where one request ends and the next begins, followed in the raw bytes beside hyper's own parser.
//!
//! hyper drops a `content-length` that stands beside a `transfer-encoding`, so nobody behind it can see that
//! there were two truths about the body's length: the raw material of request smuggling. This follower counts the
//! request heads as they pass and remembers the first one that is ambiguous. It is stricter than hyper, never
//! laxer: where the two might not agree it is *lost*, and every later request of that connection is suspect.

/// Follows the request framing of one HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    head: Head,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    max_line: usize,
    heads: u64,
    first_suspect: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkEnd,
    Trailers,
    Lost,
}

/// What the head that is being read has said so far.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    coding: Option<Coding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl Framing {
    /// `max_line`: bytes of one line (and so of a head's line) that are followed; hyper refuses longer heads itself.
    pub(super) fn new(max_line: usize) -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            line: Vec::new(),
            max_line,
            heads: 0,
            first_suspect: None,
        }
    }

    /// Request heads that are complete.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// The number (from 1) of the first request whose framing can't be trusted.
    pub(super) fn first_suspect(&self) -> Option<u64> {
        self.first_suspect
    }

    /// A head has begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || !self.line.is_empty())
    }

    /// The last request has been received wholly and nothing of another one.
    pub(super) fn between_requests(&self) -> bool {
        self.state == State::Head && !self.in_head()
    }

    /// Takes the next bytes that the client sent, however they were cut.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Lost => return,
                State::Body { left } | State::ChunkData { left } => {
                    let taken = usize::try_from(*left).map_or(bytes.len(), |n| n.min(bytes.len()));
                    *left -= taken as u64;
                    if *left == 0 {
                        self.data_ended();
                    }
                    bytes.get(taken..).unwrap_or_default()
                }
                _ => self.take_line(bytes),
            };
        }
    }

    fn data_ended(&mut self) {
        self.state = match self.state {
            State::ChunkData { .. } => State::ChunkEnd,
            _ => State::Head,
        };
    }

    /// Takes one line, or what there is of it, and returns the bytes behind it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        if self.line.len() + part.len() > self.max_line {
            self.lose();
        } else if end.is_none() {
            self.line.extend_from_slice(part);
        } else if self.line.is_empty() {
            self.line_ended(part);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.line_ended(&line);
            line.clear();
            self.line = line;
        }
        rest
    }

    fn line_ended(&mut self, line: &[u8]) {
        // A head's lines may end in a bare LF for hyper too; in a chunked body only CR LF is an end.
        let strict = line.strip_suffix(b"\r\n");
        match (self.state, strict) {
            (State::Head, _) => self.head_line(strict.unwrap_or(line.strip_suffix(b"\n").unwrap_or(line))),
            (State::ChunkSize, Some(line)) => match chunk_size(line) {
                Some(0) => self.state = State::Trailers,
                Some(left) => self.state = State::ChunkData { left },
                None => self.lose(),
            },
            (State::ChunkEnd, Some(b"")) => self.state = State::ChunkSize,
            (State::Trailers, Some(b"")) => self.state = State::Head,
            (State::Trailers, Some(line)) if !line.contains(&b'\r') => {}
            _ => self.lose(),
        }
    }

    fn head_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            // Empty lines before a request line are allowed and say nothing.
            if self.head.begun {
                self.head_ended();
            }
            return;
        }
        if !std::mem::replace(&mut self.head.begun, true) {
            return;
        }
        match line.first() {
            Some(b'c' | b'C') => self.length_line(line),
            Some(b't' | b'T') => self.coding_line(line),
            _ => {}
        }
    }

    fn length_line(&mut self, line: &[u8]) {
        let Some(value) = field(line, b"content-length") else {
            return;
        };
        match (digits(value), self.head.length) {
            (Some(length), None) => self.head.length = Some(length),
            (Some(length), Some(before)) if length == before => {}
            _ => self.lose(),
        }
    }

    fn coding_line(&mut self, line: &[u8]) {
        let Some(value) = field(line, b"transfer-encoding") else {
            return;
        };
        // Chunked is undone here and no other coding, nor a second time.
        self.head.coding = Some(match (self.head.coding, value.eq_ignore_ascii_case(b"chunked")) {
            (None, true) => Coding::Chunked,
            _ => Coding::Other,
        });
    }

    fn head_ended(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.coding.is_some() && head.length.is_some() {
            self.first_suspect.get_or_insert(self.heads + 1);
        }
        self.state = match (head.coding, head.length) {
            (Some(Coding::Chunked), _) => State::ChunkSize,
            (Some(Coding::Other), _) => return self.lose(),
            (None, Some(left @ 1..)) => State::Body { left },
            (None, _) => State::Head,
        };
        self.heads += 1;
    }

    /// From the request that is being read on, nothing is known.
    fn lose(&mut self) {
        self.state = State::Lost;
        self.line = Vec::new();
        self.first_suspect.get_or_insert(self.heads + 1);
    }
}

/// The value of a header line if its name is `name` (given in lower case).
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The size in a chunk's first line, which may have an extension behind it.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start();
    let plausible = matches!(rest.first(), None | Some(b';')) && !rest.contains(&b'\r');
    let size = std::str::from_utf8(size).ok().filter(|_| plausible)?;
    u64::from_str_radix(size, 16).ok()
}

#[cfg(test)]
mod tests;
