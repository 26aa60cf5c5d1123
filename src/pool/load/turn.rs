//! One request's turn to run.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Load, nanoseconds, place};
use crate::pool::lane::Errand;

/// A guest that has run for so long goes on in the slow lane.
pub(super) const LONG: Duration = Duration::from_millis(2);

/// One that waited sooner when it last ran, or the time before, stays where it is: it has more to wait than to do, and would
/// only be carried to and fro. Both times count, for on a busy machine the kernel may have run something else meanwhile.
pub(super) const SHORT: Duration = Duration::from_micros(200);

/// One request's turn to run; over when it is dropped, which must not happen under a pool's lock.
pub struct Turn {
    load: Arc<Load>,
    is_running: AtomicBool,
    /// The guest was interrupted, and makes room for others.
    cedes: AtomicBool,
    /// Nanoseconds that the guest has run in all, and the last two times before it waited: without end if it did not.
    ran: AtomicU64,
    last: AtomicU64,
    last_but_one: AtomicU64,
}

impl Turn {
    /// One that has begun.
    pub(super) fn of(load: Arc<Load>) -> Self {
        Self {
            load,
            is_running: AtomicBool::new(true),
            cedes: AtomicBool::new(false),
            ran: AtomicU64::new(0),
            last: AtomicU64::new(u64::MAX),
            last_but_one: AtomicU64::new(u64::MAX),
        }
    }

    /// The guest waits for something.
    pub fn pause(&self) {
        if self.is_running.swap(false, SeqCst) {
            self.load.leave();
        }
    }

    /// It goes on.
    pub fn resume(&self) {
        if !self.is_running.swap(true, SeqCst) {
            self.load.running.fetch_add(1, SeqCst);
        }
    }

    /// It has been woken, and goes on if not too many do already.
    pub fn woken(&self) {
        if self.load.has_turn() {
            self.resume();
        }
    }

    pub fn is_running(&self) -> bool {
        self.is_running.load(SeqCst)
    }

    /// Goes on, or takes a place among those that wait for it: when many were woken at once, or while others run. The
    /// place must be polled with a waker that calls [`Turn::woken`].
    pub fn go_on(&self) -> Option<oneshot::Receiver<()>> {
        if self.is_running() || self.load.has_turn() {
            self.resume();
            return None;
        }
        let place = place(&mut self.load.ceded.lock());
        // The last one that ran may have left before that.
        self.load.go_on();
        Some(place)
    }

    /// The guest has run for long, and waits for its next turn if others wait for one, too. It must be polled with a
    /// waker that resumes the turn.
    pub async fn cede(self: Arc<Self>) {
        self.cedes.store(true, Relaxed);
        // First, for a guest that has its turn again goes on at once: while it yields the turn would be another's.
        tokio::task::yield_now().await;
        if let Some(next) = self.load.line_up() {
            self.pause();
            // The sender is dropped with the pool at the earliest: then nobody waits any more.
            let _ = next.await;
            self.resume();
        }
        self.cedes.store(false, Relaxed);
    }

    /// The guest has run for so long, once more, and now waits for something or would go on.
    pub fn worked(&self, time: Duration, waits: bool) {
        self.ran.fetch_add(nanoseconds(time), Relaxed);
        // One that cedes its turn is polled for a moment without going on: it is not that it has soon waited again.
        let waits = waits && !self.cedes.load(Relaxed);
        let last = self.last.swap(if waits { nanoseconds(time) } else { u64::MAX }, Relaxed);
        self.last_but_one.store(last, Relaxed);
        self.load.worked(time);
    }

    /// Is the guest to run in the slow lane, if it goes on to run?
    pub fn is_for_lane(&self) -> bool {
        let is_long = || self.ran.load(Relaxed) >= nanoseconds(LONG) || self.load.is_for_lane();
        let waited_soon =
            [&self.last, &self.last_but_one].into_iter().any(|time| time.load(Relaxed) < nanoseconds(SHORT));
        !waited_soon && is_long() && !self.load.cores.lane().is_starved()
    }

    /// Has the errand done in the slow lane; here and now, if that can't be.
    pub fn run_in_lane(&self, errand: Errand) {
        let cores = &self.load.cores;
        if let Err(errand) = cores.lane().run(errand, cores.threads()) {
            errand();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.load.ended(self.ran.load(Relaxed));
        self.pause();
    }
}
