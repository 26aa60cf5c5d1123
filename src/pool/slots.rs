//! The books of one pool: who is idle, leased, being prepared or reset, and who waits. Pure: no async, no clock (time
//! is passed in), no I/O. Each call says what happened and returns what the shell (`shared.rs`) has to do about it.
//!
//! # The states of a slot
//!
//! A slot is the room for one instance. An instance holds its slot, and the permit that goes with it, from before it
//! is made until after it has been dropped.
//!
//! ```text
//!             begin             made             end: reset
//!   (room) ----------> preparing ----> leased ---------------> resetting
//!     ^                 |   |          ^  |  |                  |  |
//!     |                 |   | put      |  |  | put (kept)       |  |
//!     |                 |   v          |  |  v                  |  |
//!     |   failed, left  |  idle <------|--|--+------------------+  |
//!     |                 |   |  | take  |  |        put             | failed, left
//!     |                 |   |  +-------+  |                        |
//!     |                 |   | retire,     | end: discard           |
//!     |                 |   | give up     v                        |
//!     |                 |   +--------> leaving                     |
//!     |                 v                 v                        v
//!     +--------------- gone <-------------+------------------------+
//! ```
//!
//! Whatever `put` brings is leased to the first waiter instead of going idle, and leaves if it is not needed.
//!
//! | state | holds |
//! |---|---|
//! | `preparing` | a permit; the future that makes the instance belongs to a caller or to a background task |
//! | `idle` | a permit and a ready instance, both in these books |
//! | `leased` | a permit and an instance, with the holder of a lease or on the way to a waiter |
//! | `resetting` | a permit and a used instance, in a background task |
//! | `leaving` | a permit and an instance that is being dropped |
//! | gone | nothing: the slot is room again |
//!
//! # What always holds
//!
//! - idle + preparing + leased + resetting + leaving <= `max`; waiting <= `queue_size`.
//! - Nobody waits while an instance is idle: what comes back goes to the first waiter, and newcomers queue behind.
//! - Somebody waits only while `max` is reached, the budget is used up, or (after a failure) something is on its way.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

mod answers;

pub use answers::{Ask, Ended, Key, Made, Next, Phase, Put};

use super::backoff::{Attempt, Backoff};
use super::{End, OnEnd, Policy, Stats};

/// The books. `I` is a ready instance with its permit, `W` the way to reach a waiter, `E` why making fails.
pub struct Slots<I, W, E> {
    policy: Policy,
    /// Oldest first. Taken from the back, so that the surplus grows old at the front.
    idle: VecDeque<Idle<I>>,
    preparing: u32,
    leased: u32,
    resetting: u32,
    leaving: u32,
    /// First come, first served: keys rise.
    waiters: BTreeMap<Key, W>,
    next_key: u64,
    backoff: Backoff<E>,
    closed: bool,
    totals: Stats,
}

struct Idle<I> {
    ready: I,
    since: Instant,
}

impl<I, W, E: Clone> Slots<I, W, E> {
    pub fn new(policy: Policy) -> Self {
        Self {
            // Room for all, so that the hot path never allocates.
            idle: VecDeque::with_capacity(policy.max_idle as usize),
            policy,
            preparing: 0,
            leased: 0,
            resetting: 0,
            leaving: 0,
            waiters: BTreeMap::new(),
            next_key: 0,
            backoff: Backoff::new(),
            closed: false,
            totals: Stats::default(),
        }
    }

    /// The fast path: the instance that was idle for the shortest time; it is leased now.
    pub fn take(&mut self) -> Option<I> {
        let idle = self.idle.pop_back()?;
        self.leased += 1;
        Some(idle.ready)
    }

    pub fn ask(&mut self, now: Instant) -> Ask<I, E> {
        if self.closed {
            return Ask::Closed;
        }
        if let Some(ready) = self.take() {
            return Ask::Idle(ready);
        }
        if !self.waiters.is_empty() || !self.has_room() {
            return Ask::Wait;
        }
        match self.backoff.attempt(now) {
            Attempt::Pause { error, retry_after } if !self.something_comes() => {
                self.totals.refused += 1;
                Ask::Failing { error, retry_after }
            }
            Attempt::Pause { .. } => Ask::Wait,
            Attempt::Probe if self.preparing > 0 => Ask::Wait,
            Attempt::Probe | Attempt::Free => Ask::Room,
        }
    }

