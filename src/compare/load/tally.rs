//! What the connections of one thread found so far.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Counts, histogram};

/// What a whole answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// The server had no room for the request.
    Refused,
    Wrong,
}

/// Counts and times; its lock is taken by one thread alone.
#[derive(Debug)]
pub struct Tally {
    pub latencies: Histogram<u64>,
    pub lags: Histogram<u64>,
    pub counts: Counts,
    /// Requests that were begun.
    pub begun: u64,
    /// Of each connection since when the request that is under way has waited.
    open: Vec<Option<Instant>>,
    pub last: Option<Instant>,
}

impl Tally {
    pub fn new(connections: usize) -> Self {
        Self {
            latencies: histogram(),
            lags: histogram(),
            counts: Counts::default(),
            begun: 0,
            open: vec![None; connections],
            last: None,
        }
    }

    /// A connection has a request to make that was due then: its number.
    pub fn begin(&mut self, connection: usize, due: Instant) -> u64 {
        if let Some(open) = self.open.get_mut(connection) {
            *open = Some(due);
        }
        self.begun += 1;
        self.begun - 1
    }

    pub fn answered(&mut self, connection: usize, verdict: Verdict, end: Instant) {
        self.last = Some(end);
        let Some(due) = self.close(connection) else { return };
        match verdict {
            Verdict::Right => {
                self.counts.right += 1;
                self.waited(due, end);
            }
            Verdict::Refused => self.counts.refused += 1,
            Verdict::Wrong => self.counts.wrong += 1,
        }
    }

    pub fn failed(&mut self, connection: usize) {
        if self.close(connection).is_some() {
            self.counts.errors += 1;
        }
    }

    /// Requests under way: since when each has waited.
    pub fn open(&self) -> Vec<Instant> {
        self.open.iter().flatten().copied().collect()
    }

    pub fn waited(&mut self, since: Instant, end: Instant) {
        self.latencies.saturating_record(nanoseconds(since, end));
    }

    pub fn was_late(&mut self, due: Instant, now: Instant) {
        self.lags.saturating_record(nanoseconds(due, now));
    }

    fn close(&mut self, connection: usize) -> Option<Instant> {
        self.open.get_mut(connection)?.take()
    }
}

fn nanoseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}
