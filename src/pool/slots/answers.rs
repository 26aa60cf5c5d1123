//! What the books answer: the names of states and places, and what the shell has to do.

use std::time::Duration;

#[cfg(doc)]
use super::Slots;

/// The state of a slot that is neither idle nor gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Leased,
    Resetting,
    Leaving,
}

/// What a request for an instance gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask<I, E> {
    /// This one; it is leased now.
    Idle(I),
    /// There is room for one more: get a permit, then [`Slots::begin`].
    Room,
    /// It has to queue.
    Wait,
    Closed,
    /// There is no memory for one more.
    NoMemory,
    Failing {
        error: E,
        retry_after: Duration,
    },
}

/// What becomes of a ready instance that comes (back) to the pool.
#[derive(Debug, PartialEq, Eq)]
pub enum Put<I, W> {
    Idle,
    /// It is leased to this waiter now: send it.
    Hand(W, I),
    /// It is not needed and is leaving now: drop it, then [`Slots::gone`].
    Surplus(I),
}

/// What has to be done with the instance of a lease that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is resetting now.
    Reset,
    /// It is still leased: [`Slots::put`] it back as it is.
    Keep,
    /// It is leaving now: drop it.
    Discard,
}

/// Whose instance was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Leased,
    /// The pool was closed meanwhile; the instance is leaving now.
    Closed,
}

/// What those who wait can be told.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<I, W, E> {
    /// It is leased to this waiter now: send it.
    Hand(W, I),
    /// It has waited for too long, while the app has more requests than it can answer: tell it so.
    Shed(W),
    /// There is room for an instance of the next one's own: get a permit, then [`Slots::grant`].
    Room,
    /// It is out of the queue, and nothing will come: tell it so.
    Refuse { waiter: W, error: E, retry_after: Duration },
    /// Nothing: nobody waits, or it has to go on waiting.
    Rest,
}
