//! The pool of one release's instances: idle ones, leased ones, and who waits for one. It knows no Wasm, only a
//! [`Manager`] that makes and resets instances.
//!
//! A tour, in reading order:
//!
//! - `slots`: the books, pure. The states of a slot are drawn there.
//! - `backoff`: how long not to try after making failed; pure.
//! - `budget`: the permits of all pools together, and how pools give way to each other.
//! - `shared`: the books under their lock, and the guards that keep them right whatever is dropped when.
//! - `lease`: a request's way to an instance and back.
//! - `maintenance`: what goes on in the background: making, resetting, dropping, retiring.
//!
//! # What a holder can rely on
//!
//! - Every future here can be dropped at any await, and any call into the manager may panic: the books are right
//!   afterwards. A permit returns when its instance has been dropped, never before.
//! - Ending a lease never waits: the instance is reset or dropped by a task of its own. Outside a runtime it is
//!   dropped on the spot.
//! - An instance that was spoiled, or whose lease was just dropped, is never leased again.
//!
//! The pool logs nothing: the manager, which knows the app's name, logs its own errors.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

mod backoff;
mod budget;
mod lease;
mod maintenance;
mod shared;
pub mod slots;

pub use budget::{Budget, Pressure};
pub use lease::Lease;

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
}

/// How many instances a pool has, who may wait for one, and what happens after a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Idle instances that are made before the first request and kept from then on.
    pub min_idle: u32,
    /// Instances in all, whatever they do; at least 1.
    pub max: u32,
    /// The pool's share of the budget beside other pools that want more than there is.
    pub weight: u32,
    /// Idle instances that are kept; 0 when each lease makes its own.
    pub max_idle: u32,
    /// Requests that may wait for an instance.
    pub queue_size: usize,
    /// How long a request may wait for an instance, its making included.
    pub queue_timeout: Duration,
    /// How long an instance above `min_idle` may stay idle.
    pub idle_time: Duration,
    /// How old an idle instance may become before it is dropped, and replaced if it is one of `min_idle`.
    pub max_lifetime: Option<Duration>,
    pub on_end: OnEnd,
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
    #[error("one instance takes {weight} units of a budget of {units}, it must be at least 1 and fit in")]
    Weight { weight: u32, units: u32 },
    #[error(
        "{min_idle} idle instances of {weight} units each don't fit into a budget of {units}, lower the minimum"
    )]
    MinAboveBudget { min_idle: u32, weight: u32, units: u32 },
}

/// A snapshot of a pool. The first six count what is there now, the others what happened since the pool was made.
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
    /// Those of them that were idle for too long.
    pub retired: u64,
    /// Those of them that were idle when another pool needed their units.
    pub reclaimed: u64,
    /// Requests for which no instance came in time.
    pub timed_out: u64,
    /// Requests refused because a queue was full or no instance could be made.
    pub refused: u64,
}

/// The instances of one release (a cheap handle).
pub struct Pool<M: Manager>(Arc<Shared<M>>);

impl<M: Manager> Pool<M> {
    /// An empty pool. Each of its instances holds `weight` units of `budget`, from before it is made until after it
    /// has been dropped.
    pub fn new(manager: M, policy: Policy, weight: u32, budget: &Budget) -> Result<Self, PolicyError> {
        policy.check(weight, budget.units())?;
        Ok(Self(Shared::new(manager, policy, weight, budget)))
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
        match self.0.lease_idle() {
            Some(lease) => Ok(lease),
            None => self.0.lease_in_time(None).await,
        }
    }

    /// The same, but waits no longer than until `deadline` either.
    pub async fn lease_until(
        &self,
        deadline: tokio::time::Instant,
    ) -> Result<Lease<M>, LeaseError<M::Error>> {
        match self.0.lease_idle() {
            Some(lease) => Ok(lease),
            None => self.0.lease_in_time(Some(deadline)).await,
        }
    }

    /// No new leases. Waiters are told, idle instances dropped, leased ones dropped when their lease ends.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns when the pool is closed and nothing is left of it: no instance, no waiter, no permit.
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// Drops instances above `min_idle` that have been idle for `idle_time`, oldest first, and returns how many. Part
    /// of the host's regular upkeep.
    pub fn retire_idle(&self, now: Instant) -> usize {
        self.0.retire_idle(now)
    }

    /// Starts to make what is missing to `min_idle` instances in all, and returns how many are being made: failures
    /// and a used-up budget may have left fewer. Part of the host's regular upkeep; call it within a runtime.
    pub fn top_up(&self, now: Instant) -> usize {
        self.0.top_up(now)
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
    fn check(&self, weight: u32, units: u32) -> Result<(), PolicyError> {
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
        if weight == 0 || weight > units {
            return Err(PolicyError::Weight { weight, units });
        }
        if u64::from(min_idle) * u64::from(weight) > u64::from(units) {
            return Err(PolicyError::MinAboveBudget { min_idle, weight, units });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
