//! The load: some connections that ask for the requests in turn, each the next one when the answer to the last has come
//! ([`Pace::Closed`]), or at times that are fixed beforehand ([`Pace::Open`]).
//!
//! It must be cheap beside what it measures: request bytes are made once, responses are framed and compared where
//! they were read, and each of its threads has its own connections, runtime and histogram.

mod connection;
mod pace;
mod tally;

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cores::Cores;
use super::usage;
use crate::engine::{give_way_to_all, let_others_first, run_promptly};

use connection::Connection;
pub use pace::Pace;
use pace::{Clock, Lane};

/// One slice of load on one server.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    /// What is asked, in turn; never empty.
    pub asks: Arc<[Ask]>,
    pub pace: Pace,
    /// The most requests under way at once.
    pub connections: usize,
    /// No request is begun after this time, but those of an open loop that were due a moment before.
    pub duration: Duration,
    /// How long after that the last answers may still come.
    pub grace: Duration,
    /// The cores of the load; all that this process has if there are none.
    pub cores: Option<Cores>,
    /// It runs only where no other thread wants to: for what is in the background of another measurement.
    pub gives_way: bool,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    /// The whole request.
    pub request: Bytes,
    pub expected: Expected,
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
    /// Nanoseconds to the last byte read of each right answer: from the first byte sent, or with an open loop from the
    /// time at which the request was due. In an open loop those that had no answer in the end are in here, too, with
    /// the time that they had waited: without them the slowest would be left out.
    pub latencies: Histogram<u64>,
    /// Nanoseconds by which the load itself was late in an open loop; they are part of the latencies.
    pub lags: Histogram<u64>,
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
    /// Whole answers of 503 where another one was expected: the server had no room for the request.
    pub refused: u64,
    /// Other whole answers with another status or body than expected.
    pub wrong: u64,
    /// Connections that failed and answers that broke off.
    pub errors: u64,
    /// Requests whose answer had not come when the time was over.
    pub unfinished: u64,
    /// Requests of an open loop that were due and found no idle connection in time.
    pub unsent: u64,
    /// Connections made anew because the server had closed one in an orderly way.
    pub reconnects: u64,
}

/// The longest latency that can be told from longer ones.
const LONGEST: u64 = 3_600_000_000_000;
/// Significant figures of the latencies.
const FIGURES: u8 = 3;

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
            let part = Part { thread, threads };
            let (load, barrier, stop) = (self.clone(), barrier.clone(), stop.clone());
            let (sender, receiver) = oneshot::channel();
            std::thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || drop(sender.send(load.run_thread(part, &barrier, &stop))))
                .ok()?;
            results.push(receiver);
        }
        let mut whole = Outcome::new();
        for result in results {
            whole.add(&result.await.ok()?);
        }
        Some(whole)
    }

    fn run_thread(&self, part: Part, barrier: &Barrier, stop: &CancellationToken) -> Outcome {
        if let Some(cores) = &self.cores {
            // The split was pinned to before; should it fail here, the load is only less apart than it could be.
            let _ = cores.pin_this_thread();
        }
        if self.gives_way {
            give_way_to_all();
        } else {
            // What gives way is not to be waited for: that would be taken for the server's time.
            run_promptly();
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        if self.gives_way {
            runtime.on_thread_unpark(let_others_first);
        }
        match runtime.enable_io().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.run_connections(part, barrier, stop)),
            Err(_) => {
                barrier.wait();
                let errors = part.of(self.connections) as u64;
                Outcome { counts: Counts { errors, ..Counts::default() }, ..Outcome::new() }
            }
        }
    }

    async fn run_connections(&self, part: Part, barrier: &Barrier, stop: &CancellationToken) -> Outcome {
        let connections = part.of(self.connections);
        let lane = Arc::new(Lane::new(self.pace, part, self.asks.len(), connections));
        let load = Arc::new(self.clone());
        let mut connecting = JoinSet::new();
        for number in 0..connections {
            let mut connection = Connection::new(number, load.clone(), lane.clone());
            connecting.spawn(async move {
                connection.connect().await;
                connection
            });
        }
        let ready = connecting.join_all().await;
        // All threads begin together, with all their connections made.
        barrier.wait();
        let clock = Clock::start(self.duration);
        let cpu = usage::cpu_of_this_thread();
        let mut running = JoinSet::new();
        for mut connection in ready {
            running.spawn(async move { connection.run(&clock).await });
        }
        let over = tokio::time::sleep(self.duration + self.grace);
        // Who has cores of his own may look at the clock all the time.
        let pacing = lane.keep_pace(&clock, self.cores.is_some());
        let answered = async { while running.join_next().await.is_some() {} };
        tokio::select! {
            ((), ()) = async { tokio::join!(pacing, answered) } => (),
            () = over => (),
            () = stop.cancelled() => (),
        }
        running.shutdown().await;
        let cpu = cpu.and_then(|before| Ok(usage::cpu_of_this_thread()?.saturating_sub(before)));
        Outcome { cpu: cpu.unwrap_or_default(), threads: 1, ..lane.outcome(&clock, Instant::now()) }
    }
}

/// Which of the load's threads one is.
#[derive(Debug, Clone, Copy)]
struct Part {
    thread: usize,
    threads: usize,
}

impl Part {
    /// This thread's share of so many.
    fn of(self, all: usize) -> usize {
        all / self.threads + usize::from(self.thread < all % self.threads)
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
            lags: histogram(),
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
        let _ = self.lags.add(&part.lags);
        self.counts.add(&part.counts);
        self.elapsed = self.elapsed.max(part.elapsed);
        self.cpu += part.cpu;
        self.threads += part.threads;
    }
}

impl Counts {
    /// Requests without a right answer.
    pub fn failed(&self) -> u64 {
        self.refused + self.wrong + self.errors + self.unfinished + self.unsent
    }

    pub fn add(&mut self, more: &Self) {
        self.right += more.right;
        self.refused += more.refused;
        self.wrong += more.wrong;
        self.errors += more.errors;
        self.unfinished += more.unfinished;
        self.unsent += more.unsent;
        self.reconnects += more.reconnects;
    }
}

pub fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, LONGEST, FIGURES);
    // The bounds are constants that the histogram accepts, as every test here shows.
    made.unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests;
