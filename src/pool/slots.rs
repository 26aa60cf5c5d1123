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
//! Whatever `put` brings is leased to the next waiter instead of going idle, and leaves if it is not needed.
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
//! - Nobody waits while an instance is idle and there is a turn to run it: what comes back goes to the next waiter, and
//!   newcomers queue behind.
//! - Somebody waits only while `max` is reached, the budget is used up, there is no turn, or (after a failure) something
//!   is on its way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

mod answers;

pub use answers::{Ask, Ended, Made, Next, Phase, Put};

use super::backoff::{Attempt, Backoff};
use super::budget::{Pressure, Wanted};
pub use super::queue::Key;
use super::queue::Queue;
use super::spares::Spares;
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
    waiters: Queue<W>,
    spares: Spares,
    /// Idle instances that are kept ready and made if they are missing: those that are worth it, and the minimum.
    target: u32,
    pressure: Pressure,
    backoff: Backoff<E>,
    /// No request has come for `sleep_after`.
    asleep: bool,
    closed: bool,
    totals: Stats,
}

/// What there is to know when an instance comes to the books.
#[derive(Debug, Clone, Copy)]
pub struct Comes {
    pub now: Instant,
    /// A waiter may run now.
    pub has_turn: bool,
    pub wanted: Wanted,
    /// When it has lived for long enough; `None` for never.
    pub expires: Option<Instant>,
}

/// Idle instances for which there is room from the start.
const ROOM: u32 = 64;

struct Idle<I> {
    ready: I,
    since: Instant,
    expires: Option<Instant>,
}

impl<I, W, E: Clone> Slots<I, W, E> {
    pub fn new(policy: Policy) -> Self {
        Self {
            // So that the hot path hardly ever allocates.
            idle: VecDeque::with_capacity(policy.max_idle.min(ROOM) as usize),
            preparing: 0,
            leased: 0,
            resetting: 0,
            leaving: 0,
            waiters: Queue::new(policy.queue_size, policy.queue_timeout),
            spares: Spares::default(),
            target: policy.min_idle,
            pressure: Pressure::None,
            policy,
            backoff: Backoff::new(),
            asleep: false,
            closed: false,
            totals: Stats::default(),
        }
    }

    /// The fast path: the instance that was idle for the shortest time; it is leased now. None also if others wait.
    pub fn take(&mut self) -> Option<I> {
        if !self.waiters.is_empty() {
            return None;
        }
        let ready = self.pop_idle()?;
        self.arrived();
        Some(ready)
    }

    /// What a request gets. `has_turn`: it may run now, if it gets an instance.
    pub fn ask(&mut self, now: Instant, has_turn: bool) -> Ask<I, E> {
        if self.closed {
            return Ask::Closed;
        }
        self.arrived();
        if !self.waiters.is_empty() || !has_turn {
            return Ask::Wait;
        }
        if let Some(ready) = self.pop_idle() {
            return Ask::Idle(ready);
        }
        if self.pressure == Pressure::Shed && !self.something_comes() {
            self.totals.refused += 1;
            return Ask::NoMemory;
        }
        if !self.has_room() || self.pressure == Pressure::Shed {
            return Ask::Wait;
        }
        match self.backoff.attempt(now) {
            Attempt::Pause { error, retry_after } if !self.something_comes() => {
                self.totals.refused += 1;
                Ask::Failing { error, retry_after }
            }
            Attempt::Pause { .. } => Ask::Wait,
            Attempt::Probe { known: Some((error, took)) }
                if self.preparing > 0 && !self.something_comes_back() =>
            {
                self.totals.refused += 1;
                Ask::Failing { error, retry_after: took }
            }
            Attempt::Probe { .. } if self.preparing > 0 => Ask::Wait,
            Attempt::Probe { .. } | Attempt::Free => Ask::Room,
        }
    }

    /// An instance is being made, with a permit in hand and after [`Ask::Room`] or [`Slots::is_short`].
    pub fn begin(&mut self) {
        self.preparing += 1;
    }

    /// Queues a waiter, or gives it back when the queue is full.
    pub fn enqueue(&mut self, waiter: W, now: Instant) -> Result<Key, W> {
        self.waiters.push(waiter, now)
    }

    /// A waiter gives up. `None` when it is no longer in the queue: it has been answered.
    pub fn leave(&mut self, key: Key) -> Option<W> {
        self.waiters.remove(key)
    }

