//! What the pool remembers of failed attempts to make an instance: pure, time is passed in.

use std::time::{Duration, Instant};

/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Failures in a row, the last error, and until when no attempt is made.
pub struct Backoff<E> {
    failures: u32,
    last: Option<(Instant, E)>,
}

/// May an instance be made now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt<E> {
    /// Nothing failed lately: any number at once.
    Free,
    /// The pause is over: one attempt at a time, until one succeeds.
    Probe,
    /// Not before `retry_after` has passed.
    Pause { error: E, retry_after: Duration },
}

impl<E: Clone> Backoff<E> {
    pub fn new() -> Self {
        Self { failures: 0, last: None }
    }

    pub fn attempt(&self, now: Instant) -> Attempt<E> {
        match &self.last {
            None => Attempt::Free,
            Some((until, _)) if *until <= now => Attempt::Probe,
            Some((until, error)) => Attempt::Pause { error: error.clone(), retry_after: *until - now },
        }
    }

    /// Notes a failure and returns how long the pause still lasts.
    ///
    /// Attempts that ran side by side fail for one reason: what fails within a pause does not make it longer.
    pub fn failed(&mut self, error: E, now: Instant) -> Duration {
        let until = match &self.last {
            Some((until, _)) if now < *until => *until,
            _ => {
                let doublings = self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                now + FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
            }
        };
        self.last = Some((until, error));
        until - now
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..12)
            .map(|_| {
                let pause = backoff.failed("no", now);
                now += pause;
                pause
            })
            .collect();
        assert_eq!(pauses[..4], [ms(100), ms(200), ms(400), ms(800)]);
        assert_eq!(pauses[8..], [ms(25_600), ms(30_000), ms(30_000), ms(30_000)]);
    }

    #[test]
    fn failures_within_a_pause_count_once() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        backoff.failed("first", now);
        assert_eq!(backoff.failed("second", now + ms(40)), ms(60));
        assert_eq!(backoff.attempt(now + ms(99)), Attempt::Pause { error: "second", retry_after: ms(1) });
        assert_eq!(backoff.attempt(now + ms(100)), Attempt::Probe);
        assert_eq!(backoff.failed("third", now + ms(100)), ms(200));
    }

    #[test]
    fn a_success_ends_the_pause() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        backoff.failed("no", now);
        backoff.succeeded();
        assert_eq!(backoff.attempt(now), Attempt::Free);
        assert_eq!(backoff.failed("no", now), ms(100));
    }
}