    /// An instance is being made, with a permit in hand and after [`Ask::Room`] or [`Slots::is_short`].
    pub fn begin(&mut self) {
        self.preparing += 1;
    }

    /// Queues a waiter, or gives it back when the queue is full.
    pub fn enqueue(&mut self, waiter: W) -> Result<Key, W> {
        if self.waiters.len() >= self.policy.queue_size {
            return Err(waiter);
        }
        let key = Key::new(self.next_key);
        self.next_key += 1;
        self.waiters.insert(key, waiter);
        Ok(key)
    }

    /// A waiter gives up. `None` when it is no longer in the queue: it has been answered.
    pub fn leave(&mut self, key: Key) -> Option<W> {
        self.waiters.remove(&key)
    }

    /// What can be done for the first waiter, apart from handing it an instance.
    pub fn next(&mut self, now: Instant) -> Next<W, E> {
        if self.waiters.is_empty() {
            return Next::Rest;
        }
        if self.may_make(now) {
            return Next::Room;
        }
        let Attempt::Pause { error, retry_after } = self.backoff.attempt(now) else { return Next::Rest };
        if self.something_comes() {
            return Next::Rest;
        }
        let Some((_, waiter)) = self.waiters.pop_first() else { return Next::Rest };
        self.totals.refused += 1;
        Next::Refuse { waiter, error, retry_after }
    }

    /// Would a permit be of use to a waiter?
    pub fn can_grant(&self, now: Instant) -> bool {
        !self.waiters.is_empty() && self.may_make(now)
    }

    /// A permit is in hand: the first waiter makes its instance. `None` if nobody waits or there is no room.
    pub fn grant(&mut self, now: Instant) -> Option<W> {
        if !self.can_grant(now) {
            return None;
        }
        let (_, waiter) = self.waiters.pop_first()?;
        self.begin();
        Some(waiter)
    }

    /// A caller's instance is made: preparing -> leased, or leaving.
    pub fn made(&mut self) -> Made {
        self.note_made();
        self.preparing -= 1;
        if self.closed {
            self.leaving += 1;
            return Made::Closed;
        }
        self.leased += 1;
        Made::Leased
    }

    /// Making failed; the slot is given back with [`Slots::gone`]. Returns when to try again.
    pub fn failed(&mut self, error: E, now: Instant) -> Duration {
        self.totals.failed += 1;
        self.backoff.failed(error, now)
    }

    /// A lease ends. `wanted`: another pool waits for the budget, so nothing is kept above `min_idle`.
    pub fn end(&mut self, end: End, wanted: bool) -> Ended {
        let keep =
            end == End::Clean && !self.closed && self.wants(self.idle.len() as u32 + self.resetting, wanted);
        match self.policy.on_end {
            OnEnd::Keep if keep => Ended::Keep,
            OnEnd::Reset if keep => {
                self.shift(Phase::Leased, Phase::Resetting);
                Ended::Reset
            }
            _ => {
                self.shift(Phase::Leased, Phase::Leaving);
                Ended::Discard
            }
        }
    }

    /// A ready instance comes from being made, reset or kept, or from a waiter that left before it could take it.
    pub fn put(&mut self, from: Phase, ready: I, now: Instant, wanted: bool) -> Put<I, W> {
        match from {
            Phase::Preparing => self.note_made(),
            Phase::Resetting => self.totals.reset += 1,
            Phase::Leased | Phase::Leaving => {}
        }
        if let Some((_, waiter)) = self.waiters.pop_first() {
            self.shift(from, Phase::Leased);
            self.totals.handed += 1;
            return Put::Hand(waiter, ready);
        }
        if self.closed || !self.wants(self.idle.len() as u32, wanted) {
            self.shift(from, Phase::Leaving);
            return Put::Surplus(ready);
        }
        *self.count(from) -= 1;
        self.idle.push_back(Idle { ready, since: now });
        Put::Idle
    }

    /// A slot's instance has been dropped or was never made.
    pub fn gone(&mut self, from: Phase) {
        *self.count(from) -= 1;
        if from != Phase::Preparing {
            self.totals.discarded += 1;
        }
    }

