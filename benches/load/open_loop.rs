//! Requests at a fixed rate, whatever becomes of them, as many independent clients send them.
//!
//! A latency counts from the time at which its request was due, not from when it was sent: a generator that waits for
//! slow answers before it asks again leaves out just the requests that would have waited longest. A request that finds
//! no idle connection waits for one, and that time counts too.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use hdrhistogram::Histogram;
use hostler::compare::bench::{Cores, Event, Framer, histogram};
use hostler::engine::run_promptly;
use http::Method;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::stage::GRACE;

#[derive(Debug, Clone)]
pub struct OpenLoop {
    pub address: SocketAddr,
    pub request: Bytes,
    /// Requests a second.
    pub rate: f64,
    pub duration: Duration,
    /// The most requests under way at once.
    pub connections: usize,
    pub cores: Option<Cores>,
}

/// What came of it.
pub struct Seen {
    /// Nanoseconds until the last byte of each answer with status 2xx.
    pub served: Histogram<u64>,
    /// The same for 503.
    pub refused: Histogram<u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that could not be made, and answers that broke off.
    pub errors: u64,
    /// Requests that were due and found no idle connection in time.
    pub unsent: u64,
    pub sent: u64,
    /// By the time of the answer.
    pub series: Vec<Bucket>,
    pub duration: Duration,
}

/// What was answered within a short time.
#[derive(Clone)]
pub struct Bucket {
    pub served: Histogram<u64>,
    pub refused: u64,
    pub other: u64,
}

/// How long a bucket of the series is.
pub const BUCKET: Duration = Duration::from_millis(250);

const READ_BUFFER: usize = 4 * 1024;

impl OpenLoop {
    /// Runs on a thread of its own, which it keeps busy.
    pub async fn run(self) -> anyhow::Result<Seen> {
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new().name("open-loop".to_owned()).spawn(move || {
            drop(sender.send(self.run_thread()));
        })?;
        receiver.await.context("the load ended early")?
    }

    fn run_thread(self) -> anyhow::Result<Seen> {
        if let Some(cores) = &self.cores {
            cores.pin_this_thread()?;
        }
        run_promptly();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.run_here())
    }

    async fn run_here(self) -> anyhow::Result<Seen> {
        let lane = Arc::new(Lane {
            due: Mutex::new(VecDeque::new()),
            waiting: Semaphore::new(0),
            seen: Mutex::new(Seen::new(self.duration)),
        });
        let mut idle = Vec::new();
        for _ in 0..self.connections {
            let mut connection = Connection::new(&self, lane.clone());
            connection.connect().await;
            idle.push(connection);
        }
        let begin = Instant::now();
        let mut connections = JoinSet::new();
        for connection in idle {
            connections.spawn(connection.run(begin));
        }
        self.send_on_time(begin, &lane).await;
        // The last answers; what is not sent by then never is.
        lane.waiting.close();
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all).await;
        connections.shutdown().await;
        let mut seen = std::mem::replace(&mut *lane.seen.lock(), Seen::new(self.duration));
        seen.unsent = lane.due.lock().len() as u64;
        Ok(seen)
    }

    /// Makes requests due, each at its time.
    async fn send_on_time(&self, begin: Instant, lane: &Lane) {
        let interval = Duration::from_secs_f64(1.0 / self.rate);
        let mut next = begin;
        let end = begin + self.duration;
        while next < end {
            let now = Instant::now();
            while next <= now && next < end {
                lane.due.lock().push_back(next);
                lane.waiting.add_permits(1);
                next += interval;
            }
            // The runtime's timer ticks in milliseconds, so what is nearer than that is waited for by looking.
            match next.saturating_duration_since(now) {
                long if long > Duration::from_millis(3) => {
                    tokio::time::sleep(long - Duration::from_millis(2)).await;
                }
                _ => tokio::task::yield_now().await,
            }
        }
    }
}

