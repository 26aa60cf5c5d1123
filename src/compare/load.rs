//! The load: some connections that each send the next request when the answer to the last one has come.
//!
//! It must be cheap beside what it measures: request bytes are made once, responses are framed and compared where
//! they were read, and each of its threads has its own connections, runtime and histogram.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use hdrhistogram::Histogram;
use http::Method;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cores::Cores;
use super::http::{Event, Framer};
use super::usage;

/// One slice of load on one server.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub method: Method,
    /// The whole request.
    pub request: Bytes,
    pub expected: Expected,
    pub connections: usize,
    /// No request is begun after this time.
    pub duration: Duration,
    /// How long after that the last answers may still come.
    pub grace: Duration,
    /// The cores of the load; all that this process has if there are none.
    pub cores: Option<Cores>,
}

/// What a right answer looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub status: u16,
    /// `None` if the app does not answer alike each time.
    pub body: Option<Bytes>,
}

/// What came of a slice.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Nanoseconds from the first byte sent to the last one read, of each right answer.
    pub latencies: Histogram<u64>,
    pub counts: Counts,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Processor time of the load itself, and the threads that it had.
    pub cpu: Duration,
    pub threads: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub right: u64,
    /// Whole answers with another status or body than expected.
    pub wrong: u64,
    /// Connections that failed and answers that broke off.
    pub errors: u64,
    /// Requests whose answer had not come when the time was over.
    pub unfinished: u64,
    /// Connections made anew because the server had closed one in an orderly way.
    pub reconnects: u64,
}

/// The longest latency that can be told from longer ones.
const LONGEST: u64 = 3_600_000_000_000;
/// Significant figures of the latencies.
const FIGURES: u8 = 3;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that failed this often without one answer between is given up.
const FAILURES: u32 = 3;
const READ_BUFFER: usize = 16 * 1024;

impl Load {
    /// Runs the slice on threads of its own. `None` if one of them could not be started.
    ///
    /// Cancellation safety: dropped early, the threads end at once.
    pub async fn run(&self) -> Option<Outcome> {
        let threads = self.cores.as_ref().map_or(1, Cores::count).min(self.connections).max(1);
        let barrier = Arc::new(Barrier::new(threads));
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        let mut results = Vec::with_capacity(threads);
        for thread in 0..threads {
            let share = self.connections / threads + usize::from(thread < self.connections % threads);
            let (load, barrier, stop) = (self.clone(), barrier.clone(), stop.clone());
            let (sender, receiver) = oneshot::channel();
            std::thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || drop(sender.send(load.run_thread(share, &barrier, &stop))))
                .ok()?;
            results.push(receiver);
        }
        let mut whole = Outcome::new();
        for result in results {
            whole.add(&result.await.ok()?);
        }
        Some(whole)
    }

    fn run_thread(&self, connections: usize, barrier: &Barrier, stop: &CancellationToken) -> Outcome {
        if let Some(cores) = &self.cores {
            // The split was pinned to before; should it fail here, the load is only less apart than it could be.
            let _ = cores.pin_this_thread();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.run_connections(connections, barrier, stop)),
            Err(_) => {
                barrier.wait();
                let errors = connections as u64;
                Outcome { counts: Counts { errors, ..Counts::default() }, ..Outcome::new() }
            }
        }
    }

    async fn run_connections(
        &self,
        connections: usize,
        barrier: &Barrier,
        stop: &CancellationToken,
    ) -> Outcome {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let load = Arc::new(self.clone());
        let mut connecting = JoinSet::new();
        for _ in 0..connections {
            let mut connection = Connection::new(load.clone(), tally.clone());
            connecting.spawn(async move {
                connection.connect().await;
                connection
            });
        }
        let ready = connecting.join_all().await;
        // All threads begin together, with all their connections made.
        barrier.wait();
        let begin = Instant::now();
        let cpu = usage::cpu_of_this_thread();
        let mut running = JoinSet::new();
        for mut connection in ready {
            running.spawn(async move { connection.run(begin + connection.load.duration).await });
        }
        let over = tokio::time::sleep(self.duration + self.grace);
        tokio::select! {
            () = async { while running.join_next().await.is_some() {} } => (),
            () = over => (),
            () = stop.cancelled() => (),
        }
        running.shutdown().await;
        let cpu = cpu.and_then(|before| Ok(usage::cpu_of_this_thread()?.saturating_sub(before)));
        let tally = tally.lock();
        let elapsed = tally.last.map_or(begin.elapsed(), |last| last.saturating_duration_since(begin));
        Outcome {
            latencies: tally.latencies.clone(),
            counts: tally.counts(),
            elapsed,
            cpu: cpu.unwrap_or_default(),
            threads: 1,
        }
    }
}

impl Expected {
    /// Whether this piece of a body is what belongs there.
    fn has(&self, offset: usize, piece: &[u8]) -> bool {
        match &self.body {
            Some(body) => body.get(offset..).is_some_and(|rest| rest.starts_with(piece)),
            None => true,
        }
    }

