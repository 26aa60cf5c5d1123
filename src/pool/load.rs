//! Which requests may run at once when the processors are the scarce thing.
//!
//! A request that is ready runs at once, in the task of its connection. So when one app is flooded, the requests of all
//! others stand behind its own in the runtime's line, however few they are. Therefore a pool that keeps the processors
//! *busy* is *gated* while the thread it is asked on has no rest: of its requests only so many run as there are
//! processors for, and the others wait in the pool's queue, which the pools that are not busy pass by. Busy pools share
//! the processors by their weights.
//!
//! A request *runs* from its lease on, except while its guest waits for something: its [`Turn`] is paused then, and
//! resumed the moment that the guest is woken. One that has run for long *cedes* its turn where it is interrupted, if
//! others wait for one: it then goes on in its turn among those that ceded theirs, who alternate with new requests. So a
//! request that takes seconds delays others of its app no longer than a short one does. Whoever waits for a turn is looked
//! at each time one ends or is paused.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A thread that has been awake for so long has more to do than it can.
const NO_REST: Duration = Duration::from_millis(1);

/// How often it is looked at how busy a pool is.
const WINDOW: Duration = Duration::from_millis(5);

/// The part of all processors from which on a pool is busy, and below which it is no more.
const BUSY: f64 = 0.05;
const NOT_BUSY: f64 = 0.025;

/// How many times more requests than a busy pool's may run in one that is not.
const BURST: u32 = 4;

/// How long gated requests may keep a thread before the others have a look in.
const LOOK: Duration = Duration::from_micros(200);

thread_local! {
    static AWAKE: Cell<Option<Instant>> = const { Cell::new(None) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Is it time for a gated request on this thread to let others go before?
pub(super) fn gives_way(now: Instant) -> bool {
    let is_time = LOOKED.get().is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK);
    if is_time {
        LOOKED.set(Some(now));
    }
    is_time
}

/// A thread of the runtime that serves requests has slept and is awake again: to be called by itself. On a thread that
/// never does no pool is gated.
pub fn thread_awoke() {
    AWAKE.set(Some(Instant::now()));
}

/// From now on this thread has no rest.
#[cfg(test)]
pub(super) fn thread_has_no_rest() {
    AWAKE.set(Instant::now().checked_sub(2 * NO_REST));
}

/// The processors that all pools share.
#[derive(Debug)]
pub struct Cores {
    /// Threads that run guests.
    threads: AtomicU32,
    /// Of all busy pools.
    weight: AtomicU64,
}

impl Default for Cores {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self { threads: u32::try_from(cores).unwrap_or(u32::MAX).into(), weight: AtomicU64::new(0) }
    }
}

impl Cores {
    pub fn set_threads(&self, threads: u32) {
        self.threads.store(threads.max(1), Relaxed);
    }

    fn threads(&self) -> u32 {
        self.threads.load(Relaxed)
    }

    /// Turns that a busy pool of this weight has.
    fn turns(&self, weight: u32) -> u32 {
        turns(self.threads(), weight, self.weight.load(Relaxed))
    }
}

