//! How a release's requests end: what tells a good release from a bad one. Only what the app did counts: neither refusals
//! for want of room or time in the queue, nor bad requests, nor clients that left.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How far the recent past goes back at least; at most twice as far.
const RECENT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Tally {
    ended: AtomicU64,
    failed: AtomicU64,
    past: Mutex<Past>,
}

/// Requests that ended, and those of them that failed: a trap, a limit, no answer, or a status of 5xx.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub ended: u64,
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Past {
    last: Option<(Instant, Counted)>,
    before: Counted,
}

impl Tally {
    /// The app's answer to a request, or that there was none.
    pub fn ended(&self, failed: bool) {
        self.ended.fetch_add(1, Relaxed);
        if failed {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    /// An answer that was counted as good, and then broke off.
    pub fn broken_off(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub fn all(&self) -> Counted {
        // In this order: never more failed than ended.
        let failed = self.failed.load(Relaxed);
        Counted { ended: self.ended.load(Relaxed).max(failed), failed }
    }

    /// Since `RECENT` ago or somewhat longer.
    pub fn recent(&self) -> Counted {
        let (all, before) = (self.all(), self.past.lock().before);
        Counted {
            ended: all.ended.saturating_sub(before.ended),
            failed: all.failed.saturating_sub(before.failed),
        }
    }

    /// Once a second or so.
    pub fn tick(&self, now: Instant) {
        let all = self.all();
        let mut past = self.past.lock();
        match past.last {
            Some((since, _)) if now.saturating_duration_since(since) < RECENT => {}
            Some((_, last)) => {
                past.before = last;
                past.last = Some((now, all));
            }
            None => past.last = Some((now, all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(tally: &Tally, ended: u64, failed: u64) {
        (0..ended).for_each(|at| tally.ended(at < failed));
    }

    #[test]
    fn what_is_recent_is_a_minute_or_two() {
        let (tally, start) = (Tally::default(), Instant::now());
        count(&tally, 10, 10);
        for second in 0..=120 {
            tally.tick(start + Duration::from_secs(second));
        }
        count(&tally, 5, 1);
        assert_eq!(tally.all(), Counted { ended: 15, failed: 11 });
        assert_eq!(tally.recent(), Counted { ended: 5, failed: 1 });
        for second in 121..200 {
            tally.tick(start + Duration::from_secs(second));
        }
        assert_eq!(tally.recent(), Counted { ended: 5, failed: 1 }, "still");
        for second in 200..300 {
            tally.tick(start + Duration::from_secs(second));
        }
        assert_eq!(tally.recent(), Counted::default());
    }

    #[test]
    fn an_answer_that_breaks_off_is_one_request_that_failed() {
        let tally = Tally::default();
        tally.ended(false);
        tally.broken_off();
        assert_eq!(tally.all(), Counted { ended: 1, failed: 1 });
    }
}