    fn is_whole(&self, length: usize) -> bool {
        self.body.as_ref().is_none_or(|body| body.len() == length)
    }
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self {
            latencies: histogram(),
            counts: Counts::default(),
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            threads: 0,
        }
    }

    /// Right answers a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.counts.right as f64 / seconds } else { 0.0 }
    }

    /// Takes what another part of the same slice found into this one.
    fn add(&mut self, part: &Self) {
        // Both have the bounds of `histogram`, so nothing of one can be outside of the other.
        let _ = self.latencies.add(&part.latencies);
        self.counts.add(&part.counts);
        self.elapsed = self.elapsed.max(part.elapsed);
        self.cpu += part.cpu;
        self.threads += part.threads;
    }
}

impl Counts {
    /// Requests without a right answer.
    pub fn failed(&self) -> u64 {
        self.wrong + self.errors + self.unfinished
    }

    pub fn add(&mut self, more: &Self) {
        self.right += more.right;
        self.wrong += more.wrong;
        self.errors += more.errors;
        self.unfinished += more.unfinished;
        self.reconnects += more.reconnects;
    }
}

pub fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, LONGEST, FIGURES);
    // The bounds are constants that the histogram accepts, as every test here shows.
    made.unwrap_or_else(|error| unreachable!("{error}"))
}

/// What the connections of one thread found so far. Its lock is taken by that thread alone.
struct Tally {
    latencies: Histogram<u64>,
    counts: Counts,
    /// Requests under way.
    open: u64,
    last: Option<Instant>,
}

impl Tally {
    fn new() -> Self {
        Self { latencies: histogram(), counts: Counts::default(), open: 0, last: None }
    }

    fn counts(&self) -> Counts {
        Counts { unfinished: self.open, ..self.counts }
    }

    fn answered(&mut self, right: bool, begin: Instant, end: Instant) {
        self.open -= 1;
        self.last = Some(end);
        if right {
            self.counts.right += 1;
            let nanoseconds = u64::try_from((end - begin).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanoseconds);
        } else {
            self.counts.wrong += 1;
        }
    }

    fn failed(&mut self) {
        self.open -= 1;
        self.counts.errors += 1;
    }
}

struct Connection {
    load: Arc<Load>,
    tally: Arc<Mutex<Tally>>,
    stream: Option<TcpStream>,
    framer: Framer,
    buffer: BytesMut,
}

/// How an exchange ended.
struct Answer {
    right: bool,
    keep_alive: bool,
}

impl Connection {
    fn new(load: Arc<Load>, tally: Arc<Mutex<Tally>>) -> Self {
        let framer = Framer::new(&load.method);
        Self { load, tally, stream: None, framer, buffer: BytesMut::with_capacity(READ_BUFFER) }
    }

    async fn connect(&mut self) {
        self.buffer.clear();
        self.framer = Framer::new(&self.load.method);
        let made = tokio::time::timeout(CONNECT, TcpStream::connect(self.load.address)).await;
        self.stream = match made {
            // Otherwise a request in two segments would wait for the first one's acknowledgement.
            Ok(Ok(stream)) if stream.set_nodelay(true).is_ok() => Some(stream),
            _ => None,
        };
    }

    /// One request after the other until `deadline`.
    async fn run(&mut self, deadline: Instant) {
        let mut failures = 0;
        let mut now = Instant::now();
        while now < deadline && failures < FAILURES {
            let begin = Instant::now();
            self.tally.lock().open += 1;
            let answer = self.exchange().await;
            now = Instant::now();
            match answer {
                Some(answer) => {
                    failures = 0;
                    self.tally.lock().answered(answer.right, begin, now);
                    if !answer.keep_alive {
                        self.tally.lock().counts.reconnects += 1;
                        self.connect().await;
                    }
                }
                None => {
                    failures += 1;
                    self.tally.lock().failed();
                    self.connect().await;
                }
            }
        }
    }

    /// One request and its answer; `None` if the connection failed.
    async fn exchange(&mut self) -> Option<Answer> {
        let stream = self.stream.as_mut()?;
        stream.write_all(&self.load.request).await.ok()?;
        let (mut right, mut length) = (true, 0);
        loop {
            let (used, event) = self.framer.advance(&self.buffer).ok()?;
            let more = event == Event::More;
            let mut end = None;
            match event {
                Event::More | Event::Interim => (),
                Event::Head { status } => right = status == self.load.expected.status,
                Event::Body(piece) => {
                    right &= self.load.expected.has(length, piece);
                    length += piece.len();
                }
                Event::End { keep_alive } => end = Some(keep_alive),
            }
            self.buffer.advance(used);
            if let Some(keep_alive) = end {
                right &= self.load.expected.is_whole(length);
                // Bytes that nobody asked for would be taken for the next answer.
                return self.buffer.is_empty().then_some(Answer { right, keep_alive });
            }
            if more && !read_some(stream, &mut self.buffer).await? {
                self.framer.finish().ok()?;
                right &= self.load.expected.is_whole(length);
                return Some(Answer { right, keep_alive: false });
            }
        }
    }
}

/// Reads what has come; false if the server has closed the connection, `None` if it failed.
async fn read_some(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<bool> {
    buffer.reserve(READ_BUFFER / 2);
    stream.read_buf(buffer).await.ok().map(|read| read > 0)
}

#[cfg(test)]
mod tests;
