//! The pool of one release's instances: idle ones, leased ones, and who waits for one. It knows no Wasm, only a
//! [`Manager`] that makes and resets instances.
//!
//! A tour, in reading order:
//!
//! - `slots`: the books, pure. The states of a slot are drawn there.
//! - `queue`: who is served next, and who has waited for too long; pure.
//! - `spares`: how many idle instances are worth keeping; pure.
//! - `backoff`: how long not to try after making failed; pure.
//! - `shares`: who may have how much of the budget; pure.
//! - `budget`: the permits of all pools together, and how pools give way to each other.
//! - `load`: which requests may run at once when the processors are the scarce thing.
//! - `shared`: the books under their lock, and the guards that keep them right whatever is dropped when.
//! - `lease`: a request's way to an instance and back.
//! - `maintenance`: what goes on in the background: making, resetting, dropping, retiring.
//!
//! # What a holder can rely on
//!
//! - Every future here can be dropped at any await, and any call into the manager may panic: the books are right
//!   afterwards. A permit returns when its instance has been dropped, never before.
//! - Ending a lease never waits: the instance is reset or dropped by a task of its own, or, if the manager resets it in no
//!   time, after the poll that ends the lease. Outside a runtime it is dropped on the spot.
//! - An instance that was spoiled, or whose lease was just dropped, is never leased again.
//!
//! The pool logs nothing: the manager, which knows the app's name, logs its own errors.

use std::fmt::Display;
use std::future::Future;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

mod backoff;
mod budget;
mod cores;
mod lane;
mod lease;
mod load;
mod maintenance;
pub mod queue;
mod shared;
pub mod shares;
pub mod slots;
pub mod spares;

pub use budget::{Budget, Pressure, Wanted};
#[cfg(test)]
pub use cores::keep_thread_awake;
pub use cores::{Cores, thread_awoke, thread_has_no_rest, thread_looked};
pub use lane::{Errand, Lane, Presence};
pub use lease::Lease;
pub use load::{Load, Turn, nanoseconds};
pub use shared::{expiry, now};

use shared::Shared;

/// Makes and resets the instances of one release.
///
/// The pool sets no time limit on either, so the manager has to: a start function runs guest code.
pub trait Manager: Send + Sync + 'static {
    type Instance: Send + 'static;
    type Error: Display + Clone + Send + Sync + 'static;

    /// Makes a ready instance.
    fn make(&self) -> impl Future<Output = Result<Self::Instance, Self::Error>> + Send;

    /// Brings a used instance back to its first-ready state, or says that it can't: then it is dropped and replaced.
    fn reset(&self, used: Self::Instance)
    -> impl Future<Output = Result<Self::Instance, Self::Error>> + Send;

    /// The instance has grown so much in its leases that it is to be dropped at the end of this one.
    fn is_worn(&self, _instance: &mut Self::Instance) -> bool {
        false
    }

    /// Is it back at once, without waiting for anything? Then it is reset by the task that ends the lease, when its answer
    /// is on its way, and not by one of its own.
    fn is_soon_reset(&self, _used: &Self::Instance) -> bool {
        false
    }

    /// The same for such an instance.
    fn reset_at_once(&self, used: Self::Instance) -> AtOnce<Self::Instance> {
        AtOnce::Later(used)
    }

    /// The pool is asleep and has no instance: what is needed to make one may be given up until then. Called again and
    /// again as long as that is so.
    fn rest(&self) {}
}

/// What has come of a reset at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtOnce<I> {
    /// The instance is as it was when it was first ready.
    Done(I),
    /// It takes longer after all: a task of its own has to do it.
    Later(I),
}

