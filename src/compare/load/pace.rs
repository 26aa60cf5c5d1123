//! When requests are made: one when its connection is free, or each at its own time.
//!
//! A load that waits for slow answers before it asks again leaves out just the requests that would have waited longest.
//! So with [`Pace::Open`] the times are fixed beforehand, and a request is late from the time at which it was due, also
//! if all connections were busy then.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::tally::Tally;
use super::{Outcome, Part};

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A connection asks again when it has its answer.
    Closed,
    /// So many requests a second, evenly spaced.
    Open { rate: f64 },
}

/// When a slice began, and when no further request is begun.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub begin: Instant,
    pub deadline: Instant,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Lane {
    pace: Pace,
    part: Part,
    asks: usize,
    /// As many permits as requests are due and not begun.
    due: Semaphore,
    pub tally: Mutex<Tally>,
}

/// The runtime's timer ticks in milliseconds, so what is nearer than this is waited for by looking at the clock.
const NEAR: Duration = Duration::from_millis(3);

/// How long after the end of a slice requests that were due in it are begun.
const LATE: Duration = Duration::from_millis(100);

impl Clock {
    pub fn start(duration: Duration) -> Self {
        let begin = Instant::now();
        Self { begin, deadline: begin + duration }
    }
}

impl Lane {
    pub fn new(pace: Pace, part: Part, asks: usize, connections: usize) -> Self {
        let (due, tally) = (Semaphore::new(0), Mutex::new(Tally::new(connections)));
        Self { pace, part, asks: asks.max(1), due, tally }
    }

    /// Which request is the next for this connection, when it is time; `None` if there is none any more.
    pub async fn next(&self, connection: usize, clock: &Clock) -> Option<usize> {
        let number = match self.pace {
            Pace::Closed => {
                let now = Instant::now();
                (now < clock.deadline).then(|| self.tally.lock().begin(connection, now))?
            }
            Pace::Open { rate } => {
                // Closed when the time is over; then what is due and not begun never is.
                self.due.acquire().await.ok()?.forget();
                let mut tally = self.tally.lock();
                let due = self.due_at(rate, tally.begun, clock);
                tally.begin(connection, due)
            }
        };
        // The threads don't count together, but each begins with another request.
        Some((number.wrapping_add(self.part.thread as u64) % self.asks as u64) as usize)
    }

    /// Makes requests due, each at its time, until the slice is over. Nothing to do in a closed loop.
    pub async fn keep_pace(&self, clock: &Clock, may_spin: bool) {
        let Pace::Open { rate } = self.pace else { return };
        let mut number = 0;
        loop {
            let next = self.due_at(rate, number, clock);
            let now = Instant::now();
            if next >= clock.deadline {
                break;
            }
            if next <= now {
                self.tally.lock().was_late(next, now);
                self.due.add_permits(1);
                number += 1;
                // In an overload the permits only pile up: the connections must have their turn all the same.
                if number.is_multiple_of(16) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let left = next - now;
            match may_spin {
                true if left > NEAR => tokio::time::sleep(left - NEAR + Duration::from_millis(1)).await,
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(left).await,
            }
        }
        tokio::time::sleep_until(clock.deadline.into()).await;
        // What became due in the last moment is still begun, but no backlog is worked off.
        let last = clock.deadline + LATE;
        while self.due.available_permits() > 0 && Instant::now() < last {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.due.close();
    }

    /// All that was found, once nobody asks any more.
    pub fn outcome(&self, clock: &Clock, now: Instant) -> Outcome {
        let mut tally = self.tally.lock();
        let unfinished = tally.open();
        tally.counts.unfinished = unfinished.len() as u64;
        if let Pace::Open { rate } = self.pace {
            for since in unfinished {
                tally.waited(since, now);
            }
            // Also those that the load itself came too late for.
            let mut number = tally.begun;
            loop {
                let due = self.due_at(rate, number, clock);
                if due >= clock.deadline.min(now) {
                    break;
                }
                tally.waited(due, now);
                tally.counts.unsent += 1;
                number += 1;
            }
        }
        let elapsed = tally.last.unwrap_or(now).saturating_duration_since(clock.begin);
        let elapsed = match self.pace {
            Pace::Closed => elapsed,
            // The pause after the last request belongs to it.
            Pace::Open { .. } => elapsed.max(clock.deadline - clock.begin),
        };
        Outcome {
            latencies: tally.latencies.clone(),
            lags: tally.lags.clone(),
            counts: tally.counts,
            elapsed,
            ..Outcome::new()
        }
    }

    /// When this thread's request of that number is due: the threads take the times in turn.
    fn due_at(&self, rate: f64, number: u64, clock: &Clock) -> Instant {
        let overall = number as f64 * self.part.threads as f64 + self.part.thread as f64;
        // Later than any deadline is later than any other.
        clock.begin + Duration::try_from_secs_f64(overall / rate).unwrap_or(FAR).min(FAR)
    }
}

/// Longer than a slice ever is.
const FAR: Duration = Duration::from_secs(1 << 30);

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(rate: f64, thread: usize, threads: usize) -> Lane {
        Lane::new(Pace::Open { rate }, Part { thread, threads }, 1, 1)
    }

    #[test]
    fn the_threads_take_the_times_in_turn() {
        let clock = Clock::start(Duration::from_secs(1));
        let at = |thread, number| lane(1_000.0, thread, 2).due_at(1_000.0, number, &clock) - clock.begin;
        let times = [at(0, 0), at(1, 0), at(0, 1), at(1, 1)];
        assert_eq!(times.map(|time| time.as_micros()), [0, 1_000, 2_000, 3_000]);
        assert!(lane(1e-30, 1, 2).due_at(1e-30, 1, &clock) > clock.deadline);
    }

    #[test]
    fn requests_that_were_never_begun_count_with_the_time_they_had_waited() {
        let clock = Clock::start(Duration::from_secs(1));
        let lane = lane(100.0, 0, 1);
        let end = clock.deadline + Duration::from_millis(500);
        lane.tally.lock().begin(0, clock.begin);
        let outcome = lane.outcome(&clock, end);
        assert_eq!((outcome.counts.unfinished, outcome.counts.unsent), (1, 99));
        assert_eq!(outcome.latencies.len(), 100);
        let near = |value: u64, ms: u64| value.abs_diff(ms * 1_000_000) <= ms * 1_000;
        assert!(near(outcome.latencies.max(), 1_500) && near(outcome.latencies.min(), 510));
    }

    #[test]
    fn what_was_not_due_before_the_slice_was_cut_short_is_not_missing() {
        let clock = Clock::start(Duration::from_secs(1));
        let outcome = lane(100.0, 0, 1).outcome(&clock, clock.begin + Duration::from_millis(95));
        assert_eq!(outcome.counts.unsent, 10);
    }
}