impl Seen {
    fn new(duration: Duration) -> Seen {
        let buckets = (duration + GRACE).as_nanos().div_ceil(BUCKET.as_nanos());
        Seen {
            served: histogram(),
            refused: histogram(),
            statuses: BTreeMap::new(),
            errors: 0,
            unsent: 0,
            sent: 0,
            series: (0..buckets).map(|_| Bucket { served: histogram(), refused: 0, other: 0 }).collect(),
            duration,
        }
    }

    /// Answers with status 2xx a second, of those that came while requests were sent.
    pub fn goodput(&self) -> f64 {
        let whole = (self.duration.as_nanos() / BUCKET.as_nanos()) as usize;
        let served: u64 = self.series.iter().take(whole).map(|bucket| bucket.served.len()).sum();
        served as f64 / (BUCKET * whole as u32).as_secs_f64()
    }

    /// Requests that were due.
    pub fn asked(&self) -> u64 {
        self.sent + self.unsent
    }

    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub fn count(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    fn answered(&mut self, status: u16, due: Instant, begin: Instant) {
        let now = Instant::now();
        let took = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
        *self.statuses.entry(status).or_default() += 1;
        let bucket = ((now - begin).as_nanos() / BUCKET.as_nanos()) as usize;
        let bucket = self.series.get_mut(bucket);
        match status {
            200..300 => {
                self.served.saturating_record(took);
                bucket.into_iter().for_each(|bucket| bucket.served.saturating_record(took));
            }
            503 => {
                self.refused.saturating_record(took);
                bucket.into_iter().for_each(|bucket| bucket.refused += 1);
            }
            _ => bucket.into_iter().for_each(|bucket| bucket.other += 1),
        }
    }
}

/// What the connections share. The locks are taken by one thread alone.
struct Lane {
    /// When the requests were due that have not been sent yet.
    due: Mutex<VecDeque<Instant>>,
    /// As many permits as there are of those.
    waiting: Semaphore,
    seen: Mutex<Seen>,
}

struct Connection {
    address: SocketAddr,
    request: Bytes,
    lane: Arc<Lane>,
    stream: Option<TcpStream>,
    framer: Framer,
    buffer: BytesMut,
}

impl Connection {
    fn new(load: &OpenLoop, lane: Arc<Lane>) -> Connection {
        Connection {
            address: load.address,
            request: load.request.clone(),
            lane,
            stream: None,
            framer: Framer::new(&Method::GET),
            buffer: BytesMut::with_capacity(READ_BUFFER),
        }
    }

    async fn connect(&mut self) {
        self.buffer.clear();
        self.framer = Framer::new(&Method::GET);
        self.stream = match TcpStream::connect(self.address).await {
            Ok(stream) if stream.set_nodelay(true).is_ok() => Some(stream),
            _ => None,
        };
    }

    async fn run(mut self, begin: Instant) {
        let lane = self.lane.clone();
        while let Ok(permit) = lane.waiting.acquire().await {
            permit.forget();
            let Some(due) = lane.due.lock().pop_front() else { continue };
            lane.seen.lock().sent += 1;
            let keep_alive = match self.exchange().await {
                Some((status, keep_alive)) => {
                    lane.seen.lock().answered(status, due, begin);
                    keep_alive
                }
                None => {
                    lane.seen.lock().errors += 1;
                    false
                }
            };
            if !keep_alive {
                self.connect().await;
            }
        }
    }

    /// One request: the status of its answer, and whether the connection stays. `None` if it failed.
    async fn exchange(&mut self) -> Option<(u16, bool)> {
        let stream = self.stream.as_mut()?;
        stream.write_all(&self.request).await.ok()?;
        let mut answered = 0;
        loop {
            let (used, event) = self.framer.advance(&self.buffer).ok()?;
            let mut more = false;
            let mut end = None;
            match event {
                Event::More => more = true,
                Event::Interim | Event::Body(_) => {}
                Event::Head { status } => answered = status,
                Event::End { keep_alive } => end = Some(keep_alive),
            }
            self.buffer.advance(used);
            if let Some(keep_alive) = end {
                return Some((answered, keep_alive));
            }
            if more {
                self.buffer.reserve(READ_BUFFER / 2);
                if stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                    self.framer.finish().ok()?;
                    return Some((answered, false));
                }
            }
        }
    }
}