/// How many instances a pool has, who may wait for one, and what happens after a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Idle instances that are made before the first request and kept from then on, except in a pool that is asleep.
    pub min_idle: u32,
    /// Instances in all, whatever they do; at least 1.
    pub max: u32,
    /// Idle instances that are kept; 0 when each lease makes its own.
    pub max_idle: u32,
    /// Requests that may wait for an instance.
    pub queue_size: usize,
    /// How long a request may wait for an instance, its making included.
    pub queue_timeout: Duration,
    /// How long an instance above `min_idle` and what is worth keeping may stay idle.
    pub idle_time: Duration,
    /// After so long without a request the pool is asleep until the next one: it keeps no instance, and its manager
    /// rests. `None` for never.
    pub sleep_after: Option<Duration>,
    pub on_end: OnEnd,
    /// The app's part of what all apps share, in relation to the others' weights; at least 1.
    pub weight: u32,
    /// How long an instance lives at most, give or take a tenth; it is not taken from a request at work.
    pub max_lifetime: Option<Duration>,
    /// Leases after which an instance is spent: each instance gets a number from the range, so that not all are spent
    /// at once.
    pub max_uses: Option<RangeInclusive<u64>>,
}

/// What a clean end of a lease does with the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// It is reset, then idle again.
    Reset,
    /// It is idle again as the guest left it.
    Keep,
    /// It is dropped.
    Drop,
}

/// How a lease ends; one that is just dropped is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The instance did its work and may be used again, as the policy says.
    Clean,
    /// It trapped, ran out of time, was cancelled or is spent: it is dropped.
    Spoiled,
}

/// Why there is no instance for a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaseError<E> {
    #[error("too many requests wait for an instance of this app, try again later")]
    Full,
    #[error("too many requests wait for instances of all apps together, try again later")]
    Saturated,
    #[error(
        "the app has more requests than it can answer, and this one has waited for too long, try again later"
    )]
    Overloaded,
    #[error("there is no memory for one more instance, try again later")]
    NoMemory,
    #[error("no instance became free in time, try again later")]
    TimedOut,
    #[error("this release takes no more requests, look the app up again")]
    Closed,
    #[error("no instance can be made, try again in {retry_after:?}: {error}")]
    Failing { error: E, retry_after: Duration },
}

/// Why the first instances could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrewarmError<E> {
    #[error("no instance can be made: {0}")]
    Make(E),
    #[error("the instances of other apps use up the budget, try again later or raise it")]
    NoRoom,
    #[error("the pool is closed")]
    Closed,
}

/// What is wrong with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error("a pool needs at least one instance, raise its maximum")]
    NoInstances,
    #[error("{min_idle} instances can't stay idle when at most {max_idle} may, lower the minimum")]
    MinAboveMax { min_idle: u32, max_idle: u32 },
    #[error("{max_idle} instances can't be idle when there are at most {max}, lower the number of idle ones")]
    IdleAboveMax { max_idle: u32, max: u32 },
    #[error("one instance takes {each} units of a budget of {units}, it must be at least 1 and fit in")]
    Units { each: u32, units: u32 },
    #[error(
        "{min_idle} idle instances of {each} units each don't fit into a budget of {units}, lower the minimum"
    )]
    MinAboveBudget { min_idle: u32, each: u32, units: u32 },
}

/// A snapshot of a pool. The first count what is there now, those from `made` on what happened since the pool was made.
///
/// `made` = `idle` + `leased` + `resetting` + `leaving` + `discarded` at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Ready instances in the pool.
    pub idle: u32,
    /// Instances being made.
    pub preparing: u32,
    /// Instances in use or on their way to a waiter.
    pub leased: u32,
    /// Used instances being reset.
    pub resetting: u32,
    /// Instances being dropped.
    pub leaving: u32,
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests whose guest runs or could run; the others' guests wait for something.
    pub running: u32,
    /// Idle instances that are worth keeping at the present rate of requests, the minimum included.
    pub target: u32,
    /// Requests a second, lately.
    pub arrivals: u64,
    /// Microseconds to make an instance ready, lately.
    pub cost_micros: u64,
    /// More requests come than can be answered: the newest are served first, and the oldest refused.
    pub is_overloaded: bool,
    /// The pool keeps the processors busy: its requests take turns.
    pub is_busy: bool,
    /// No request has come for long: no instance is kept.
    pub is_asleep: bool,
    /// Instances made.
    pub made: u64,
    /// Attempts to make one that returned an error.
    pub failed: u64,
    /// Resets that succeeded.
    pub reset: u64,
    /// Instances handed straight to a waiter.
    pub handed: u64,
    /// Instances dropped, for whatever reason.
    pub discarded: u64,
    /// Those of them that were idle for too long, or had lived, served or grown for too long.
    pub retired: u64,
    /// Those of them that were idle when another pool needed their units.
    pub reclaimed: u64,
    /// Requests for which no instance came in time.
    pub timed_out: u64,
    /// Requests refused because a queue was full or no instance could be made.
    pub refused: u64,
    /// Requests refused because they had waited for too long in an overload.
    pub shed: u64,
}

