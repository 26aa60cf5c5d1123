//! What the pool remembers of failed attempts to make an instance: pure, time is passed in.

use std::time::{Duration, Instant};

/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many times longer than a failed attempt the pause after it is: an app that can't start takes a tenth of the time.
const REST: u32 = 9;

/// An attempt of which it is not waited for the end, if the one before failed: whoever waits could well wait in vain.
const LONG: Duration = Duration::from_millis(100);

/// Failures in a row, the last error, how long that took, and until when no attempt is made.
pub struct Backoff<E> {
    failures: u32,
    last: Option<Failed<E>>,
}

struct Failed<E> {
    error: E,
    took: Duration,
    until: Instant,
}

/// May an instance be made now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt<E> {
    /// Nothing failed lately: any number at once.
    Free,
    /// The pause is over: one attempt at a time, until one succeeds. If it takes as long as the last one the error is
    /// known before.
    Probe { known: Option<(E, Duration)> },
    /// Not before `retry_after` has passed.
    Pause { error: E, retry_after: Duration },
}

impl<E: Clone> Backoff<E> {
    pub fn new() -> Self {
        Self { failures: 0, last: None }
    }

    pub fn attempt(&self, now: Instant) -> Attempt<E> {
        let Some(Failed { error, took, until }) = &self.last else { return Attempt::Free };
        match until.checked_duration_since(now).filter(|rest| !rest.is_zero()) {
            Some(rest) => Attempt::Pause { error: error.clone(), retry_after: rest },
            None => Attempt::Probe { known: (*took >= LONG).then(|| (error.clone(), *took)) },
        }
    }

    /// Notes a failure of an attempt that took so long and returns how long the pause still lasts.
    ///
    /// Attempts that ran side by side fail for one reason: what fails within a pause does not make it longer.
    pub fn failed(&mut self, error: E, took: Duration, now: Instant) -> Duration {
        let until = match &self.last {
            Some(last) if now < last.until => last.until,
            _ => {
                let doublings = self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << doublings).max(took.saturating_mul(REST));
                now + pause.min(LONGEST_PAUSE.max(took.saturating_mul(REST)))
            }
        };
        self.last = Some(Failed { error, took, until });
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
                let pause = backoff.failed("no", Duration::ZERO, now);
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
        backoff.failed("first", Duration::ZERO, now);
        assert_eq!(backoff.failed("second", Duration::ZERO, now + ms(40)), ms(60));
        assert_eq!(backoff.attempt(now + ms(99)), Attempt::Pause { error: "second", retry_after: ms(1) });
        assert_eq!(backoff.attempt(now + ms(100)), Attempt::Probe { known: None });
        assert_eq!(backoff.failed("third", Duration::ZERO, now + ms(100)), ms(200));
    }

    #[test]
    fn a_success_ends_the_pause() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        backoff.failed("no", Duration::ZERO, now);
        backoff.succeeded();
        assert_eq!(backoff.attempt(now), Attempt::Free);
        assert_eq!(backoff.failed("no", Duration::ZERO, now), ms(100));
    }

    #[test]
    fn an_attempt_that_took_long_is_followed_by_a_longer_pause_and_its_error_is_known() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        assert_eq!(backoff.failed("slow", ms(10_000), now), ms(90_000));
        let later = now + ms(90_000);
        assert_eq!(backoff.attempt(later), Attempt::Probe { known: Some(("slow", ms(10_000))) });
    }
}
