//! What one pool takes of the processors, from what it has taken in all; pure.

use std::time::{Duration, Instant};

/// How often it is looked at.
const WINDOW: Duration = Duration::from_millis(5);

/// The part of all processors from which on a pool is busy, and below which it is no more.
const BUSY: f64 = 0.05;
const NOT_BUSY: f64 = 0.025;

/// A pool that takes more than this part of all processors is *heavy*, until it has taken less than half of that for so long.
/// What a guest has run for is only known when it is interrupted, so in between nothing seems to be done.
const HEAVY: f64 = 0.15;
const LIGHT: Duration = Duration::from_millis(250);

/// What a pool takes *lately*, with all that is done for its requests besides, is an average over about so long: over more
/// than one time of the slow lane's, in which a pool that would take more may get nothing.
const LATELY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Meter {
    reading: Option<Reading>,
    is_busy: bool,
    /// When the pool last took as much as a heavy one.
    heavy: Option<Instant>,
    lately: f64,
}

/// Nanoseconds in all, and when.
struct Reading {
    at: Instant,
    worked: u64,
    besides: u64,
}

impl Meter {
    /// Looks, if the last look is long enough ago; whether it did. Nanoseconds that were worked for the pool in all, and what
    /// was done besides, on so many processors.
    pub(super) fn look(&mut self, now: Instant, worked: u64, besides: u64, processors: u32) -> bool {
        let Some(before) = &self.reading else {
            self.reading = Some(Reading { at: now, worked, besides });
            return false;
        };
        let passed = now.saturating_duration_since(before.at);
        if passed < WINDOW {
            return false;
        }
        let all = passed.as_nanos() as f64 * f64::from(processors);
        let part = worked.saturating_sub(before.worked) as f64 / all;
        let besides_part = besides.saturating_sub(before.besides) as f64 / all;
        self.reading = Some(Reading { at: now, worked, besides });
        self.is_busy = part > if self.is_busy { NOT_BUSY } else { BUSY };
        let is_heavy = part > if self.is_heavy(now) { HEAVY / 2.0 } else { HEAVY };
        if is_heavy {
            self.heavy = Some(now);
        }
        let weight = (passed.as_secs_f64() / LATELY.as_secs_f64()).min(1.0);
        self.lately += (part + besides_part - self.lately) * weight;
        true
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Has it been so within the last moment?
    pub(super) fn is_heavy(&self, now: Instant) -> bool {
        self.heavy.is_some_and(|heavy| now.saturating_duration_since(heavy) < LIGHT)
    }

    /// The part of all processors that it takes lately.
    pub(super) fn lately(&self) -> f64 {
        self.lately
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool that is looked at every 5 ms.
    struct Pool {
        meter: Meter,
        now: Instant,
        worked: u64,
        besides: u64,
    }

    impl Pool {
        fn new() -> Self {
            let mut meter = Meter::default();
            let now = Instant::now();
            assert!(!meter.look(now, 0, 0, 2));
            Self { meter, now, worked: 0, besides: 0 }
        }

        /// It takes these parts of two processors for so long.
        fn takes(&mut self, part: f64, besides: f64, for_ms: u64) {
            for _ in 0..for_ms.div_ceil(5) {
                let nanoseconds = |part: f64| (WINDOW.as_nanos() as f64 * 2.0 * part) as u64;
                self.worked += nanoseconds(part);
                self.besides += nanoseconds(besides);
                self.now += WINDOW;
                assert!(self.meter.look(self.now, self.worked, self.besides, 2));
            }
        }
    }

    #[test]
    fn what_is_done_besides_makes_no_pool_busy_and_is_part_of_what_it_takes() {
        let mut pool = Pool::new();
        pool.takes(0.04, 0.5, 500);
        assert!(!pool.meter.is_busy() && !pool.meter.is_heavy(pool.now));
        assert!((pool.meter.lately() - 0.54).abs() < 0.01, "{}", pool.meter.lately());
    }

    #[test]
    fn who_is_kept_out_for_a_moment_has_lately_taken_much_all_the_same() {
        let mut pool = Pool::new();
        pool.takes(0.5, 0.3, 500);
        pool.takes(0.0, 0.0, 6);
        assert!(pool.meter.lately() > 0.6, "{}", pool.meter.lately());
        pool.takes(0.0, 0.0, 500);
        assert!(pool.meter.lately() < 0.01, "{}", pool.meter.lately());
    }

    #[test]
    fn a_look_too_soon_is_none() {
        let mut pool = Pool::new();
        pool.takes(1.0, 0.0, 5);
        assert!(pool.meter.is_busy());
        assert!(!pool.meter.look(pool.now + WINDOW / 2, pool.worked, pool.besides, 2));
        assert!(pool.meter.look(pool.now + WINDOW, pool.worked, pool.besides, 2));
        assert!(!pool.meter.is_busy());
    }
}