    /// What can be done for those who wait. `has_turn`: one of them may run now.
    pub fn next(&mut self, now: Instant, has_turn: bool) -> Next<I, W, E> {
        if let Some(waiter) = self.waiters.pop_expired(now) {
            self.totals.shed += 1;
            return Next::Shed(waiter);
        }
        if self.waiters.is_empty() || !has_turn {
            return Next::Rest;
        }
        if let Some(ready) = self.pop_idle() {
            return match self.waiters.pop(now) {
                Some(waiter) => {
                    self.totals.handed += 1;
                    Next::Hand(waiter, ready)
                }
                None => Next::Rest,
            };
        }
        if self.may_make(now) {
            return Next::Room;
        }
        let Attempt::Pause { error, retry_after } = self.backoff.attempt(now) else { return Next::Rest };
        if self.something_comes() {
            return Next::Rest;
        }
        let Some(waiter) = self.waiters.pop_oldest() else { return Next::Rest };
        self.totals.refused += 1;
        Next::Refuse { waiter, error, retry_after }
    }

    /// Would a permit be of use to a waiter?
    pub fn can_grant(&self, now: Instant, has_turn: bool) -> bool {
        !self.waiters.is_empty() && has_turn && self.idle.is_empty() && self.may_make(now)
    }

    /// A permit is in hand: the next waiter makes its instance. `None` if nobody waits or there is no room.
    pub fn grant(&mut self, now: Instant, has_turn: bool) -> Option<W> {
        if !self.can_grant(now, has_turn) {
            return None;
        }
        let waiter = self.waiters.pop(now)?;
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

    /// Making failed after so long; the slot is given back with [`Slots::gone`]. Returns when to try again.
    pub fn failed(&mut self, error: E, took: Duration, now: Instant) -> Duration {
        self.totals.failed += 1;
        self.backoff.failed(error, took, now)
    }

    /// A lease ends.
    pub fn end(&mut self, end: End, wanted: Wanted) -> Ended {
        let spare = self.idle.len() as u32 + self.resetting;
        let keep = end == End::Clean && !self.closed && self.wants(spare, wanted, !self.waiters.is_empty());
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
    pub fn put(&mut self, from: Phase, ready: I, comes: Comes) -> Put<I, W> {
        let Comes { now, has_turn, wanted, expires } = comes;
        match from {
            Phase::Preparing => self.note_made(),
            Phase::Resetting => self.totals.reset += 1,
            Phase::Leased | Phase::Leaving => {}
        }
        let is_spent = expires.is_some_and(|expires| expires <= now);
        let is_needed = has_turn && !self.waiters.is_empty();
        if self.closed || is_spent || !self.wants(self.idle.len() as u32, wanted, is_needed) {
            self.totals.retired += u64::from(is_spent);
            self.shift(from, Phase::Leaving);
            return Put::Surplus(ready);
        }
        if has_turn && let Some(waiter) = self.waiters.pop(now) {
            self.shift(from, Phase::Leased);
            self.totals.handed += 1;
            return Put::Hand(waiter, ready);
        }
        *self.count(from) -= 1;
        self.idle.push_back(Idle { ready, since: now, expires });
        Put::Idle
    }

    /// A slot's instance has been dropped or was never made.
    pub fn gone(&mut self, from: Phase) {
        *self.count(from) -= 1;
        if from != Phase::Preparing {
            self.totals.discarded += 1;
        }
    }

    /// An instance was made, or reset, in so much time.
    pub fn took(&mut self, time: Duration) {
        self.spares.took(time);
    }

    /// Memory is so scarce from now on.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.pressure = pressure;
        if pressure >= Pressure::Spares {
            self.target = 0;
        }
    }

    /// Looks anew how many idle instances are worth keeping. To be called about once a second.
    pub fn tick(&mut self, now: Instant) {
        self.spares.tick(now);
        if self.leased > 0 || !self.waiters.is_empty() {
            self.spares.busy(now);
        }
        self.asleep = self.policy.sleep_after.is_some_and(|time| self.spares.quiet_for(now) >= time);
        let worth = self.spares.target(now, self.policy.idle_time).min(self.policy.max_idle);
        self.target = match self.pressure {
            _ if self.asleep => 0,
            Pressure::None => self.policy.min_idle.max(worth),
            Pressure::Growth => self.policy.min_idle,
            Pressure::Spares | Pressure::Shed => 0,
        };
    }

    /// Asleep, and no instance is left.
    pub fn is_at_rest(&self) -> bool {
        self.asleep && self.total() == 0
    }

    /// Are fewer idle, or on their way to be, than are worth keeping, with room for more?
    pub fn lacks_idle(&self) -> bool {
        let spare = self.idle.len() as u32 + self.preparing + self.resetting;
        spare < self.target && !self.closed && self.has_room()
    }

    /// The same, and may one be made now?
    pub fn is_short(&self, now: Instant) -> bool {
        self.lacks_idle() && self.attempt_allowed(now)
    }

    /// How many idle ones another pool may have.
    pub fn spare(&self) -> u32 {
        (self.idle.len() as u32).saturating_sub(self.floor())
    }

    /// The oldest idle instance above the minimum, for another pool's sake; it is leaving now.
    pub fn give_up(&mut self) -> Option<I> {
        if self.spare() == 0 {
            return None;
        }
        self.totals.reclaimed += 1;
        self.leave_idle(0)
    }

    /// An idle instance that has lived for too long, or the oldest above what is worth keeping if it has been idle for
    /// `idle_time`; it is leaving now. When memory is scarce all go, and when no request has come for long.
    pub fn retire(&mut self, now: Instant) -> Option<I> {
        let is_spent = |idle: &Idle<I>| idle.expires.is_some_and(|expires| expires <= now);
        let idle_for = |idle: &Idle<I>| now.saturating_duration_since(idle.since);
        let too_many = self.idle.len() as u32 > self.target.max(self.floor());
        let idle_time = if self.keeps_none() { Duration::ZERO } else { self.policy.idle_time };
        let place = match self.idle.iter().position(is_spent) {
            Some(place) => place,
            None if too_many && self.idle.front().is_some_and(|idle| idle_for(idle) >= idle_time) => 0,
            None => return None,
        };
        self.totals.retired += 1;
        self.leave_idle(place)
    }

    /// No leases from now on. The idle instances, which are leaving now, and the waiters, which have to be told.
    pub fn close(&mut self) -> (Vec<I>, Vec<W>) {
        self.closed = true;
        self.leaving += self.idle.len() as u32;
        let idle = self.idle.drain(..).map(|idle| idle.ready).collect();
        let waiters = self.waiters.drain().collect();
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
            target: self.target,
            is_overloaded: self.waiters.is_overloaded(),
            is_asleep: self.asleep,
            arrivals: self.spares.rate().round() as u64,
            cost_micros: (self.spares.cost() * 1e6).round() as u64,
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
        self.has_room() && self.pressure != Pressure::Shed && self.attempt_allowed(now)
    }

    fn attempt_allowed(&self, now: Instant) -> bool {
        match self.backoff.attempt(now) {
            Attempt::Free => true,
            Attempt::Probe { .. } => self.preparing == 0,
            Attempt::Pause { .. } => false,
        }
    }

    /// May an instance become ready without a new attempt to make one?
    fn something_comes(&self) -> bool {
        self.preparing > 0 || self.something_comes_back()
    }

    fn something_comes_back(&self) -> bool {
        self.policy.on_end != OnEnd::Drop && self.leased + self.resetting > 0
    }

    /// Is one more instance worth keeping, beside `spare` idle ones? `is_needed`: for a waiter.
    fn wants(&self, spare: u32, wanted: Wanted, is_needed: bool) -> bool {
        match wanted {
            Wanted::No => is_needed || spare < self.policy.max_idle,
            Wanted::Spare => is_needed || spare < self.floor(),
            Wanted::ByPoorer => false,
        }
    }

    /// Idle instances that nobody else gets.
    fn floor(&self) -> u32 {
        if self.keeps_none() { 0 } else { self.policy.min_idle }
    }

    fn keeps_none(&self) -> bool {
        self.asleep || self.pressure >= Pressure::Spares
    }

    fn arrived(&mut self) {
        self.asleep = false;
        self.spares.arrived();
    }

    fn pop_idle(&mut self) -> Option<I> {
        let idle = self.idle.pop_back()?;
        self.leased += 1;
        Some(idle.ready)
    }

    fn leave_idle(&mut self, place: usize) -> Option<I> {
        let idle = self.idle.remove(place)?;
        self.leaving += 1;
        Some(idle.ready)
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