    /// Are fewer than `min_idle` idle or on their way to be, with room for more?
    pub fn lacks_idle(&self) -> bool {
        let spare = self.idle.len() as u32 + self.preparing + self.resetting;
        !self.closed && self.has_room() && spare < self.policy.min_idle
    }

    /// The same, and may one be made now?
    pub fn is_short(&self, now: Instant) -> bool {
        self.lacks_idle() && self.attempt_allowed(now)
    }

    /// Are there fewer instances in all, whatever they do, than `min_idle`?
    pub fn is_below_floor(&self, now: Instant) -> bool {
        self.is_short(now) && self.total() < self.policy.min_idle
    }

    /// How many idle ones another pool may have.
    pub fn spare(&self) -> u32 {
        (self.idle.len() as u32).saturating_sub(self.policy.min_idle)
    }

    /// The oldest idle instance above `min_idle`, for another pool's sake; it is leaving now.
    pub fn give_up(&mut self) -> Option<I> {
        if self.spare() == 0 {
            return None;
        }
        let oldest = self.idle.pop_front()?;
        self.leaving += 1;
        self.totals.reclaimed += 1;
        Some(oldest.ready)
    }

    /// The oldest idle instance above `min_idle` if it has been idle for `idle_time`; it is leaving now.
    pub fn retire(&mut self, now: Instant) -> Option<I> {
        let oldest = self.idle.front()?;
        if self.spare() == 0 || now.saturating_duration_since(oldest.since) < self.policy.idle_time {
            return None;
        }
        let oldest = self.idle.pop_front()?;
        self.leaving += 1;
        self.totals.retired += 1;
        Some(oldest.ready)
    }

    /// No leases from now on. The idle instances, which are leaving now, and the waiters, which have to be told.
    pub fn close(&mut self) -> (Vec<I>, Vec<W>) {
        self.closed = true;
        self.leaving += self.idle.len() as u32;
        let idle = self.idle.drain(..).map(|idle| idle.ready).collect();
        let waiters = std::mem::take(&mut self.waiters).into_values().collect();
        (idle, waiters)
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closed and empty.
    pub fn is_drained(&self) -> bool {
        self.closed && self.total() == 0 && self.waiters.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub fn note_timed_out(&mut self) {
        self.totals.timed_out += 1;
    }

    /// A request was refused because a queue is full.
    pub fn note_refused(&mut self) {
        self.totals.refused += 1;
    }

    pub fn stats(&self) -> Stats {
        Stats {
            idle: self.idle.len() as u32,
            preparing: self.preparing,
            leased: self.leased,
            resetting: self.resetting,
            leaving: self.leaving,
            waiting: self.waiters.len(),
            ..self.totals
        }
    }

    /// Instances in all, in whatever state.
    fn total(&self) -> u32 {
        self.idle.len() as u32 + self.preparing + self.leased + self.resetting + self.leaving
    }

    fn has_room(&self) -> bool {
        self.total() < self.policy.max
    }

    fn may_make(&self, now: Instant) -> bool {
        self.has_room() && self.attempt_allowed(now)
    }

    fn attempt_allowed(&self, now: Instant) -> bool {
        match self.backoff.attempt(now) {
            Attempt::Free => true,
            Attempt::Probe => self.preparing == 0,
            Attempt::Pause { .. } => false,
        }
    }

    /// May an instance become ready without a new attempt to make one?
    fn something_comes(&self) -> bool {
        self.preparing > 0 || (self.policy.on_end != OnEnd::Drop && self.leased + self.resetting > 0)
    }

    /// Is one more instance worth keeping, beside `spare` idle ones?
    fn wants(&self, spare: u32, wanted: bool) -> bool {
        let enough = if wanted { self.policy.min_idle } else { self.policy.max_idle };
        !self.waiters.is_empty() || spare < enough
    }

    fn note_made(&mut self) {
        self.totals.made += 1;
        self.backoff.succeeded();
    }

    fn shift(&mut self, from: Phase, to: Phase) {
        *self.count(from) -= 1;
        *self.count(to) += 1;
    }

    fn count(&mut self, phase: Phase) -> &mut u32 {
        match phase {
            Phase::Preparing => &mut self.preparing,
            Phase::Leased => &mut self.leased,
            Phase::Resetting => &mut self.resetting,
            Phase::Leaving => &mut self.leaving,
        }
    }
}

#[cfg(test)]
mod tests;
