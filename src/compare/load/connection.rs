//! One connection of the load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pace::{Clock, Lane};
use super::tally::Verdict;
use super::{Ask, Expected, Load};
use crate::compare::http::{Event, Framer};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that failed this often without one answer between is given up.
pub const FAILURES: u32 = 3;
const READ_BUFFER: usize = 16 * 1024;

pub struct Connection {
    /// Among those of its thread.
    number: usize,
    load: Arc<Load>,
    lane: Arc<Lane>,
    stream: Option<TcpStream>,
    buffer: BytesMut,
}

/// How an exchange ended.
struct Answer {
    verdict: Verdict,
    keep_alive: bool,
}

/// What was expected, and what has come of it so far.
struct Judgement<'a> {
    expected: &'a Expected,
    status: u16,
    length: usize,
    /// The bytes so far are those of the body.
    matches: bool,
}

impl<'a> Judgement<'a> {
    fn new(expected: &'a Expected) -> Judgement<'a> {
        Judgement { expected, status: 0, length: 0, matches: true }
    }

    fn take(&mut self, piece: &[u8]) {
        self.matches &= self.expected.has(self.length, piece);
        self.length += piece.len();
    }

    fn end(self) -> Verdict {
        let Judgement { expected, status, length, matches } = self;
        match status == expected.status {
            true if matches && expected.is_whole(length) => Verdict::Right,
            false if status == StatusCode::SERVICE_UNAVAILABLE => Verdict::Refused,
            _ => Verdict::Wrong,
        }
    }
}

impl Connection {
    pub fn new(number: usize, load: Arc<Load>, lane: Arc<Lane>) -> Self {
        Self { number, load, lane, stream: None, buffer: BytesMut::with_capacity(READ_BUFFER) }
    }

    pub async fn connect(&mut self) {
        self.buffer.clear();
        let made = tokio::time::timeout(CONNECT, TcpStream::connect(self.load.address)).await;
        self.stream = match made {
            // Otherwise a request in two segments would wait for the first one's acknowledgement.
            Ok(Ok(stream)) if stream.set_nodelay(true).is_ok() => Some(stream),
            _ => None,
        };
    }

    /// One request after the other as long as there are any.
    pub async fn run(&mut self, clock: &Clock) {
        let load = self.load.clone();
        let lane = self.lane.clone();
        let mut failures = 0;
        while failures < FAILURES {
            let Some(ask) = lane.next(self.number, clock).await else { return };
            let answer = match load.asks.get(ask) {
                Some(ask) => self.exchange(ask).await,
                None => None,
            };
            match answer {
                Some(answer) => {
                    failures = 0;
                    lane.tally.lock().answered(self.number, answer.verdict, Instant::now());
                    if !answer.keep_alive {
                        lane.tally.lock().counts.reconnects += 1;
                        self.connect().await;
                    }
                }
                None => {
                    failures += 1;
                    lane.tally.lock().failed(self.number);
                    self.connect().await;
                }
            }
        }
    }

    /// One request and its answer; `None` if the connection failed.
    async fn exchange(&mut self, ask: &Ask) -> Option<Answer> {
        let stream = self.stream.as_mut()?;
        let mut framer = Framer::new(&ask.method);
        stream.write_all(&ask.request).await.ok()?;
        let mut judgement = Judgement::new(&ask.expected);
        loop {
            let (used, event) = framer.advance(&self.buffer).ok()?;
            let more = event == Event::More;
            let mut end = None;
            match event {
                Event::More | Event::Interim => (),
                Event::Head { status } => judgement.status = status,
                Event::Body(piece) => judgement.take(piece),
                Event::End { keep_alive } => end = Some(keep_alive),
            }
            self.buffer.advance(used);
            if let Some(keep_alive) = end {
                // Bytes that nobody asked for would be taken for the next answer.
                let is_all = self.buffer.is_empty();
                return is_all.then(|| Answer { verdict: judgement.end(), keep_alive });
            }
            if more && !read_some(stream, &mut self.buffer).await? {
                framer.finish().ok()?;
                return Some(Answer { verdict: judgement.end(), keep_alive: false });
            }
        }
    }
}

/// Reads what has come; false if the server has closed the connection, `None` if it failed.
async fn read_some(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<bool> {
    buffer.reserve(READ_BUFFER / 2);
    stream.read_buf(buffer).await.ok().map(|read| read > 0)
}