/// What the upkeep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Idle instances dropped.
    pub retired: usize,
    /// Instances that are being made now.
    pub begun: usize,
}

/// The instances of one release (a cheap handle).
pub struct Pool<M: Manager>(Arc<Shared<M>>);

impl<M: Manager> Pool<M> {
    /// An empty pool of an app. Each of its instances holds `each` units of `budget`, from before it is made until
    /// after it has been dropped; what the pools of one app hold counts together.
    pub fn new(
        app: &str,
        manager: M,
        policy: Policy,
        each: u32,
        budget: &Budget,
    ) -> Result<Self, PolicyError> {
        policy.check(each, budget.units())?;
        Ok(Self(Shared::new(app, manager, policy, each, budget)))
    }

    /// Makes the `min_idle` instances, one after the other, and returns the first error.
    pub async fn prewarm(&self) -> Result<(), PrewarmError<M::Error>> {
        self.0.prewarm().await
    }

    /// An instance of one's own: an idle one if there is one, else a new one if there is room, else the first that
    /// comes back when it is this request's turn. Waits at most `queue_timeout`.
    ///
    /// Cancellation safety: can be dropped at any time. An instance that is being made for it is finished for others.
    pub async fn lease(&self) -> Result<Lease<M>, LeaseError<M::Error>> {
        self.0.lease().await
    }

    /// No new leases. Waiters are told, idle instances dropped, leased ones dropped when their lease ends.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns when the pool is closed and nothing is left of it: no instance, no waiter, no permit.
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// The regular upkeep, about once a second: looks how many idle instances are worth keeping, drops those that are
    /// too many or have lived for too long, and begins to make those that are missing. Call it within a runtime.
    pub fn tend(&self, now: Instant) -> Tended {
        self.0.tend(now)
    }

    /// As no other pool's of its budget.
    pub fn number(&self) -> NonZeroU64 {
        self.0.id.number()
    }

    /// How busy the pool keeps the processors.
    pub fn load(&self) -> &Arc<Load> {
        &self.0.load
    }

    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    pub fn manager(&self) -> &M {
        &self.0.manager
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Policy {
    /// For a few instances that the host asks itself, for as long as that takes. `patience`: how long to wait for one.
    pub fn for_asking(max: u32, on_end: OnEnd, patience: Duration) -> Policy {
        Policy {
            min_idle: 0,
            max,
            max_idle: if on_end == OnEnd::Drop { 0 } else { max },
            queue_size: usize::try_from(max).unwrap_or(usize::MAX),
            queue_timeout: patience,
            idle_time: patience,
            sleep_after: None,
            on_end,
            weight: 1,
            max_lifetime: None,
            max_uses: None,
        }
    }

    fn check(&self, each: u32, units: u32) -> Result<(), PolicyError> {
        let Self { min_idle, max, max_idle, .. } = *self;
        if max == 0 {
            return Err(PolicyError::NoInstances);
        }
        if min_idle > max_idle {
            return Err(PolicyError::MinAboveMax { min_idle, max_idle });
        }
        if max_idle > max {
            return Err(PolicyError::IdleAboveMax { max_idle, max });
        }
        if each == 0 || each > units {
            return Err(PolicyError::Units { each, units });
        }
        if u64::from(min_idle) * u64::from(each) > u64::from(units) {
            return Err(PolicyError::MinAboveBudget { min_idle, each, units });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
