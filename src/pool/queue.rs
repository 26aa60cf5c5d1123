//! The queue of one pool and its discipline: pure, time is passed in.
//!
//! As long as the pool keeps up it is first come, first served, and everyone may wait for `queue_timeout`: a burst is
//! worked off in order. Under *overload* that would serve only those who have waited for so long that they have given
//! up, so two things change, as in CoDel and adaptive LIFO:
//!
//! - the newest is served first: those who are served have hardly waited;
//! - the wait allowed halves with each patience that goes by, down to one patience: the others are told soon.
//!
//! The *patience* is 100 ms, or longer for a pool that serves so slowly that such a wait is nothing: as long as eight of
//! its servings take. Overload begins when the queue has not been empty for one patience and the oldest has waited for
//! as long; it is over when the queue is empty, or has been so short for one patience that all in it could be served
//! within half of one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The wait that is no sign of overload.
const PATIENCE: Duration = Duration::from_millis(100);

/// For a pool that serves slowly, that of so many servings.
const SERVINGS: u32 = 8;

/// The weight of the latest interval between two servings in their mean.
const LATEST: f64 = 1.0 / 8.0;

/// Who waits for an instance, in the order of arrival.
pub struct Queue<W> {
    size: usize,
    timeout: Duration,
    waiting: BTreeMap<Key, Waiting<W>>,
    next_key: u64,
    /// Since when it has not been empty.
    filled: Instant,
    served: Instant,
    /// Mean seconds between two servings while somebody waits.
    interval: f64,
    /// Since when there is overload.
    overload: Option<Instant>,
    /// Since when the queue is short, under overload.
    short: Option<Instant>,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

struct Waiting<W> {
    since: Instant,
    waiter: W,
}

impl<W> Queue<W> {
    /// `size`: waiters at once. `timeout`: how long each may wait, if there is no overload.
    pub fn new(size: usize, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            size,
            timeout,
            waiting: BTreeMap::new(),
            next_key: 0,
            filled: now,
            served: now,
            interval: 0.0,
            overload: None,
            short: None,
        }
    }

    /// Queues a waiter, or gives it back when the queue is full.
    pub fn push(&mut self, waiter: W, now: Instant) -> Result<Key, W> {
        if self.waiting.len() >= self.size {
            return Err(waiter);
        }
        if self.waiting.is_empty() {
            self.filled = now;
        }
        let key = Key(self.next_key);
        self.next_key += 1;
        self.waiting.insert(key, Waiting { since: now, waiter });
        Ok(key)
    }

    /// A waiter gives up. `None` when it is no longer in the queue.
    pub fn remove(&mut self, key: Key) -> Option<W> {
        Some(self.waiting.remove(&key)?.waiter)
    }

    /// Whoever is served next: the oldest, under overload the newest.
    pub fn pop(&mut self, now: Instant) -> Option<W> {
        self.assess(now);
        let (_, Waiting { waiter, .. }) =
            if self.overload.is_some() { self.waiting.pop_last()? } else { self.waiting.pop_first()? };
        let interval = now.saturating_duration_since(self.served.max(self.filled)).as_secs_f64();
        self.interval += LATEST * (interval - self.interval);
        self.served = now;
        Some(waiter)
    }

    /// The oldest, if it has waited for longer than is allowed under overload: it has to be told.
    pub fn pop_expired(&mut self, now: Instant) -> Option<W> {
        self.assess(now);
        let allowed = self.allowed(now)?;
        let oldest = self.waiting.first_entry()?;
        (now.saturating_duration_since(oldest.get().since) > allowed).then(|| oldest.remove().waiter)
    }

    /// The first of all, for which there will never be an instance.
    pub fn pop_oldest(&mut self) -> Option<W> {
        Some(self.waiting.pop_first()?.1.waiter)
    }

    /// All, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = W> + use<W> {
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.waiter)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn is_overloaded(&self) -> bool {
        self.overload.is_some()
    }

    /// How long a request may wait under overload; `None` without.
    fn allowed(&self, now: Instant) -> Option<Duration> {
        let patience = self.patience();
        let since = now.saturating_duration_since(self.overload?);
        let halvings = 1 + (since.as_nanos() / patience.as_nanos().max(1)).min(30) as u32;
        Some((self.timeout / (1 << halvings)).max(patience))
    }

    fn patience(&self) -> Duration {
        let slow = Duration::from_secs_f64(self.interval * f64::from(SERVINGS));
        slow.min(self.timeout).max(PATIENCE)
    }

    fn assess(&mut self, now: Instant) {
        let Some((_, oldest)) = self.waiting.first_key_value() else {
            self.overload = None;
            return;
        };
        let patience = self.patience();
        let has_lasted = |since| now.saturating_duration_since(since) >= patience;
        match self.overload {
            None if has_lasted(self.filled) && has_lasted(oldest.since) => {
                self.overload = Some(now);
                self.short = None;
            }
            None => {}
            Some(_) if self.interval * self.waiting.len() as f64 >= patience.as_secs_f64() / 2.0 => {
                self.short = None;
            }
            Some(_) if has_lasted(*self.short.get_or_insert(now)) => {
                self.overload = None;
                self.filled = now;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