/// A quarter more than there are threads, so that none stands still while a request is handed over, shared among busy
/// pools of this weight together.
fn turns(threads: u32, weight: u32, busy: u64) -> u32 {
    let all = u64::from(threads + threads / 4);
    let weight = u64::from(weight);
    let share = if busy > weight { (all * weight + busy / 2) / busy } else { all };
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

/// What is told when there is room for one more to run.
pub(super) trait Waits: Send + Sync {
    fn room_to_run(self: Arc<Self>);
}

/// How busy one pool keeps the processors.
pub struct Load {
    cores: Arc<Cores>,
    weight: u32,
    running: AtomicU32,
    /// Requests in the pool's queue.
    queued: AtomicUsize,
    /// Nanoseconds that guests have run, and instances were made, reset and dropped.
    worked: AtomicU64,
    is_busy: AtomicBool,
    meter: Mutex<Option<Reading>>,
    /// Guests that have ceded their turns, in order.
    ceded: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// The next turn is a new request's.
    new_is_next: AtomicBool,
    pool: OnceLock<Weak<dyn Waits>>,
}

/// What `worked` was, and when.
struct Reading {
    at: Instant,
    worked: u64,
}

impl Load {
    pub fn new(cores: Arc<Cores>, weight: u32) -> Arc<Self> {
        Arc::new(Self {
            cores,
            weight,
            running: AtomicU32::new(0),
            queued: AtomicUsize::new(0),
            worked: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            meter: Mutex::new(None),
            ceded: Mutex::new(VecDeque::new()),
            new_is_next: AtomicBool::new(true),
            pool: OnceLock::new(),
        })
    }

    pub(super) fn serves(&self, pool: Weak<dyn Waits>) {
        drop(self.pool.set(pool));
    }

    /// Something was done for the pool's app for so long.
    pub fn worked(&self, time: Duration) {
        self.worked.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Is there a turn for one more of the pool's requests?
    pub(super) fn has_turn(&self) -> bool {
        self.running.load(SeqCst) < self.turns()
    }

    fn turns(&self) -> u32 {
        match self.is_busy.load(Relaxed) {
            true => self.cores.turns(self.weight),
            // So that not too many of a burst are under way before it is seen to be one.
            false => self.cores.turns(self.weight).saturating_mul(BURST),
        }
    }

    /// Have the pool's requests to wait for a turn on this thread?
    pub(super) fn is_gated(&self, now: Instant) -> bool {
        let has_rest = AWAKE.get().is_none_or(|awake| now.saturating_duration_since(awake) < NO_REST);
        !has_rest && self.assess(now)
    }

    /// Looks whether the pool is busy, if the last look is long enough ago.
    pub(super) fn assess(&self, now: Instant) -> bool {
        let mut meter = self.meter.lock();
        let worked = self.worked.load(Relaxed);
        let was_busy = self.is_busy.load(Relaxed);
        let Some(reading) = meter.as_mut() else {
            *meter = Some(Reading { at: now, worked });
            return was_busy;
        };
        let passed = now.saturating_duration_since(reading.at);
        if passed < WINDOW {
            return was_busy;
        }
        let used = worked.saturating_sub(reading.worked) as f64;
        let part = used / (passed.as_nanos() as f64 * f64::from(self.cores.threads()));
        *reading = Reading { at: now, worked };
        let is_busy = part > if was_busy { NOT_BUSY } else { BUSY };
        self.set_busy(was_busy, is_busy);
        is_busy
    }

    fn set_busy(&self, was: bool, is: bool) {
        self.is_busy.store(is, Relaxed);
        match (was, is) {
            (false, true) => drop(self.cores.weight.fetch_add(u64::from(self.weight), Relaxed)),
            (true, false) => drop(self.cores.weight.fetch_sub(u64::from(self.weight), Relaxed)),
            _ => {}
        }
    }

    /// A request runs from now on, whether there was a turn for it or not.
    pub fn turn(self: &Arc<Self>) -> Arc<Turn> {
        self.running.fetch_add(1, SeqCst);
        Arc::new(Turn { load: Arc::clone(self), is_running: AtomicBool::new(true) })
    }

    pub(super) fn set_queued(&self, waiting: usize) {
        self.queued.store(waiting, SeqCst);
    }

    pub fn running(&self) -> u32 {
        self.running.load(Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Relaxed)
    }

    /// One runs no more. Who queues looks whether there is a turn after it has said so, and this looks whether somebody
    /// queues after the turn is free: one of the two sees the other.
    fn leave(&self) {
        self.running.fetch_sub(1, SeqCst);
        if self.new_is_next.fetch_xor(true, SeqCst) {
            self.admit();
            self.go_on();
        } else {
            self.go_on();
            self.admit();
        }
    }

    /// Lets those run that queue, as far as there are turns.
    fn admit(&self) {
        if self.queued.load(SeqCst) > 0
            && let Some(pool) = self.pool.get().and_then(Weak::upgrade)
        {
            pool.room_to_run();
        }
    }

    /// Lets those run that ceded their turns.
    fn go_on(&self) {
        while self.has_turn() {
            let Some(next) = self.ceded.lock().pop_front() else { return };
            // That wakes the guest, which resumes its turn. One that is gone has no use for it.
            let _ = next.send(());
        }
    }

    /// A place among those that have ceded their turns, if anybody would have this one or there are too many.
    fn line_up(&self) -> Option<oneshot::Receiver<()>> {
        let mut ceded = self.ceded.lock();
        let too_many = self.running.load(SeqCst) > self.turns();
        if self.queued.load(SeqCst) == 0 && ceded.is_empty() && !too_many {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        ceded.push_back(sender);
        Some(receiver)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.set_busy(self.is_busy.load(Relaxed), false);
    }
}

/// One request's turn to run; over when it is dropped, which must not happen under a pool's lock.
pub struct Turn {
    load: Arc<Load>,
    is_running: AtomicBool,
}

impl Turn {
    /// The guest waits for something.
    pub fn pause(&self) {
        if self.is_running.swap(false, SeqCst) {
            self.load.leave();
        }
    }

    /// It has been woken.
    pub fn resume(&self) {
        if !self.is_running.swap(true, SeqCst) {
            self.load.running.fetch_add(1, SeqCst);
        }
    }

    /// The guest has run for long, and waits for its next turn if others wait for one, too. It must be polled with a
    /// waker that resumes the turn.
    pub async fn cede(self: Arc<Self>) {
        // First, for a guest that has its turn again goes on at once: while it yields the turn would be another's.
        tokio::task::yield_now().await;
        if let Some(next) = self.load.line_up() {
            self.pause();
            // The sender is dropped with the pool at the earliest: then nobody waits any more.
            let _ = next.await;
            self.resume();
        }
    }

    /// The guest has run for so long.
    pub fn worked(&self, time: Duration) {
        self.load.worked(time);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pause();
    }
}

#[cfg(test)]
mod tests;
